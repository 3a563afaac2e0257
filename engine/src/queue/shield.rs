//! Between apalis's worker and the handler: the work runs in a task of its own.
//!
//! # Invariants
//! - A panic in the handler is a failed attempt, not the end of a worker.
//! - The end of a worker (the database is gone) is not the end of the work: when the job is delivered again, the
//!   new worker joins what is under way, or takes the answer that could not be acknowledged.
//! - At most one job of a lane is under way.

use std::fmt;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::failure::JobFailure;
use crate::ledger::Committed;

type Outcome = Result<Committed, JobFailure>;

/// What a lane has under way.
pub(super) struct Shield {
    under_way: Mutex<Option<UnderWay>>,
    grace: Duration,
}

struct UnderWay {
    job: Vec<u8>,
    outcome: Shared<BoxFuture<'static, Outcome>>,
    abort: AbortHandle,
}

impl Shield {
    /// `grace`: how long work may take to end after it was cancelled. Then it is dropped at its next await.
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            under_way: Mutex::new(None),
            grace,
        }
    }

    /// The outcome of `job`: of the work that is under way for it, or of `work`, which is started then.
    pub(super) async fn run<F>(&self, job: &[u8], stop: &CancellationToken, work: F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (outcome, abort) = self.join_or_start(job, work);
        tokio::select! {
            outcome = outcome.clone() => return outcome,
            () = async { stop.cancelled().await; tokio::time::sleep(self.grace).await } => {}
        }
        tracing::warn!(grace = ?self.grace, "a file's work did not end when it was told to: dropped");
        abort.abort();
        outcome.await
    }

    /// The outcome is acknowledged; the next job may start.
    pub(super) fn forget(&self) {
        *self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn join_or_start<F>(
        &self,
        job: &[u8],
        work: F,
    ) -> (Shared<BoxFuture<'static, Outcome>>, AbortHandle)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut slot = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = slot.as_ref() {
            if under_way.job == job {
                return (under_way.outcome.clone(), under_way.abort.clone());
            }
            // Its row went away or another head came before it; it will be delivered again if it must.
            under_way.abort.abort();
        }
        let task = tokio::spawn(work);
        let abort = task.abort_handle();
        let outcome = task
            .map(|joined| joined.unwrap_or_else(|error| Err(JobFailure::of_join(error))))
            .boxed()
            .shared();
        *slot = Some(UnderWay {
            job: job.to_owned(),
            outcome: outcome.clone(),
            abort: abort.clone(),
        });
        (outcome, abort)
    }
}

impl fmt::Debug for Shield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shield")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::digest::Digest;
    use crate::retry::RetryClass;

    const GRACE: Duration = Duration::from_secs(20);

    fn committed() -> Committed {
        Committed {
            entry_sha256: Digest::of(b"entry"),
            plain_sha256: Digest::of(b"plain"),
            size: 5,
            last_commit: None,
            gtids: None,
        }
    }

    #[tokio::test]
    async fn a_job_delivered_again_joins_the_work_under_way() {
        let shield = Shield::new(GRACE);
        let stop = CancellationToken::new();
        let started = Arc::new(AtomicU32::new(0));
        let work = || {
            let started = Arc::clone(&started);
            async move {
                started.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(committed())
            }
        };
        // A worker that dies before the answer.
        let dropped = shield.run(b"7", &stop, work());
        let _ = tokio::time::timeout(Duration::from_millis(10), dropped).await;
        assert_eq!(shield.run(b"7", &stop, work()).await, Ok(committed()));
        // The acknowledgement was lost: the answer is still there.
        assert_eq!(shield.run(b"7", &stop, work()).await, Ok(committed()));
        assert_eq!(started.load(Ordering::SeqCst), 1);
        shield.forget();
        assert_eq!(shield.run(b"7", &stop, work()).await, Ok(committed()));
        assert_eq!(started.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_like_any_other() {
        let shield = Shield::new(GRACE);
        let outcome = shield
            .run(b"7", &CancellationToken::new(), async {
                panic!("block 17")
            })
            .await;
        let failure = outcome.unwrap_err();
        assert_eq!(failure.message, "panic while archiving: block 17");
        assert_eq!(failure.class, RetryClass::Backoff);
    }

    #[tokio::test]
    async fn work_that_does_not_end_when_told_to_is_dropped_after_the_grace() {
        let shield = Shield::new(Duration::from_millis(20));
        let stop = CancellationToken::new();
        stop.cancel();
        let outcome = shield.run(b"7", &stop, std::future::pending()).await;
        assert_eq!(outcome, Err(JobFailure::cancelled()));
    }
}
