//! Reads the manifest of one source.
//!
//! # Limits
//! [`ENTRIES_IN_FLIGHT`] entries are asked for at once, each at most [`MAX_ENTRY_LEN`] long; they
//! come in ascending sequence whatever order the store answers in.

use engine::digest::Digest;
use engine::exit::{Diagnose, Exit};
use engine::layout::{KeyKind, ObjectKey, Sequence, SourceIdentity};
use engine::manifest::{Entry, MAX_ENTRY_LEN, ManifestError};
use engine::store::{self, ListedObject, ObjectStore, StoreError};
use futures::{Stream, StreamExt, TryStreamExt, future};

use crate::history::StoredEntry;
use crate::range::SequenceRange;

/// Entries that are read at once.
pub const ENTRIES_IN_FLIGHT: usize = 16;

/// Why an entry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store gave is no entry.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Diagnose for EntryError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Manifest(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
        }
    }
}

/// Reads the entry stored at `key`.
///
/// # Errors
/// When it cannot be read, or is none.
pub async fn read_one(store: &dyn ObjectStore, key: ObjectKey) -> Result<StoredEntry, EntryError> {
    let bytes = store::read_all(store, &key, MAX_ENTRY_LEN).await?;
    let entry = Entry::parse(&key, &bytes)?;
    Ok(StoredEntry {
        sha256: Digest::of(&bytes),
        entry,
        key,
        bytes,
    })
}

/// The entries of `source` in `range`, ascending. Foreign objects between them are passed over;
/// `verify` reports them.
pub fn read<'a>(
    store: &'a dyn ObjectStore,
    source: &SourceIdentity,
    range: SequenceRange,
) -> impl Stream<Item = Result<StoredEntry, EntryError>> + 'a {
    let before = range
        .from()
        .map(|from| source.manifest_key(Sequence(from.0.saturating_sub(1))));
    store
        .list(&source.manifest_prefix(), before.as_ref())
        .try_filter_map(|listed| future::ok(entry_key(listed)))
        .try_take_while(move |(_, sequence)| future::ok(!range.ends_before(*sequence)))
        .map(move |listed| async move {
            let (key, _) = listed?;
            read_one(store, key).await
        })
        .buffered(ENTRIES_IN_FLIGHT)
}

fn entry_key(listed: ListedObject) -> Option<(ObjectKey, Sequence)> {
    let parsed = listed.key.parse().ok()?;
    (parsed.kind == KeyKind::Manifest).then_some((listed.key, parsed.sequence))
}
