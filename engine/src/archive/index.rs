//! The sealed index: what each block holds, so that any part of a file can be read by itself
//! (FORMAT.md §6).
//!
//! Stored are sizes; offsets are their sums, so that there is nothing to contradict them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::frame::WORD_SIZE;
use super::writer::BlockInfo;
use super::{ArchiveError, MAX_BLOCK_PLAIN, MAX_BLOCK_SEALED, Part};
use crate::digest::Digest;
use crate::gtid::Gtid;

/// What an object holds: authentic, and in agreement with itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectIndex {
    /// Bytes of the binlog file.
    pub plain_size: u64,
    /// SHA-256 of the binlog file.
    pub plain_sha256: Digest,
    /// The blocks, in order; at least one.
    pub blocks: Vec<IndexedBlock>,
    /// SHA-256 of the sealed index as it is stored, length word included: what
    /// [`ObjectFacts::index_sha256`](super::ObjectFacts) said when the object was written.
    pub sealed_sha256: Digest,
}

/// One block: where it lies, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedBlock {
    /// Offset of its first byte in the binlog file.
    pub plain_offset: u64,
    /// Bytes of the binlog file that it holds.
    pub plain_size: u64,
    /// Offset of its length word in the object.
    pub object_offset: u64,
    /// Bytes in the object, length word included.
    pub object_size: u64,
    /// It begins where a transaction may begin.
    pub boundary: bool,
    /// The first transaction with a GTID that begins in it.
    pub first_gtid: Option<Gtid>,
    /// The earliest `immediate_commit_timestamp` of the transactions that begin in it.
    pub first_commit: Option<Timestamp>,
    /// The latest.
    pub last_commit: Option<Timestamp>,
}

/// The index's JSON, in this order (FORMAT.md §6.1). Stored: any change is a new format version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredIndex {
    pub(super) plain_size: u64,
    pub(super) plain_sha256: Digest,
    pub(super) blocks: Vec<StoredBlock>,
}

/// One block in the index's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredBlock {
    pub(super) plain_size: u32,
    pub(super) object_size: u32,
    pub(super) boundary: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_gtid: Option<Gtid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_commit: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_commit: Option<Timestamp>,
}

impl StoredBlock {
    pub(super) fn new(info: BlockInfo, plain_size: u32, object_size: u32) -> Self {
        Self {
            plain_size,
            object_size,
            boundary: info.boundary,
            first_gtid: info.first_gtid,
            first_commit: info.first_commit,
            last_commit: info.last_commit,
        }
    }

    /// The rules that each block obeys by itself (FORMAT.md §5.3).
    fn check(&self, only: bool) -> Result<(), &'static str> {
        let plain = self.plain_size as usize;
        let object = self.object_size as usize;
        if plain > MAX_BLOCK_PLAIN || object > WORD_SIZE + MAX_BLOCK_SEALED {
            return Err("a block is larger than the format allows");
        }
        if plain == 0 && !only {
            return Err("a block is empty, but not the only one");
        }
        Ok(())
    }
}

impl StoredIndex {
    /// Reads the index's JSON and proves that it agrees with itself and with where it was found:
    /// `first_block` and `index_offset` are the object offsets that the blocks lie between, and
    /// `blocks` is how many the index's tag vouched for.
    pub(super) fn parse(
        json: &[u8],
        (first_block, index_offset): (u64, u64),
        blocks: u64,
        sealed_sha256: Digest,
    ) -> Result<ObjectIndex, ArchiveError> {
        let stored: Self =
            serde_json::from_slice(json).map_err(|error| inconsistent(error.to_string()))?;
        if stored.blocks.len() as u64 != blocks {
            return Err(inconsistent(format!(
                "it lists {} blocks, but the object has {blocks}",
                stored.blocks.len()
            )));
        }
        let mut plain_offset = 0_u64;
        let mut object_offset = first_block;
        let mut indexed = Vec::with_capacity(stored.blocks.len());
        for block in stored.blocks {
            block.check(blocks == 1).map_err(inconsistent)?;
            let (plain_size, object_size) =
                (u64::from(block.plain_size), u64::from(block.object_size));
            indexed.push(IndexedBlock {
                plain_offset,
                plain_size,
                object_offset,
                object_size,
                boundary: block.boundary,
                first_gtid: block.first_gtid,
                first_commit: block.first_commit,
                last_commit: block.last_commit,
            });
            // At most 2^18 times 2^32.
            plain_offset += plain_size;
            object_offset += object_size;
        }
        if plain_offset != stored.plain_size || object_offset != index_offset {
            return Err(inconsistent("the blocks' sizes do not add up"));
        }
        Ok(ObjectIndex {
            plain_size: stored.plain_size,
            plain_sha256: stored.plain_sha256,
            blocks: indexed,
            sealed_sha256,
        })
    }
}

pub(super) fn inconsistent(reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Inconsistent {
        part: Part::Index,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{MAX_BLOCKS, MAX_INDEX_PLAIN};

    fn block(plain_size: u32, object_size: u32) -> StoredBlock {
        StoredBlock::new(BlockInfo::default(), plain_size, object_size)
    }

    fn parse(index: &StoredIndex, blocks: u64) -> Result<ObjectIndex, ArchiveError> {
        let json = serde_json::to_vec(index).unwrap();
        StoredIndex::parse(&json, (100, 180), blocks, Digest::of(b""))
    }

    fn index() -> StoredIndex {
        StoredIndex {
            plain_size: 30,
            plain_sha256: Digest::of(b""),
            blocks: vec![block(10, 50), block(20, 30)],
        }
    }

    #[test]
    fn offsets_are_sums_of_sizes() {
        let opened = parse(&index(), 2).unwrap();
        let offsets: Vec<_> = opened
            .blocks
            .iter()
            .map(|block| (block.plain_offset, block.object_offset))
            .collect();
        assert_eq!(offsets, [(0, 100), (10, 150)]);
    }

    #[test]
    fn an_index_that_contradicts_itself_or_the_object_is_refused() {
        let alter = |alter: fn(&mut StoredIndex)| {
            let mut index = index();
            alter(&mut index);
            parse(&index, 2).unwrap_err().to_string()
        };
        assert!(alter(|index| index.plain_size = 31).contains("add up"));
        assert!(alter(|index| index.blocks[0].object_size = 51).contains("add up"));
        assert!(alter(|index| index.blocks[1].plain_size = u32::MAX).contains("larger"));
        assert!(alter(|index| index.blocks[1].object_size = u32::MAX).contains("larger"));
        assert!(alter(|index| index.blocks[1].plain_size = 0).contains("empty"));
        assert!(alter(|index| index.blocks.clear()).contains("lists 0 blocks"));
        assert!(parse(&index(), 3).is_err());
    }

    /// The writer limits blocks, not the index: the largest index must fit its own limit.
    #[test]
    fn the_largest_index_is_within_its_limit() {
        let time = Some("2026-11-22T13:43:55.123456789Z".parse().unwrap());
        let block = StoredBlock {
            plain_size: u32::MAX,
            object_size: u32::MAX,
            boundary: false,
            first_gtid: Some(crate::archive::tests::longest_gtid()),
            first_commit: time,
            last_commit: time,
        };
        let entry = serde_json::to_vec(&block).unwrap().len() + 1;
        assert!(entry <= 384, "{entry} bytes");
        let blocks = usize::try_from(MAX_BLOCKS).unwrap();
        assert!(blocks * 384 + 1024 <= MAX_INDEX_PLAIN);
    }
}
