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
//! | some parts sent       | upload id in the ledger                 | the missing parts are sent   |
//! | upload completed      | object at the key, upload id in ledger  | compared by HEAD, no upload  |
//! | spool lost            | object sealed under another data key    | read back, adopted           |
//!
//! # Cancellation
//! Safe at any await: whether a part or the completion arrived is unknown and resolved as above.
//!
//! # Limits
//! [`PARTS_IN_FLIGHT`] parts in memory for each object; part counts and sizes are the store's.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::archive::{LockedReader, ObjectFacts, ObjectIdentity};
use crate::digest::Digest;
use crate::failpoint::failpoint;
use crate::keyring::Keyring;
use crate::layout::ObjectKey;
use crate::ledger::{DestinationId, FileKey, Ledger};
use crate::store::{ObjectStore, Part, PartReceipt, StoreError, UploadFacts, UploadId};

use super::PipelineError;

/// Parts of one object that are sent at once.
pub const PARTS_IN_FLIGHT: usize = 2;

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
    /// Where to.
    pub store: &'a dyn ObjectStore,
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
    pub keyring: &'a Keyring,
}

impl Upload<'_> {
    /// Uploads unless it is there already, then verifies.
    ///
    /// # Errors
    /// Store and ledger errors; [`PipelineError::ObjectConflict`] when another object is in the way.
    pub async fn run(&self, tried_before: bool) -> Result<Verified, PipelineError> {
        let key = self.identity.source.log_key(self.identity.sequence);
        let begun = self.ledger.upload(self.file, self.destination).await?;
        let id = begun.map(|upload| UploadId::new(upload.token));
        let may_be_there = tried_before || id.is_some();
        if may_be_there && self.store.head(&key).await?.is_some() {
            return self.recognise(&key).await;
        }
        match self.send(&key, id).await {
            Ok(()) => {
                failpoint!("before-verify");
                self.verify(&key).await
            }
            // Another's object, or our own whose reply was lost: the comparison tells.
            Err(PipelineError::Store(StoreError::AlreadyExists { .. })) => {
                self.recognise(&key).await
            }
            Err(error) => Err(error),
        }
    }

    async fn send(&self, key: &ObjectKey, id: Option<UploadId>) -> Result<(), PipelineError> {
        let part_size = self.store.part_size(self.facts.size);
        if self.facts.size <= part_size {
            let body = self.read_part(0, self.facts.size).await?;
            failpoint!("before-put");
            self.store.put_if_absent(key, body).await?;
            failpoint!("put");
            return Ok(());
        }
        let facts = UploadFacts {
            size: self.facts.size,
            crc32c: self.facts.crc32c,
        };
        let (id, done) = self.begin_or_resume(key, id, &facts).await?;
        let parts = self.send_missing_parts(key, &id, &done, part_size).await?;
        failpoint!("parts-sent");
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
            && let Some(done) = self.store.uploaded_parts(key, &id).await?
        {
            return Ok((id, done));
        }
        failpoint!("before-begin-upload");
        let id = self.store.begin_upload(key, facts).await?;
        failpoint!("begun");
        self.ledger
            .record_upload(self.file, self.destination, id.as_str())
            .await?;
        failpoint!("upload-recorded");
        Ok((id, Vec::new()))
    }

    async fn send_missing_parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        done: &[PartReceipt],
        part_size: u64,
    ) -> Result<Vec<PartReceipt>, PipelineError> {
        let offsets = (0..self.facts.size.div_ceil(part_size)).zip(1u32..);
        stream::iter(offsets)
            .map(|(index, number)| async move {
                let offset = index.saturating_mul(part_size);
                let size = part_size.min(self.facts.size.saturating_sub(offset));
                let received = done
                    .iter()
                    .find(|part| part.number == number && part.size == size);
                let body = self.read_part(offset, size).await?;
                let crc32c = crc32c::crc32c(&body);
                match received {
                    // A store that tells a part's checksum proves it; one that does not is asked
                    // for the whole object's at the end.
                    Some(part) if part.crc32c.is_none_or(|there| there == crc32c) => {
                        Ok(PartReceipt {
                            crc32c: Some(crc32c),
                            ..part.clone()
                        })
                    }
                    _ => {
                        let part = Part {
                            number,
                            offset,
                            body,
                            crc32c,
                        };
                        failpoint!("before-part");
                        let receipt = self.store.upload_part(key, id, part).await?;
                        failpoint!("part-sent");
                        Ok::<_, PipelineError>(receipt)
                    }
                }
            })
            .buffered(PARTS_IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn read_part(&self, offset: u64, size: u64) -> Result<Bytes, PipelineError> {
        let path: Arc<Path> = self.spooled.into();
        let read = {
            let path = Arc::clone(&path);
            move || -> std::io::Result<Bytes> {
                let len = usize::try_from(size).map_err(std::io::Error::other)?;
                let mut body = vec![0; len];
                File::open(&path)?.read_exact_at(&mut body, offset)?;
                Ok(body.into())
            }
        };
        let spooled = |source| PipelineError::Spooled {
            path: path.to_path_buf(),
            source,
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|join| spooled(std::io::Error::other(join)))?
            .map_err(spooled)
    }

    /// Verifies the object that was just sent: the store's own size and checksum.
    async fn verify(&self, key: &ObjectKey) -> Result<Verified, PipelineError> {
        let Some(there) = self.store.head(key).await? else {
            return Err(PipelineError::Vanished { key: key.clone() });
        };
        if there.size == self.facts.size && there.crc32c == Some(self.facts.crc32c) {
            return Ok(Verified {
                facts: self.facts.clone(),
            });
        }
        self.adopt(key).await
    }

    /// Verifies an object that was there before: size and checksum alone might be another
    /// sealing's, once in four thousand million; its header holds the data key's envelope.
    async fn recognise(&self, key: &ObjectKey) -> Result<Verified, PipelineError> {
        let len = self.facts.size.min(MAX_PREFIX);
        let ours = self.read_part(0, len).await?;
        let body = self.store.get(key, Some(0..len)).await?;
        let there: Vec<Bytes> = body.try_collect().await?;
        if there.concat() == ours {
            return self.verify(key).await;
        }
        self.adopt(key).await
    }

    /// Takes another sealing of the same plaintext for ours.
    async fn adopt(&self, key: &ObjectKey) -> Result<Verified, PipelineError> {
        let found = self.read_back(key).await?;
        if found.sha256 != self.sha256 {
            return Err(PipelineError::ObjectConflict {
                key: key.clone(),
                file_name: self.identity.file_name.clone(),
                archived: found.sha256,
                local: self.sha256,
            });
        }
        tracing::info!(%key, "adopted: an earlier sealing of the same file is there already");
        Ok(Verified { facts: found.facts })
    }

    /// Reads the object at `key` back, authenticates all of it and says what it holds.
    async fn read_back(&self, key: &ObjectKey) -> Result<ReadBack, PipelineError> {
        let damaged = |source| PipelineError::ReadBack {
            key: key.clone(),
            source,
        };
        let (mut size, mut crc32c) = (0u64, 0u32);
        let mut body = self.store.get(key, None).await?.inspect_ok(|bytes| {
            size = size.saturating_add(bytes.len() as u64);
            crc32c = crc32c::crc32c_append(crc32c, bytes);
        });

        let mut locked = LockedReader::new(self.identity.clone());
        while !locked.has_header() {
            let Some(bytes) = body.try_next().await? else {
                break;
            };
            locked.push(&bytes).map_err(damaged)?;
        }
        let header = locked.header().map_err(damaged)?;
        let (key_id, wrapped_key) = (header.key_id().clone(), header.wrapped_key().clone());
        let data_key = self
            .keyring
            .unwrap(&key_id, &wrapped_key, self.identity)
            .await?;
        let mut reader = locked.unlock(&data_key).map_err(damaged)?;
        loop {
            while reader.next_block().map_err(damaged)?.is_some() {}
            let Some(bytes) = body.try_next().await? else {
                break;
            };
            reader.push(&bytes);
        }
        let index = reader.finish().map_err(damaged)?;
        drop(body);
        Ok(ReadBack {
            sha256: index.plain_sha256,
            facts: ObjectFacts {
                size,
                crc32c,
                index_sha256: index.sealed_sha256,
                blocks: index.blocks.len() as u64,
                key_id,
                wrapped_key,
                level: self.facts.level,
            },
        })
    }
}

/// An object as it was read back.
struct ReadBack {
    sha256: Digest,
    facts: ObjectFacts,
}
