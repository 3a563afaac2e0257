//! One lane: apalis's [`Persistence`] over its stock `Jobs` table, with the rules of this queue.
//!
//! # Invariants
//! - Head of line: what is fetched is the lane's lowest id, whatever its status, and only when it is due.
//!   Nothing overtakes a failed head.
//! - Acknowledging is atomic: the job's row goes and the ledger's commit comes in one transaction.
//! - A job's row is deleted by success alone.
//!
//! # Crash consistency
//! | killed | found on restart | then |
//! |---|---|---|
//! | while the handler works | `Running` | [`Lane::release`] makes it `Pending`; attempts and `run_at` stay |
//! | before the acknowledgement commits | `Running` | the same: the handler runs again and finds its work done |
//! | in a retry delay | `Failed`, `run_at` ahead | it waits for the rest of the delay |
//!
//! # What it relies on
//! The worker has concurrency 1, and fetches only after the last acknowledgement is committed
//! (apalis-core 1.0.0, `worker/call_all.rs`): while it fetches, nothing of this lane is running. One process
//! owns the database ([`Ownership`](super::Ownership)). So the status column decides nothing; it is for those
//! who look on.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::persistence::{Persisted, Persistence, TaskEvent, TaskPersistLayer};
use apalis_core::backend::{Backend, BackendConfig, TaskResult};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::status::Status;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use apalis_sqlite::JsonCodec;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::board::{Board, LaneState, StalledFile};
use super::failure::{JobFailure, Reported};
use super::handler::Handler;
use super::id;
use super::policy::{self, Verdict};
use super::shield::Shield;
use crate::clock::Clock;
use crate::layout::Sequence;
use crate::ledger::{Committed, FileKey, LaneName, LastFailure, Ledger, LedgerError, Route};
use crate::retry::RetryClass;

/// How often a resting lane looks at its queue unasked: another program may have changed it
/// (`gtide queue retry`). Looking reads one row of an index.
pub const SAFETY_POLL: Duration = Duration::from_secs(2);

/// apalis asks for a heartbeat interval; ours does nothing (the ownership lock tells who lives).
const HEARTBEAT: Duration = Duration::from_hours(1);

/// Everything that one lane needs.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: LaneName,
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_attempts: u32,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) stop: CancellationToken,
    pub(super) board: Arc<watch::Sender<Board>>,
    pub(super) shield: Shield,
}

/// Why a lane's worker ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("job {0:?} has an id that this queue never makes")]
    Id(String),
}

/// A lane's head, as stored.
#[derive(Debug, sqlx::FromRow)]
struct Head {
    id: String,
    job: Vec<u8>,
    attempts: i64,
    run_at: i64,
    last_result: Option<String>,
}

impl Lane {
    /// Jobs that no one works on any more are pending again. Attempts and `run_at` stay as they are.
    pub(super) async fn release(&self) -> Result<(), LedgerError> {
        let mut tx = self.ledger.begin().await?;
        sqlx::query(
            "UPDATE Jobs SET status = 'Pending', lock_at = NULL
             WHERE job_type = $1 AND status IN ('Queued', 'Running')",
        )
        .bind(self.name.to_string())
        .execute(tx.connection())
        .await
        .map_err(LedgerError::database("recover a lane"))?;
        tx.commit().await
    }

    /// The idempotency key is the id; the stock index on (`job_type`, `idempotency_key`) finds its minimum
    /// without a scan, which no index does for the id.
    async fn head(&self) -> Result<Option<Head>, LedgerError> {
        sqlx::query_as(HEAD)
            .bind(self.name.to_string())
            .fetch_optional(self.ledger.pool())
            .await
            .map_err(LedgerError::database("look at a lane's head"))
    }

    /// Waits until the head is due and takes it.
    async fn next(&self) -> Result<Task<Vec<u8>>, LaneError> {
        loop {
            let seen = self.board.borrow().calls(self.name);
            let now = self.clock.now();
            let (state, wait) = match self.head().await? {
                Some(head) if head.run_at <= now.as_second() => {
                    self.board
                        .send_modify(|board| board.set(self.name, LaneState::Working));
                    self.mark_running(&head.id, now).await?;
                    return self.task(head);
                }
                Some(head) => (Self::waiting_state(&head)?, until(head.run_at, now)),
                None => (LaneState::Empty, SAFETY_POLL),
            };
            self.board
                .send_modify(|board| board.rest(self.name, seen, state));
            let mut board = self.board.subscribe();
            let called = board.wait_for(|board| board.calls(self.name) != seen);
            // Called, or the time is over: either way it looks again.
            let _ = tokio::time::timeout(wait.min(SAFETY_POLL), called).await;
        }
    }

    async fn mark_running(&self, id: &str, now: Timestamp) -> Result<(), LedgerError> {
        let mut tx = self.ledger.begin().await?;
        sqlx::query("UPDATE Jobs SET status = 'Running', lock_at = $2 WHERE id = $1")
            .bind(id)
            .bind(now.as_second())
            .execute(tx.connection())
            .await
            .map_err(LedgerError::database("take a job"))?;
        tx.commit().await
    }

    fn task(&self, head: Head) -> Result<Task<Vec<u8>>, LaneError> {
        let ulid = Ulid::from_string(&head.id).map_err(|_| LaneError::Id(head.id))?;
        Ok(TaskBuilder::new(head.job)
            .task_id(TaskId::from_ulid(ulid))
            .attempt(usize::try_from(head.attempts).unwrap_or(0))
            .queue(self.name.to_string().as_str().into())
            .build())
    }

    fn waiting_state(head: &Head) -> Result<LaneState, LaneError> {
        let failure = head.last_result.as_deref().map(LastFailure::read);
        let Some(failure) = failure.filter(|failure| failure.stalled) else {
            return Ok(LaneState::BackingOff);
        };
        let (route, sequence) = parse_id(&head.id)?;
        Ok(LaneState::Stalled(StalledFile {
            route,
            sequence,
            attempts: u32::try_from(head.attempts).unwrap_or(u32::MAX),
            failure,
        }))
    }

    /// Makes a job's outcome durable.
    async fn acknowledge(&self, result: TaskResult<Value>) -> Result<(), LaneError> {
        let id = result.task_id.to_string();
        let (route, sequence) = parse_id(&id)?;
        let outcome = match (result.status, result.result) {
            (Status::Done, Ok(value)) => serde_json::from_value(value).map_err(|e| {
                JobFailure::new(
                    format!("read what the handler returned: {e}"),
                    RetryClass::Never,
                )
            }),
            (_, Err(text)) => Err(Reported::read(&text)),
            (status, Ok(_)) => Err(JobFailure::new(
                format!("the job ended as {status}"),
                RetryClass::Backoff,
            )),
        };
        let failure = match outcome {
            Ok(committed) => self.succeed(&id, route, sequence, &committed).await?,
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure {
            let attempt = u32::try_from(result.attempt).unwrap_or(u32::MAX);
            let now = self.clock.now();
            let verdict = policy::judge(failure, attempt, self.max_attempts, now);
            self.fail(&id, sequence, &verdict).await?;
        }
        self.shield.forget();
        self.board
            .send_modify(|board| board.acknowledged(self.name));
        Ok(())
    }

    /// Deletes the job and records the commit, in one transaction. A conflict with the ledger is returned as
    /// the job's failure.
    async fn succeed(
        &self,
        id: &str,
        route: Route,
        sequence: Sequence,
        committed: &Committed,
    ) -> Result<Option<JobFailure>, LedgerError> {
        let key = FileKey {
            source: route.source,
            sequence,
        };
        let now = self.clock.now();
        let mut tx = self.ledger.begin().await?;
        match tx
            .record_commit(key, route.destination, committed, now)
            .await
        {
            Ok(()) => {}
            Err(conflict @ LedgerError::Conflict { .. }) => {
                return Ok(Some(JobFailure::of(&conflict, conflict.retry_class())));
            }
            Err(error) => return Err(error),
        }
        sqlx::query("DELETE FROM Jobs WHERE id = $1")
            .bind(id)
            .execute(tx.connection())
            .await
            .map_err(LedgerError::database("acknowledge a job"))?;
        tx.commit().await?;
        tracing::debug!(lane = %self.name, %sequence, "committed");
        self.board
            .send_modify(|board| board.committed(route, sequence));
        Ok(None)
    }

    /// The head stays the head and waits in `run_at`.
    async fn fail(
        &self,
        id: &str,
        sequence: Sequence,
        verdict: &Verdict,
    ) -> Result<(), LedgerError> {
        let stored = verdict.failure.as_ref().map(serde_json::to_string);
        let stored = stored
            .transpose()
            .map_err(|e| LedgerError::damaged("a failure that is no JSON", &e))?;
        let mut tx = self.ledger.begin().await?;
        sqlx::query(
            "UPDATE Jobs SET status = $2, attempts = $3, run_at = $4, lock_at = NULL,
               last_result = coalesce($5, last_result), done_at = $6
             WHERE id = $1",
        )
        .bind(id)
        .bind(verdict.status.as_str())
        .bind(i64::from(verdict.attempts))
        .bind(verdict.run_at)
        .bind(stored)
        .bind(
            verdict
                .failure
                .is_some()
                .then(|| self.clock.now().as_second()),
        )
        .execute(tx.connection())
        .await
        .map_err(LedgerError::database("record a failed attempt"))?;
        tx.commit().await?;
        self.tell(sequence, verdict);
        Ok(())
    }

    fn tell(&self, sequence: Sequence, verdict: &Verdict) {
        let Some(failure) = &verdict.failure else {
            return tracing::debug!(lane = %self.name, %sequence, "cancelled");
        };
        let (lane, attempts) = (self.name, verdict.attempts);
        let next = Timestamp::from_second(verdict.run_at).unwrap_or_default();
        let error = &failure.message;
        if failure.stalled {
            tracing::warn!(%lane, %sequence, attempts, %next, error, "stalled: this file needs attention");
        } else {
            tracing::info!(%lane, %sequence, attempts, %next, error, "failed, to be tried again");
        }
    }
}

const HEAD: &str = "SELECT id, job, attempts, run_at, last_result FROM Jobs
     WHERE job_type = $1 ORDER BY idempotency_key LIMIT 1";

fn until(run_at: i64, now: Timestamp) -> Duration {
    let at = Timestamp::from_second(run_at).unwrap_or(Timestamp::MAX);
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn parse_id(text: &str) -> Result<(Route, Sequence), LaneError> {
    id::parse(text).ok_or_else(|| LaneError::Id(text.to_owned()))
}

/// A lane as apalis sees it.
#[derive(Debug, Clone)]
struct LaneStore(Arc<Lane>);

impl Persistence for LaneStore {
    type Compact = Vec<u8>;
    type Response = Value;
    type Error = LaneError;

    async fn register(&mut self, _: &WorkerContext) -> Result<(), LaneError> {
        Ok(self.0.release().await?)
    }

    async fn heartbeat(&mut self, _: &WorkerContext) -> Result<(), LaneError> {
        Ok(())
    }

    /// Returns when there is a job, not before: an empty answer would make apalis wait for a wake-up that only
    /// its own sink gives. Dropping it is safe: a job that was taken and not delivered is released.
    async fn fetch_next(&mut self, _: &WorkerContext) -> Result<Vec<Task<Vec<u8>>>, LaneError> {
        Ok(vec![self.0.next().await?])
    }

    async fn handle_events(
        &mut self,
        events: Vec<TaskEvent<Value>>,
        _: &WorkerContext,
    ) -> Result<(), LaneError> {
        for event in events {
            if let TaskEvent::Complete(result) = event {
                self.0.acknowledge(result).await?;
            }
        }
        Ok(())
    }

    async fn reenqueue_abandoned(
        &mut self,
        tasks: Vec<Task<Vec<u8>>>,
        _: &WorkerContext,
    ) -> Result<u64, LaneError> {
        self.0.release().await?;
        Ok(tasks.len() as u64)
    }

    /// Jobs come by [`Queue::enqueue`](super::Queue::enqueue), together with their files, in its transaction;
    /// nothing pushes through the worker.
    async fn push_tasks(&mut self, tasks: Vec<Task<Vec<u8>>>) -> Result<(), LaneError> {
        let mut tx = self.0.ledger.begin().await?;
        super::push(&mut tx, self.0.name, &tasks).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The glue that makes apalis's worker drive a [`LaneStore`].
///
/// Jobs are handed over undecoded ([`Ephemeral`]): one that this program cannot read is then a failed attempt
/// that stalls and is shown, where a codec's error would end the worker.
#[derive(Debug)]
pub(super) struct LaneBackend(Persisted<LaneStore>);

impl LaneBackend {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        Self(Persisted::new(LaneStore(lane)))
    }
}

impl Backend for LaneBackend {
    type Task = Task<Vec<u8>>;
    type Error = LaneError;

    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), LaneError>> {
        self.0.poll_ready(cx, worker, HEARTBEAT)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, LaneError>>> {
        self.0.poll_next(cx, worker)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), LaneError>> {
        self.0.poll_close(cx, worker)
    }
}

impl BackendConfig for LaneBackend {
    type Args = Vec<u8>;
    type Id = Ulid;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = TaskPersistLayer<JsonCodec<Value>, Value>;

    fn config(&self) -> &() {
        &()
    }

    /// Results MUST be persisted: without them apalis sends no acknowledgement either.
    fn middleware(&mut self, _: &mut WorkerContext) -> Self::Layer {
        self.0
            .layer(JsonCodec::default(), 1)
            .persist_results(true)
            .lock_tasks(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fetching happens once per file: with a backlog of 500,000 it must not look at them all. A stock index
    /// answers it; this fails when another version of apalis-sqlite drops that index.
    #[tokio::test]
    async fn the_head_is_found_by_an_index_without_sorting() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("gtide.db").display());
        let ledger = Ledger::open(&url).await.unwrap();
        let migrations = apalis_sqlite::SqliteStorage::<()>::migrations();
        let mut migrations = migrations;
        migrations.dangerous_set_table_name("_apalis_migrations");
        migrations.run(ledger.pool()).await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {HEAD}"));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
            .bind("archive/1/1/0")
            .fetch_all(ledger.pool())
            .await
            .unwrap();
        let steps: Vec<&str> = plan.iter().map(|(.., step)| step.as_str()).collect();
        let expected = "SEARCH Jobs USING INDEX idx_jobs_idempotency_key (job_type=?)";
        assert_eq!(steps, [expected]);
    }
}
