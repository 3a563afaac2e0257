//! Data keys, and the envelope that they travel in (FORMAT.md §8).
//!
//! One data key per object and attempt: [`SealingKey`] has no constructor outside this crate, no
//! `Clone`, and [`ObjectWriter::create`](super::ObjectWriter::create) consumes it. Secrets are wiped
//! when dropped, live behind a `Box` so that moves leave no copies, and never print.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use gcm::{Cipher, NONCE_SIZE};
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};
use zeroize::Zeroizing;

use super::{ArchiveError, ObjectIdentity, TAG_SIZE};

/// Bytes of a key of AES-256.
pub(crate) const KEY_SIZE: usize = 32;

/// Bytes of a data key wrapped by a [`KeyEncryptionKey`].
const WRAPPED_SIZE: usize = NONCE_SIZE + KEY_SIZE + TAG_SIZE;

/// The longest key id, in bytes: AWS KMS key ARNs have at most 2,048.
const MAX_KEY_ID: usize = 2048;

/// Separates this use of a key from all others (FORMAT.md §8.2).
const WRAP_DOMAIN: &str = "gtide-data-key-1";

/// 32 secret bytes.
struct Secret(Box<Zeroizing<[u8; KEY_SIZE]>>);

impl Secret {
    fn zero() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_SIZE])))
    }

    fn copy_of(bytes: &[u8; KEY_SIZE]) -> Self {
        let mut secret = Self::zero();
        secret.0.copy_from_slice(bytes);
        secret
    }

    fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = Self::zero();
        getrandom::fill(secret.0.as_mut_slice())?;
        Ok(secret)
    }
}

/// The key of one object.
pub struct DataKey(Secret);

impl DataKey {
    /// A new key from the operating system's random generator.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Secret::generate().map(Self)
    }

    /// One that a key service made or opened; none when it has another size.
    pub(crate) fn of_service(bytes: &[u8]) -> Option<Self> {
        Some(Self(Secret::copy_of(bytes.try_into().ok()?)))
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; KEY_SIZE]) -> Self {
        Self(Secret::copy_of(&bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(secret)")
    }
}

/// Names a key-encryption key, without a hint of what it is. Stored.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct KeyId(String);

/// Text that is no key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key id: 1 to {MAX_KEY_ID} printable ASCII characters without space")]
pub struct KeyIdError(String);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(s: &str) -> Result<Self, KeyIdError> {
        let printable = s.bytes().all(|byte| byte.is_ascii_graphic());
        if printable && (1..=MAX_KEY_ID).contains(&s.len()) {
            Ok(Self(s.to_owned()))
        } else {
            Err(KeyIdError(s.to_owned()))
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A data key, encrypted by the key-encryption key that the key id names. Stored, as base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WrappedKey(Vec<u8>);

impl WrappedKey {
    /// What a key service gave.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for WrappedKey {
    type Error = data_encoding::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64.decode(text.as_bytes()).map(Self)
    }
}

impl From<WrappedKey> for String {
    fn from(key: WrappedKey) -> Self {
        BASE64.encode(&key.0)
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey({})", BASE64.encode(&self.0))
    }
}

/// All that sealing one object takes: a fresh data key, and its envelope for the header.
///
/// It knows whose it is: sealing another object with it would make an object that nobody can open.
#[derive(Debug)]
pub struct SealingKey {
    pub(super) identity: ObjectIdentity,
    pub(super) data_key: DataKey,
    pub(super) key_id: KeyId,
    pub(super) wrapped_key: WrappedKey,
}

impl SealingKey {
    /// `data_key` MUST be fresh: never from [`KeyEncryptionKey::unwrap`], never used before.
    pub(crate) fn new(
        identity: ObjectIdentity,
        data_key: DataKey,
        key_id: KeyId,
        wrapped_key: WrappedKey,
    ) -> Self {
        Self {
            identity,
            data_key,
            key_id,
            wrapped_key,
        }
    }

    pub(crate) fn data_key(&self) -> &DataKey {
        &self.data_key
    }

    /// The key-encryption key's id.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The data key's envelope.
    pub fn wrapped_key(&self) -> &WrappedKey {
        &self.wrapped_key
    }
}

/// A key that wraps data keys.
///
/// Its nonces are random: at most 2^32 data keys under one key (NIST SP 800-38D §8.3), which is a
/// file every second for 136 years.
pub struct KeyEncryptionKey {
    id: KeyId,
    secret: Secret,
}

impl KeyEncryptionKey {
    pub(crate) fn new(id: KeyId, bytes: &[u8; KEY_SIZE]) -> Self {
        Self {
            id,
            secret: Secret::copy_of(bytes),
        }
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// A fresh data key for one object.
    ///
    /// # Errors
    /// [`ArchiveError::Random`].
    pub fn new_data_key(&self, identity: &ObjectIdentity) -> Result<SealingKey, ArchiveError> {
        let data_key = DataKey::generate().map_err(ArchiveError::Random)?;
        Ok(self.seal_data_key(data_key, new_nonce()?, identity))
    }

    /// Wraps the data key of an object that is sealed already, under a nonce of its own.
    ///
    /// # Errors
    /// [`ArchiveError::Random`].
    pub fn wrap(
        &self,
        data_key: &DataKey,
        identity: &ObjectIdentity,
    ) -> Result<WrappedKey, ArchiveError> {
        Ok(self.wrap_with(data_key, new_nonce()?, identity))
    }

    pub(super) fn seal_data_key(
        &self,
        data_key: DataKey,
        nonce: [u8; NONCE_SIZE],
        identity: &ObjectIdentity,
    ) -> SealingKey {
        let wrapped = self.wrap_with(&data_key, nonce, identity);
        SealingKey::new(identity.clone(), data_key, self.id.clone(), wrapped)
    }

    fn wrap_with(
        &self,
        data_key: &DataKey,
        nonce: [u8; NONCE_SIZE],
        identity: &ObjectIdentity,
    ) -> WrappedKey {
        let mut text = Zeroizing::new(*data_key.as_bytes());
        let data = associated_data(&self.id, identity);
        let tag = self
            .cipher()
            .seal(nonce, data.as_bytes(), text.as_mut_slice());
        WrappedKey([nonce.as_slice(), text.as_slice(), &tag].concat())
    }

    /// Opens the envelope of an object's data key.
    ///
    /// # Errors
    /// [`ArchiveError::Unwrap`]: it is another key's, another object's, or altered.
    pub fn unwrap(
        &self,
        wrapped: &WrappedKey,
        identity: &ObjectIdentity,
    ) -> Result<DataKey, ArchiveError> {
        self.open_data_key(wrapped, identity)
            .ok_or_else(|| ArchiveError::Unwrap {
                key_id: self.id.clone(),
                identity: Box::new(identity.clone()),
            })
    }

    fn open_data_key(&self, wrapped: &WrappedKey, identity: &ObjectIdentity) -> Option<DataKey> {
        let wrapped: &[u8; WRAPPED_SIZE] = wrapped.0.as_slice().try_into().ok()?;
        let (nonce, rest) = wrapped.split_first_chunk::<NONCE_SIZE>()?;
        let (text, tag) = rest.split_first_chunk::<KEY_SIZE>()?;
        let tag: &[u8; TAG_SIZE] = tag.try_into().ok()?;
        let mut key = Secret::copy_of(text);
        let data = associated_data(&self.id, identity);
        self.cipher()
            .open(*nonce, data.as_bytes(), key.0.as_mut_slice(), tag)
            .ok()?;
        Some(DataKey(key))
    }

    fn cipher(&self) -> Cipher {
        Cipher::new(&self.secret.0)
    }
}

fn new_nonce() -> Result<[u8; NONCE_SIZE], ArchiveError> {
    let mut nonce = [0; NONCE_SIZE];
    getrandom::fill(&mut nonce).map_err(ArchiveError::Random)?;
    Ok(nonce)
}

/// FORMAT.md §8.2. Neither the domain nor a key id contains a line feed, and the identity is last, so no two triples
/// give the same text.
pub(crate) fn associated_data(id: &KeyId, identity: &ObjectIdentity) -> String {
    format!("{WRAP_DOMAIN}\n{id}\n{identity}")
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEncryptionKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{identity, key_encryption_key};

    #[test]
    fn a_data_key_opens_for_its_own_object_only() {
        let kek = key_encryption_key(1);
        let sealing = kek.new_data_key(&identity(1)).unwrap();
        let opened = kek.unwrap(&sealing.wrapped_key, &identity(1)).unwrap();
        assert_eq!(opened.as_bytes(), sealing.data_key.as_bytes());

        let other = kek.unwrap(&sealing.wrapped_key, &identity(2));
        assert!(matches!(other, Err(ArchiveError::Unwrap { .. })));
    }

    #[test]
    fn a_data_key_does_not_open_with_another_key_or_under_another_key_id() {
        let kek = key_encryption_key(1);
        let sealing = kek.new_data_key(&identity(1)).unwrap();
        let renamed = KeyEncryptionKey::new("file:other".parse().unwrap(), &kek.secret.0);
        for wrong in [key_encryption_key(2), renamed] {
            let opened = wrong.unwrap(&sealing.wrapped_key, &identity(1));
            assert!(matches!(opened, Err(ArchiveError::Unwrap { .. })));
        }
    }

    #[test]
    fn every_bit_of_a_wrapped_key_counts() {
        let kek = key_encryption_key(1);
        let wrapped = kek.new_data_key(&identity(1)).unwrap().wrapped_key;
        assert_eq!(wrapped.0.len(), WRAPPED_SIZE);
        for bit in 0..wrapped.0.len() * 8 {
            let mut altered = wrapped.clone();
            altered.0[bit / 8] ^= 1 << (bit % 8);
            assert!(kek.unwrap(&altered, &identity(1)).is_err(), "bit {bit}");
        }
        for length in [0, WRAPPED_SIZE - 1, WRAPPED_SIZE + 1] {
            let mut altered = wrapped.clone();
            altered.0.resize(length, 0);
            assert!(
                kek.unwrap(&altered, &identity(1)).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn no_two_data_keys_or_envelopes_are_alike() {
        let kek = key_encryption_key(1);
        let (one, two) = (
            kek.new_data_key(&identity(1)).unwrap(),
            kek.new_data_key(&identity(1)).unwrap(),
        );
        assert_ne!(one.data_key.as_bytes(), two.data_key.as_bytes());
        assert_ne!(
            one.wrapped_key.0[..NONCE_SIZE],
            two.wrapped_key.0[..NONCE_SIZE]
        );
    }

    #[test]
    fn secrets_do_not_print() {
        let kek = key_encryption_key(0xAB);
        let key = DataKey::from_bytes([0xAB; 32]);
        assert_eq!(format!("{key:?}"), "DataKey(secret)");
        assert_eq!(format!("{kek:?}"), "KeyEncryptionKey(file:test)");
        let sealing = kek.new_data_key(&identity(1)).unwrap();
        assert!(format!("{sealing:?}").contains("DataKey(secret)"));
    }

    #[test]
    fn key_ids_are_printable_and_bounded() {
        for id in ["file:0123456789abcdef", "aws-kms:arn:aws:kms:eu-1:1:key/x"] {
            assert_eq!(id.parse::<KeyId>().unwrap().as_str(), id);
        }
        for id in ["", "a b", "a\nb", "ü", &"x".repeat(MAX_KEY_ID + 1)] {
            assert!(id.parse::<KeyId>().is_err(), "{id:?}");
        }
    }
}
