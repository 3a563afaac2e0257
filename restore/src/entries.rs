//! Reads the manifest of one source: rollups where there are, entries where there are none.
//!
//! # Invariants
//! - Entries come in ascending sequence, whatever order the store answers in.
//! - A rollup that is not whole is passed over with a warning, and its entries are read.
//!
//! # Limits
//! [`ENTRIES_IN_FLIGHT`] entries are asked for at once, each at most [`MAX_ENTRY_LEN`] long, or [`ROLLUPS_IN_FLIGHT`]
//! rollups, each at most [`rollup::MAX_LEN`] long and parsed.

mod stretches;

use bytes::Bytes;
use engine::digest::Digest;
use engine::exit::{self, Diagnose, Exit};
use engine::layout::{KeyKind, ObjectKey, RollupName, Sequence, SourceIdentity};
use engine::manifest::rollup::{self, MAX_STORED_LEN};
use engine::manifest::{Entry, MAX_ENTRY_LEN, ManifestError};
use engine::store::{self, ListedObject, ObjectStore, StoreError};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};

use crate::history::StoredEntry;
use crate::range::SequenceRange;
use stretches::{Stretch, stretches};

/// Entries that are read at once.
pub const ENTRIES_IN_FLIGHT: usize = 16;

/// Rollups that are read at once.
pub const ROLLUPS_IN_FLIGHT: usize = 4;

type Entries<'a> = BoxStream<'a, Result<StoredEntry, EntryError>>;

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
) -> impl Stream<Item = Result<StoredEntry, EntryError>> + use<'a> {
    let source = source.clone();
    stream::once(async move {
        let rollups = if is_narrow(range) {
            Vec::new()
        } else {
            rollups(store, &source).await?
        };
        let stretches = stream::iter(stretches(rollups, range))
            .map(move |stretch| open(store, source.clone(), stretch))
            .buffered(ROLLUPS_IN_FLIGHT);
        Ok::<_, EntryError>(stretches.try_flatten())
    })
    .try_flatten()
    .try_filter(move |stored| future::ready(range.contains(stored.entry.sequence)))
}

/// So few files that a rollup would be more to read than their entries.
fn is_narrow(range: SequenceRange) -> bool {
    let ends = range.from().zip(range.to());
    ends.is_some_and(|(from, to)| to.0.saturating_sub(from.0) < ENTRIES_IN_FLIGHT as u64)
}

/// The rollups that are there, ascending.
async fn rollups(
    store: &dyn ObjectStore,
    source: &SourceIdentity,
) -> Result<Vec<RollupName>, StoreError> {
    store
        .list(&source.rollup_prefix(), None)
        .try_filter_map(|listed| future::ok(RollupName::parse(&listed.key)))
        .try_collect()
        .await
}

/// Begins to read a stretch: a rollup is read whole, entries as they are asked for.
async fn open(
    store: &dyn ObjectStore,
    source: SourceIdentity,
    stretch: Stretch,
) -> Result<Entries<'_>, EntryError> {
    let (from, to) = match stretch {
        Stretch::Listed { from, to } => (from, to),
        Stretch::Rolled(name) => {
            if let Some(entries) = read_rollup(store, &name).await {
                return Ok(stream::iter(entries.into_iter().map(Ok)).boxed());
            }
            (name.first(), Some(name.last()))
        }
    };
    Ok(listed(store, &source, from, to).boxed())
}

/// The entries of a rollup; none when it is not whole, or gone.
async fn read_rollup(store: &dyn ObjectStore, name: &RollupName) -> Option<Vec<StoredEntry>> {
    let stored = match store::read_all(store, &name.key(), MAX_STORED_LEN).await {
        Ok(stored) => stored,
        Err(error) => return pass_over(store, name, &error),
    };
    let owned = name.clone();
    let decoding = tokio::task::spawn_blocking(move || rollup::decode(&owned, &stored));
    let rollup = match decoding.await {
        Ok(Ok(rollup)) => rollup,
        Ok(Err(error)) => return pass_over(store, name, &error),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    };
    let bytes = Bytes::from(rollup.bytes);
    let entries = rollup.entries.into_iter().map(|rolled| StoredEntry {
        key: name.source.manifest_key(rolled.entry.sequence),
        sha256: rolled.sha256,
        bytes: bytes.slice(rolled.at),
        entry: rolled.entry,
    });
    Some(entries.collect())
}

/// A rollup is a copy: what it holds is read where it was copied from.
fn pass_over(
    store: &dyn ObjectStore,
    name: &RollupName,
    error: &(impl std::error::Error + 'static),
) -> Option<Vec<StoredEntry>> {
    tracing::warn!(
        destination = store.url(),
        error = exit::chain(error),
        "the rollup {} cannot be read: its entries are read instead",
        name.key()
    );
    None
}

/// Entries from one sequence to another as the store lists them.
fn listed<'a>(
    store: &'a dyn ObjectStore,
    source: &SourceIdentity,
    from: Sequence,
    to: Option<Sequence>,
) -> impl Stream<Item = Result<StoredEntry, EntryError>> + use<'a> {
    // No file has sequence 0.
    let before = source.manifest_key(Sequence(from.0.saturating_sub(1)));
    store
        .list(&source.manifest_prefix(), Some(&before))
        .try_filter_map(|listed| future::ok(entry_key(listed)))
        .try_take_while(move |(_, sequence)| future::ok(to.is_none_or(|to| *sequence <= to)))
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
