//! The last 40 bytes of an object: where its index lies (FORMAT.md §7).
//!
//! A signpost, not evidence: its checksum tells damage from truncation, and what it says is believed
//! only once the index has opened with it.

use super::frame::WORD_SIZE;
use super::{ArchiveError, MAX_BLOCKS, MAX_INDEX_SEALED, Part, TAG_SIZE, VERSION};

/// The object's magic, backwards.
const END_MAGIC: [u8; 8] = [b'\n', 0x1A, b'\n', b'\r', b'B', b'T', b'G', 0x89];

/// Bytes that the checksum covers.
const CHECKED_SIZE: usize = 28;

/// Where the index lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Offset of the index's length word.
    pub index_offset: u64,
    /// Bytes of the index, length word included.
    pub index_size: u64,
    /// How many blocks the object has.
    pub blocks: u64,
}

impl Trailer {
    /// Bytes of a trailer.
    pub const SIZE: usize = CHECKED_SIZE + 4 + END_MAGIC.len();

    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend(self.index_offset.to_le_bytes());
        bytes.extend(self.index_size.to_le_bytes());
        bytes.extend(self.blocks.to_le_bytes());
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend(END_MAGIC);
        bytes.try_into().expect("the fields add up to SIZE")
    }

    /// Reads the trailer from the end of an object of `object_size` bytes: `tail` holds at least its
    /// last [`Trailer::SIZE`] bytes.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`] when there is no trailer at the end (whether bytes are missing or
    /// were appended cannot be told from the end alone), [`ArchiveError::Inconsistent`] when its
    /// checksum or what it says cannot be, [`ArchiveError::UnsupportedVersion`].
    pub fn parse(tail: &[u8], object_size: u64) -> Result<Self, ArchiveError> {
        let bytes = tail
            .last_chunk::<{ Self::SIZE }>()
            .filter(|bytes| bytes.ends_with(&END_MAGIC))
            .ok_or(ArchiveError::Truncated {
                part: Part::Trailer,
                size: object_size,
            })?;
        let (fields, rest) = bytes.split_at(CHECKED_SIZE);
        let trailer = Self::parse_fields(fields, rest).ok_or_else(|| inconsistent("checksum"))?;
        let version = fields
            .get(24..26)
            .and_then(|version| version.try_into().ok())
            .map(u16::from_le_bytes);
        if let Some(found) = version.filter(|version| *version != VERSION) {
            return Err(ArchiveError::UnsupportedVersion { found });
        }
        if trailer.to_bytes() != *bytes {
            return Err(inconsistent("its reserved bytes are not zero"));
        }
        trailer.check(object_size)?;
        Ok(trailer)
    }

    /// The fields, if the checksum is theirs.
    fn parse_fields(fields: &[u8], rest: &[u8]) -> Option<Self> {
        let checksum = u32::from_le_bytes(*rest.first_chunk()?);
        if crc32c::crc32c(fields) != checksum {
            return None;
        }
        let (index_offset, fields) = fields.split_first_chunk()?;
        let (index_size, fields) = fields.split_first_chunk()?;
        let (blocks, _) = fields.split_first_chunk()?;
        Some(Self {
            index_offset: u64::from_le_bytes(*index_offset),
            index_size: u64::from_le_bytes(*index_size),
            blocks: u64::from_le_bytes(*blocks),
        })
    }

    fn check(self, object_size: u64) -> Result<(), ArchiveError> {
        let limit = |unit, found, max| ArchiveError::Limit {
            part: Part::Trailer,
            unit,
            found,
            max,
        };
        let max_index = (WORD_SIZE + MAX_INDEX_SEALED) as u64;
        if self.index_size > max_index {
            return Err(limit("bytes of index", self.index_size, max_index));
        }
        if self.blocks > MAX_BLOCKS {
            return Err(limit("blocks", self.blocks, MAX_BLOCKS));
        }
        let end = self
            .index_offset
            .checked_add(self.index_size)
            .and_then(|end| end.checked_add(Self::SIZE as u64));
        if end != Some(object_size) {
            return Err(inconsistent("it does not add up to the object's size"));
        }
        if self.index_size <= (WORD_SIZE + TAG_SIZE) as u64 || self.blocks == 0 {
            return Err(inconsistent("no object has so little"));
        }
        Ok(())
    }
}

fn inconsistent(reason: &str) -> ArchiveError {
    ArchiveError::Inconsistent {
        part: Part::Trailer,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAILER: Trailer = Trailer {
        index_offset: 1000,
        index_size: 100,
        blocks: 2,
    };

    #[test]
    fn a_trailer_comes_back() {
        let tail = [&[1, 2, 3][..], &TRAILER.to_bytes()].concat();
        assert_eq!(Trailer::parse(&tail, 1140).unwrap(), TRAILER);
    }

    #[test]
    fn every_bit_of_a_trailer_counts_and_so_does_the_size() {
        for bit in 0..Trailer::SIZE * 8 {
            let mut bytes = TRAILER.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::parse(&bytes, 1140).is_err(), "bit {bit}");
        }
        for size in [0, 1139, 1141] {
            assert!(Trailer::parse(&TRAILER.to_bytes(), size).is_err());
        }
        assert!(Trailer::parse(&TRAILER.to_bytes()[1..], 1140).is_err());
    }

    #[test]
    fn sums_that_overflow_and_sizes_beyond_the_limits_are_refused() {
        let refused = |trailer: Trailer| Trailer::parse(&trailer.to_bytes(), 1140).is_err();
        assert!(refused(Trailer {
            index_offset: u64::MAX,
            ..TRAILER
        }));
        assert!(refused(Trailer {
            index_size: u64::MAX,
            ..TRAILER
        }));
        assert!(refused(Trailer {
            blocks: MAX_BLOCKS + 1,
            ..TRAILER
        }));
    }
}
