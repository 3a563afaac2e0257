//! The archive object (`.gtb`): one binlog file, compressed and encrypted in blocks.
//!
//! [`engine/FORMAT.md`](crate::_documentation::format) is the law, byte for byte; the code cites its
//! sections. Here are values and bytes only: no file, no store, no clock.
//!
//! ```text
//! prefix · header │ block 0 │ block 1 │ … │ last block │ index │ trailer
//!                 └ length word · AES-256-GCM( zstd( ≤ 4 MiB of binlog ) )
//! ```
//!
//! # Owns
//! The object's bytes ([`writer`], [`reader`], [`ranged`]) and the envelope of its data key ([`key`]).
//! Where key-encryption keys come from is [`crate::keyring`]'s.
//!
//! # Invariants
//! - No (key, nonce) pair is used twice: a [`SealingKey`] is made for one object, is consumed by
//!   [`ObjectWriter::create`], and its cipher counts by itself (`cipher.rs`).
//! - No plaintext leaves a reader before its tag is checked, and no reader is done before the last
//!   block, the index and the trailer were seen ([`ObjectReader::finish`]).
//! - An object is bound to its [`ObjectIdentity`]: it does not open as another file's.
//!
//! # Crash and cancel
//! Half an object is refused by every reader; there is nothing to repair. A writer that is dropped
//! before [`ObjectWriter::finish`] took its data key with it: begin again with a new one, or go on
//! uploading the very bytes that were written (TRAPS 30).
//!
//! # Limits
//! The constants below. A reader allocates only for bytes that arrived, or for a plaintext whose size
//! was authenticated and is within them.

mod cipher;
mod error;
mod frame;
mod header;
mod index;
pub mod key;
pub mod ranged;
pub mod reader;
#[cfg(test)]
pub(crate) mod tests;
mod trailer;
pub mod writer;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::error::{ArchiveError, Part};
pub use self::header::Header;
pub use self::index::{IndexedBlock, ObjectIndex};
pub(crate) use self::key::associated_data;
pub use self::key::{DataKey, KeyEncryptionKey, KeyId, SealingKey, WrappedKey};
pub use self::ranged::RangedReader;
pub use self::reader::{LockedReader, ObjectReader, OpenedBlock};
pub use self::trailer::Trailer;
pub use self::writer::{
    BlockCompressor, BlockInfo, CompressedBlock, Content, ObjectFacts, ObjectWriter,
};
use crate::layout::{Sequence, SourceIdentity};

/// The format version that is written, and the only one that is read (FORMAT.md §3.1).
pub const VERSION: u16 = 1;

/// The longest header, in bytes of JSON. The longest parts are a wrapped key and a key id of a key
/// service: AWS KMS gives ciphertexts of at most 6,144 and ARNs of at most 2,048 bytes.
pub const MAX_HEADER: usize = 16 * 1024;

/// The most plaintext that one block holds: 4 MiB costs 0.7% of compression ratio against one stream
/// over the whole file, and bounds what a reader must hold before it may trust it.
pub const MAX_BLOCK_PLAIN: usize = 4 * 1024 * 1024;

/// The longest sealed block: `ZSTD_compressBound(MAX_BLOCK_PLAIN)`, which adds 1/256, and the tag.
pub const MAX_BLOCK_SEALED: usize = MAX_BLOCK_PLAIN + MAX_BLOCK_PLAIN / 256 + TAG_SIZE;

/// The most blocks of one object: a file of 1 TiB in full blocks.
pub const MAX_BLOCKS: u64 = 1 << 18;

/// The longest index, as JSON: [`MAX_BLOCKS`] entries of at most 384 bytes, and some.
pub const MAX_INDEX_PLAIN: usize = 128 * 1024 * 1024;

/// The longest sealed index: `ZSTD_compressBound(MAX_INDEX_PLAIN)` and the tag.
pub const MAX_INDEX_SEALED: usize = MAX_INDEX_PLAIN + MAX_INDEX_PLAIN / 256 + TAG_SIZE;

/// zstd's levels, all of which make frames that every decoder reads.
pub const COMPRESSION_LEVELS: std::ops::RangeInclusive<i32> = 1..=22;

/// zstd's level for what is compressed already. Of 105 MB of `TRANSACTION_PAYLOAD` events, level 3 leaves 93.0 % at
/// 262 MB/s, level 1 93.9 % at 497 and level -1 94.0 % at 1,380 (`zstd -b`, zstd 1.5.4, blocks of 4 MiB).
const COMPRESSED_LEVEL: i32 = -1;

/// Bytes of an AES-GCM tag.
const TAG_SIZE: usize = 16;

/// What an object is bound to: opening it as anything else fails (TRAPS 30).
///
/// Its text, `cluster/server_uuid/incarnation/sequence/file_name`, is stored: a wrapped data key is
/// authenticated with it (FORMAT.md §8.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectIdentity {
    /// Whose file.
    #[serde(flatten)]
    pub source: SourceIdentity,
    /// Which file.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: String,
}

impl fmt::Display for ObjectIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.source, self.sequence, self.file_name)
    }
}
