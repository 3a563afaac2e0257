//! Reads one object as a stream, in two stages: the header names the key, the key opens the rest.
//!
//! A push decoder without I/O: the caller pushes whatever pieces its source gives, in any cut, and
//! takes blocks out.
//!
//! ```
//! # use engine::archive::*;
//! # fn read(
//! #     pieces: impl Iterator<Item = Vec<u8>>, identity: ObjectIdentity, kek: &KeyEncryptionKey,
//! # ) -> Result<ObjectIndex, ArchiveError> {
//! # let mut pieces = pieces;
//! let mut locked = LockedReader::new(identity);
//! while !locked.has_header() {
//!     let Some(piece) = pieces.next() else { break };
//!     locked.push(&piece)?;
//! }
//! let header = locked.header()?; // an object that ended too early is refused here
//! let key = kek.unwrap(header.wrapped_key(), header.identity())?;
//! let mut reader = locked.unlock(&key)?;
//! loop {
//!     while let Some(block) = reader.next_block()? {
//!         // block.plain is authentic
//! #       drop(block);
//!     }
//!     let Some(piece) = pieces.next() else { break };
//!     reader.push(&piece);
//! }
//! let index = reader.finish()?; // only now is the whole file known to be there
//! # Ok(index)
//! # }
//! ```
//!
//! # Limits
//! Between two calls of [`ObjectReader::next_block`] that return `None`, a reader holds one incomplete
//! frame (at most [`MAX_BLOCK_SEALED`], or [`MAX_INDEX_SEALED`] once the blocks are done) and what was
//! pushed.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::cipher::{Opener, Sealed};
use super::frame::{self, FrameOpener};
use super::index::{StoredIndex, inconsistent};
use super::{
    ArchiveError, DataKey, Header, MAX_BLOCK_PLAIN, MAX_BLOCK_SEALED, MAX_BLOCKS, MAX_INDEX_PLAIN,
    MAX_INDEX_SEALED, ObjectIdentity, ObjectIndex, Part, Trailer,
};
use crate::digest::{Digest, Hasher};

/// The first stage: an object whose header is still to come, or to be acted upon.
#[derive(Debug)]
pub struct LockedReader {
    expected: ObjectIdentity,
    buffer: BytesMut,
    header: Option<Header>,
}

impl LockedReader {
    /// An object that must be `expected`'s.
    pub fn new(expected: ObjectIdentity) -> Self {
        Self {
            expected,
            buffer: BytesMut::new(),
            header: None,
        }
    }

    /// Takes the object's next bytes. Those behind the header are kept for the second stage.
    ///
    /// # Errors
    /// As [`Header::parse`], and [`ArchiveError::Identity`] when the object is another file's.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.buffer.extend_from_slice(bytes);
        if self.header.is_none()
            && let Some(header) = Header::parse(&self.buffer)?
        {
            header.require(&self.expected)?;
            self.header = Some(header);
        }
        Ok(())
    }

    /// Whether the whole header was pushed.
    pub fn has_header(&self) -> bool {
        self.header.is_some()
    }

    /// The header.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`] when the bytes pushed so far do not hold all of it.
    pub fn header(&self) -> Result<&Header, ArchiveError> {
        self.header.as_ref().ok_or(ArchiveError::Truncated {
            part: Part::Header,
            size: self.buffer.len() as u64,
        })
    }

    /// The second stage, with the data key out of the header's envelope.
    ///
    /// # Errors
    /// As [`LockedReader::header`].
    pub fn unlock(self, key: &DataKey) -> Result<ObjectReader, ArchiveError> {
        let header = self.header()?;
        let mut reader = ObjectReader::new(header, key);
        let rest = usize::try_from(header.size())
            .ok()
            .and_then(|size| self.buffer.get(size..));
        reader.push(rest.unwrap_or_default());
        Ok(reader)
    }
}

/// A block that was opened: authentic, and in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedBlock {
    /// Offset of its first byte in the binlog file.
    pub offset: u64,
    /// The bytes of the binlog file.
    pub plain: Bytes,
}

/// The second stage: opens blocks, then the index, then the trailer.
pub struct ObjectReader {
    opener: Opener,
    frames: FrameOpener,
    buffer: BytesMut,
    stage: Stage,
    /// Object offset of the buffer's first byte.
    offset: u64,
    /// Object offset of the first block.
    first_block: u64,
    /// Sizes of the blocks read: plain, and in the object.
    seen: Vec<(u64, u64)>,
    plain_size: u64,
    hasher: Hasher,
}

/// What comes next.
enum Stage {
    Blocks,
    Index,
    Trailer(Box<ObjectIndex>, Trailer),
    End(Box<ObjectIndex>),
    Failed,
}

impl ObjectReader {
    fn new(header: &Header, key: &DataKey) -> Self {
        Self {
            opener: Opener::new(key, header.digest()),
            frames: FrameOpener::new(),
            buffer: BytesMut::new(),
            stage: Stage::Blocks,
            offset: header.size(),
            first_block: header.size(),
            seen: Vec::new(),
            plain_size: 0,
            hasher: Hasher::default(),
        }
    }

    /// Takes the object's next bytes. Call [`ObjectReader::next_block`] until it returns `None` before
    /// pushing again.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next block; `None` when more bytes are needed, or when there is no further block. Also
    /// reads the index and the trailer, as far as they are there.
    ///
    /// # Errors
    /// All that is wrong with the object, as soon as the bytes that show it are there. After an error
    /// nothing more comes out.
    pub fn next_block(&mut self) -> Result<Option<OpenedBlock>, ArchiveError> {
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Blocks => self.block(),
            Stage::Index => self.index(),
            Stage::Trailer(index, trailer) => self.trailer(index, trailer),
            Stage::End(index) => self.end(index),
            Stage::Failed => Err(ArchiveError::Misuse("a reader was used after it failed")),
        }
    }

    /// Ends the reading: there are no more bytes. Only now is the file known to be whole: the last
    /// block was seen, the index is authentic and agrees with every block that was read, the digest
    /// of all plaintext is the index's, the trailer is right, and nothing follows it.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`], or anything that [`ObjectReader::next_block`] finds.
    pub fn finish(mut self) -> Result<ObjectIndex, ArchiveError> {
        if self.next_block()?.is_some() {
            return Err(ArchiveError::Misuse(
                "a reader was ended before all blocks were taken",
            ));
        }
        let part = match self.stage {
            Stage::End(index) => return Ok(*index),
            Stage::Blocks => Part::Block(self.seen.len() as u64),
            Stage::Index => Part::Index,
            Stage::Trailer(..) => Part::Trailer,
            Stage::Failed => return Err(ArchiveError::Misuse("a reader was used after it failed")),
        };
        Err(ArchiveError::Truncated {
            part,
            size: self.offset + self.buffer.len() as u64,
        })
    }

    fn block(&mut self) -> Result<Option<OpenedBlock>, ArchiveError> {
        let number = self.seen.len() as u64;
        let part = Part::Block(number);
        let Some((word, mut sealed)) = frame::take(&mut self.buffer, part, MAX_BLOCK_SEALED)?
        else {
            self.stage = Stage::Blocks;
            return Ok(None);
        };
        if number >= MAX_BLOCKS {
            return Err(ArchiveError::Limit {
                part,
                unit: "blocks before it",
                found: number,
                max: MAX_BLOCKS - 1,
            });
        }
        let last = word.last;
        let zstd = self
            .opener
            .open(Sealed::Block { number, last }, &mut sealed)?;
        let plain = self.frames.decompress(part, zstd, MAX_BLOCK_PLAIN)?;
        if plain.is_empty() && !(number == 0 && last) {
            return Err(ArchiveError::Inconsistent {
                part,
                reason: "it is empty, but not the only block".to_owned(),
            });
        }
        let (plain_size, frame_size) = (plain.len() as u64, word.frame_size() as u64);
        let offset = self.plain_size;
        self.hasher.update(&plain);
        self.plain_size += plain_size;
        self.offset += frame_size;
        self.seen.push((plain_size, frame_size));
        self.stage = if last { Stage::Index } else { Stage::Blocks };
        Ok(Some(OpenedBlock { offset, plain }))
    }

    fn index(&mut self) -> Result<Option<OpenedBlock>, ArchiveError> {
        let taken = frame::take(&mut self.buffer, Part::Index, MAX_INDEX_SEALED)?;
        let Some((length, mut sealed)) = taken else {
            self.stage = Stage::Index;
            return Ok(None);
        };
        let sealed_sha256 = Digest::of_parts(&[&length.to_bytes(), &sealed]);
        let trailer = Trailer {
            index_offset: self.offset,
            index_size: length.frame_size() as u64,
            blocks: self.seen.len() as u64,
        };
        let index = open_index(
            &self.opener,
            &mut self.frames,
            (length.last, &mut sealed, sealed_sha256),
            self.first_block,
            trailer,
        )?;
        self.compare(&index)?;
        self.offset += trailer.index_size;
        self.stage = Stage::Trailer(Box::new(index), trailer);
        self.next_block()
    }

    /// The index must be of what was read.
    fn compare(&self, index: &ObjectIndex) -> Result<(), ArchiveError> {
        let sizes = index
            .blocks
            .iter()
            .map(|block| (block.plain_size, block.object_size));
        if !sizes.eq(self.seen.iter().copied()) {
            return Err(inconsistent("its sizes are not those of the blocks"));
        }
        let found = self.hasher.clone().finish();
        if found != index.plain_sha256 {
            return Err(inconsistent(format!(
                "the file's SHA-256 is {found}, but was {} when it was sealed",
                index.plain_sha256
            )));
        }
        Ok(())
    }

    /// All that a trailer says is known by now: it must be just that.
    fn trailer(
        &mut self,
        index: Box<ObjectIndex>,
        trailer: Trailer,
    ) -> Result<Option<OpenedBlock>, ArchiveError> {
        if self.buffer.len() < Trailer::SIZE {
            self.stage = Stage::Trailer(index, trailer);
            return Ok(None);
        }
        if self.buffer.split_to(Trailer::SIZE) != trailer.to_bytes().as_slice() {
            return Err(ArchiveError::Inconsistent {
                part: Part::Trailer,
                reason: "it is not that of this object".to_owned(),
            });
        }
        self.offset += Trailer::SIZE as u64;
        self.end(index)
    }

    fn end(&mut self, index: Box<ObjectIndex>) -> Result<Option<OpenedBlock>, ArchiveError> {
        if !self.buffer.is_empty() {
            return Err(ArchiveError::TrailingBytes {
                offset: self.offset,
            });
        }
        self.stage = Stage::End(index);
        Ok(None)
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader")
            .field("offset", &self.offset)
            .field("blocks", &self.seen.len())
            .finish_non_exhaustive()
    }
}

/// Opens the sealed bytes of an index that lies where `trailer` says.
pub(super) fn open_index(
    opener: &Opener,
    frames: &mut FrameOpener,
    (flagged, sealed, sealed_sha256): (bool, &mut [u8], Digest),
    first_block: u64,
    trailer: Trailer,
) -> Result<ObjectIndex, ArchiveError> {
    if flagged {
        return Err(inconsistent("its length word is flagged as a last block"));
    }
    let blocks = trailer.blocks;
    let zstd = opener.open(Sealed::Index { blocks }, sealed)?;
    let json = frames.decompress(Part::Index, zstd, MAX_INDEX_PLAIN)?;
    StoredIndex::parse(
        &json,
        (first_block, trailer.index_offset),
        blocks,
        sealed_sha256,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{identity, key_encryption_key};
    use crate::archive::{BlockInfo, Content, ObjectWriter};

    #[test]
    fn a_block_beyond_the_last_possible_is_refused() {
        let kek = key_encryption_key(1);
        let key = kek.new_data_key(&identity(1)).unwrap();
        let mut writer = ObjectWriter::create(Vec::new(), &identity(1), key, 3).unwrap();
        writer
            .write_block(b"binlog", Content::Plain, BlockInfo::default())
            .unwrap();
        let (object, facts) = writer.finish(Digest::of(b"binlog")).unwrap();

        let mut locked = LockedReader::new(identity(1));
        locked.push(&object).unwrap();
        let key = kek.unwrap(&facts.wrapped_key, &identity(1)).unwrap();
        let mut reader = locked.unlock(&key).unwrap();
        reader.seen = vec![(1, 1); usize::try_from(MAX_BLOCKS).unwrap()];
        assert!(matches!(
            reader.next_block(),
            Err(ArchiveError::Limit {
                found: MAX_BLOCKS,
                ..
            })
        ));
    }
}
