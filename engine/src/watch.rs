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
//! - A name that is known already is the same file, or a conflict that stops the source: by its
//!   fingerprint, and where that is new, by its SHA-256 (TRAPS 14). That is settled before anything
//!   new is queued. What is new meanwhile is pinned for the next incarnation (`newcomers`).
//! - A file is queued for all destinations at once. Those that a destination lacks when it is opened (a new one, or the
//!   ledger was lost) are queued for it then, above its head: below it the chain takes nothing in. That they have left
//!   the server does not matter where another destination has them.
//!
//! # After a crash
//! A scan is idempotent: what it found and did not queue is found again.
//!
//! # Limits
//! A scan costs one `stat` for each file in the index, and a row of the ledger. Events only hasten it: every [`POLL`] the
//! index is looked at anyway, since inotify sees nothing on some filesystems and may drop events on any.

mod compare;
mod error;
pub mod events;
mod head;
mod lost;
mod newcomers;
mod pins;
mod release;
mod server;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

pub use self::error::WatchError;
pub use self::head::{Head, read_head};
pub use self::pins::{Inode, Pins, pin_closed, present_inodes};
pub use self::release::Release;
pub use self::server::{auto_cnf, read_index, server_uuid};
use crate::binlog::End;
use crate::binlog::index::{self, IndexEntry};
use crate::config::SourceConfig;
use crate::exit::{Diagnose, Exit};
use crate::failpoint::failpoint;
use crate::layout::Sequence;
use crate::ledger::{DestinationId, Fingerprint, KnownFile, NewFile};
use crate::pipeline::seal;
use crate::spool::{Pin, SpoolError};
use pins::Held;

/// The index is looked at this often even when nothing was heard.
pub const POLL: Duration = Duration::from_secs(5);

/// One source under watch.
#[derive(Debug)]
pub struct Watch {
    /// Its configuration.
    pub config: SourceConfig,
    /// What is held of its files.
    pub pins: Pins,
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
    /// Files that the archive does not have although it has later ones. They are not queued where
    /// that is so: the chain cannot take them in any more.
    pub late: Vec<String>,
    /// Why new files could not be pinned.
    pub unpinned: Option<String>,
}

/// Files to be queued.
#[derive(Debug, Default)]
struct Finds {
    /// Unknown to the ledger: for every destination.
    new: Vec<NewFile>,
    /// Known: for destinations that were just opened.
    known: Vec<NewFile>,
}

impl Watch {
    /// Reads the index and queues the closed files that are not known yet; for the `opened` destinations also those
    /// that are known and that they lack. When there are such, pins of what is committed everywhere are let go, and
    /// pinned files that neither the index nor the ledger knows are queued, since a pin may be the only copy left.
    ///
    /// # Errors
    /// See [`WatchError`]. A conflict queues nothing.
    pub async fn scan(&self, opened: &[DestinationId]) -> Result<Scan, WatchError> {
        let outcome = self.try_scan(opened).await;
        match &outcome {
            Err(error) if error.exit() == Exit::Conflict => self.hold_newcomers().await?,
            Ok(_) if !opened.is_empty() => {
                self.let_newcomers_go()?;
                // What was committed everywhere between the look at the heads and its pin was let go of before.
                self.pins.let_go().await?;
            }
            _ => {}
        }
        outcome
    }

    async fn try_scan(&self, opened: &[DestinationId]) -> Result<Scan, WatchError> {
        let mut scan = Scan::default();
        let held = if opened.is_empty() {
            Vec::new()
        } else {
            self.pins.sort().await?
        };
        let listed = read_index(&self.config)?;
        let (closed, active) = self.closed(listed.clone()).await;
        scan.active = active;
        let from = listed.first().map_or(Sequence::MAX, |first| first.sequence);
        let ledger = self.pins.queue.ledger();
        let known = ledger.known_files(self.pins.source, from).await?;
        self.check_numbering(&listed, known.keys().next_back().copied())?;
        for entry in &closed {
            match known.get(&entry.sequence) {
                Some(known) => self.compare(known, entry).await?,
                None => self.compare_with_pin(entry).await?,
            }
        }
        let heads = self.heads().await?;
        let lowest = opened.iter().filter_map(|id| heads.get(id)).min().copied();
        let mut finds = self.unlisted(held, &listed);
        if let Some(lowest) = lowest {
            self.archived_elsewhere(lowest, &listed, &mut finds).await?;
        }
        self.listed(&closed, &known, lowest, &mut finds, &mut scan)?;
        scan.queued = self.queue(finds, opened, &heads, &mut scan.late).await?;
        let lost = self.pins.give_up_lost(&self.config.name, &listed);
        scan.lost = lost.await?;
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

    /// The highest sequence that is committed at each destination; 0 where none is.
    async fn heads(&self) -> Result<BTreeMap<DestinationId, Sequence>, WatchError> {
        let mut heads = BTreeMap::new();
        for &destination in &self.pins.release.destinations {
            let ledger = self.pins.queue.ledger();
            let head = ledger.chain_head(self.pins.source, destination).await?;
            heads.insert(destination, head.map_or(Sequence(0), |head| head.sequence));
        }
        Ok(heads)
    }

    /// Held files that the server no longer lists.
    fn unlisted(&self, held: Vec<Held>, listed: &[IndexEntry]) -> Finds {
        let mut finds = Finds::default();
        for Held { pin, is_known } in held {
            if index::has(listed, pin.sequence) {
                continue;
            }
            let file = self.pins.orphan(pin);
            if is_known {
                finds.known.push(file);
            } else {
                finds.new.push(file);
            }
        }
        finds
    }

    /// Archived files behind `lowest` that the server no longer lists: a destination that lacks them gets them from
    /// another one.
    async fn archived_elsewhere(
        &self,
        lowest: Sequence,
        listed: &[IndexEntry],
        finds: &mut Finds,
    ) -> Result<(), WatchError> {
        let listed: HashSet<Sequence> = listed.iter().map(|entry| entry.sequence).collect();
        let held: HashSet<Sequence> = finds.known.iter().map(|file| file.key.sequence).collect();
        let ledger = self.pins.queue.ledger();
        let archived = ledger.archived_files(self.pins.source, lowest).await?;
        finds.known.extend(archived.into_iter().filter(|file| {
            let sequence = file.key.sequence;
            !listed.contains(&sequence) && !held.contains(&sequence)
        }));
        Ok(())
    }

    /// Closed files that are new, and the known ones above the `lowest` head of the destinations that were opened.
    fn listed(
        &self,
        closed: &[IndexEntry],
        known: &BTreeMap<Sequence, KnownFile>,
        lowest: Option<Sequence>,
        finds: &mut Finds,
        scan: &mut Scan,
    ) -> Result<(), WatchError> {
        for entry in closed {
            if !known.contains_key(&entry.sequence) {
                finds.new.push(self.discover(entry, &mut scan.unpinned)?);
            } else if lowest.is_some_and(|lowest| lowest < entry.sequence) {
                finds.known.push(self.discover(entry, &mut scan.unpinned)?);
            }
        }
        Ok(())
    }

    /// Pins a file. One that cannot be read is queued all the same: its job says why, in its
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
        let identity = self.pins.file(entry.sequence, &entry.file_name);
        match self.pins.spool.pin(&identity, &entry.path) {
            Ok(Pin::Impossible { reason }) => *unpinned = Some(reason),
            // A copy of what is pinned: anything else was refused as a conflict before.
            Err(SpoolError::Conflict { .. }) => {}
            Err(error) if fingerprint.is_some() && entry.path.is_file() => return Err(error.into()),
            // Held; or no file is there to be linked.
            Ok(Pin::Held) | Err(_) => {}
        }
        Ok(NewFile {
            key: self.pins.key(entry.sequence),
            name: entry.file_name.clone(),
            path: Some(entry.path.clone()),
            size: fingerprint.map_or(0, |fingerprint| fingerprint.size),
            fingerprint,
        })
    }

    /// Queues new files everywhere and known ones at the opened destinations, in both cases above the head. New files
    /// below a head are `late`.
    async fn queue(
        &self,
        mut finds: Finds,
        opened: &[DestinationId],
        heads: &BTreeMap<DestinationId, Sequence>,
        late: &mut Vec<String>,
    ) -> Result<u64, WatchError> {
        let queue = &self.pins.queue;
        finds.new.sort_by_key(|file| file.key.sequence);
        finds.known.sort_by_key(|file| file.key.sequence);
        if !finds.new.is_empty() {
            failpoint!("pinned");
        }
        let highest = heads.values().max().copied().unwrap_or_default();
        let (ahead, behind): (Vec<_>, Vec<_>) = finds
            .new
            .into_iter()
            .partition(|file| file.key.sequence > highest);
        late.extend(behind.iter().map(|file| file.name.clone()));
        let mut queued = 0;
        for (&destination, &head) in heads {
            let is_wanted = |file: &&NewFile| file.key.sequence > head;
            let mut wanted: Vec<NewFile> = behind.iter().filter(is_wanted).cloned().collect();
            if opened.contains(&destination) {
                wanted.extend(finds.known.iter().filter(is_wanted).cloned());
                wanted.sort_by_key(|file| file.key.sequence);
            }
            queued += queue.enqueue(&wanted, &[destination]).await?.files;
        }
        queued += queue
            .enqueue(&ahead, &self.pins.release.destinations)
            .await?
            .files;
        if !ahead.is_empty() {
            failpoint!("enqueued");
        }
        Ok(queued)
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
