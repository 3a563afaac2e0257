//! An entry as it lies in its JSON: flat, where the value has parts.
//!
//! Reading through serde's `flatten` would gather the parts' members as untyped values first: a plan reads half a
//! million entries, and that was a quarter of its time.

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{Entry, Predecessor, StoredObject};
use crate::archive::{KeyId, ObjectFacts, WrappedKey};
use crate::binlog::Summary;
use crate::digest::Digest;
use crate::layout::{ClusterName, ObjectKey, Sequence, SourceIdentity};

/// [`Entry`].
#[derive(Deserialize)]
pub(super) struct FlatEntry {
    version: u32,
    cluster: ClusterName,
    server_uuid: Uuid,
    incarnation: u32,
    sequence: Sequence,
    file_name: String,
    sha256: Digest,
    binlog: Summary,
    object: StoredObject,
    base_backup: Option<String>,
    previous: Option<Predecessor>,
    writer: String,
    written_at: Timestamp,
}

impl From<FlatEntry> for Entry {
    fn from(flat: FlatEntry) -> Self {
        Self {
            version: flat.version,
            source: SourceIdentity {
                cluster: flat.cluster,
                server_uuid: flat.server_uuid,
                incarnation: flat.incarnation,
            },
            sequence: flat.sequence,
            file_name: flat.file_name,
            sha256: flat.sha256,
            binlog: flat.binlog,
            object: flat.object,
            base_backup: flat.base_backup,
            previous: flat.previous,
            writer: flat.writer,
            written_at: flat.written_at,
        }
    }
}

/// [`StoredObject`].
#[derive(Deserialize)]
pub(super) struct FlatObject {
    key: ObjectKey,
    size: u64,
    crc32c: u32,
    index_sha256: Digest,
    blocks: u64,
    key_id: KeyId,
    wrapped_key: WrappedKey,
    level: i32,
}

impl From<FlatObject> for StoredObject {
    fn from(flat: FlatObject) -> Self {
        Self {
            key: flat.key,
            facts: ObjectFacts {
                size: flat.size,
                crc32c: flat.crc32c,
                index_sha256: flat.index_sha256,
                blocks: flat.blocks,
                key_id: flat.key_id,
                wrapped_key: flat.wrapped_key,
                level: flat.level,
            },
        }
    }
}
