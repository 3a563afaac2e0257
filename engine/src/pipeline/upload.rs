//! Brings a sealed object to one destination, and proves that it is there.
//!
//! # Owns
//! The durable steps *upload* and *verify*.
//!
//! # Invariants
//! - I1: [`Verified`] can only be made here, after the store itself named the size and checksum
//!   that were computed at sealing (or, where it names none, after every byte was read back).
//! - I2: an object in the way is never overwritten. The same bytes are success; another sealing of
//!   the same plaintext (an earlier attempt whose spool was lost) is adopted after it was read back
//!   and authenticated; anything else is a conflict.
//!
//! # Crash consistency
//! | killed after          | found on restart                        | done then                    |
//! |-----------------------|-----------------------------------------|------------------------------|
//! | linked                | object at the key                       | compared by HEAD, no upload  |
//! | some parts sent       | upload id in the ledger                 | the missing parts are sent   |
//! | upload completed      | object at the key, upload id in ledger  | compared by HEAD, no upload  |
//! | spool lost            | object sealed under another data key    | read back, adopted           |
//!
//! That an object is verified is not recorded: the store is asked anew, which costs one HEAD and proves more than a
//! record could.
//!
//! # Cancellation
//! Told to stop, it finishes the call that changes the store and makes no further one. Dropping it is safe at any
//! await: whether a part or the completion arrived is unknown and resolved as above.
//!
//! # Limits
//! Parts under way at once: [`PartPlaces`]. Part counts and sizes are the store's.

mod parts;
mod readback;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::archive::{ObjectFacts, ObjectIdentity};
use crate::clock::Clock;
use crate::digest::Digest;
use crate::failpoint::failpoint;
use crate::keyring::Keyring;
use crate::layout::ObjectKey;
use crate::ledger::{DestinationId, FileKey, Ledger};
use crate::metrics::Meter;
use crate::store::{ObjectMeta, ObjectStore, PartReceipt, StoreError, UploadFacts, UploadId};

use super::PipelineError;
use super::progress::Uploads;
use super::stop::{check, unless};

pub use parts::PartPlaces;

/// Bytes at an object's beginning that hold its header and, for all but the smallest, ciphertext.
const MAX_PREFIX: u64 = 32 * 1024;

/// An object that is at its key, whole, as the store itself says.
#[derive(Debug)]
pub struct Verified {
    /// Its facts: those of this sealing, or of the earlier one that was adopted.
    pub facts: ObjectFacts,
}

/// One object on its way to one destination.
#[derive(Debug)]
pub struct Upload<'a> {
    /// The source's name, for the log.
    pub source: &'a str,
    /// Where to.
    pub store: &'a Arc<dyn ObjectStore>,
    /// The destination in the ledger.
    pub destination: DestinationId,
    /// The file in the ledger.
    pub file: FileKey,
    /// What the object is bound to.
    pub identity: &'a ObjectIdentity,
    /// SHA-256 of the plaintext.
    pub sha256: Digest,
    /// The facts of the sealed object.
    pub facts: &'a ObjectFacts,
    /// Where it lies.
    pub spooled: &'a Path,
    /// The upload id's home.
    pub ledger: &'a Ledger,
    /// For reading back another sealing.
    pub keyring: &'a Arc<Keyring>,
    /// Fires when no further call is to be begun.
    pub stop: &'a CancellationToken,
    /// Where its parts are counted.
    pub uploads: &'a Uploads,
    /// Where its parts find room.
    pub places: &'a PartPlaces,
    /// How often it was tried, with this one.
    pub attempt: u32,
    /// Where opened data keys are counted.
    pub meter: &'a Meter,
    /// What time it is.
    pub clock: &'a dyn Clock,
}

impl Upload<'_> {
    /// Uploads unless it is there already, then verifies. An object that cannot be there yet is looked for only
    /// when it is large: one look is cheaper than many parts sent in vain.
    ///
    /// # Errors
    /// Store and ledger errors; [`PipelineError::ObjectConflict`] when another object is in the way.
    pub async fn run(&self, tried_before: bool) -> Result<Verified, PipelineError> {
        let key = self.identity.source.log_key(self.identity.sequence);
        let id = if tried_before {
            let begun = self.ledger.upload(self.file, self.destination).await?;
            begun.map(|upload| UploadId::new(upload.token))
        } else {
            None
        };
        let in_parts = self.facts.size > self.store.part_size(self.facts.size);
        let look = tried_before || in_parts;
        if look && let Some(there) = unless(self.stop, self.store.head(&key)).await?? {
            return unless(self.stop, self.recognise(&key, &there)).await?;
        }
        check(self.stop)?;
        match self.send(&key, id).await {
            Ok(()) => {
                failpoint!("before-verify");
                unless(self.stop, self.verify(&key)).await?
            }
            // Another's object, or our own whose reply was lost: the comparison tells.
            Err(PipelineError::Store(StoreError::AlreadyExists { .. })) => {
                let there = unless(self.stop, self.look(&key)).await??;
                unless(self.stop, self.recognise(&key, &there)).await?
            }
            Err(error) => Err(error),
        }
    }

    async fn send(&self, key: &ObjectKey, id: Option<UploadId>) -> Result<(), PipelineError> {
        if id.is_none() && self.store.link_if_absent(key, self.spooled).await? {
            failpoint!("linked");
            return Ok(());
        }
        let part_size = self.store.part_size(self.facts.size);
        if self.facts.size <= part_size {
            let body = self.read_whole().await?;
            failpoint!("before-put");
            self.store.put_if_absent(key, body).await?;
            failpoint!("put");
            return Ok(());
        }
        let facts = UploadFacts {
            size: self.facts.size,
            crc32c: self.facts.crc32c,
        };
        let (id, held) = self.begin_or_resume(key, id, &facts).await?;
        let parts = self.send_missing_parts(key, &id, &held, part_size).await?;
        failpoint!("parts-sent");
        check(self.stop)?;
        failpoint!("before-complete");
        self.store.complete_upload(key, &id, &parts, &facts).await?;
        failpoint!("completed");
        Ok(())
    }

    /// The upload of an earlier attempt, if the store still knows it, else a new one.
    async fn begin_or_resume(
        &self,
        key: &ObjectKey,
        id: Option<UploadId>,
        facts: &UploadFacts,
    ) -> Result<(UploadId, Vec<PartReceipt>), PipelineError> {
        if let Some(id) = id
            && let Some(held) = unless(self.stop, self.store.uploaded_parts(key, &id)).await??
        {
            return Ok((id, held));
        }
        check(self.stop)?;
        failpoint!("before-begin-upload");
        let id = self.store.begin_upload(key, facts).await?;
        failpoint!("begun");
        self.ledger
            .record_upload(self.file, self.destination, id.as_str())
            .await?;
        failpoint!("upload-recorded");
        Ok((id, Vec::new()))
    }

    /// Verifies the object that was just sent: the store's own size and checksum.
    async fn verify(&self, key: &ObjectKey) -> Result<Verified, PipelineError> {
        let there = self.look(key).await?;
        if self.is_as_large_and_sums_up(&there) {
            return Ok(self.ours());
        }
        self.adopt(key).await
    }

    /// Verifies an object that was there before: size and checksum alone might be another
    /// sealing's, once in four thousand million; its header holds the data key's envelope.
    async fn recognise(
        &self,
        key: &ObjectKey,
        there: &ObjectMeta,
    ) -> Result<Verified, PipelineError> {
        if self.is_as_large_and_sums_up(there) {
            let len = self.facts.size.min(MAX_PREFIX);
            let ours = self.read_part(0, len).await?;
            let body = self.store.get(key, Some(0..len)).await?;
            let begin: Vec<Bytes> = body.try_collect().await?;
            if begin.concat() == ours {
                return Ok(self.ours());
            }
        }
        self.adopt(key).await
    }

    /// What the store has at a key where something must be.
    async fn look(&self, key: &ObjectKey) -> Result<ObjectMeta, PipelineError> {
        let there = self.store.head(key).await?;
        there.ok_or_else(|| PipelineError::Vanished { key: key.clone() })
    }

    fn is_as_large_and_sums_up(&self, there: &ObjectMeta) -> bool {
        there.size == self.facts.size && there.crc32c == Some(self.facts.crc32c)
    }

    fn ours(&self) -> Verified {
        Verified {
            facts: self.facts.clone(),
        }
    }
}
