//! The one cipher of an object: which nonce and which associated data seal which part (FORMAT.md §4).
//!
//! # Invariant
//! No (key, nonce) pair twice. [`Sealer`] owns the data key, counts the blocks itself, and is consumed
//! by the index; the index has a nonce domain of its own.

use gcm::NONCE_SIZE;

use super::{ArchiveError, DataKey, MAX_BLOCKS, Part, TAG_SIZE};
use crate::digest::Digest;

/// An AES-GCM tag.
pub(super) type Tag = [u8; TAG_SIZE];

/// Nonce domains (FORMAT.md §4.2).
const DOMAIN_BLOCK: u32 = 0;
const DOMAIN_INDEX: u32 = 1;

/// What is sealed, and all that its tag vouches for beside the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealed {
    /// A block: its number, and whether it is the last.
    Block { number: u64, last: bool },
    /// The index: how many blocks the object has.
    Index { blocks: u64 },
}

impl Sealed {
    /// 4 bytes of domain, 8 bytes of counter, big-endian (FORMAT.md §4.2).
    fn nonce(self) -> [u8; NONCE_SIZE] {
        let (domain, counter) = match self {
            Self::Block { number, .. } => (DOMAIN_BLOCK, number),
            Self::Index { .. } => (DOMAIN_INDEX, 0),
        };
        ((u128::from(domain) << 64) | u128::from(counter))
            .to_be_bytes()
            .last_chunk()
            .copied()
            .expect("12 bytes are the end of 16")
    }

    /// Header digest, nonce, and the last flag or the block count (FORMAT.md §4.3).
    fn associated_data(self, header: &Digest) -> Vec<u8> {
        let mut data = [header.as_bytes().as_slice(), &self.nonce()].concat();
        match self {
            Self::Block { last, .. } => data.push(u8::from(last)),
            Self::Index { blocks } => data.extend(blocks.to_be_bytes()),
        }
        data
    }

    fn part(self) -> Part {
        match self {
            Self::Block { number, .. } => Part::Block(number),
            Self::Index { .. } => Part::Index,
        }
    }
}

/// A data key in use.
struct Cipher {
    aes: gcm::Cipher,
    header: Digest,
}

impl Cipher {
    fn new(key: &DataKey, header: Digest) -> Self {
        Self {
            aes: gcm::Cipher::new(key.as_bytes()),
            header,
        }
    }

    fn seal(&self, sealed: Sealed, bytes: &mut [u8]) -> Tag {
        let data = sealed.associated_data(&self.header);
        self.aes.seal(sealed.nonce(), &data, bytes)
    }
}

/// Seals the parts of one object, each once.
pub(super) struct Sealer {
    cipher: Cipher,
    next_block: u64,
}

impl Sealer {
    pub(super) fn new(key: &DataKey, header: Digest) -> Self {
        Self {
            cipher: Cipher::new(key, header),
            next_block: 0,
        }
    }

    /// Encrypts the next block in place.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`] beyond [`MAX_BLOCKS`].
    pub(super) fn seal_block(&mut self, last: bool, bytes: &mut [u8]) -> Result<Tag, ArchiveError> {
        let number = self.next_block;
        if number >= MAX_BLOCKS {
            return Err(ArchiveError::TooLarge { max: MAX_BLOCKS });
        }
        // Counted before it is used: no path seals twice under one number.
        self.next_block = number
            .checked_add(1)
            .ok_or(ArchiveError::TooLarge { max: MAX_BLOCKS })?;
        Ok(self.cipher.seal(Sealed::Block { number, last }, bytes))
    }

    /// Encrypts the index in place. Nothing can be sealed after it.
    pub(super) fn seal_index(self, bytes: &mut [u8]) -> Tag {
        let blocks = self.next_block;
        self.cipher.seal(Sealed::Index { blocks }, bytes)
    }
}

/// Opens the parts of one object.
pub(super) struct Opener(Cipher);

impl Opener {
    pub(super) fn new(key: &DataKey, header: Digest) -> Self {
        Self(Cipher::new(key, header))
    }

    /// Checks the tag, then decrypts in place; the plaintext is what comes before the tag.
    ///
    /// # Errors
    /// [`ArchiveError::Authentication`], and `bytes` are left as they were.
    pub(super) fn open<'a>(
        &self,
        sealed: Sealed,
        bytes: &'a mut [u8],
    ) -> Result<&'a [u8], ArchiveError> {
        let error = || ArchiveError::Authentication {
            part: sealed.part(),
        };
        let (text, tag) = bytes.split_last_chunk_mut::<TAG_SIZE>().ok_or_else(error)?;
        let data = sealed.associated_data(&self.0.header);
        self.0
            .aes
            .open(sealed.nonce(), &data, text, tag)
            .map_err(|_| error())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FORMAT.md §4.2 and §4.3, byte for byte.
    #[test]
    fn nonces_and_associated_data_are_as_specified() {
        let header = Digest::from([7; 32]);
        let block = Sealed::Block {
            number: 0x0102,
            last: true,
        };
        assert_eq!(block.nonce(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(
            block.associated_data(&header),
            [&[7; 32][..], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], &[1]].concat()
        );
        let index = Sealed::Index { blocks: 3 };
        assert_eq!(index.nonce(), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            index.associated_data(&header),
            [
                &[7; 32][..],
                &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
                &[0, 0, 0, 0, 0, 0, 0, 3]
            ]
            .concat()
        );
    }

    #[test]
    fn the_sealer_stops_at_the_block_limit() {
        let key = DataKey::from_bytes([1; 32]);
        let mut sealer = Sealer::new(&key, Digest::of(b""));
        sealer.next_block = MAX_BLOCKS;
        assert!(matches!(
            sealer.seal_block(false, &mut []),
            Err(ArchiveError::TooLarge { .. })
        ));
    }
}
