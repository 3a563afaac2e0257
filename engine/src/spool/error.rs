//! Why the spool could not do its work.

use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{Diagnose, Exit};
use crate::retry::RetryClass;

/// Why the spool could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A system call failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The pin's name holds another file.
    #[error("{} already pins another file than {}", pin.display(), file.display())]
    Conflict {
        /// The pin.
        pin: PathBuf,
        /// The server's file.
        file: PathBuf,
    },
}

impl SpoolError {
    /// Is there no room, or no more that this user may take?
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }

    /// May it go away by itself?
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Io { .. } => RetryClass::Backoff,
            Self::Conflict { .. } => RetryClass::Never,
        }
    }
}

impl Diagnose for SpoolError {
    fn exit(&self) -> Exit {
        match self {
            Self::Io { .. } => Exit::Transient,
            Self::Conflict { .. } => Exit::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem => {
                    "the file system of [spool] dir is mounted read-only: after an error of its disk, perhaps"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free space there, or raise the quota"
                }
                _ => "check the folder's owner, mode and disk: gtide must be able to write there",
            },
            Self::Conflict { .. } => {
                "the numbering began anew: after RESET BINARY LOGS AND GTIDS, a restore or a clone, raise \
                 `incarnation` of this [[source]] by one"
            }
        }
        .to_owned())
    }
}

/// Does a write fail for want of room?
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io {
        action,
        path: path.clone(),
        source,
    }
}
