//! A lane's next job is prepared while the present one is on its way.
//!
//! # Owns
//! The task that waits until the present job is halfway, and then asks the handler to prepare the next one.
//!
//! # Invariants
//! - One job of a lane is prepared at a time, and only the next one.
//! - A job that failed or was interrupted before is not prepared, and none is prepared beside such a one: should a file
//!   end the process, then it is the one that was running when it happens again, and no other is blamed.
//! - A paused lane prepares nothing.
//! - What is being prepared when the lane stops is told to stop, and waited for as long as its job would be.
//!
//! # After a crash
//! Nothing is stored: the job is pending, and finds what was done for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::jobs;
use super::lane::Lane;
use super::worker::parse;
use crate::layout::Sequence;
use crate::ledger::{ArchiveJob, LedgerError};

/// What a lane prepares.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    one: Arc<Mutex<()>>,
    tasks: TaskTracker,
}

impl Ahead {
    /// Prepares the job after `present`, once `halfway` is heard. Nothing is, when it falls silent.
    pub(super) fn follow(lane: &Arc<Lane>, present: Sequence, halfway: oneshot::Receiver<()>) {
        let follower = Arc::clone(lane);
        let work = async move {
            let lane = follower;
            let stop = lane.stop.child_token();
            let halfway = stop.run_until_cancelled(halfway).await;
            let Some(Ok(())) = halfway else { return };
            let _one = lane.ahead.one.lock().await;
            match next(&lane, present).await {
                Ok(Some(job)) => lane.prepare(&job, &stop).await,
                Ok(None) => {}
                Err(error) => {
                    let error = crate::exit::chain(&error);
                    tracing::debug!(lane = %lane.name, error, "no job is prepared");
                }
            }
        };
        lane.ahead.tasks.spawn(work);
    }

    /// Waits for what is being prepared, which has been told to stop.
    pub(super) async fn end(&self, grace: Duration) {
        self.tasks.close();
        // What lasts longer is as safe as what a crash ends.
        let _ = tokio::time::timeout(grace, self.tasks.wait()).await;
    }
}

impl Lane {
    async fn prepare(&self, job: &ArchiveJob, stop: &CancellationToken) {
        let source = &self.labels.source;
        // Who reads the file's row says its name.
        let file = tracing::field::Empty;
        let span = tracing::info_span!("prepare", %source, file, lane = %self.name);
        self.handler.prepare(job, stop).instrument(span).await;
    }
}

/// The job that follows `present`, if nothing speaks against preparing it.
async fn next(lane: &Lane, present: Sequence) -> Result<Option<ArchiveJob>, LedgerError> {
    let Some(stored) = jobs::untroubled_after(&lane.ledger, lane.name, present).await? else {
        return Ok(None);
    };
    if lane.ledger.is_paused(lane.name).await? {
        return Ok(None);
    }
    Ok(parse(&stored).ok())
}
