//! What the queue asks of the one who does the work.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::board::{Board, LaneState};
use super::failure::JobFailure;
use super::owner::Ownership;
use crate::layout::Sequence;
use crate::ledger::{ArchiveJob, Committed, LaneName};

/// Archives one file at one destination, up to and including its manifest entry.
///
/// # Contract
/// - At least once: after a crash or a lost acknowledgement the same job comes again, so every step MUST be
///   idempotent.
/// - Before it writes the manifest entry it MUST wait for [`JobRun::turn`]: on one route, several lanes run
///   at once, but entries are committed in sequence.
/// - `Ok` means that the entry is durable in the store. The queue then deletes the job and records the
///   commit, in one transaction.
/// - When [`JobRun::cancel`] fires it comes to its next safe point and returns [`JobFailure::cancelled`]: waits end
///   at once, a write under way is finished (so that it need not be done twice), none is begun. After
///   [`shutdown_grace`](super::QueueConfig::shutdown_grace) it is dropped at an await.
/// - A panic is a failed attempt.
#[async_trait]
pub trait Handler: Debug + Send + Sync + 'static {
    /// Archives the file.
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure>;

    /// Does for a job what can be done before its lane is free for it, while the job before it is halfway
    /// ([`JobRun::halfway`]). It is no attempt: [`Handler::archive`] finds what was done, and meets again what failed.
    /// When `cancel` fires it comes to its next safe point and returns.
    async fn prepare(&self, _job: &ArchiveJob, _cancel: &CancellationToken) {}
}

/// One attempt at a job.
#[derive(Debug)]
pub struct JobRun {
    pub(super) attempt: u32,
    pub(super) lane: LaneName,
    pub(super) sequence: Sequence,
    pub(super) cancel: CancellationToken,
    pub(super) board: Arc<watch::Sender<Board>>,
    pub(super) ownership: Arc<Ownership>,
    /// Dropped unused when the attempt ends before.
    pub(super) halfway: Mutex<Option<oneshot::Sender<()>>>,
}

impl JobRun {
    /// Counts from 1. Cancelled attempts and those that a crash ended do not count.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Fires when the attempt is to come to its next safe point and end.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Says that what is left of this attempt is sending and waiting: the lane's next job may be prepared.
    pub fn halfway(&self) {
        let mut halfway = self.halfway.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = halfway.take() {
            // Nobody listens when the lane stops.
            let _ = heard.send(());
        }
    }

    /// Waits until `previous` (the file before this one, if there is one) or a later file is committed on this
    /// route, and that commit is durable in the ledger; and until it is certain that the source is still ours.
    ///
    /// May wait for as long as an earlier file is stalled. Everything that can be done before should be.
    ///
    /// # Errors
    /// [`JobFailure::cancelled`] when the queue stops, or when a file that comes before this one was queued
    /// in the meantime and needs the lane.
    pub async fn turn(&self, previous: Option<Sequence>) -> Result<(), JobFailure> {
        if let Some(until) = previous {
            self.reach(until).await?;
        }
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(JobFailure::cancelled()),
            () = self.ownership.certain() => Ok(()),
        }
    }

    async fn reach(&self, until: Sequence) -> Result<(), JobFailure> {
        let route = self.lane.route;
        let mut changes = self.board.subscribe();
        self.board.send_modify(|board| {
            let state = LaneState::Waiting {
                sequence: self.sequence,
                until,
                preempt: self.cancel.clone(),
            };
            board.set(self.lane, state);
        });
        let outcome = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(JobFailure::cancelled()),
            // The board lives as long as this handle to it.
            _ = changes.wait_for(|board| board.reached(route, until)) => Ok(()),
        };
        self.board
            .send_modify(|board| board.set(self.lane, LaneState::Working));
        outcome
    }
}
