//! AES-256-GCM over bytes in place. What is sealed under which nonce is the caller's affair.
//!
//! A crate of its own for one reason: the cipher's crates are generic, so they are compiled by whoever uses them, at
//! that one's optimisation. Here it is always full, also where the rest is built for debugging: a seven-hundredth of the
//! speed otherwise, and every test with a binlog goes through it.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};

/// Bytes of a key.
pub const KEY_SIZE: usize = 32;

/// Bytes of a nonce.
pub const NONCE_SIZE: usize = 12;

/// Bytes of a tag.
pub const TAG_SIZE: usize = 16;

/// A key, ready for use. Boxed, so that moving it leaves no copies of the round keys behind; wiped when dropped.
pub struct Cipher(Box<Aes256Gcm>);

/// The tag does not fit: another key, another nonce, other bytes, or other associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tag does not fit")]
pub struct Refused;

impl Cipher {
    /// Makes the key ready.
    #[inline(never)]
    pub fn new(key: &[u8; KEY_SIZE]) -> Self {
        Self(Box::new(Aes256Gcm::new(key.into())))
    }

    /// Encrypts in place. No nonce may be used twice under one key.
    ///
    /// # Panics
    /// Beyond GCM's limit of 64 GiB in one piece.
    #[inline(never)]
    pub fn seal(
        &self,
        nonce: [u8; NONCE_SIZE],
        associated: &[u8],
        bytes: &mut [u8],
    ) -> [u8; TAG_SIZE] {
        self.0
            .encrypt_inout_detached(&nonce.into(), associated, bytes.into())
            .expect("less than 64 GiB")
            .into()
    }

    /// Checks the tag, then decrypts in place.
    ///
    /// # Errors
    /// [`Refused`], and the bytes are left as they were.
    #[inline(never)]
    pub fn open(
        &self,
        nonce: [u8; NONCE_SIZE],
        associated: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG_SIZE],
    ) -> Result<(), Refused> {
        self.0
            .decrypt_inout_detached(&nonce.into(), associated, bytes.into(), tag.into())
            .map_err(|_| Refused)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 16 of "The Galois/Counter Mode of Operation", the one with a key of 256 bits, text and
    /// associated data.
    #[test]
    fn the_designers_test_case_comes_out() {
        let hex = |text: &str| -> Vec<u8> {
            let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
            let pairs = digits.chunks(2);
            pairs
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let key = hex("feffe9928665731c6d6a8f9467308308 feffe9928665731c6d6a8f9467308308");
        let nonce = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let associated = hex("feedfacedeadbeeffeedfacedeadbeef abaddad2");
        let text = hex(
            "d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72
             1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b39",
        );
        let sealed = hex(
            "522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa
             8cb08e48590dbb3da7b08b1056828838 c5f61e6393ba7a0abcc9f662",
        );
        let tag: [u8; TAG_SIZE] = hex("76fc6ece0f4e1768cddf8853bb2d551b").try_into().unwrap();

        let cipher = Cipher::new(key.as_slice().try_into().unwrap());
        let mut bytes = text.clone();
        assert_eq!(cipher.seal(nonce, &associated, &mut bytes), tag);
        assert_eq!(bytes, sealed);
        let mut other = tag;
        other[0] ^= 1;
        assert_eq!(
            cipher.open(nonce, &associated, &mut bytes, &other),
            Err(Refused)
        );
        assert_eq!(bytes, sealed, "left as they were");
        assert_eq!(cipher.open(nonce, &associated, &mut bytes, &tag), Ok(()));
        assert_eq!(bytes, text);
    }
}
