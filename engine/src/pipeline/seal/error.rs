//! Why a file could not be sealed.

use std::path::PathBuf;
use std::time::Duration;

use crate::archive::ArchiveError;
use crate::binlog::Refusal;
use crate::exit::{Diagnose, Exit};
use crate::ledger::Fingerprint;
use crate::retry::RetryClass;
use crate::spool::{self, SpoolError};

/// Before a file that did not stand still is looked at again.
pub const UNSTABLE_RETRY: Duration = Duration::from_secs(1);

/// Why a file could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a file at all.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// It is no binlog to be archived.
    #[error("{}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// It was told to stop; nothing is wrong.
    #[error("stopped while sealing {}", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// It changed since it was found, or under the reader.
    #[error("{} does not stand still", path.display())]
    Unstable {
        /// The file.
        path: PathBuf,
        /// How it looks now: the next attempt wants to find it so.
        now: Fingerprint,
    },
    /// The object could not be written.
    #[error("seal {}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl SealError {
    /// Was there no room in the spool?
    pub fn is_full(&self) -> bool {
        match self {
            Self::Archive {
                source: ArchiveError::Write(source),
                ..
            } => spool::is_full(source),
            Self::Spool(error) => error.is_full(),
            _ => false,
        }
    }

    /// May it go away by itself?
    pub fn retry_class(&self) -> RetryClass {
        match self {
            // A missing or unreadable file stays so until a person acts.
            Self::Read { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                    RetryClass::Never
                }
                _ => RetryClass::Backoff,
            },
            Self::NotAFile { .. } | Self::Refused { .. } => RetryClass::Never,
            Self::Archive { .. } => RetryClass::Backoff,
            Self::Unstable { .. } => RetryClass::After(UNSTABLE_RETRY),
            Self::Stopped { .. } => RetryClass::Cancelled,
            Self::Spool(error) => error.retry_class(),
        }
    }
}

impl Diagnose for SealError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } | Self::NotAFile { .. } => Exit::Usage,
            Self::Refused { source, .. } => source.exit(),
            Self::Unstable { .. } => Exit::Transient,
            Self::Stopped { .. } => Exit::Interrupted,
            Self::Archive { source, .. } => source.exit(),
            Self::Spool(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(
                "the index names a file that is not there: it was removed by hand, or the index is \
                 another server's"
                    .to_owned(),
            ),
            Self::Read { .. } => {
                Some("let this user read the file: run as mysql, or as a member of its group".to_owned())
            }
            Self::NotAFile { .. } => Some("check what the binlog index names".to_owned()),
            Self::Refused { source, .. } => source.hint(),
            Self::Unstable { .. } => {
                Some("only closed files are sealed: does another program write to it?".to_owned())
            }
            Self::Archive { source, .. } => source.hint(),
            Self::Spool(error) => error.hint(),
            Self::Stopped { .. } => None,
        }
    }
}
