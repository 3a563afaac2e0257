//! Reads parts of an object by themselves, with ranged GETs (FORMAT.md §10.2).
//!
//! Order: the object's size, its last [`Trailer::SIZE`] bytes, the header, the index, then any block.
//! What is proved is less than by [`ObjectReader`](super::ObjectReader): each block is authentic and in
//! its place, but the blocks that were not read may be missing.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::cipher::{Opener, Sealed};
use super::frame::{self, FrameOpener};
use super::reader::open_index;
use super::{
    ArchiveError, DataKey, Header, IndexedBlock, MAX_BLOCK_PLAIN, MAX_BLOCK_SEALED,
    MAX_INDEX_SEALED, ObjectIdentity, ObjectIndex, OpenedBlock, Part, Trailer,
};
use crate::digest::Digest;

/// Opens the index and single blocks of one object.
pub struct RangedReader {
    opener: Opener,
    frames: FrameOpener,
    first_block: u64,
}

impl RangedReader {
    /// A reader for the object that `header` begins, which must be `expected`'s.
    ///
    /// # Errors
    /// [`ArchiveError::Identity`].
    pub fn new(
        expected: &ObjectIdentity,
        header: &Header,
        key: &DataKey,
    ) -> Result<Self, ArchiveError> {
        header.require(expected)?;
        Ok(Self {
            opener: Opener::new(key, header.digest()),
            frames: FrameOpener::new(),
            first_block: header.size(),
        })
    }

    /// Opens the index: `bytes` are the [`Trailer::index_size`] ones at [`Trailer::index_offset`].
    ///
    /// # Errors
    /// [`ArchiveError::Authentication`], [`ArchiveError::Inconsistent`], [`ArchiveError::Limit`], and
    /// [`ArchiveError::Truncated`] when the bytes are too few.
    pub fn open_index(
        &mut self,
        trailer: Trailer,
        bytes: &[u8],
    ) -> Result<ObjectIndex, ArchiveError> {
        let (last, mut sealed) = exactly_one(bytes, Part::Index, MAX_INDEX_SEALED)?;
        if bytes.len() as u64 != trailer.index_size {
            return Err(ArchiveError::Inconsistent {
                part: Part::Index,
                reason: "its size is not what the trailer says".to_owned(),
            });
        }
        open_index(
            &self.opener,
            &mut self.frames,
            (last, &mut sealed, Digest::of(bytes)),
            self.first_block,
            trailer,
        )
    }

    /// Opens one block: `bytes` are the [`IndexedBlock::object_size`] ones at
    /// [`IndexedBlock::object_offset`].
    ///
    /// # Errors
    /// As [`RangedReader::open_index`]; [`ArchiveError::Misuse`] when the index has no such block.
    pub fn open_block(
        &mut self,
        index: &ObjectIndex,
        number: usize,
        bytes: &[u8],
    ) -> Result<OpenedBlock, ArchiveError> {
        let block = index
            .blocks
            .get(number)
            .ok_or(ArchiveError::Misuse("the index has no such block"))?;
        let last = number + 1 == index.blocks.len();
        let number = number as u64;
        let part = Part::Block(number);
        let (flagged, mut sealed) = exactly_one(bytes, part, MAX_BLOCK_SEALED)?;
        if flagged != last {
            return Err(ArchiveError::Authentication { part });
        }
        let zstd = self
            .opener
            .open(Sealed::Block { number, last }, &mut sealed)?;
        let plain = self.frames.decompress(part, zstd, MAX_BLOCK_PLAIN)?;
        agree(block, bytes, &plain)
            .then_some(())
            .ok_or_else(|| ArchiveError::Inconsistent {
                part,
                reason: "its size is not what the index says".to_owned(),
            })?;
        Ok(OpenedBlock {
            offset: block.plain_offset,
            plain,
        })
    }
}

impl fmt::Debug for RangedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangedReader").finish_non_exhaustive()
    }
}

fn agree(block: &IndexedBlock, bytes: &[u8], plain: &Bytes) -> bool {
    block.object_size == bytes.len() as u64 && block.plain_size == plain.len() as u64
}

/// The last flag and a copy of the sealed bytes of the one frame that `bytes` are.
fn exactly_one(bytes: &[u8], part: Part, max: usize) -> Result<(bool, BytesMut), ArchiveError> {
    let mut buffer = BytesMut::from(bytes);
    let (word, sealed) = frame::take(&mut buffer, part, max)?.ok_or(ArchiveError::Truncated {
        part,
        size: bytes.len() as u64,
    })?;
    if !buffer.is_empty() {
        return Err(ArchiveError::Inconsistent {
            part,
            reason: "bytes follow its frame".to_owned(),
        });
    }
    Ok((word.last, sealed))
}
