//! Writes rollups of a source's manifest at one destination (FORMAT.md §11.1).
//!
//! # Owns
//! Which rollups are due, and making them from the entries that lie there. What one is made of is
//! [`crate::manifest::rollup`]'s.
//!
//! # Invariants
//! - A rollup is written when an entry behind it is committed: entries commit in ascending sequence, so nothing is added
//!   to it any more.
//! - It is created only where none is. Entries are never changed for it, and nothing waits for it.
//! - Entries that do not follow from each other are not rolled up: `gtide-restore verify` says what is wrong with them.
//!
//! # After a crash
//! A rollup is there or not; the next look finds those that are not.
//!
//! # Limits
//! `READS_IN_FLIGHT` entries are read at once, and one rollup's are held: some 40 MiB at most.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::exit;
use crate::layout::{KeyKind, ObjectKey, RollupName, Sequence, SourceIdentity};
use crate::manifest::MAX_ENTRY_LEN;
use crate::manifest::rollup::{self, MAX_LEN};
use crate::store::{self, ObjectStore, StoreError};

/// Entries read at once.
const READS_IN_FLIGHT: usize = 16;

/// The rollups of one source at one destination, as far as they are known.
#[derive(Debug)]
pub struct Rollups {
    source: SourceIdentity,
    /// Those that are there, or cannot be made; none before the first look.
    settled: Option<BTreeSet<RollupName>>,
    /// The first that is looked at.
    next: Option<RollupName>,
}

impl Rollups {
    /// Those of a source, still to be looked at.
    pub fn of(source: SourceIdentity) -> Self {
        Self {
            source,
            settled: None,
            next: None,
        }
    }

    /// Writes those that are due when `head` is the last entry, and not there; how many were written.
    ///
    /// # Errors
    /// What the store says. What was written before stays, and the next call goes on behind it.
    pub async fn write_due(
        &mut self,
        store: &dyn ObjectStore,
        head: Sequence,
    ) -> Result<u64, StoreError> {
        let growing = RollupName::of(self.source.clone(), head);
        let next = match self.next.take() {
            Some(next) => Some(next),
            None => first_of(store, &self.source).await?,
        };
        let Some(mut due) = next else { return Ok(0) };
        let settled = match self.settled.take() {
            Some(settled) => settled,
            None if due < growing => written(store, &self.source).await?,
            None => BTreeSet::new(),
        };
        let mut count = 0;
        while due < growing {
            if !settled.contains(&due) {
                self.next = Some(due.clone());
                count += u64::from(write(store, &due).await?);
            }
            due = due.next();
        }
        (self.next, self.settled) = (Some(due), Some(settled));
        Ok(count)
    }
}

/// The rollup of the first entry that is there.
async fn first_of(
    store: &dyn ObjectStore,
    source: &SourceIdentity,
) -> Result<Option<RollupName>, StoreError> {
    let prefix = source.manifest_prefix();
    let first = entries(store, &prefix, None).next().await.transpose()?;
    Ok(first.map(|(_, sequence)| RollupName::of(source.clone(), sequence)))
}

/// The rollups that are there.
async fn written(
    store: &dyn ObjectStore,
    source: &SourceIdentity,
) -> Result<BTreeSet<RollupName>, StoreError> {
    store
        .list(&source.rollup_prefix(), None)
        .try_filter_map(async |listed| Ok(RollupName::parse(&listed.key)))
        .try_collect()
        .await
}

/// Makes a rollup of what is there, if that is whole.
async fn write(store: &dyn ObjectStore, name: &RollupName) -> Result<bool, StoreError> {
    let Some(bytes) = read_all(store, name).await? else {
        return Ok(false);
    };
    let owned = name.clone();
    let encoded = tokio::task::spawn_blocking(move || rollup::encode(&owned, &bytes)).await;
    let encoded = match encoded {
        Ok(encoded) => encoded,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    };
    match encoded {
        Ok(Some(encoded)) => match store.put_if_absent(&name.key(), encoded.into()).await {
            Ok(()) => Ok(true),
            Err(StoreError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error),
        },
        Ok(None) => Ok(false),
        Err(error) => {
            tracing::warn!(
                destination = store.url(),
                error = exit::chain(&error),
                hint = "`gtide-restore verify` says more",
                "manifest entries were not rolled up"
            );
            Ok(false)
        }
    }
}

/// The entries of a rollup, one behind the other; none when there are none, or too many bytes of them.
async fn read_all(store: &dyn ObjectStore, name: &RollupName) -> Result<Option<Bytes>, StoreError> {
    let (prefix, before) = (name.source.manifest_prefix(), name.first().0.checked_sub(1));
    let before = before.map(|before| name.source.manifest_key(Sequence(before)));
    let mut bodies = std::pin::pin!(
        entries(store, &prefix, before.as_ref())
            .try_take_while(|(_, sequence)| futures::future::ok(name.spans(*sequence)))
            .map_ok(|(key, _)| async move { store::read_all(store, &key, MAX_ENTRY_LEN).await })
            .try_buffered(READS_IN_FLIGHT)
    );
    let mut bytes = Vec::new();
    while let Some(body) = bodies.try_next().await? {
        bytes.extend_from_slice(&body);
        if bytes.len() > MAX_LEN {
            return Ok(None);
        }
    }
    Ok((!bytes.is_empty()).then(|| bytes.into()))
}

/// The keys of entries behind `after`, ascending.
fn entries<'a>(
    store: &'a dyn ObjectStore,
    prefix: &str,
    after: Option<&ObjectKey>,
) -> futures::stream::BoxStream<'a, Result<(ObjectKey, Sequence), StoreError>> {
    store
        .list(prefix, after)
        .try_filter_map(async |listed| {
            let parsed = listed.key.parse().ok();
            let entry = parsed.filter(|parsed| parsed.kind == KeyKind::Manifest);
            Ok(entry.map(|parsed| (listed.key, parsed.sequence)))
        })
        .boxed()
}
