//! At start: makes the ledger agree with the bucket, which is the truth.
//!
//! # Owns
//! The layout version of a cluster in each bucket, and the import of entries that the ledger does
//! not know: all of them after the queue database was deleted, the last ones after a crash between
//! manifest and acknowledgement.
//!
//! # Invariants
//! - I7: the ledger can be deleted; nothing is uploaded again because of it.
//! - The bucket is never changed to agree with the ledger. An entry that the ledger committed and
//!   the bucket no longer has, or has otherwise, stops the source.
//!
//! # After a crash
//! Import is one transaction for each batch of `IMPORT_BATCH` entries, in ascending sequence:
//! what is missing is imported at the next start.

use std::pin::pin;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::layout::{ClusterName, KeyKind, LAYOUT_VERSION, ObjectKey, SourceIdentity};
use crate::ledger::{ChainHead, ImportedCommit, Ledger, LedgerError, Route};
use crate::pipeline::{PipelineError, commit};
use crate::store::{self, ObjectStore, StoreError};

/// Entries read at once from a store.
const READS_IN_FLIGHT: usize = 16;

/// Entries imported in one transaction.
const IMPORT_BATCH: usize = 1_000;

/// The layout version's object is tiny; more is not ours.
const MAX_LAYOUT_LEN: usize = 4_096;

/// Why ledger and bucket cannot be made to agree.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The store or an entry could not be read.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Another layout than ours.
    #[error("{url}: {key}: layout version {found}, and this gtide writes {LAYOUT_VERSION}")]
    Layout {
        /// The destination.
        url: String,
        /// The version's object.
        key: ObjectKey,
        /// Its content, as far as it is a version.
        found: String,
    },
    /// The bucket lost what the ledger saw committed.
    #[error("{url}: {key} was committed, and is not there any more")]
    Lost {
        /// The destination.
        url: String,
        /// The entry.
        key: ObjectKey,
    },
    /// The bucket holds another entry than the one committed.
    #[error("{url}: {key} has sha256 {found}, and {committed} was committed")]
    Replaced {
        /// The destination.
        url: String,
        /// The entry.
        key: ObjectKey,
        /// What was committed.
        committed: Digest,
        /// What is there.
        found: Digest,
    },
}

impl Diagnose for ReconcileError {
    fn exit(&self) -> Exit {
        match self {
            Self::Pipeline(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Ledger(error) => error.exit(),
            Self::Layout { .. } => Exit::Usage,
            Self::Lost { .. } => Exit::Gap,
            Self::Replaced { .. } => Exit::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Pipeline(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
            Self::Layout { .. } => Some("use the gtide that made the archive, or a newer one".to_owned()),
            Self::Lost { .. } | Self::Replaced { .. } => Some(
                "the bucket was emptied, restored or written by another: `gtide-restore verify` shows what \
                 it holds; delete the queue database only when the bucket as it is shall count"
                    .to_owned(),
            ),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Layout {
    layout_version: u32,
}

/// Writes the cluster's layout version, or checks the one that is there.
///
/// # Errors
/// Store errors; [`ReconcileError::Layout`] for another version.
pub async fn layout_version(
    store: &dyn ObjectStore,
    cluster: &ClusterName,
) -> Result<(), ReconcileError> {
    let key = ObjectKey::layout_version(cluster);
    let ours = format!("{{\"layout_version\":{LAYOUT_VERSION}}}\n");
    match store.put_if_absent(&key, Bytes::from(ours)).await {
        Ok(()) => return Ok(()),
        Err(StoreError::AlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let bytes = store::read_all(store, &key, MAX_LAYOUT_LEN).await?;
    let found = match serde_json::from_slice::<Layout>(&bytes) {
        Ok(Layout {
            layout_version: LAYOUT_VERSION,
        }) => return Ok(()),
        Ok(other) => other.layout_version.to_string(),
        Err(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
    };
    Err(ReconcileError::Layout {
        url: store.url().to_owned(),
        key,
        found,
    })
}

/// Imports what the bucket has beyond the ledger, and checks that they agree where they meet.
/// Returns how many entries were imported.
///
/// # Errors
/// Store and ledger errors; [`ReconcileError::Lost`] and [`ReconcileError::Replaced`].
pub async fn source(
    ledger: &Ledger,
    store: &dyn ObjectStore,
    identity: &SourceIdentity,
    route: Route,
) -> Result<u64, ReconcileError> {
    let head = ledger.chain_head(route.source, route.destination).await?;
    if let Some(head) = &head {
        check_head(store, identity, head).await?;
    }
    let after = head.map(|head| identity.manifest_key(head.sequence));
    let prefix = identity.manifest_prefix();
    let batches = store
        .list(&prefix, after.as_ref())
        .map_err(ReconcileError::from)
        .try_filter_map(|listed| async move { Ok(entry_key(&listed.key)) })
        .map_ok(|key| async move {
            let (entry, digest) = commit::read_entry(store, &key).await?;
            Ok::<_, ReconcileError>(ImportedCommit {
                sequence: entry.sequence,
                name: entry.file_name.clone(),
                committed: commit::committed(&entry, digest),
                committed_at: entry.written_at,
            })
        })
        .try_buffered(READS_IN_FLIGHT)
        .try_chunks(IMPORT_BATCH);
    let mut batches = pin!(batches);
    let mut imported = 0u64;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| error.1)?;
        ledger
            .import_commits(route.source, route.destination, &batch)
            .await?;
        imported = imported.saturating_add(batch.len() as u64);
    }
    Ok(imported)
}

/// The key, if this layout made it; a foreign object is said and left alone.
fn entry_key(key: &ObjectKey) -> Option<ObjectKey> {
    match key.parse() {
        Ok(parsed) if parsed.kind == KeyKind::Manifest => Some(key.clone()),
        _ => {
            tracing::warn!(%key, "unknown object among the manifest entries: left alone");
            None
        }
    }
}

async fn check_head(
    store: &dyn ObjectStore,
    identity: &SourceIdentity,
    head: &ChainHead,
) -> Result<(), ReconcileError> {
    let key = identity.manifest_key(head.sequence);
    let url = || store.url().to_owned();
    match commit::read_entry(store, &key).await {
        Ok((_, found)) if found == head.entry_sha256 => Ok(()),
        Ok((_, found)) => Err(ReconcileError::Replaced {
            url: url(),
            key,
            committed: head.entry_sha256,
            found,
        }),
        Err(PipelineError::Store(StoreError::NotFound { .. })) => {
            Err(ReconcileError::Lost { url: url(), key })
        }
        Err(error) => Err(error.into()),
    }
}
