//! Ends uploads that nobody will go on with: their parts cost storage until somebody does (TRAPS 29).
//!
//! # Owns
//! The uploads below one source's `log/` at one destination. Two kinds are nobody's: those of a file that is
//! committed there, which can never become an object; and those that the ledger does not know and that are older than
//! [`ORPHAN_AGE`]. A younger one that the ledger does not know may be another archiver's, or ours that was begun this
//! moment; it is left.
//!
//! # After a crash, or an error
//! What is left is found by the next sweep.
//!
//! # Limits
//! [`MAX_ABORTS`] for each sweep.

use std::time::Duration;

use super::PipelineError;
use crate::layout::{KeyKind, SourceIdentity};
use crate::ledger::{FileKey, Ledger, LedgerError, Route};
use crate::store::{ObjectStore, PendingUpload};

/// An upload that the ledger does not know is nobody's after this time, by the store's clock: no upload of a file that
/// is still worked on lasts as long without being recorded.
pub const ORPHAN_AGE: Duration = Duration::from_hours(24);

/// Uploads that one sweep ends at most; the next one goes on.
pub const MAX_ABORTS: u64 = 1_000;

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that were ended.
    pub aborted: u64,
    /// Uploads that are under way, may be, or are left to the next sweep.
    pub left: u64,
}

/// Ends the orphaned uploads of one source at one destination, and says each in the log.
///
/// # Errors
/// Those of the store and of the ledger; what was ended before is ended.
pub async fn sweep(
    store: &dyn ObjectStore,
    ledger: &Ledger,
    route: Route,
    identity: &SourceIdentity,
) -> Result<Swept, PipelineError> {
    let mut swept = Swept::default();
    for upload in store.list_uploads(&identity.log_prefix()).await? {
        if swept.aborted == MAX_ABORTS || !is_orphan(&upload, ledger, route).await? {
            swept.left = swept.left.saturating_add(1);
            continue;
        }
        store.abort_upload(&upload.key, &upload.id).await?;
        swept.aborted = swept.aborted.saturating_add(1);
        tracing::info!(
            destination = store.url(),
            key = %upload.key,
            started = %upload.started,
            "ended an upload that nobody would have gone on with"
        );
    }
    Ok(swept)
}

async fn is_orphan(
    upload: &PendingUpload,
    ledger: &Ledger,
    route: Route,
) -> Result<bool, LedgerError> {
    let Some(sequence) = upload
        .key
        .parse()
        .ok()
        .filter(|key| key.kind == KeyKind::Log)
        .map(|key| key.sequence)
    else {
        // No key of ours.
        return Ok(false);
    };
    let file = FileKey {
        source: route.source,
        sequence,
    };
    let committed = ledger.commit(file, route.destination).await?;
    if committed.is_some() {
        return Ok(true);
    }
    let ours = ledger.upload(file, route.destination).await?;
    let is_known = ours.is_some_and(|ours| ours.token == upload.id.as_str());
    Ok(!is_known && upload.age > ORPHAN_AGE)
}
