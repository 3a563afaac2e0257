//! One lane: apalis's [`Persistence`] over its stock `Jobs` table (`queue/jobs.rs`), with the rules of this queue.
//!
//! # Invariants
//! - Head of line: what is fetched is the lane's lowest id, whatever its status, and only when it is due.
//!   Nothing overtakes a failed head.
//! - Acknowledging is atomic: the job's row goes and the ledger's commit comes in one transaction.
//! - A job's row is deleted by success alone.
//! - A paused lane finishes what it has begun and takes nothing more.
//!
//! # Crash consistency
//! | killed | found on restart | then |
//! |---|---|---|
//! | while the handler works | `Running` | `Pending`, attempts as they were; the interruption is counted |
//! | before the acknowledgement commits | `Running` | the same: the handler runs again and finds its work done |
//! | in a retry delay | `Failed`, `run_at` ahead | it waits for the rest of the delay |
//!
//! A file whose work ends the process every time is never counted as failed by its handler; its interruptions are, and
//! after `max_attempts` in a row it stalls.
//!
//! # What it relies on
//! The worker has concurrency 1, and fetches only after the last acknowledgement is committed
//! (apalis-core 1.0.0, `worker/call_all.rs`): while it fetches, nothing of this lane is running. One process
//! owns the source ([`Ownership`]); a lane that lost it writes nothing but commits.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::ahead::Ahead;
use super::board::{Board, LaneState, StalledFile};
use super::failure::{JobFailure, Reported};
use super::handler::Handler;
use super::id;
use super::jobs::{self, Head};
use super::owner::Ownership;
use super::policy::{self, Verdict};
use super::shield::Shield;
use crate::clock::Clock;
use crate::failpoint::failpoint;
use crate::layout::Sequence;
use crate::ledger::{Committed, FileKey, LaneName, LastFailure, Ledger, LedgerError, Route};
use crate::metrics::Meter;
use crate::retry::RetryClass;

/// How often a resting lane looks at its queue unasked: another program may have changed it
/// (`gtide queue retry`, `pause`, `resume`). Looking reads one row of an index.
pub const SAFETY_POLL: Duration = Duration::from_secs(2);

/// apalis asks for a heartbeat interval; ours does nothing (the ownership lock tells who lives).
const HEARTBEAT: Duration = Duration::from_hours(1);

/// Everything that one lane needs.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: LaneName,
    pub(super) labels: Labels,
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_attempts: u32,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) stop: CancellationToken,
    pub(super) board: Arc<watch::Sender<Board>>,
    pub(super) shield: Shield,
    pub(super) ahead: Ahead,
    pub(super) shutdown_grace: Duration,
    pub(super) ownership: Arc<Ownership>,
    /// What another process left behind was dealt with.
    pub(super) recovered: AtomicBool,
    pub(super) meter: Meter,
}

/// What people call a route.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels {
    /// The source's configured name.
    pub(super) source: Arc<str>,
    /// The destination's URL.
    pub(super) destination: Arc<str>,
}

/// Why a lane's worker ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("job {0:?} has an id that this queue never makes")]
    Id(String),
    #[error("jobs are queued together with their files, not by a lane")]
    Push,
}

impl Lane {
    /// Jobs that no one works on any more are pending again. The first time it is another process that worked on
    /// them, and ended; later it is this one, whose last acknowledgement may have happened unheard.
    async fn recover(&self) -> Result<(), LedgerError> {
        if self.recovered.load(Ordering::Relaxed) {
            self.release().await?;
            return self.catch_up().await;
        }
        let now = self.clock.now();
        let mut tx = self.ledger.begin().await?;
        let mut interrupted = Vec::new();
        for job in jobs::running(&mut tx, self.name).await? {
            let before = job.last_result.as_deref().map(LastFailure::read);
            let attempts = u32::try_from(job.attempts).unwrap_or(0);
            let verdict = policy::interrupted(before, attempts, self.max_attempts, now);
            jobs::put_back(&mut tx, &job.id, &verdict, now).await?;
            interrupted.push((job.id, verdict));
        }
        tx.commit().await?;
        self.recovered.store(true, Ordering::Relaxed);
        for (id, verdict) in interrupted {
            if let Some((_, sequence)) = id::parse(&id) {
                self.tell(sequence, &verdict).await;
            }
        }
        Ok(())
    }

    /// Whoever waits for a file whose commit was not heard of goes on.
    async fn catch_up(&self) -> Result<(), LedgerError> {
        let route = self.name.route;
        let head = self.ledger.chain_head(route.source, route.destination);
        if let Some(head) = head.await? {
            self.board
                .send_modify(|board| board.set_head(route, head.sequence));
        }
        Ok(())
    }

    /// Jobs that no one works on any more are pending again.
    pub(super) async fn release(&self) -> Result<(), LedgerError> {
        // They may be another owner's by now.
        if self.ownership.lost().is_cancelled() {
            return Ok(());
        }
        jobs::release(&self.ledger, self.name).await
    }

    /// Waits until the head is due and takes it.
    async fn next(&self) -> Result<Task<Vec<u8>>, LaneError> {
        loop {
            let seen = self.board.borrow().calls(self.name);
            let now = self.clock.now();
            let (state, wait) = match jobs::head(&self.ledger, self.name).await? {
                Some(head) => match self.remaining(&head, now) {
                    Duration::ZERO if self.ledger.is_paused(self.name).await? => {
                        (LaneState::Paused, SAFETY_POLL)
                    }
                    Duration::ZERO => {
                        self.board
                            .send_modify(|board| board.set(self.name, LaneState::Working));
                        jobs::take(&self.ledger, &head.id, now).await?;
                        return self.task(head);
                    }
                    wait => (Self::waiting_state(&head)?, wait),
                },
                None => (LaneState::Empty, SAFETY_POLL),
            };
            self.board
                .send_if_modified(|board| board.rest(self.name, seen, state));
            let mut board = self.board.subscribe();
            let called = board.wait_for(|board| board.calls(self.name) != seen);
            // Called, or the time is over: either way it looks again.
            let _ = tokio::time::timeout(wait.min(SAFETY_POLL), called).await;
        }
    }

    fn remaining(&self, head: &Head, now: Timestamp) -> Duration {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        let offset = Duration::from_millis(hasher.finish() % 1_000);
        policy::remaining(head.run_at, head.done_at, now, offset)
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
        // An attempt that failed is the new owner's to make.
        if let Some(failure) = failure.filter(|_| !self.ownership.lost().is_cancelled()) {
            let attempt = u32::try_from(result.attempt).unwrap_or(u32::MAX);
            let now = self.clock.now();
            let verdict = policy::judge(failure, attempt, self.max_attempts, now);
            let mut tx = self.ledger.begin().await?;
            jobs::put_back(&mut tx, &id, &verdict, now).await?;
            tx.commit().await?;
            self.tell(sequence, &verdict).await;
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
        failpoint!("before-acknowledge");
        let (now, begin) = (self.clock.now(), Instant::now());
        let mut tx = self.ledger.begin().await?;
        let to = route.destination;
        match tx.record_commit(key, to, committed, now).await {
            Ok(()) => {}
            Err(conflict @ LedgerError::Conflict { .. }) => {
                return Ok(Some(JobFailure::of(&conflict, conflict.retry_class())));
            }
            Err(error) => return Err(error),
        }
        jobs::delete(&mut tx, id).await?;
        tx.commit().await?;
        self.meter.acknowledged(begin.elapsed());
        failpoint!("acknowledged");
        tracing::debug!(lane = %self.name, %sequence, "committed");
        self.board
            .send_modify(|board| board.committed(route, sequence));
        Ok(None)
    }

    async fn tell(&self, sequence: Sequence, verdict: &Verdict) {
        let lane = self.name;
        let Some(failure) = &verdict.failure else {
            return tracing::debug!(%lane, %sequence, "cancelled");
        };
        let Labels {
            source,
            destination,
        } = &self.labels;
        let file = self.file_name(sequence).await;
        let attempts = verdict.attempts;
        let next = Timestamp::from_second(verdict.run_at).unwrap_or_default();
        let error = &failure.message;
        if failure.stalled {
            tracing::warn!(%source, file, %destination, attempts, %next, error, "stalled: this file needs attention");
        } else {
            tracing::info!(%source, file, %destination, attempts, %next, error, "failed, to be tried again");
        }
    }

    /// For messages: the file's name, or its sequence when the ledger does not tell.
    async fn file_name(&self, sequence: Sequence) -> String {
        let key = FileKey {
            source: self.name.route.source,
            sequence,
        };
        let name = self.ledger.file_name(key).await;
        let name = name.ok().flatten();
        name.unwrap_or_else(|| sequence.to_string())
    }
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
        Ok(self.0.recover().await?)
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

    /// Jobs come by [`Queue::enqueue`](super::Queue::enqueue), together with their files, in its transaction.
    async fn push_tasks(&mut self, _: Vec<Task<Vec<u8>>>) -> Result<(), LaneError> {
        Err(LaneError::Push)
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
