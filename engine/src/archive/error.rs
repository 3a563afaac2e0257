//! Why an object cannot be written or must not be believed.

use std::fmt;
use std::io;

use super::{COMPRESSION_LEVELS, KeyId, ObjectIdentity, VERSION};
use crate::exit::{Diagnose, Exit};
use crate::retry::RetryClass;

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Magic, version, header.
    Header,
    /// The block of this number, counted from 0.
    Block(u64),
    /// The sealed index.
    Index,
    /// The trailer.
    Trailer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::Block(number) => write!(f, "block {number}"),
            Self::Index => f.write_str("the index"),
            Self::Trailer => f.write_str("the trailer"),
        }
    }
}

/// Why an object cannot be written or must not be believed.
///
/// Callers add the object's key: this module knows none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The first bytes are other than the magic.
    #[error("not an archive object: it begins with {found}")]
    NotAnObject {
        /// In hexadecimal.
        found: String,
    },
    /// A later gtide wrote it, or the version number is damaged.
    #[error("archive format version {found} is unknown; this program reads version {VERSION}")]
    UnsupportedVersion {
        /// What the object says.
        found: u16,
    },
    /// The header is no header of this version.
    #[error("malformed header: {reason}")]
    MalformedHeader {
        /// What is wrong with it.
        reason: String,
    },
    /// The object is another file's: objects were swapped, or its key is wrong (TRAPS 30).
    #[error("the object says that it is {found}, expected {expected}")]
    Identity {
        /// Whose object was asked for.
        expected: Box<ObjectIdentity>,
        /// Whose object its header says it is.
        found: Box<ObjectIdentity>,
    },
    /// The key-encryption key does not open the wrapped data key: it is another key, or the wrapped
    /// key, the key id or the identity was altered.
    #[error("key {key_id} does not open the wrapped data key of {identity}")]
    Unwrap {
        /// The key-encryption key.
        key_id: KeyId,
        /// The object as which it was to be opened.
        identity: Box<ObjectIdentity>,
    },
    /// The tag is wrong: altered, moved, of another object, or the data key is another one.
    #[error("authentication of {part} failed")]
    Authentication {
        /// What was to be opened.
        part: Part,
    },
    /// The object ends before it is complete.
    #[error("the object ends after {size} bytes, before the end of {part}")]
    Truncated {
        /// What was being read.
        part: Part,
        /// Bytes that there were.
        size: u64,
    },
    /// Something follows the trailer.
    #[error("bytes follow the end of the object at offset {offset}")]
    TrailingBytes {
        /// Where the object ends.
        offset: u64,
    },
    /// A number that no writer writes. Found before anything is allocated for it.
    #[error("{part} claims {found} {unit}, but the format allows at most {max}")]
    Limit {
        /// Where the number stands.
        part: Part,
        /// What it counts.
        unit: &'static str,
        /// What it says.
        found: u64,
        /// What the format allows.
        max: u64,
    },
    /// Authentic or not yet known to be, but against the format, or against what was read before.
    #[error("{part} is inconsistent: {reason}")]
    Inconsistent {
        /// Where.
        part: Part,
        /// How.
        reason: String,
    },
    /// A level that zstd does not have.
    #[error(
        "compression level {level} is not within {} to {}",
        COMPRESSION_LEVELS.start(),
        COMPRESSION_LEVELS.end()
    )]
    Level {
        /// What was asked for.
        level: i32,
    },
    /// The file is larger than one object can hold.
    #[error("the file needs more than {max} blocks")]
    TooLarge {
        /// [`super::MAX_BLOCKS`].
        max: u64,
    },
    /// The caller's mistake; never caused by data.
    #[error("misuse of the archive module: {0}")]
    Misuse(&'static str),
    /// Writing the object failed. How much was written is unknown.
    #[error("write archive object")]
    Write(#[source] io::Error),
    /// zstd had no memory, most likely.
    #[error("compress {part}")]
    Compress {
        /// What was to be compressed.
        part: Part,
        /// zstd's reason.
        #[source]
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("get random bytes for a key")]
    Random(#[source] getrandom::Error),
}

impl ArchiveError {
    /// What retry code may ask.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Write(_) | Self::Compress { .. } | Self::Random(_) => RetryClass::Backoff,
            _ => RetryClass::Never,
        }
    }
}

impl Diagnose for ArchiveError {
    fn exit(&self) -> Exit {
        match self {
            Self::Level { .. } => Exit::Usage,
            Self::Misuse(_) | Self::TooLarge { .. } => Exit::Unexpected,
            Self::Write(_) | Self::Compress { .. } | Self::Random(_) => Exit::Transient,
            _ => Exit::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotAnObject { .. } => "is something else stored under this key?",
            Self::UnsupportedVersion { .. } => {
                "a newer gtide may have written it: upgrade this one, or compare the object with another destination's"
            }
            Self::Identity { .. } => {
                "objects were swapped or copied to another key: restore the right one from another destination"
            }
            Self::Unwrap { .. } => {
                "use the key that sealed it; if the key is the right one, the object was altered: compare it with another destination's"
            }
            Self::Truncated { .. } | Self::TrailingBytes { .. } => {
                "compare its size with the manifest entry's, and fetch it again or from another destination"
            }
            Self::MalformedHeader { .. }
            | Self::Authentication { .. }
            | Self::Limit { .. }
            | Self::Inconsistent { .. } => {
                "the object was altered after it was sealed: take it from another destination; while the server has the file, its copy there is the same"
            }
            Self::Level { .. } => "set compression.level to a level that zstd has",
            Self::TooLarge { .. } => {
                "one object holds 1 TiB: keep this file by other means before the server expires it"
            }
            Self::Write(_) => "check free space and permissions of the spool directory",
            Self::Misuse(_) | Self::Compress { .. } | Self::Random(_) => return None,
        };
        Some(hint.to_owned())
    }
}
