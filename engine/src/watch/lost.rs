//! Files that left the server before they were archived.

use super::pins::Pins;
use super::{WatchError, blocking};
use crate::binlog::index::{self, IndexEntry};
use crate::ledger::{Fingerprint, WaitingFile};
use crate::pipeline::seal::{self, SealError};

impl Pins {
    /// A file that left the index before it was archived and that can't be archived any more (it is gone, or what was
    /// pinned is no binlog) becomes a gap, said loudly, so that it does not hold up those behind it.
    ///
    /// # Errors
    /// Those of ledger and queue.
    pub async fn give_up_lost(
        &self,
        source_name: &str,
        listed: &[IndexEntry],
    ) -> Result<Vec<String>, WatchError> {
        let mut lost = Vec::new();
        for file in self.queue.ledger().waiting_files(self.source).await? {
            if index::has(listed, file.key.sequence) || self.can_be_archived(&file).await? {
                continue;
            }
            tracing::error!(
                source = source_name,
                file = file.name,
                "lost: it left the server's index before it could be archived; the archive has a gap here"
            );
            self.queue
                .give_up(file.key, &self.release.destinations)
                .await?;
            lost.push(file.name);
        }
        Ok(lost)
    }

    async fn can_be_archived(&self, file: &WaitingFile) -> Result<bool, WatchError> {
        let identity = self.file(file.key.sequence, &file.name);
        if self.spool.seal_path(&identity).exists() {
            return Ok(true);
        }
        let named = file.path.clone().unwrap_or_default();
        let path = self.spool.readable(&identity, &named);
        if path == named && self.is_another(file).await? {
            return Ok(false);
        }
        Ok(match blocking(move || seal::summarise(&path)).await {
            Err(SealError::Read { source, .. }) => source.kind() != std::io::ErrorKind::NotFound,
            Err(SealError::Refused { .. } | SealError::NotAFile { .. }) => false,
            Ok(_) | Err(_) => true,
        })
    }

    /// Without a pin, the name may be another file's by now: a numbering that began anew uses it again.
    async fn is_another(&self, file: &WaitingFile) -> Result<bool, WatchError> {
        let row = self.queue.ledger().file(file.key).await?;
        let found = row.and_then(|row| row.fingerprint);
        let named = file.path.as_ref().and_then(|path| path.metadata().ok());
        Ok(match (found, named.as_ref().map(Fingerprint::of)) {
            (Some(found), Some(now)) => {
                found.inode != now.inode && (found.size, found.mtime_ns) != (now.size, now.mtime_ns)
            }
            _ => false,
        })
    }
}
