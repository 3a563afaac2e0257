//! Lets go of pins and sealed objects once their files are archived.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use crate::archive::ObjectIdentity;
use crate::failpoint::failpoint;
use crate::layout::SourceIdentity;
use crate::ledger::{LedgerError, SourceId};
use crate::spool::SpoolError;

/// The spool is cleared this often at most, and this soon after a commit.
const CLEAR_EVERY: Duration = Duration::from_secs(1);

/// What is held for a destination that is not required is looked at this often.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Why something stays in the spool.
#[derive(Debug, thiserror::Error)]
enum ClearError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Lets go of files soon after they are archived, and of those that were held longer when their time has come.
pub(super) async fn keep_spool_clear(parts: Arc<Parts>, stop: CancellationToken) {
    let mut seen = 0;
    loop {
        let owned = parts.owned().clone();
        clear_and_tell(&parts, &owned).await;
        tokio::select! {
            () = stop.cancelled() => return,
            done = parts.queue.committed_after(seen) => seen = done,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CLEAR_EVERY) => {}
        }
    }
}

/// Clears what can be cleared now of these sources.
pub(super) async fn clear_and_tell(parts: &Parts, sources: &HashMap<SourceId, SourceIdentity>) {
    if let Err(error) = clear(parts, sources).await {
        let error = crate::exit::chain(&error);
        tracing::warn!(error, "the spool could not be cleared");
    }
}

async fn clear(
    parts: &Parts,
    sources: &HashMap<SourceId, SourceIdentity>,
) -> Result<(), ClearError> {
    let release = parts.release();
    for key in parts.ledger.sealed_files().await? {
        let Some(source) = sources.get(&key.source) else {
            continue;
        };
        if !release.is_due(&parts.ledger, key).await? {
            continue;
        }
        if let Some(file) = parts.ledger.file(key).await? {
            failpoint!("before-clear");
            parts.spool.clear(&ObjectIdentity {
                source: source.clone(),
                sequence: key.sequence,
                file_name: file.name,
            })?;
            failpoint!("cleared");
        }
        parts.ledger.clear_sealed(key).await?;
    }
    Ok(())
}
