//! What the spool holds of a source's files, against what the ledger knows of them.
//!
//! # Invariants
//! - A pin is let go only when its file is archived (`release`), or when another pin holds the same inode for the
//!   incarnation that it belongs to.
//! - A pin that nothing else knows of is queued: it may be the only copy left.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{Release, WatchError, newcomers, server};
use crate::archive::ObjectIdentity;
use crate::config::SourceConfig;
use crate::layout::{Sequence, SourceIdentity};
use crate::ledger::{FileKey, Fingerprint, NewFile, SourceId};
use crate::queue::Queue;
use crate::spool::{PinnedFile, Spool, SpoolError};

/// A file, whatever its names.
pub type Inode = (u64, u64);

/// The pins of one source.
#[derive(Debug, Clone)]
pub struct Pins {
    /// Whose files.
    pub identity: SourceIdentity,
    /// The source in the ledger.
    pub source: SourceId,
    /// Where its files go, and when they are let go of.
    pub release: Release,
    /// Where pins go.
    pub spool: Spool,
    /// Where jobs go.
    pub queue: Arc<Queue>,
}

/// A pin whose file is still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) pin: PinnedFile,
    /// Does the ledger know the file?
    pub(super) is_known: bool,
}

/// Pins every closed file above `archived`. It needs nothing but the filesystem, so it can be done while neither the
/// database nor a destination can be reached. Pins of files that are archived already are let go later, by the scans.
///
/// # Errors
/// When the index cannot be read; the first conflict, after all else is pinned. Other files that cannot be pinned are
/// told of by the scans.
pub fn pin_closed(
    config: &SourceConfig,
    identity: &SourceIdentity,
    spool: &Spool,
    archived: Option<Sequence>,
) -> Result<(), WatchError> {
    let listed = server::read_index(config)?;
    let closed = listed.len().saturating_sub(1);
    let mut conflict = None;
    for entry in listed.into_iter().take(closed) {
        if Some(entry.sequence) <= archived {
            continue;
        }
        let file = ObjectIdentity {
            source: identity.clone(),
            sequence: entry.sequence,
            file_name: entry.file_name,
        };
        if let Err(error @ SpoolError::Conflict { .. }) = spool.pin(&file, &entry.path) {
            newcomers::pin(spool, &file, &entry.path);
            conflict.get_or_insert(error);
        }
    }
    conflict.map_or(Ok(()), |error| Err(error.into()))
}

impl Pins {
    /// A file of this source.
    pub(super) fn file(&self, sequence: Sequence, file_name: &str) -> ObjectIdentity {
        let source = self.identity.clone();
        ObjectIdentity {
            source,
            sequence,
            file_name: file_name.to_owned(),
        }
    }

    /// Lets go of the pins whose files are archived.
    ///
    /// # Errors
    /// Those of spool and ledger.
    pub async fn let_go(&self) -> Result<(), WatchError> {
        self.sort().await.map(drop)
    }

    /// Lets go of the pins whose files are archived, and returns the others.
    pub(super) async fn sort(&self) -> Result<Vec<Held>, WatchError> {
        let pinned = self.spool.pinned(&self.identity)?;
        let Some(lowest) = pinned.iter().map(|pin| pin.sequence).min() else {
            return Ok(Vec::new());
        };
        let ledger = self.queue.ledger();
        let known = ledger.known_files(self.source, lowest).await?;
        let mut held = Vec::new();
        for pin in pinned {
            let known = known.get(&pin.sequence);
            // Asked only of files that are committed somewhere: a backlog costs no query for each of them.
            let key = self.key(pin.sequence);
            if known.is_some_and(|known| known.sha256.is_some())
                && self.release.is_due(ledger, key).await?
            {
                self.spool.clear(&self.file(pin.sequence, &pin.file_name))?;
            } else {
                let is_known = known.is_some();
                held.push(Held { pin, is_known });
            }
        }
        Ok(held)
    }

    /// Queues the pins of a source that is not watched any more and that the ledger does not know. One that holds a
    /// file of `present`, the source that is watched instead, was pinned before its numbering was known to have begun
    /// anew: it is let go.
    ///
    /// # Errors
    /// Those of spool, ledger and queue.
    pub async fn adopt(&self, present: &HashSet<Inode>) -> Result<(), WatchError> {
        let mut files = Vec::new();
        for held in self.sort().await?.into_iter().filter(|held| !held.is_known) {
            if inode(&held.pin.path).is_ok_and(|inode| present.contains(&inode)) {
                let file = self.file(held.pin.sequence, &held.pin.file_name);
                self.spool.unpin(&file)?;
            } else {
                files.push(self.orphan(held.pin));
            }
        }
        files.sort_by_key(|file| file.key.sequence);
        self.queue
            .enqueue(&files, &self.release.destinations)
            .await?;
        Ok(())
    }

    /// A file that only its pin still holds.
    pub(super) fn orphan(&self, pin: PinnedFile) -> NewFile {
        let metadata = std::fs::metadata(&pin.path).ok();
        let fingerprint = metadata.as_ref().map(Fingerprint::of);
        NewFile {
            key: self.key(pin.sequence),
            name: pin.file_name,
            path: Some(pin.path),
            size: fingerprint.map_or(0, |fingerprint| fingerprint.size),
            fingerprint,
        }
    }

    pub(super) fn key(&self, sequence: Sequence) -> FileKey {
        let source = self.source;
        FileKey { source, sequence }
    }
}

/// The inodes of the files that a source's index lists and of those that are pinned for it.
///
/// # Errors
/// When the index or the spool cannot be read.
pub fn present_inodes(
    config: &SourceConfig,
    identity: &SourceIdentity,
    spool: &Spool,
) -> Result<HashSet<Inode>, WatchError> {
    let listed = server::read_index(config)?.into_iter().map(|e| e.path);
    let pinned = spool.pinned(identity)?.into_iter().map(|pin| pin.path);
    let paths = listed.chain(pinned);
    Ok(paths.filter_map(|path| inode(&path).ok()).collect())
}

pub(super) fn inode(path: &Path) -> io::Result<Inode> {
    // Not by opening: a pipe would wait for a writer.
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
