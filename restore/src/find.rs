//! `find`: looks for an accident in the archive, without restoring anything.
//!
//! # What is read
//! Nothing of a file whose entry tells that it cannot hold what is sought, by its GTIDs or its commit
//! times; of the others, when a time is sought, the blocks of that time; else all. Compressed transactions are
//! looked into.
//!
//! # Limits
//! [`FILES_IN_FLIGHT`] files are read at once, each within the limits of [`crate::ranged`] and of the
//! engine's `changes`; of each found transaction [`MAX_TOUCHES`] changes are kept, and below 1 KiB of each
//! file that may hold one. It ends when more than the transactions asked for are found.

pub mod hit;
pub mod scan;
pub mod sought;

use engine::exit::{Diagnose, Exit};
use engine::layout::SourceIdentity;
use futures::{StreamExt, TryStreamExt, stream};

pub use self::hit::{Found, Hit, MAX_TOUCHES};
pub use self::sought::Sought;
use crate::destination::Destination;
use crate::entries::{self, EntryError};
use crate::history::{ArchivedFile, EntryFault};
use crate::object::{Archive, ReadError};
use crate::progress::Progress;
use crate::range::SequenceRange;

/// Files that are read at once.
pub const FILES_IN_FLIGHT: usize = 4;

/// Why the archive could not be searched.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A manifest entry could not be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A manifest entry contradicts itself.
    #[error(transparent)]
    Fault(#[from] EntryFault),
    /// A file could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Diagnose for FindError {
    fn exit(&self) -> Exit {
        match self {
            Self::Entry(error) => error.exit(),
            Self::Fault(error) => error.exit(),
            Self::Read(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Entry(error) => error.hint(),
            Self::Fault(error) => error.hint(),
            Self::Read(error) => error.hint(),
        }
    }
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct Scope {
    /// In these sources.
    pub sources: Vec<SourceIdentity>,
    /// Of each, in these files.
    pub range: SequenceRange,
}

/// Looks for transactions, in the order of each source's log.
///
/// # Errors
/// When an entry or a file that may hold them cannot be read.
pub async fn find(
    archive: &Archive,
    destination: &Destination,
    scope: &Scope,
    sought: &Sought,
) -> Result<Found, FindError> {
    let mut found = Found::new(destination.url().to_owned());
    let progress = Progress::bytes("find", 0);
    for source in &scope.sources {
        let store = destination.store().as_ref();
        let entries = entries::read(store, source, scope.range).map_err(FindError::from);
        let mut files = std::pin::pin!(entries);
        let mut suspects: Vec<ArchivedFile> = Vec::new();
        while let Some(stored) = files.try_next().await? {
            found.files = found.files.saturating_add(1);
            let file = ArchivedFile::of(&stored)?;
            if sought.may_be_in(&stored.entry.binlog) {
                progress.grow(file.object.facts.size);
                suspects.push(file);
            }
        }
        let progress = &progress;
        let mut hits = stream::iter(suspects)
            .map(|file| async move {
                let scanned = scan::scan(archive, &file, sought).await;
                progress.add(file.object.facts.size);
                scanned
            })
            .buffered(FILES_IN_FLIGHT);
        while let Some(scanned) = hits.next().await {
            found.take(scanned?, sought.limit);
            if found.more {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
