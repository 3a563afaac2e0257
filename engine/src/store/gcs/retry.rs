//! A few attempts within seconds; anything longer is the caller's policy.

use std::future::Future;
use std::time::Duration;

use super::ATTEMPTS;
use crate::retry::RetryClass;
use crate::store::StoreError;

/// Before the second attempt; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// Up to [`ATTEMPTS`] of them, while what goes wrong may pass.
pub(super) async fn attempts<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut failed = 0;
    loop {
        match attempt().await {
            Err(error) if may_pass(&error) => {
                failed = after_failure(failed, error).await?;
            }
            other => return other,
        }
    }
}

/// Waits before the next attempt, or gives up. Returns how many have failed.
pub(super) async fn after_failure(failed: u32, error: StoreError) -> Result<u32, StoreError> {
    let failed = failed.saturating_add(1);
    if failed >= ATTEMPTS {
        return Err(error);
    }
    tracing::debug!(%error, failed, "trying again");
    let doublings = failed.saturating_sub(1).min(ATTEMPTS);
    tokio::time::sleep(FIRST_DELAY.saturating_mul(1 << doublings)).await;
    Ok(failed)
}

/// Whether another attempt right now may do. Not where the service says when to come back, and not where somebody
/// has to look at it.
pub(super) fn may_pass(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Transport { .. } | StoreError::Stalled { .. } | StoreError::Service { .. }
    ) && error.retry_class() == RetryClass::Backoff
}
