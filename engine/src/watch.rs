//! Finds closed binlog files and puts them on the queue, pinned.
//!
//! # Owns
//! Reading the index file, telling closed files from the active one, pinning, and noticing that a
//! known name has become another file.
//!
//! # Invariants
//! - A file is closed when the index names a successor (TRAPS 2); no server is asked (TRAPS 13).
//! - The index is opened anew for each scan (TRAPS 12).
//! - A file is pinned before it is queued.
//! - A name that is archived already is the same file, or a conflict that stops the source: by its
//!   fingerprint, and where that is new, by its SHA-256 (TRAPS 14). That is settled before anything
//!   new is queued.
//!
//! # After a crash
//! A scan is idempotent: what it found and did not queue is found again.
//!
//! # Limits
//! A scan costs one `stat` for each file in the index. Events only hasten it: every [`POLL`] one is
//! due anyway, since inotify sees nothing on some filesystems and may drop events on any.

mod error;
pub mod events;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub use self::error::WatchError;
use crate::archive::ObjectIdentity;
use crate::binlog::End;
use crate::binlog::index::{self, IndexEntry};
use crate::config::SourceConfig;
use crate::digest::Digest;
use crate::layout::{Sequence, SourceIdentity};
use crate::ledger::{
    DestinationId, FileKey, Fingerprint, KnownFile, NewFile, SourceId, WaitingFile,
};
use crate::pipeline::seal::{self, SealError};
use crate::queue::Queue;
use crate::spool::{Pin, PinnedFile, Spool, SpoolError};

/// A scan is due this often even when nothing was heard.
pub const POLL: Duration = Duration::from_secs(5);

/// The largest index that is read: 2 million names of 64 bytes.
const MAX_INDEX_LEN: u64 = 128 * 1024 * 1024;

/// The `server_uuid` of a configured source: the configuration's, else that of `auto.cnf`.
///
/// # Errors
/// When `auto.cnf` cannot be read or holds none.
pub fn server_uuid(config: &SourceConfig) -> Result<Uuid, WatchError> {
    if let Some(uuid) = config.server_uuid {
        return Ok(uuid);
    }
    let path = config.datadir.join("auto.cnf");
    let text = std::fs::read_to_string(&path).map_err(|source| WatchError::Read {
        path: path.clone(),
        source,
    })?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| matches!(key.trim(), "server-uuid" | "server_uuid"))
        .find_map(|(_, value)| value.trim().parse().ok())
        .ok_or(WatchError::NoServerUuid { path })
}

/// Pins every closed file, archived already or not: [`Watch::first_scan`] lets go of the former.
/// It needs nothing but the filesystem, so it can be done while no destination can be reached.
///
/// # Errors
/// When the index cannot be read. A file that cannot be pinned is told of by the first scan.
pub fn pin_closed(
    config: &SourceConfig,
    identity: &SourceIdentity,
    spool: &Spool,
) -> Result<(), WatchError> {
    let listed = read_index(config)?;
    let closed = listed.len().saturating_sub(1);
    for entry in listed.into_iter().take(closed) {
        let file = ObjectIdentity {
            source: identity.clone(),
            sequence: entry.sequence,
            file_name: entry.file_name,
        };
        if let Err(error @ SpoolError::Conflict { .. }) = spool.pin(&file, &entry.path) {
            return Err(error.into());
        }
    }
    Ok(())
}

fn read_index(config: &SourceConfig) -> Result<Vec<IndexEntry>, WatchError> {
    let path = &config.index;
    let read = |source| WatchError::Read {
        path: path.clone(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        // A pipe would be waited for.
        return Err(WatchError::NotAFile { path: path.clone() });
    }
    let len = metadata.len();
    if len > MAX_INDEX_LEN {
        return Err(WatchError::TooLong {
            path: path.clone(),
            len,
        });
    }
    let bytes = std::fs::read(path).map_err(read)?;
    index::parse_index(&bytes, &config.datadir).map_err(|source| WatchError::Index {
        path: path.clone(),
        source,
    })
}

/// One source under watch.
#[derive(Debug)]
pub struct Watch {
    /// Its configuration.
    pub config: SourceConfig,
    /// Whose files.
    pub identity: SourceIdentity,
    /// The source in the ledger.
    pub source: SourceId,
    /// Where its files go.
    pub destinations: Vec<DestinationId>,
    /// Where pins go.
    pub spool: Spool,
    /// Where jobs go.
    pub queue: Arc<Queue>,
    /// Take the last file too, when it ends in ROTATE or STOP.
    pub include_last: bool,
}

/// What a scan found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Files put on the queue.
    pub queued: u64,
    /// The active file, left alone.
    pub active: Option<String>,
    /// Files lost before they were archived.
    pub lost: Vec<String>,
    /// Files that the archive does not have although it has later ones. They are not queued: the
    /// chain cannot take them in any more.
    pub late: Vec<String>,
    /// Why new files could not be pinned.
    pub unpinned: Option<String>,
}

impl Watch {
    /// Reads the index and queues the closed files that are not known yet.
    ///
    /// # Errors
    /// See [`WatchError`]. A conflict queues nothing.
    pub async fn scan(&self) -> Result<Scan, WatchError> {
        self.scan_with(Vec::new()).await
    }

    async fn scan_with(&self, pinned: Vec<PinnedFile>) -> Result<Scan, WatchError> {
        let mut scan = Scan::default();
        let listed = read_index(&self.config)?;
        let (closed, active) = self.closed(listed.clone()).await;
        scan.active = active;

        let from = closed.first().map_or(Sequence::MAX, |first| first.sequence);
        let known = self.queue.ledger().known_files(self.source, from).await?;
        let head = self.head().await?;
        let mut new = Vec::new();
        for entry in &closed {
            match known.get(&entry.sequence) {
                Some(known) => self.compare(known, entry).await?,
                None if Some(entry.sequence) < head => scan.late.push(entry.file_name.clone()),
                None => new.push(entry),
            }
        }
        let is_listed =
            |pin: &PinnedFile| listed.iter().any(|entry| entry.sequence == pin.sequence);
        let orphans = pinned.into_iter().filter(|pin| !is_listed(pin));
        let mut files: Vec<NewFile> = orphans.map(|pin| self.orphan(pin)).collect();
        for entry in new {
            files.push(self.discover(entry, &mut scan.unpinned)?);
        }
        files.sort_by_key(|file| file.key.sequence);
        scan.queued = self.queue.enqueue(&files, &self.destinations).await?.files;
        scan.lost = self.give_up_lost(&listed).await?;
        Ok(scan)
    }

    /// The files that no server writes to any more, and the name of the one that is left.
    async fn closed(&self, mut listed: Vec<IndexEntry>) -> (Vec<IndexEntry>, Option<String>) {
        let Some(last) = listed.pop() else {
            return (listed, None);
        };
        if self.include_last && is_ended(&last).await {
            listed.push(last);
            return (listed, None);
        }
        (listed, Some(last.file_name))
    }

    /// The first scan: also clears away what an earlier run left, and queues pinned files that neither
    /// the index nor the ledger knows, since a pin may be the only copy left.
    ///
    /// # Errors
    /// See [`WatchError`]. A conflict queues nothing.
    pub async fn first_scan(&self) -> Result<Scan, WatchError> {
        self.spool.sweep_unfinished(&self.identity)?;
        let mut unknown = Vec::new();
        for pin in self.spool.pinned(&self.identity)? {
            let key = FileKey {
                source: self.source,
                sequence: pin.sequence,
            };
            if self
                .queue
                .ledger()
                .is_committed_at(key, &self.destinations)
                .await?
            {
                self.spool.clear(&self.file(pin.sequence, &pin.file_name))?;
            } else if self.queue.ledger().file(key).await?.is_none() {
                unknown.push(pin);
            }
        }
        self.scan_with(unknown).await
    }

    fn file(&self, sequence: Sequence, file_name: &str) -> ObjectIdentity {
        let source = self.identity.clone();
        ObjectIdentity {
            source,
            sequence,
            file_name: file_name.to_owned(),
        }
    }

    /// Pins a new file. One that cannot be read is queued all the same: its job says why, in its
    /// turn, and it is never passed over in silence.
    fn discover(
        &self,
        entry: &IndexEntry,
        unpinned: &mut Option<String>,
    ) -> Result<NewFile, WatchError> {
        let fingerprint = std::fs::metadata(&entry.path)
            .ok()
            .as_ref()
            .map(Fingerprint::of);
        let identity = self.file(entry.sequence, &entry.file_name);
        match self.spool.pin(&identity, &entry.path) {
            Ok(Pin::Impossible { reason }) => *unpinned = Some(reason),
            Err(error @ SpoolError::Conflict { .. }) => return Err(error.into()),
            Err(error) if fingerprint.is_some() && entry.path.is_file() => return Err(error.into()),
            // Held; or no file is there to be linked.
            Ok(Pin::Held) | Err(_) => {}
        }
        Ok(NewFile {
            key: FileKey {
                source: self.source,
                sequence: entry.sequence,
            },
            name: entry.file_name.clone(),
            path: Some(entry.path.clone()),
            size: fingerprint.map_or(0, |fingerprint| fingerprint.size),
            fingerprint,
        })
    }

    /// The highest sequence that is committed anywhere.
    async fn head(&self) -> Result<Option<Sequence>, WatchError> {
        let mut highest = None;
        for &destination in &self.destinations {
            let head = self
                .queue
                .ledger()
                .chain_head(self.source, destination)
                .await?;
            highest = highest.max(head.map(|head| head.sequence));
        }
        Ok(highest)
    }

    /// A file that only its pin still holds.
    fn orphan(&self, pin: PinnedFile) -> NewFile {
        let fingerprint = std::fs::metadata(&pin.path)
            .ok()
            .as_ref()
            .map(Fingerprint::of);
        NewFile {
            key: FileKey {
                source: self.source,
                sequence: pin.sequence,
            },
            name: pin.file_name,
            path: Some(pin.path),
            size: fingerprint.map_or(0, |fingerprint| fingerprint.size),
            fingerprint,
        }
    }

    /// Is the file behind an archived name still the one that was archived?
    async fn compare(&self, known: &KnownFile, entry: &IndexEntry) -> Result<(), WatchError> {
        // What is not archived yet is proved to stand still when it is sealed.
        let Some(archived) = known.sha256 else {
            return Ok(());
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
        let key = FileKey {
            source: self.source,
            sequence: entry.sequence,
        };
        Ok(self
            .queue
            .ledger()
            .set_fingerprint(key, fingerprint)
            .await?)
    }

    /// A file that left the index before it was archived and that can't be archived any more (it
    /// is gone, or what was pinned is no binlog) becomes a gap, said loudly, so that it does not
    /// hold up those behind it.
    async fn give_up_lost(&self, listed: &[IndexEntry]) -> Result<Vec<String>, WatchError> {
        let mut lost = Vec::new();
        for file in self.queue.ledger().waiting_files(self.source).await? {
            if listed
                .iter()
                .any(|entry| entry.sequence == file.key.sequence)
            {
                continue;
            }
            if self.can_be_archived(&file).await {
                continue;
            }
            tracing::error!(
                source = self.config.name,
                file = file.name,
                "lost: it left the server's index before it could be archived; the archive has a gap here"
            );
            self.queue.give_up(file.key, &self.destinations).await?;
            lost.push(file.name);
        }
        Ok(lost)
    }

    async fn can_be_archived(&self, file: &WaitingFile) -> bool {
        let identity = self.file(file.key.sequence, &file.name);
        if self.spool.seal_path(&identity).exists() {
            return true;
        }
        let named = file.path.clone().unwrap_or_default();
        let path = self.spool.readable(&identity, &named);
        match blocking(move || seal::summarise(&path)).await {
            Err(SealError::Read { source, .. }) => source.kind() != std::io::ErrorKind::NotFound,
            Err(SealError::Refused { .. } | SealError::NotAFile { .. }) => false,
            Ok(_) | Err(_) => true,
        }
    }
}

/// Does the file end in ROTATE or STOP, with its IN_USE flag clear?
async fn is_ended(entry: &IndexEntry) -> bool {
    let path = entry.path.clone();
    let ended = match blocking(move || seal::summarise(&path)).await {
        Ok(summary) => !summary.in_use && summary.damage.is_none() && summary.end != End::None,
        Err(_) => false,
    };
    if !ended {
        tracing::warn!(
            file = entry.file_name,
            "the last file is left: it does not end in ROTATE or STOP, so a server may still write to it"
        );
    }
    ended
}

async fn digest(path: PathBuf) -> Result<(Digest, Fingerprint), SealError> {
    blocking(move || seal::digest(&path)).await
}

/// Runs `work` where it may block. A panic in it goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and drops this task at its next await.
            Err(_) => std::future::pending().await,
        },
    }
}
