//! The durable queue: one job per file and destination, in strict lanes. All of apalis lives here.
//!
//! # Owns
//! The `Jobs` table in the ledger's database (apalis-sqlite's, with its migrations), the workers, and the order
//! in which files are handed to the [`Handler`].
//!
//! # Invariants
//! - A job is queued in the transaction that records its file, and acknowledged in the one that records its
//!   commit: neither can be lost or doubled without the other.
//! - Each lane (`sequence % lanes` of one source and destination) runs strictly its lowest sequence, one at a
//!   time. A failed head stays the head.
//! - No job is ever dropped: see [`STALLED_RETRY`].
//! - One process per source: [`Queue::run`] wants its [`Ownership`].
//!
//! # Crash consistency
//! Everything that matters is in the database (see `queue/lane.rs`); a handler may be asked twice for the same
//! job, and a delay goes on where it was.
//!
//! # Cancellation
//! [`Queue::run`] ends when its token fires or the ownership is lost: no new job starts, handlers are told, and
//! after [`QueueConfig::shutdown_grace`] dropped; their jobs are pending again, with no attempt counted.
//!
//! # Limits
//! [`MAX_LANES`] lanes per route, [`ENQUEUE_BATCH`] files per transaction.

mod board;
mod failure;
mod handler;
mod id;
mod lane;
mod owner;
mod policy;
mod shield;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_sqlite::SqliteStorage;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::exit::{Diagnose, Exit};
pub use crate::ledger::{ArchiveJob, Committed, Route};
use crate::ledger::{DestinationId, FileKey, LaneName, Ledger, LedgerError, NewFile, SourceId, Tx};
use board::Board;
pub use board::{RESTARTS_UNTIL_DOWN, Settled, StalledFile};
pub use failure::{JobFailure, MAX_MESSAGE_LEN};
pub use handler::{Handler, JobRun};
use lane::Lane;
pub use lane::SAFETY_POLL;
pub use owner::{Claim, Claims, Ownership, OwnershipError};
pub(crate) use policy::backoff_within;
pub use policy::{AFTER_CAP, BACKOFF_BASE, BACKOFF_CAP, CANCELLED_RETRY, STALLED_RETRY};
use shield::Shield;
pub use worker::RESTART_DELAY;

/// Lanes of one route at most: each holds up to one file in memory and one upload.
pub const MAX_LANES: u32 = 64;

/// Files that [`Queue::enqueue`] records in one transaction.
pub const ENQUEUE_BATCH: usize = 500;

/// The history of apalis's migrations; the ledger's is another (migrations/README.md).
const HISTORY: &str = "_apalis_migrations";

/// How the queue works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Lanes of each source and destination, from 1 to [`MAX_LANES`]. May differ from run to run.
    pub lanes: u32,
    /// Failed attempts after which a file is stalled, at least 1.
    pub max_attempts: u32,
    /// How long a handler may take to come to a safe point when it is told to stop.
    pub shutdown_grace: Duration,
}

/// Why the queue cannot be opened or filled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Out of range.
    #[error("[queue] {name} = {value} is not from 1 to {max}")]
    Config {
        /// The key.
        name: &'static str,
        /// Its value.
        value: u32,
        /// The greatest one.
        max: u32,
    },
    /// The database.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What [`Queue::enqueue`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// Files that the ledger did not know, or not where they lie.
    pub files: u64,
    /// Jobs that were neither queued nor done.
    pub jobs: u64,
}

/// An open queue.
#[derive(Debug)]
pub struct Queue {
    ledger: Ledger,
    config: QueueConfig,
    clock: Arc<dyn Clock>,
    board: Arc<watch::Sender<Board>>,
}

impl QueueConfig {
    fn check(self) -> Result<(), QueueError> {
        let within = |name, value, max| match value {
            value if (1..=max).contains(&value) => Ok(()),
            value => Err(QueueError::Config { name, value, max }),
        };
        within("lanes", self.lanes, MAX_LANES)?;
        within("max-attempts", self.max_attempts, u32::MAX)
    }
}

impl Queue {
    /// Opens the queue in the ledger's database; creates or migrates its tables, and moves jobs whose lane is
    /// another with the present number of lanes.
    ///
    /// # Errors
    /// [`QueueError::Config`], or what the database says.
    pub async fn open(
        ledger: Ledger,
        config: QueueConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, QueueError> {
        config.check()?;
        // Never `SqliteStorage::setup`: it turns `synchronous` off.
        let mut migrations = SqliteStorage::<()>::migrations();
        migrations.dangerous_set_table_name(HISTORY);
        let outcome = migrations.run(ledger.pool()).await;
        outcome.map_err(|e| LedgerError::database("migrate the queue")(e.into()))?;
        move_to_lanes(&ledger, config.lanes).await?;
        Ok(Self {
            ledger,
            config,
            clock,
            board: Arc::new(watch::Sender::new(Board::default())),
        })
    }

    /// The ledger beneath.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Records files and queues them for every destination where they are neither committed nor queued. Calling
    /// it again with the same files is harmless. Each batch of [`ENQUEUE_BATCH`] files is recorded and queued
    /// whole or not at all.
    ///
    /// # Errors
    /// What the database says; batches before the failed one are queued.
    pub async fn enqueue(
        &self,
        files: &[NewFile],
        destinations: &[DestinationId],
    ) -> Result<Enqueued, QueueError> {
        let mut total = Enqueued::default();
        for batch in files.chunks(ENQUEUE_BATCH) {
            let now = self.clock.now();
            let mut tx = self.ledger.begin().await?;
            total.files += tx.discover_all(batch, now).await?;
            let wanted = batch.iter().flat_map(|file| {
                destinations.iter().map(|&destination| {
                    let source = file.key.source;
                    let route = Route {
                        source,
                        destination,
                    };
                    ArchiveJob::new(route, file.key.sequence)
                })
            });
            let jobs = unknown(&mut tx, wanted.collect()).await?;
            self.push_jobs(&mut tx, &jobs, now).await?;
            tx.commit().await?;
            total.jobs += jobs.len() as u64;
            self.board.send_modify(|board| {
                for job in &jobs {
                    board.call(job.lane(self.config.lanes), job.sequence);
                }
            });
        }
        Ok(total)
    }

    /// Runs the lanes of one source and these destinations until `stop` fires or the source's ownership is lost,
    /// and every handler has ended. May run for several sources, and several sets of destinations of one source,
    /// side by side; a route MUST NOT run twice at the same time.
    ///
    /// # Errors
    /// What the database says at the start. Later errors end no lane: its worker is built again.
    pub async fn run(
        &self,
        ownership: &Ownership,
        source: SourceId,
        destinations: &[DestinationId],
        handler: Arc<dyn Handler>,
        stop: CancellationToken,
    ) -> Result<(), QueueError> {
        let mut lanes = JoinSet::new();
        let mut names = Vec::new();
        for &destination in destinations {
            let route = Route {
                source,
                destination,
            };
            self.catch_up(route).await?;
            names.extend((0..self.config.lanes).map(|lane| LaneName { route, lane }));
        }
        let stop = stop.child_token();
        self.board.send_modify(|board| board.start(&names));
        for name in names {
            lanes.spawn(worker::supervise(Arc::new(Lane {
                name,
                ledger: self.ledger.clone(),
                clock: Arc::clone(&self.clock),
                max_attempts: self.config.max_attempts,
                handler: Arc::clone(&handler),
                stop: stop.clone(),
                board: Arc::clone(&self.board),
                shield: Shield::new(self.config.shutdown_grace),
            })));
        }
        tokio::select! {
            () = ownership.lost().cancelled() => stop.cancel(),
            _ = lanes.join_next() => {}
        }
        while lanes.join_next().await.is_some() {}
        Ok(())
    }

    /// Takes note of commits that came to the ledger by another way than a job ([`Ledger::import_commits`]), so
    /// that handlers whose turn has come go on.
    ///
    /// # Errors
    /// What the database says.
    pub async fn catch_up(&self, route: Route) -> Result<(), QueueError> {
        let head = self.ledger.chain_head(route.source, route.destination);
        if let Some(head) = head.await? {
            self.board
                .send_modify(|board| board.set_head(route, head.sequence));
        }
        Ok(())
    }

    /// Drops the jobs of a route up to its head, whose lanes do not run yet: commits came to the ledger by another way
    /// ([`Ledger::import_commits`]), so they are done, or can't be any more (the chain takes nothing in below its
    /// head). Returns how many there were.
    ///
    /// # Errors
    /// What the database says.
    pub async fn drop_overtaken(&self, route: Route) -> Result<u64, QueueError> {
        let head = self.ledger.chain_head(route.source, route.destination);
        let Some(head) = head.await? else {
            return Ok(0);
        };
        let last = id::of_job(&ArchiveJob::new(route, head.sequence)).to_string();
        let mut tx = self.ledger.begin().await?;
        let mut dropped = 0;
        // Lane by lane, so that the index on the lane and the id's text answers.
        for lane in 0..self.config.lanes {
            let lane = LaneName { route, lane };
            let sql = "DELETE FROM Jobs WHERE job_type = $1 AND idempotency_key <= $2";
            let done = sqlx::query(sql).bind(lane.to_string()).bind(&last);
            let done = done.execute(tx.connection()).await;
            let done = done.map_err(LedgerError::database("drop jobs that are done"))?;
            dropped += done.rows_affected();
        }
        tx.commit().await?;
        Ok(dropped)
    }

    /// Waits until the lanes run and every one of them rests: nothing queued, or the head stalled, or a handler
    /// waiting for a stalled file. Jobs in a retry delay are waited for. What is stalled goes on being retried
    /// slowly for as long as the lanes run.
    ///
    /// Counts what was queued before the call. Waits for ever when [`Queue::run`] is never called or fails at
    /// its start: wait for both.
    pub async fn settled(&self) -> Settled {
        let mut board = self.board.subscribe();
        loop {
            // The sender lives as long as `self`; without it nothing would ever change again.
            let settled = board.borrow_and_update().settled();
            if let Some(settled) = settled {
                return settled;
            }
            if board.changed().await.is_err() {
                return Settled::default();
            }
        }
    }

    /// Makes every failed job due now, its attempts forgiven: for `run --once`, whose user has just removed the
    /// cause. Returns how many there were.
    ///
    /// # Errors
    /// What the database says.
    pub async fn retry_failed(&self) -> Result<u64, QueueError> {
        let count = self.ledger.retry_failed(self.clock.now()).await?;
        self.board.send_modify(Board::call_all);
        Ok(count)
    }

    /// Drops the jobs of a file that was lost before it was archived, and forgets the file: those behind it go
    /// on, past a gap.
    ///
    /// # Errors
    /// What the database says, also when the file is committed somewhere.
    pub async fn give_up(
        &self,
        file: FileKey,
        destinations: &[DestinationId],
    ) -> Result<(), QueueError> {
        let mut tx = self.ledger.begin().await?;
        for &destination in destinations {
            let route = Route {
                source: file.source,
                destination,
            };
            let id = id::of_job(&ArchiveJob::new(route, file.sequence));
            sqlx::query("DELETE FROM Jobs WHERE id = $1")
                .bind(id.to_string())
                .execute(tx.connection())
                .await
                .map_err(LedgerError::database("drop the job of a lost file"))?;
        }
        tx.forget_file(file).await?;
        tx.commit().await?;
        self.board.send_modify(|board| {
            board.forget(file);
            board.call_all();
        });
        Ok(())
    }

    /// Waits until more files are committed than `seen`, and says how many have been since the lanes began.
    pub async fn committed_after(&self, seen: u64) -> u64 {
        let mut board = self.board.subscribe();
        match board.wait_for(|board| board.done() > seen).await {
            Ok(board) => board.done(),
            // The sender lives as long as `self`.
            Err(_) => seen,
        }
    }

    async fn push_jobs(
        &self,
        tx: &mut Tx,
        jobs: &[ArchiveJob],
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let mut lanes: BTreeMap<LaneName, Vec<Task<Vec<u8>>>> = BTreeMap::new();
        for job in jobs {
            let lane = lanes.entry(job.lane(self.config.lanes)).or_default();
            lane.push(self.task(job, now)?);
        }
        for (lane, tasks) in lanes {
            push(tx, lane, &tasks).await?;
        }
        Ok(())
    }

    fn task(&self, job: &ArchiveJob, now: Timestamp) -> Result<Task<Vec<u8>>, LedgerError> {
        let id = id::of_job(job);
        let stored = serde_json::to_vec(job);
        let stored = stored.map_err(|e| LedgerError::damaged("a job that is no JSON", &e))?;
        Ok(TaskBuilder::new(stored)
            .task_id(TaskId::from_ulid(id))
            .idempotency_key(id.to_string())
            .max_attempts(usize::try_from(self.config.max_attempts).unwrap_or(usize::MAX))
            .run_at_timestamp(u64::try_from(now.as_second()).unwrap_or(0))
            .build())
    }
}

impl Diagnose for QueueError {
    fn exit(&self) -> Exit {
        match self {
            Self::Config { .. } => Exit::Usage,
            Self::Ledger(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config { name, max, .. } => {
                Some(format!("set {name} to a number from 1 to {max}"))
            }
            Self::Ledger(error) => error.hint(),
        }
    }
}

/// Those jobs that are neither queued, in whatever lane, nor done. (The push would pass over a queued one in
/// silence.)
async fn unknown(tx: &mut Tx, jobs: Vec<ArchiveJob>) -> Result<Vec<ArchiveJob>, LedgerError> {
    let mut wanted: BTreeMap<String, ArchiveJob> = jobs
        .into_iter()
        .map(|job| (id::of_job(&job).to_string(), job))
        .collect();
    let known: Vec<String> = sqlx::query_scalar(
        "SELECT key FROM json_each($1) WHERE EXISTS (SELECT 1 FROM Jobs WHERE id = key)
           OR EXISTS (SELECT 1 FROM commits WHERE source = value ->> '$.source'
             AND destination = value ->> '$.destination' AND sequence = value ->> '$.sequence')",
    )
    .bind(sqlx::types::Json(&wanted))
    .fetch_all(tx.connection())
    .await
    .map_err(LedgerError::database("look for jobs"))?;
    for id in known {
        wanted.remove(&id);
    }
    Ok(wanted.into_values().collect())
}

async fn push(tx: &mut Tx, lane: LaneName, tasks: &[Task<Vec<u8>>]) -> Result<(), LedgerError> {
    let lane = lane.to_string();
    let result = apalis_sqlite::queries::push_tasks(tx.connection(), &lane, tasks);
    let encoded = |e: apalis_sqlite::Error| sqlx::Error::Encode(Box::new(e));
    let queue = LedgerError::database("queue a file");
    result.await.map_err(encoded).map_err(queue)
}

/// With another number of lanes, a queued job's lane is another. Ids and thus the order within a lane stay.
async fn move_to_lanes(ledger: &Ledger, lanes: u32) -> Result<(), LedgerError> {
    let mut tx = ledger.begin().await?;
    let moved = sqlx::query(
        "WITH ours AS (
           SELECT id, CAST(job AS TEXT) AS job FROM Jobs
           WHERE job_type LIKE 'archive/%' AND json_valid(CAST(job AS TEXT))),
         lanes AS (
           SELECT id, 'archive/' || (job ->> '$.source') || '/' || (job ->> '$.destination')
             || '/' || ((job ->> '$.sequence') % $1) AS lane
           FROM ours WHERE job ->> '$.version' = $2)
         UPDATE Jobs SET job_type = lanes.lane FROM lanes
         WHERE Jobs.id = lanes.id AND Jobs.job_type <> lanes.lane",
    )
    .bind(i64::from(lanes))
    .bind(i64::from(crate::ledger::JOB_VERSION))
    .execute(tx.connection())
    .await
    .map_err(LedgerError::database("move jobs to their lanes"))?;
    tx.commit().await?;
    match moved.rows_affected() {
        0 => {}
        jobs => tracing::info!(jobs, lanes, "the number of lanes has changed: jobs moved"),
    }
    Ok(())
}
