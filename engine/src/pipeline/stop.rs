//! How work that is told to stop comes to a safe point.
//!
//! Waiting and reading end at once ([`unless`]); nothing new is begun ([`check`]); what changes the store or the
//! ledger is not interrupted: a write whose answer nobody waits for is a write that is done twice.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use super::PipelineError;

/// Waits for `work`, which may be dropped anywhere, until `stop` fires.
pub(super) async fn unless<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, PipelineError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(PipelineError::Stopping),
        value = work => Ok(value),
    }
}

/// Ends here when `stop` has fired.
pub(super) fn check(stop: &CancellationToken) -> Result<(), PipelineError> {
    if stop.is_cancelled() {
        Err(PipelineError::Stopping)
    } else {
        Ok(())
    }
}
