//! The durable queue: one job per file and destination, in strict lanes. All of apalis lives here.
//!
//! # Owns
//! The `Jobs` table in the ledger's database (apalis's, with its migrations: `queue/jobs.rs`), the workers, and the
//! order in which files are handed to the [`Handler`].
//!
//! # Invariants
//! - A job is queued in the transaction that records its file, and acknowledged in the one that records its
//!   commit: neither can be lost or doubled without the other.
//! - Each lane (`sequence % lanes` of one source and destination) runs strictly its lowest sequence, one at a
//!   time. A failed head stays the head.
//! - The job after a lane's head may be prepared (`queue/ahead.rs`). That is no attempt, and nothing depends on it.
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

mod ahead;
mod board;
mod failure;
mod handler;
mod id;
mod jobs;
mod lane;
mod owner;
mod policy;
mod shield;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::exit::{Diagnose, Exit};
use crate::layout::Sequence;
pub use crate::ledger::{ArchiveJob, Committed, Route};
use crate::ledger::{DestinationId, FileKey, LaneName, Ledger, LedgerError, NewFile, SourceId};
use crate::metrics::Meter;
use ahead::Ahead;
use board::Board;
pub use board::{RESTARTS_UNTIL_DOWN, Settled, StalledFile};
pub use failure::{JobFailure, MAX_MESSAGE_LEN};
pub use handler::{Handler, JobRun};
pub use lane::SAFETY_POLL;
use lane::{Labels, Lane};
pub use owner::{Claim, Claims, Ownership, OwnershipError};
pub(crate) use policy::backoff_within;
pub use policy::{
    AFTER_CAP, BACKOFF_BASE, BACKOFF_CAP, CANCELLED_RETRY, LONGEST_DELAY, STALLED_RETRY,
};
use shield::Shield;
pub use worker::RESTART_DELAY;

/// Lanes of one route at most: each holds up to one file in memory and one upload.
pub const MAX_LANES: u32 = 64;

/// Files that [`Queue::enqueue`] records in one transaction.
pub const ENQUEUE_BATCH: usize = 500;

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
    /// [`Queue::run`] was called for a route that runs.
    #[error("lane {lane} runs already")]
    Running {
        /// Its queue's name.
        lane: String,
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
    meter: Meter,
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
    /// Opens the queue in the ledger's database; creates or migrates its tables.
    ///
    /// # Errors
    /// [`QueueError::Config`], or what the database says.
    pub async fn open(
        ledger: Ledger,
        config: QueueConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, QueueError> {
        config.check()?;
        jobs::migrate(&ledger).await?;
        Ok(Self {
            ledger,
            config,
            clock,
            board: Arc::new(watch::Sender::new(Board::default())),
            meter: Meter::default(),
        })
    }

    /// The same, counting what it does.
    pub fn metered(self, meter: Meter) -> Self {
        Self { meter, ..self }
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
            let mut routes: BTreeMap<Route, Vec<Sequence>> = BTreeMap::new();
            for file in batch {
                for &destination in destinations {
                    let source = file.key.source;
                    let route = Route {
                        source,
                        destination,
                    };
                    let sequences = routes.entry(route).or_default();
                    sequences.push(file.key.sequence);
                }
            }
            let mut queued = Vec::new();
            for (route, sequences) in routes {
                let (lanes, attempts) = (self.config.lanes, self.config.max_attempts);
                queued
                    .extend(jobs::enqueue(&mut tx, route, &sequences, lanes, attempts, now).await?);
            }
            tx.commit().await?;
            total.jobs += queued.len() as u64;
            self.board.send_modify(|board| {
                for (lane, sequence) in queued {
                    board.call(lane, sequence);
                }
            });
        }
        Ok(total)
    }

    /// Runs the lanes of one source and these destinations until `stop` fires or the source's ownership is lost,
    /// and every handler has ended. May run for several sources, and several sets of destinations of one source,
    /// side by side, and again after it returned. Moves the jobs of these routes whose lane is another with the
    /// present number of lanes.
    ///
    /// Dropped, it tells the handlers to stop and does not wait for them.
    ///
    /// # Errors
    /// [`QueueError::Running`], or what the database says at the start. Later errors end no lane: its worker is
    /// built again.
    pub async fn run(
        &self,
        ownership: &Arc<Ownership>,
        source: SourceId,
        destinations: &[DestinationId],
        handler: Arc<dyn Handler>,
        stop: CancellationToken,
    ) -> Result<(), QueueError> {
        let routes = destinations.iter().map(|&destination| Route {
            source,
            destination,
        });
        let routes: Vec<Route> = routes.collect();
        let seats = Seats::take(&self.board, &routes, self.config.lanes)?;
        let labels = self.begin(&routes).await?;
        let stop = stop.child_token();
        let _told_when_dropped = stop.clone().drop_guard();
        let mut lanes = JoinSet::new();
        for &name in &seats.lanes {
            let labels = labels.get(&name.route).cloned().unwrap_or_default();
            lanes.spawn(worker::supervise(Arc::new(Lane {
                name,
                labels,
                ledger: self.ledger.clone(),
                clock: Arc::clone(&self.clock),
                max_attempts: self.config.max_attempts,
                handler: Arc::clone(&handler),
                stop: stop.clone(),
                board: Arc::clone(&self.board),
                shield: Shield::new(self.config.shutdown_grace),
                ahead: Ahead::default(),
                shutdown_grace: self.config.shutdown_grace,
                ownership: Arc::clone(ownership),
                recovered: AtomicBool::new(false),
                meter: self.meter.clone(),
            })));
        }
        loop {
            tokio::select! {
                () = ownership.lost().cancelled(), if !stop.is_cancelled() => stop.cancel(),
                ended = lanes.join_next() => if ended.is_none() {
                    return Ok(());
                },
            }
        }
    }

    /// Brings queue and board in line with what is configured and committed.
    async fn begin(&self, routes: &[Route]) -> Result<HashMap<Route, Labels>, QueueError> {
        let sources = self.ledger.sources().await?;
        let destinations = self.ledger.destinations().await?;
        let mut labels = HashMap::new();
        for &route in routes {
            let lanes = self.config.lanes;
            match jobs::move_to_lanes(&self.ledger, route, lanes).await? {
                0 => {}
                jobs => tracing::info!(jobs, lanes, "the number of lanes has changed: jobs moved"),
            }
            self.catch_up(route).await?;
            let source = sources.iter().find(|s| s.id == route.source);
            let to = destinations.iter().find(|d| d.id == route.destination);
            let label = Labels {
                source: source.map_or("", |source| &source.name).into(),
                destination: to.map_or("", |destination| &destination.url).into(),
            };
            labels.insert(route, label);
        }
        Ok(labels)
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
        let mut tx = self.ledger.begin().await?;
        let dropped = jobs::delete_up_to(&mut tx, route, head.sequence).await?;
        tx.commit().await?;
        Ok(dropped)
    }

    /// Waits until the lanes of these routes run and every one of them rests: nothing queued, or the head stalled,
    /// or a handler waiting for a stalled file. Jobs in a retry delay are waited for. What is stalled goes on being
    /// retried slowly for as long as the lanes run.
    ///
    /// Counts what was queued before the call. Waits for ever when [`Queue::run`] is never called, fails at its start
    /// or is told to stop: wait for both.
    pub async fn settled(&self, routes: &[Route]) -> Settled {
        let mut board = self.board.subscribe();
        loop {
            // The sender lives as long as `self`; without it nothing would ever change again.
            let settled = board.borrow_and_update().settled(routes);
            if let Some(settled) = settled {
                return settled;
            }
            if board.changed().await.is_err() {
                return Settled::default();
            }
        }
    }

    /// Makes every failed job of a source due now, its attempts forgiven: for `run --once`, whose user has just
    /// removed the cause. Returns how many there were.
    ///
    /// # Errors
    /// What the database says.
    pub async fn retry_failed(&self, source: SourceId) -> Result<u64, QueueError> {
        let now = self.clock.now();
        let count = self.ledger.retry_failed(Some(source.into()), now).await?;
        self.board.send_modify(|board| board.call_all(source));
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
            let id = id::of_job(route, file.sequence);
            jobs::delete(&mut tx, &id.to_string()).await?;
        }
        tx.forget_file(file).await?;
        tx.commit().await?;
        self.board.send_modify(|board| {
            board.forget(file);
            board.call_all(file.source);
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
}

/// The lanes of a [`Queue::run`] on the board, until it ends.
struct Seats {
    board: Arc<watch::Sender<Board>>,
    lanes: Vec<LaneName>,
}

impl Seats {
    fn take(
        board: &Arc<watch::Sender<Board>>,
        routes: &[Route],
        lanes: u32,
    ) -> Result<Self, QueueError> {
        let of_route = |&route| (0..lanes).map(move |lane| LaneName { route, lane });
        let lanes: Vec<LaneName> = routes.iter().flat_map(of_route).collect();
        let mut taken = None;
        board.send_modify(|board| taken = board.start(&lanes));
        match taken {
            Some(lane) => Err(QueueError::Running {
                lane: lane.to_string(),
            }),
            None => Ok(Self {
                board: Arc::clone(board),
                lanes,
            }),
        }
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.board.send_modify(|board| board.stop(&self.lanes));
    }
}

impl Diagnose for QueueError {
    fn exit(&self) -> Exit {
        match self {
            Self::Config { .. } => Exit::Usage,
            Self::Running { .. } => Exit::Unexpected,
            Self::Ledger(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config { name, max, .. } => {
                Some(format!("set {name} to a number from 1 to {max}"))
            }
            Self::Running { .. } => Some("this is a bug of gtide: please report it".to_owned()),
            Self::Ledger(error) => error.hint(),
        }
    }
}
