//! Manifest entries: one immutable JSON object per archived file, chained by digest.
//!
//! # Owns
//! The stored form of an entry, and what a run of entries proves ([`chain`]).
//!
//! # Invariants
//! - An entry is written once, by conditional create, after its object was stored and verified.
//! - The chain hash is the SHA-256 of the entry's bytes *as stored*; an entry names its predecessor's.
//! - Order is the sequence's and the chain's, never a time's.
//!
//! # Limits
//! An entry is at most [`MAX_ENTRY_LEN`] bytes: GTID sets of servers with very many tags grow it.

pub mod chain;
pub mod rewrapped;
pub mod rollup;
mod stored;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::{ObjectFacts, ObjectIdentity};
use crate::binlog::Summary;
use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::layout::{ObjectKey, Sequence, SourceIdentity};

/// The version of the stored form. Additive changes keep it; anything that an older reader would
/// misread bumps it.
pub const VERSION: u32 = 1;

/// The largest entry that a reader accepts, in bytes.
pub const MAX_ENTRY_LEN: usize = 16 * 1024 * 1024;

/// One archived binlog file. Stored: additive changes only; see [`VERSION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "stored::FlatEntry")]
pub struct Entry {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Whose file.
    #[serde(flatten)]
    pub source: SourceIdentity,
    /// Which file.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: String,
    /// SHA-256 of the binlog file.
    pub sha256: Digest,
    /// What is in it.
    pub binlog: Summary,
    /// Where it lies.
    pub object: StoredObject,
    /// The base backup in force when the file was archived, if one was recorded.
    pub base_backup: Option<String>,
    /// The entry before this one at the same destination; none for the first.
    pub previous: Option<Predecessor>,
    /// Who wrote the entry, for people: program, version, host, and a spool's id. Any text is read.
    pub writer: String,
    /// When the entry was written.
    pub written_at: Timestamp,
}

/// The archive object that an entry names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "stored::FlatObject")]
pub struct StoredObject {
    /// Its key.
    pub key: ObjectKey,
    /// Its size, checksum, key and index digest.
    #[serde(flatten)]
    pub facts: ObjectFacts,
}

/// The link to the entry before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    /// Its sequence: one less, or lower when the server had lost the files between.
    pub sequence: Sequence,
    /// SHA-256 of its bytes as stored.
    pub sha256: Digest,
}

/// Why bytes are not the entry that they should be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the expected form.
    #[error("{key}: not a manifest entry")]
    Malformed {
        /// Where it was read.
        key: ObjectKey,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A newer gtide wrote it.
    #[error("{key}: manifest version {found}, and this gtide reads up to {VERSION}")]
    Version {
        /// Where it was read.
        key: ObjectKey,
        /// Its version.
        found: u64,
    },
    /// An entry under another's key.
    #[error("{key}: holds the entry of {found} sequence {sequence}")]
    Misplaced {
        /// Where it was read.
        key: ObjectKey,
        /// Whose it says it is.
        found: SourceIdentity,
        /// Which it says it is.
        sequence: Sequence,
    },
    /// Not JSON of the form of re-wrapped data keys.
    #[error("{key}: not data keys that were wrapped anew")]
    NotKeys {
        /// Where it was read.
        key: ObjectKey,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Data keys under a key that names others, or in no order.
    #[error("{key}: does not hold the data keys that its name says")]
    OtherKeys {
        /// Where it was read.
        key: ObjectKey,
    },
    /// It could not be turned into bytes.
    #[error("encode the manifest entry of {file_name}")]
    Encode {
        /// The file.
        file_name: String,
        /// What the serialiser says.
        #[source]
        source: serde_json::Error,
    },
}

impl Diagnose for ManifestError {
    fn exit(&self) -> Exit {
        match self {
            Self::Version { .. } => Exit::Usage,
            Self::Malformed { .. }
            | Self::Misplaced { .. }
            | Self::NotKeys { .. }
            | Self::OtherKeys { .. } => Exit::Corrupt,
            Self::Encode { .. } => Exit::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Version { .. } => "install the gtide that wrote the archive, or a newer one",
            Self::Malformed { .. } | Self::Misplaced { .. } => {
                "compare with the same key at another destination or in the bucket's older versions"
            }
            Self::NotKeys { .. } | Self::OtherKeys { .. } => {
                "it was altered or damaged; `gtide key rewrap` makes others while the former key is at hand"
            }
            Self::Encode { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl Entry {
    /// The identity that the archive object is bound to.
    pub fn object_identity(&self) -> ObjectIdentity {
        ObjectIdentity {
            source: self.source.clone(),
            sequence: self.sequence,
            file_name: self.file_name.clone(),
        }
    }

    /// The bytes to store: indented JSON, one final newline, so that a person can read the bucket.
    ///
    /// # Errors
    /// Never for values that this crate makes; the serialiser's error otherwise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|source| ManifestError::Encode {
                file_name: self.file_name.clone(),
                source,
            })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the entry stored at `key`.
    ///
    /// # Errors
    /// When the bytes are no entry, of an unknown version, or belong under another key.
    pub fn parse(key: &ObjectKey, bytes: &[u8]) -> Result<Self, ManifestError> {
        let entry = Self::read(key, bytes)?;
        if entry.source.manifest_key(entry.sequence) != *key {
            return Err(ManifestError::Misplaced {
                key: key.clone(),
                found: entry.source,
                sequence: entry.sequence,
            });
        }
        Ok(entry)
    }

    /// Reads an entry that lies in the object at `key`, whosever it is.
    fn read(key: &ObjectKey, bytes: &[u8]) -> Result<Self, ManifestError> {
        let version = |found| ManifestError::Version {
            key: key.clone(),
            found,
        };
        // Known to be UTF-8 as a whole, its strings are not looked at once more. What is not is refused by the parser.
        let parsed = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str::<Self>(text),
            Err(_) => serde_json::from_slice::<Self>(bytes),
        };
        match parsed {
            Ok(entry) if entry.version == VERSION => Ok(entry),
            Ok(entry) => Err(version(entry.version.into())),
            // Of another version it may have another form.
            Err(source) => match serde_json::from_slice::<Versioned>(bytes) {
                Ok(other) if other.version != u64::from(VERSION) => Err(version(other.version)),
                _ => Err(ManifestError::Malformed {
                    key: key.clone(),
                    source,
                }),
            },
        }
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}
