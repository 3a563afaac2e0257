//! Frames: a length word, and one sealed zstd frame behind it (FORMAT.md §5).

use bytes::{Buf, Bytes, BytesMut};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::cipher::Tag;
use super::{ArchiveError, Part, TAG_SIZE};

/// Bytes of a length word.
pub(super) const WORD_SIZE: usize = 4;

/// The top bit of a block's length word: the last block.
const LAST: u32 = 1 << 31;

/// What every zstd frame begins with (RFC 8878 §3.1.1); skippable and legacy frames do not.
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// A length word: how many sealed bytes follow, and whether they are the last block's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LengthWord {
    pub(super) sealed: usize,
    pub(super) last: bool,
}

impl LengthWord {
    pub(super) fn to_bytes(self) -> [u8; WORD_SIZE] {
        let length = u32::try_from(self.sealed)
            .ok()
            .filter(|length| length & LAST == 0)
            .expect("frames are bounded far below 2 GiB");
        (length | if self.last { LAST } else { 0 }).to_le_bytes()
    }

    /// Reads a length word, and refuses lengths that no writer writes: nothing is ever allocated
    /// for a length that is only claimed.
    pub(super) fn parse(
        word: [u8; WORD_SIZE],
        part: Part,
        max: usize,
    ) -> Result<Self, ArchiveError> {
        let word = u32::from_le_bytes(word);
        let length = word & !LAST;
        let sealed = usize::try_from(length)
            .ok()
            .filter(|sealed| *sealed <= max)
            .ok_or(ArchiveError::Limit {
                part,
                unit: "sealed bytes",
                found: u64::from(length),
                max: max as u64,
            })?;
        if sealed <= TAG_SIZE {
            return Err(ArchiveError::Inconsistent {
                part,
                reason: format!("{sealed} sealed bytes are too few for a tag and a frame"),
            });
        }
        Ok(Self {
            sealed,
            last: word & LAST != 0,
        })
    }

    /// Bytes of the whole frame, word included.
    pub(super) fn frame_size(self) -> usize {
        WORD_SIZE + self.sealed
    }
}

/// Takes the next whole frame's sealed bytes off the buffer's front; `None` while they have not all
/// arrived. A length out of bounds is found as soon as its word is there.
pub(super) fn take(
    buffer: &mut BytesMut,
    part: Part,
    max: usize,
) -> Result<Option<(LengthWord, BytesMut)>, ArchiveError> {
    let Some(word) = buffer.first_chunk::<WORD_SIZE>() else {
        return Ok(None);
    };
    let word = LengthWord::parse(*word, part, max)?;
    if buffer.len() < word.frame_size() {
        return Ok(None);
    }
    buffer.advance(WORD_SIZE);
    Ok(Some((word, buffer.split_to(word.sealed))))
}

/// Builds frames in a buffer that is used again and again: compressed, then encrypted in place.
pub(super) struct FrameBuilder {
    compressor: Compressor<'static>,
    level: i32,
    body: Vec<u8>,
}

impl FrameBuilder {
    pub(super) fn new(level: i32) -> Result<Self, ArchiveError> {
        let compressor = Compressor::new(level).map_err(|source| ArchiveError::Compress {
            part: Part::Header,
            source,
        })?;
        Ok(Self {
            compressor,
            level,
            body: Vec::new(),
        })
    }

    /// Compresses `plain` into the buffer: one frame, which states its content size.
    pub(super) fn compress(
        &mut self,
        part: Part,
        plain: &[u8],
        level: i32,
    ) -> Result<(), ArchiveError> {
        let failed = |source| ArchiveError::Compress { part, source };
        if level != self.level {
            self.compressor
                .set_compression_level(level)
                .map_err(failed)?;
            self.level = level;
        }
        self.body.clear();
        self.body
            .reserve(zstd::compress_bound(plain.len()) + TAG_SIZE);
        self.compressor
            .compress_to_buffer(plain, &mut self.body)
            .map_err(failed)?;
        Ok(())
    }

    /// The compressed bytes, to be encrypted in place.
    pub(super) fn body_mut(&mut self) -> &mut [u8] {
        &mut self.body
    }

    /// Puts the tag behind the ciphertext. The frame is the word and the bytes.
    pub(super) fn finish(&mut self, tag: Tag, last: bool) -> (LengthWord, &[u8]) {
        self.body.extend(tag);
        let word = LengthWord {
            sealed: self.body.len(),
            last,
        };
        (word, &self.body)
    }
}

/// Decompresses authenticated frames.
pub(super) struct FrameOpener(Decompressor<'static>);

impl FrameOpener {
    pub(super) fn new() -> Self {
        Self(Decompressor::default())
    }

    /// The plaintext of exactly one zstd frame, which must state its size, at most `max` bytes.
    pub(super) fn decompress(
        &mut self,
        part: Part,
        frame: &[u8],
        max: usize,
    ) -> Result<Bytes, ArchiveError> {
        let inconsistent = |reason: String| ArchiveError::Inconsistent { part, reason };
        if !frame.starts_with(&ZSTD_MAGIC) {
            return Err(inconsistent("not a zstd frame".to_owned()));
        }
        let Ok(Some(claimed)) = zstd_safe::get_frame_content_size(frame) else {
            return Err(inconsistent("the zstd frame states no size".to_owned()));
        };
        let size = usize::try_from(claimed)
            .ok()
            .filter(|size| *size <= max)
            .ok_or(ArchiveError::Limit {
                part,
                unit: "bytes of plaintext",
                found: claimed,
                max: max as u64,
            })?;
        if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
            return Err(inconsistent("more or less than one zstd frame".to_owned()));
        }
        let mut plain = Vec::with_capacity(size);
        self.0
            .decompress_to_buffer(frame, &mut plain)
            .map_err(|error| inconsistent(format!("zstd: {error}")))?;
        if plain.len() != size {
            return Err(inconsistent(format!(
                "the zstd frame states {size} bytes but holds {}",
                plain.len()
            )));
        }
        Ok(plain.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{MAX_BLOCK_PLAIN, MAX_BLOCK_SEALED, MAX_INDEX_PLAIN, MAX_INDEX_SEALED};

    #[test]
    fn the_limits_leave_room_for_what_zstd_cannot_compress() {
        let bound = |plain: usize| zstd::compress_bound(plain) + TAG_SIZE;
        assert_eq!(MAX_BLOCK_SEALED, bound(MAX_BLOCK_PLAIN));
        assert_eq!(MAX_INDEX_SEALED, bound(MAX_INDEX_PLAIN));
    }

    #[test]
    fn length_words_are_little_endian_with_the_flag_on_top() {
        let word = LengthWord {
            sealed: 0x0102,
            last: true,
        };
        assert_eq!(word.to_bytes(), [2, 1, 0, 0x80]);
        assert_eq!(
            LengthWord::parse([2, 1, 0, 0x80], Part::Block(0), 0x0102).unwrap(),
            word
        );
    }

    /// A corrupt length must not make the reader allocate, nor wait for bytes that never come.
    #[test]
    fn a_length_out_of_bounds_is_refused_as_soon_as_its_word_is_there() {
        let mut buffer = BytesMut::from(&[0xFF, 0xFF, 0xFF, 0x7F][..]);
        let capacity = buffer.capacity();
        let taken = take(&mut buffer, Part::Block(3), MAX_BLOCK_SEALED);
        assert!(matches!(
            taken,
            Err(ArchiveError::Limit {
                part: Part::Block(3),
                found: 0x7FFF_FFFF,
                ..
            })
        ));
        assert_eq!(buffer.capacity(), capacity);
        let short = LengthWord::parse([16, 0, 0, 0], Part::Block(0), MAX_BLOCK_SEALED);
        assert!(matches!(short, Err(ArchiveError::Inconsistent { .. })));
    }

    fn open(frame: &[u8]) -> Result<Bytes, ArchiveError> {
        FrameOpener::new().decompress(Part::Block(0), frame, MAX_BLOCK_PLAIN)
    }

    #[test]
    fn a_zstd_bomb_is_refused_by_its_stated_size() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_BLOCK_PLAIN + 1], 19).unwrap();
        assert!(bomb.len() < 1024);
        assert!(matches!(
            open(&bomb),
            Err(ArchiveError::Limit { found, .. }) if found == MAX_BLOCK_PLAIN as u64 + 1
        ));
    }

    #[test]
    fn a_frame_that_hides_its_size_is_refused() {
        let mut compressor = Compressor::new(3).unwrap();
        compressor.include_contentsize(false).unwrap();
        let frame = compressor.compress(&[0; 1000]).unwrap();
        assert!(matches!(
            open(&frame),
            Err(ArchiveError::Inconsistent { .. })
        ));
    }

    #[test]
    fn only_exactly_one_frame_is_a_block() {
        let frame = zstd::bulk::compress(b"binlog", 3).unwrap();
        assert_eq!(open(&frame).unwrap(), "binlog");
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 9];
        for wrong in [
            [&frame[..], &frame].concat(),
            [&frame[..], &[0]].concat(),
            frame[..frame.len() - 1].to_vec(),
            [&skippable[..], &frame].concat(),
            skippable.to_vec(),
            vec![],
        ] {
            assert!(
                matches!(open(&wrong), Err(ArchiveError::Inconsistent { .. })),
                "{wrong:?}"
            );
        }
    }
}
