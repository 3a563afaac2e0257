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
use crate::layout::{BackupId, ObjectKey};
use crate::ledger::{ChainHead, Committed};
use crate::manifest::{Entry, MAX_ENTRY_LEN, Predecessor, StoredObject, VERSION};
use crate::spool::Writer;
use crate::store::{self, ObjectStore, StoreError};

use super::PipelineError;
use super::seal::Sealed;
use super::upload::Verified;

/// A verified object that is to get its entry.
#[derive(Debug)]
pub struct Commit<'a> {
    /// Where.
    pub store: &'a dyn ObjectStore,
    /// The source's name, for the log.
    pub source: &'a str,
    /// Whose object it is.
    pub identity: &'a ObjectIdentity,
    /// What sealing found.
    pub sealed: &'a Sealed,
    /// The last entry of the chain.
    pub head: Option<&'a ChainHead>,
    /// The base backup in force.
    pub base_backup: Option<BackupId>,
    /// Who writes.
    pub writer: &'a Writer,
    /// When.
    pub now: Timestamp,
}

impl Commit<'_> {
    /// Writes the entry of a verified object, or recognises it.
    ///
    /// # Errors
    /// Store errors; [`PipelineError::EntryConflict`] when the entry of another file stands there.
    pub async fn run(&self, verified: Verified) -> Result<Committed, PipelineError> {
        let key = self.identity.source.manifest_key(self.identity.sequence);
        if let Some(head) = self
            .head
            .filter(|head| head.sequence > self.identity.sequence)
        {
            return self.behind(&key, head).await;
        }
        let entry = self.entry(verified);
        let bytes = Bytes::from(entry.to_bytes()?);
        failpoint!("before-entry");
        match self.store.put_if_absent(&key, bytes.clone()).await {
            Ok(()) => {
                failpoint!("entry-written");
                Ok(committed(&entry, Digest::of(&bytes)))
            }
            Err(StoreError::AlreadyExists { .. }) => self.compare(&key, &entry).await,
            Err(error) => Err(error.into()),
        }
    }

    fn entry(&self, verified: Verified) -> Entry {
        let source = &self.identity.source;
        Entry {
            version: VERSION,
            source: source.clone(),
            sequence: self.identity.sequence,
            file_name: self.identity.file_name.clone(),
            sha256: self.sealed.sha256,
            binlog: self.sealed.summary.clone(),
            object: StoredObject {
                key: source.log_key(self.identity.sequence),
                facts: verified.facts,
            },
            base_backup: self.base_backup.as_ref().map(ToString::to_string),
            previous: self.head.map(|head| Predecessor {
                sequence: head.sequence,
                sha256: head.entry_sha256,
            }),
            writer: self.writer.text().to_owned(),
            written_at: self.now,
        }
    }

    /// An entry stands where ours should.
    async fn compare(&self, key: &ObjectKey, ours: &Entry) -> Result<Committed, PipelineError> {
        let (there, sha256) = read_entry(self.store, key).await?;
        if there.sha256 != ours.sha256 || !is_same_object(&there.object, &ours.object) {
            return Err(self.conflict(key, &there));
        }
        self.warn_of_a_rival(&there);
        Ok(committed(&there, sha256))
    }

    /// Below the head nothing new can be written: the entry behind names its predecessor. What is there
    /// already is recognised.
    async fn behind(&self, key: &ObjectKey, head: &ChainHead) -> Result<Committed, PipelineError> {
        match read_entry(self.store, key).await {
            Ok((there, sha256)) if there.sha256 == self.sealed.sha256 => {
                self.warn_of_a_rival(&there);
                Ok(committed(&there, sha256))
            }
            Ok((there, _)) => Err(self.conflict(key, &there)),
            Err(PipelineError::Store(StoreError::NotFound { .. })) => Err(PipelineError::Late {
                key: key.clone(),
                head: head.sequence,
            }),
            Err(error) => Err(error),
        }
    }

    fn conflict(&self, key: &ObjectKey, there: &Entry) -> PipelineError {
        PipelineError::EntryConflict {
            key: key.clone(),
            file_name: there.file_name.clone(),
            archived: there.sha256,
            local: self.sealed.sha256,
        }
    }

    /// Says, once, that somebody else archives the same files. Nothing is wrong with them: each was written once.
    fn warn_of_a_rival(&self, there: &Entry) {
        if let Some(writer) = self.writer.rival(self.store.url(), &there.writer) {
            tracing::warn!(
                source = self.source,
                file = there.file_name,
                destination = self.store.url(),
                writer,
                hint = "let one archiver have the source, or give several the same queue database; after [spool] dir was \
                        replaced, it may have been this one",
                "another archiver writes to this destination"
            );
        }
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
