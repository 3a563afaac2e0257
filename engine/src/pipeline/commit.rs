//! Commits a verified object: the manifest entry, by conditional create.
//!
//! # Owns
//! The durable step *commit* as far as the bucket is concerned. Watermark, ledger and
//! acknowledgement follow in one transaction of the queue ([`crate::queue`]), which takes the
//! [`Committed`] that only this module makes.
//!
//! # Invariants
//! - I1: the object named by an entry is stored and verified (it takes [`Verified`]).
//! - Entries are written in ascending sequence: the caller waited for its turn.
//! - TRAPS 32: two archivers cannot both commit. The loser compares: the same file is success,
//!   another file is a conflict.
//!
//! # Crash consistency
//! | killed after     | found on restart                | done then                          |
//! |------------------|---------------------------------|------------------------------------|
//! | object verified  | object without entry            | entry is written                   |
//! | entry written    | entry above the watermark       | entry is compared, watermark moves |

use bytes::Bytes;
use jiff::Timestamp;

use crate::archive::ObjectIdentity;
use crate::digest::Digest;
use crate::failpoint::failpoint;
use crate::layout::ObjectKey;
use crate::ledger::{ChainHead, Committed};
use crate::manifest::{Entry, MAX_ENTRY_LEN, Predecessor, StoredObject, VERSION};
use crate::store::{self, ObjectStore, StoreError};

use super::PipelineError;
use super::seal::Sealed;
use super::upload::Verified;

/// Program and version that write entries.
const WRITER: &str = concat!("gtide ", env!("CARGO_PKG_VERSION"));

/// Writes the entry of a verified object, or recognises it.
///
/// # Errors
/// Store errors; [`PipelineError::EntryConflict`] when the entry of another file stands there.
pub async fn commit(
    store: &dyn ObjectStore,
    identity: &ObjectIdentity,
    sealed: &Sealed,
    verified: Verified,
    head: Option<&ChainHead>,
    now: Timestamp,
) -> Result<Committed, PipelineError> {
    let key = identity.source.manifest_key(identity.sequence);
    if let Some(head) = head.filter(|head| head.sequence > identity.sequence) {
        return commit_behind(store, &key, sealed, head).await;
    }
    let entry = Entry {
        version: VERSION,
        source: identity.source.clone(),
        sequence: identity.sequence,
        file_name: identity.file_name.clone(),
        sha256: sealed.sha256,
        binlog: sealed.summary.clone(),
        object: StoredObject {
            key: identity.source.log_key(identity.sequence),
            facts: verified.facts,
        },
        base_backup: None,
        previous: head.map(|head| Predecessor {
            sequence: head.sequence,
            sha256: head.entry_sha256,
        }),
        writer: WRITER.to_owned(),
        written_at: now,
    };
    let bytes = Bytes::from(entry.to_bytes()?);
    failpoint!("before-entry");
    match store.put_if_absent(&key, bytes.clone()).await {
        Ok(()) => {
            failpoint!("entry-written");
            Ok(committed(&entry, Digest::of(&bytes)))
        }
        Err(StoreError::AlreadyExists { .. }) => {
            let (there, sha256) = read_entry(store, &key).await?;
            if there.sha256 == entry.sha256 && is_same_object(&there.object, &entry.object) {
                Ok(committed(&there, sha256))
            } else {
                Err(PipelineError::EntryConflict {
                    key,
                    file_name: entry.file_name,
                    archived: there.sha256,
                    local: entry.sha256,
                })
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Below the head nothing new can be written: the entry behind names its predecessor. What is there
/// already is recognised.
async fn commit_behind(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    sealed: &Sealed,
    head: &ChainHead,
) -> Result<Committed, PipelineError> {
    match read_entry(store, key).await {
        Ok((there, sha256)) if there.sha256 == sealed.sha256 => Ok(committed(&there, sha256)),
        Ok((there, _)) => Err(PipelineError::EntryConflict {
            key: key.clone(),
            file_name: there.file_name,
            archived: there.sha256,
            local: sealed.sha256,
        }),
        Err(PipelineError::Store(StoreError::NotFound { .. })) => Err(PipelineError::Late {
            key: key.clone(),
            head: head.sequence,
        }),
        Err(error) => Err(error),
    }
}

/// Do both name the same object? The level is not compared: of an adopted object it is not known.
fn is_same_object(a: &StoredObject, b: &StoredObject) -> bool {
    let proof = |object: &StoredObject| {
        let facts = &object.facts;
        (
            facts.size,
            facts.crc32c,
            facts.index_sha256,
            facts.wrapped_key.clone(),
        )
    };
    a.key == b.key && proof(a) == proof(b)
}

/// The entry at `key` and the digest of its bytes.
///
/// # Errors
/// Store errors, absence among them; an entry that cannot be read.
pub async fn read_entry(
    store: &dyn ObjectStore,
    key: &ObjectKey,
) -> Result<(Entry, Digest), PipelineError> {
    let bytes = store::read_all(store, key, MAX_ENTRY_LEN).await?;
    Ok((Entry::parse(key, &bytes)?, Digest::of(&bytes)))
}

/// What the ledger keeps of an entry.
pub fn committed(entry: &Entry, entry_sha256: Digest) -> Committed {
    let gtids = entry.binlog.previous_gtids.union(&entry.binlog.added_gtids);
    Committed {
        entry_sha256,
        plain_sha256: entry.sha256,
        size: entry.binlog.size,
        last_commit: entry.binlog.last_commit,
        gtids: Some(gtids.to_string()),
    }
}
