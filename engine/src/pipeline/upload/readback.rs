//! An object in the way that is not this sealing: read back, authenticated, and adopted when it is the same file.
//!
//! It is an earlier attempt's whose spool was lost, or another archiver's. Costs a download of all of it, once.

use std::sync::Arc;

use futures::TryStreamExt;

use super::{Upload, Verified};
use crate::archive::{LockedReader, ObjectFacts};
use crate::data_keys::{DataKeyError, DataKeys};
use crate::digest::Digest;
use crate::layout::ObjectKey;
use crate::pipeline::PipelineError;

/// An object as it was read back.
struct ReadBack {
    sha256: Digest,
    facts: ObjectFacts,
}

impl Upload<'_> {
    /// Takes another sealing of the same plaintext for ours.
    pub(super) async fn adopt(&self, key: &ObjectKey) -> Result<Verified, PipelineError> {
        let found = self.read_back(key).await?;
        if found.sha256 != self.sha256 {
            return Err(PipelineError::ObjectConflict {
                key: key.clone(),
                file_name: self.identity.file_name.clone(),
                archived: found.sha256,
                local: self.sha256,
            });
        }
        tracing::info!(
            source = self.source,
            file = self.identity.file_name,
            destination = self.store.url(),
            %key,
            "adopted: another sealing of the same file is there already"
        );
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
        let data_keys = DataKeys::new(Arc::clone(self.store), Arc::clone(self.keyring));
        let data_key = data_keys.open(&key_id, &wrapped_key, self.identity).await;
        self.meter.opened_data_key(data_key.is_ok());
        let data_key = data_key.map_err(|error| match error {
            DataKeyError::Keyring(error) => PipelineError::from(error),
            DataKeyError::Store(error) => error.into(),
        })?;
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
