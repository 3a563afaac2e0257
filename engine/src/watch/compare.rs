//! Is a name in the index still the file that it was? (TRAPS 14)

use std::path::{Path, PathBuf};

use super::pins::inode;
use super::{Watch, WatchError, blocking};
use crate::binlog::index::IndexEntry;
use crate::digest::Digest;
use crate::layout::Sequence;
use crate::ledger::{Fingerprint, KnownFile};
use crate::pipeline::seal::{self, SealError};
use crate::spool::SpoolError;

impl Watch {
    /// A server counts up. An index that ends before a file that was closed already is another numbering's.
    pub(super) fn check_numbering(
        &self,
        listed: &[IndexEntry],
        newest: Option<Sequence>,
    ) -> Result<(), WatchError> {
        match (listed.last(), newest) {
            (Some(last), Some(newest)) if last.sequence < newest => Err(WatchError::Restarted {
                path: self.config.index.clone(),
                newest,
            }),
            _ => Ok(()),
        }
    }

    /// Is the file behind a known name still the one that was archived, or that waits to be?
    pub(super) async fn compare(
        &self,
        known: &KnownFile,
        entry: &IndexEntry,
    ) -> Result<(), WatchError> {
        let Some(archived) = known.sha256 else {
            return self.compare_with_pin(entry).await;
        };
        let Ok(metadata) = std::fs::metadata(&entry.path) else {
            return Ok(());
        };
        if known.fingerprint == Some(Fingerprint::of(&metadata)) {
            return Ok(());
        }
        tracing::info!(
            source = self.config.name,
            file = entry.file_name,
            bytes = metadata.len(),
            "comparing with the archive"
        );
        let (local, fingerprint) = digest(entry.path.clone()).await?;
        if local != archived {
            return Err(WatchError::Conflict {
                path: entry.path.clone(),
                local,
                archived,
            });
        }
        let key = self.pins.key(entry.sequence);
        let ledger = self.pins.queue.ledger();
        Ok(ledger.set_fingerprint(key, fingerprint).await?)
    }

    /// What waits is read from its pin. A pin of another file than the one that the index names now is a conflict,
    /// unless it was only copied.
    pub(super) async fn compare_with_pin(&self, entry: &IndexEntry) -> Result<(), WatchError> {
        let identity = self.pins.file(entry.sequence, &entry.file_name);
        let pin = self.pins.spool.readable(&identity, &entry.path);
        if pin == entry.path || is_one_file(&pin, &entry.path) {
            return Ok(());
        }
        let (pinned, _) = digest(pin.clone()).await?;
        let (local, _) = digest(entry.path.clone()).await?;
        if pinned == local {
            return Ok(());
        }
        let file = entry.path.clone();
        Err(SpoolError::Conflict { pin, file }.into())
    }
}

/// Also when one of them is gone: then there is nothing to compare.
fn is_one_file(a: &Path, b: &Path) -> bool {
    match (inode(a), inode(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => true,
    }
}

async fn digest(path: PathBuf) -> Result<(Digest, Fingerprint), SealError> {
    blocking(move || seal::digest(&path)).await
}
