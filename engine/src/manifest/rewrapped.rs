//! Data keys that were wrapped anew: what an object under `keys/` holds (FORMAT.md §8.6).
//!
//! # Invariants
//! - Entries and objects stay as they are: this stands beside them, and is as immutable.
//! - Nothing here is secret, and nothing is trusted: a data key opens for its own file only.
//!
//! # Limits
//! [`MAX_KEYS`] data keys, [`MAX_LEN`] bytes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ManifestError, Versioned};
use crate::archive::{KeyId, WrappedKey};
use crate::layout::{ObjectKey, RewrappedName, Sequence, SourceIdentity};

/// The version of the stored form. Additive changes keep it.
pub const VERSION: u32 = 1;

/// Data keys in one object.
pub const MAX_KEYS: usize = 1000;

/// The largest such object that a reader accepts, in bytes: a wrapped key of a service has some hundred.
pub const MAX_LEN: usize = 8 * 1024 * 1024;

/// Data keys of one source, wrapped under one key. Stored: additive changes only; see [`VERSION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrappedKeys {
    version: u32,
    #[serde(flatten)]
    source: SourceIdentity,
    key_id: KeyId,
    keys: Vec<Rewrapped>,
    /// Who wrote it, for people.
    writer: String,
    written_at: Timestamp,
}

/// The data key of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrapped {
    /// Which file.
    pub sequence: Sequence,
    /// Its data key.
    pub wrapped_key: WrappedKey,
}

impl RewrappedKeys {
    /// Those of one source, by ascending sequence, at least one; all under the key with this id.
    pub fn new(
        source: SourceIdentity,
        key_id: KeyId,
        keys: Vec<Rewrapped>,
        written_at: Timestamp,
    ) -> Self {
        Self {
            version: VERSION,
            source,
            key_id,
            keys,
            writer: concat!("gtide ", env!("CARGO_PKG_VERSION")).to_owned(),
            written_at,
        }
    }

    /// The key that they are wrapped under.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Whose data keys are in it.
    pub fn sequences(&self) -> impl Iterator<Item = Sequence> {
        self.keys.iter().map(|key| key.sequence)
    }

    /// The data key of one file.
    pub fn get(&self, sequence: Sequence) -> Option<&WrappedKey> {
        let found = self
            .keys
            .binary_search_by_key(&sequence, |key| key.sequence);
        found
            .ok()
            .and_then(|at| self.keys.get(at))
            .map(|key| &key.wrapped_key)
    }

    /// Its name; none without keys.
    pub fn name(&self) -> Option<RewrappedName> {
        let (first, last) = (self.keys.first()?, self.keys.last()?);
        let (source, id) = (self.source.clone(), self.key_id.as_str());
        Some(RewrappedName::new(
            source,
            first.sequence,
            last.sequence,
            id,
        ))
    }

    /// The bytes to store, as those of an entry.
    ///
    /// # Errors
    /// Never for values that this crate makes; the serialiser's error otherwise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads what is stored at `key`.
    ///
    /// # Errors
    /// When the bytes are none of this form, of an unknown version, or belong under another key.
    pub fn parse(key: &ObjectKey, bytes: &[u8]) -> Result<Self, ManifestError> {
        let not_keys = |source| ManifestError::NotKeys {
            key: key.clone(),
            source,
        };
        let Versioned { version } = serde_json::from_slice(bytes).map_err(not_keys)?;
        if version != u64::from(VERSION) {
            return Err(ManifestError::Version {
                key: key.clone(),
                found: version,
            });
        }
        let keys: Self = serde_json::from_slice(bytes).map_err(not_keys)?;
        let is_ascending = keys.keys.is_sorted_by(|a, b| a.sequence < b.sequence);
        let is_here = keys.name().is_some_and(|name| name.key() == *key);
        if !is_ascending || !is_here || keys.keys.len() > MAX_KEYS {
            return Err(ManifestError::OtherKeys { key: key.clone() });
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::identity;

    fn keys(sequences: &[u64]) -> RewrappedKeys {
        let wrapped = |&number: &u64| Rewrapped {
            sequence: Sequence(number),
            wrapped_key: WrappedKey::new(vec![0; 60]),
        };
        let (id, source) = ("file:0123".parse().unwrap(), identity(1).source);
        let keys = sequences.iter().map(wrapped).collect();
        RewrappedKeys::new(source, id, keys, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_stored_comes_back() {
        let stored = keys(&[3, 5, 9]);
        let key = stored.name().unwrap().key();
        let back = RewrappedKeys::parse(&key, &stored.to_bytes().unwrap()).unwrap();
        assert_eq!(back, stored);
        assert!(back.get(Sequence(5)).is_some());
        assert!(back.get(Sequence(4)).is_none());
    }

    #[test]
    fn what_is_not_what_its_key_says_is_refused() {
        let key = keys(&[3, 5, 9]).name().unwrap().key();
        for other in [keys(&[3, 5]), keys(&[3, 9, 5, 9]), keys(&[3, 5, 5, 9])] {
            let refused = RewrappedKeys::parse(&key, &other.to_bytes().unwrap());
            assert!(matches!(refused, Err(ManifestError::OtherKeys { .. })));
        }
        let newer = RewrappedKeys {
            version: 2,
            ..keys(&[3, 9])
        };
        let refused = RewrappedKeys::parse(&key, &newer.to_bytes().unwrap());
        assert!(matches!(refused, Err(ManifestError::Version { .. })));
        assert!(RewrappedKeys::parse(&key, b"{}").is_err());
    }
}
