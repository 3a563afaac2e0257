//! Writes one object, front to back, to anything that takes bytes.
//!
//! Blocks may be compressed in other threads ([`ObjectWriter::compressor`]); they are sealed and written here, in order.
//!
//! Memory: one block, compressed, which is held back until it is known whether it is the last; what the caller compresses
//! besides; and the index, some 100 bytes a block.

use std::fmt;
use std::io::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cipher::Sealer;
use super::frame::{FrameBuilder, LengthWord};
use super::index::{StoredBlock, StoredIndex, inconsistent};
use super::{
    ArchiveError, COMPRESSED_LEVEL, COMPRESSION_LEVELS, Header, KeyId, MAX_BLOCK_PLAIN, MAX_BLOCKS,
    MAX_INDEX_PLAIN, ObjectIdentity, Part, SealingKey, Trailer, WrappedKey,
};
use crate::digest::Digest;
use crate::gtid::Gtid;

/// What the index says of a block beside its sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockInfo {
    /// It begins where a transaction may begin.
    pub boundary: bool,
    /// The first transaction with a GTID that begins in it.
    pub first_gtid: Option<Gtid>,
    /// The earliest `immediate_commit_timestamp` of the transactions that begin in it.
    pub first_commit: Option<Timestamp>,
    /// The latest.
    pub last_commit: Option<Timestamp>,
}

/// What compression finds in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// As the server writes it: compressed at the object's level.
    Plain,
    /// Compressed already, most of it: little is to be won, and quickly ([`COMPRESSED_LEVEL`]).
    Compressed,
}

/// What was written, for the manifest and for the upload. Stored, in the ledger and in entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFacts {
    /// Bytes of the object.
    pub size: u64,
    /// CRC32C of the object, as stores compute it.
    pub crc32c: u32,
    /// SHA-256 of the sealed index as it is stored, length word included. The index's tag vouches for
    /// the header and the sizes of all blocks, so this digest stands for one object and attempt.
    pub index_sha256: Digest,
    /// How many blocks it has.
    pub blocks: u64,
    /// The key-encryption key.
    pub key_id: KeyId,
    /// The data key's envelope.
    pub wrapped_key: WrappedKey,
    /// The compression level, of blocks that are not [compressed](Content::Compressed) already.
    pub level: i32,
}

/// Writes one object.
///
/// After an error the object is incomplete, and all further calls are refused.
pub struct ObjectWriter<W> {
    sink: Sink<W>,
    sealer: Sealer,
    /// Of blocks that are written.
    spare: Vec<FrameBuilder>,
    /// The last block, which waits to learn whether it is the last of all.
    held: Option<(CompressedBlock, BlockInfo)>,
    /// Of the block that is compressed next.
    next: u64,
    index: Vec<StoredBlock>,
    plain_size: u64,
    key_id: KeyId,
    wrapped_key: WrappedKey,
    level: i32,
    failed: bool,
}

/// Compresses one block, in any thread.
pub struct BlockCompressor {
    frame: FrameBuilder,
    number: u64,
    level: i32,
}

/// A block that is compressed, and neither sealed nor written.
pub struct CompressedBlock {
    frame: FrameBuilder,
    number: u64,
    plain_size: u32,
}

impl BlockCompressor {
    /// Compresses 1 to [`MAX_BLOCK_PLAIN`] bytes, the next of the file.
    ///
    /// # Errors
    /// [`ArchiveError::Compress`], and [`ArchiveError::Misuse`] for a block of another size.
    pub fn compress(self, plain: &[u8], content: Content) -> Result<CompressedBlock, ArchiveError> {
        if plain.is_empty() {
            return Err(ArchiveError::Misuse("an empty block"));
        }
        self.compress_any(plain, content)
    }

    fn compress_any(
        mut self,
        plain: &[u8],
        content: Content,
    ) -> Result<CompressedBlock, ArchiveError> {
        let plain_size = u32::try_from(plain.len())
            .ok()
            .filter(|_| plain.len() <= MAX_BLOCK_PLAIN)
            .ok_or(ArchiveError::Misuse("a block larger than MAX_BLOCK_PLAIN"))?;
        let level = match content {
            Content::Plain => self.level,
            Content::Compressed => COMPRESSED_LEVEL,
        };
        self.frame
            .compress(Part::Block(self.number), plain, level)?;
        Ok(CompressedBlock {
            frame: self.frame,
            number: self.number,
            plain_size,
        })
    }
}

impl<W: Write> ObjectWriter<W> {
    /// Begins the object: writes its header to `out`.
    ///
    /// # Errors
    /// [`ArchiveError::Identity`] when the key was made for another object, [`ArchiveError::Level`],
    /// [`ArchiveError::Write`], and [`ArchiveError::Limit`] for an identity beyond reason.
    pub fn create(
        out: W,
        identity: &ObjectIdentity,
        key: SealingKey,
        level: i32,
    ) -> Result<Self, ArchiveError> {
        if key.identity != *identity {
            return Err(ArchiveError::Identity {
                expected: Box::new(identity.clone()),
                found: Box::new(key.identity),
            });
        }
        if !COMPRESSION_LEVELS.contains(&level) {
            return Err(ArchiveError::Level { level });
        }
        let (header, digest) = Header::encode(&key)?;
        let mut sink = Sink::new(out);
        sink.write(&header)?;
        Ok(Self {
            sink,
            sealer: Sealer::new(&key.data_key, digest),
            spare: Vec::new(),
            held: None,
            next: 0,
            index: Vec::new(),
            plain_size: 0,
            key_id: key.key_id,
            wrapped_key: key.wrapped_key,
            level,
            failed: false,
        })
    }

    /// For the next block of the file. The last one that was given to the writer is written out.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`] beyond [`MAX_BLOCKS`], [`ArchiveError::Write`].
    pub fn compressor(&mut self) -> Result<BlockCompressor, ArchiveError> {
        self.attempt(Self::begin_block)
    }

    /// Takes a block. Blocks MUST come in the order of their compressors.
    ///
    /// # Errors
    /// [`ArchiveError::Write`], [`ArchiveError::Misuse`] for a block that is another one's turn.
    pub fn write_compressed(
        &mut self,
        block: CompressedBlock,
        info: BlockInfo,
    ) -> Result<(), ArchiveError> {
        self.attempt(|writer| writer.hold(block, info))
    }

    /// Takes the next 1 to [`MAX_BLOCK_PLAIN`] bytes of the file as one block, compressed by this thread.
    ///
    /// # Errors
    /// As [`ObjectWriter::compressor`], [`BlockCompressor::compress`] and [`ObjectWriter::write_compressed`].
    pub fn write_block(
        &mut self,
        plain: &[u8],
        content: Content,
        info: BlockInfo,
    ) -> Result<(), ArchiveError> {
        self.attempt(|writer| {
            let block = writer.begin_block()?.compress(plain, content)?;
            writer.hold(block, info)
        })
    }

    /// Gives back the memory that is kept for blocks to come.
    pub fn drop_spare(&mut self) {
        self.spare.clear();
    }

    /// Ends the object: seals the last block, the index and the trailer. `plain_sha256` is the digest
    /// of all blocks' bytes, and readers will hold them to it.
    ///
    /// The bytes are written to the sink, but not flushed or synced: that is the caller's.
    ///
    /// # Errors
    /// As [`ObjectWriter::write_block`].
    pub fn finish(mut self, plain_sha256: Digest) -> Result<(W, ObjectFacts), ArchiveError> {
        // An empty file is one empty block: every object has a last block (FORMAT.md §5.3).
        if self.held.is_none() {
            let info = BlockInfo {
                boundary: true,
                ..BlockInfo::default()
            };
            self.attempt(|writer| {
                let block = writer.begin_block()?.compress_any(&[], Content::Plain)?;
                writer.hold(block, info)
            })?;
        }
        self.attempt(|writer| writer.release(true))?;
        self.finish_index(plain_sha256)
    }

    /// Runs one step; a step that failed is the last.
    fn attempt<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        if self.failed {
            return Err(ArchiveError::Misuse("a writer was used after it failed"));
        }
        self.failed = true;
        let done = step(self)?;
        self.failed = false;
        Ok(done)
    }

    fn begin_block(&mut self) -> Result<BlockCompressor, ArchiveError> {
        let number = self.next;
        if number >= MAX_BLOCKS {
            return Err(ArchiveError::TooLarge { max: MAX_BLOCKS });
        }
        // Another one follows.
        self.release(false)?;
        let frame = self.frame()?;
        self.next += 1;
        Ok(BlockCompressor {
            frame,
            number,
            level: self.level,
        })
    }

    fn frame(&mut self) -> Result<FrameBuilder, ArchiveError> {
        match self.spare.pop() {
            Some(frame) => Ok(frame),
            None => FrameBuilder::new(self.level),
        }
    }

    /// Writes the held block, and holds this one.
    fn hold(&mut self, block: CompressedBlock, info: BlockInfo) -> Result<(), ArchiveError> {
        self.release(false)?;
        if block.number != self.index.len() as u64 {
            return Err(ArchiveError::Misuse("blocks in another order"));
        }
        self.held = Some((block, info));
        Ok(())
    }

    /// Seals and writes the held block.
    fn release(&mut self, last: bool) -> Result<(), ArchiveError> {
        let Some((block, info)) = self.held.take() else {
            return Ok(());
        };
        let mut frame = block.frame;
        let tag = self.sealer.seal_block(last, frame.body_mut())?;
        let (word, body) = frame.finish(tag, last);
        self.sink.write_frame(word, body)?;
        let object_size =
            u32::try_from(word.frame_size()).expect("a frame is bounded by MAX_BLOCK_SEALED");
        self.plain_size += u64::from(block.plain_size);
        self.index
            .push(StoredBlock::new(info, block.plain_size, object_size));
        self.spare.push(frame);
        Ok(())
    }

    fn finish_index(mut self, plain_sha256: Digest) -> Result<(W, ObjectFacts), ArchiveError> {
        let blocks = self.index.len() as u64;
        let index_offset = self.sink.size;
        let json = serde_json::to_vec(&StoredIndex {
            plain_size: self.plain_size,
            plain_sha256,
            blocks: self.index,
        })
        .map_err(|error| inconsistent(error.to_string()))?;
        if json.len() > MAX_INDEX_PLAIN {
            return Err(ArchiveError::TooLarge { max: MAX_BLOCKS });
        }
        let mut frame = self
            .spare
            .pop()
            .map_or_else(|| FrameBuilder::new(self.level), Ok)?;
        frame.compress(Part::Index, &json, self.level)?;
        let tag = self.sealer.seal_index(frame.body_mut());
        let (word, body) = frame.finish(tag, false);
        self.sink.write_frame(word, body)?;
        let index_sha256 = Digest::of_parts(&[&word.to_bytes(), body]);
        let trailer = Trailer {
            index_offset,
            index_size: word.frame_size() as u64,
            blocks,
        };
        self.sink.write(&trailer.to_bytes())?;
        let facts = ObjectFacts {
            size: self.sink.size,
            crc32c: self.sink.crc32c,
            index_sha256,
            blocks,
            key_id: self.key_id,
            wrapped_key: self.wrapped_key,
            level: self.level,
        };
        Ok((self.sink.out, facts))
    }
}

impl fmt::Debug for BlockCompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut compressor = f.debug_struct("BlockCompressor");
        compressor
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CompressedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompressedBlock")
            .field("number", &self.number)
            .field("plain_size", &self.plain_size)
            .finish_non_exhaustive()
    }
}

impl<W: fmt::Debug> fmt::Debug for ObjectWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectWriter")
            .field("out", &self.sink.out)
            .field("size", &self.sink.size)
            .field("blocks", &self.index.len())
            .finish_non_exhaustive()
    }
}

/// Where the bytes go, counted and summed.
struct Sink<W> {
    out: W,
    size: u64,
    crc32c: u32,
}

impl<W: Write> Sink<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            size: 0,
            crc32c: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(ArchiveError::Write)?;
        self.size += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    fn write_frame(&mut self, word: LengthWord, body: &[u8]) -> Result<(), ArchiveError> {
        self.write(&word.to_bytes())?;
        self.write(body)
    }
}
