//! Why a source cannot be scanned.

use std::path::PathBuf;

use crate::binlog::index::IndexError;
use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::layout::Sequence;
use crate::ledger::LedgerError;
use crate::pipeline::seal::SealError;
use crate::queue::QueueError;
use crate::retry::RetryClass;
use crate::spool::SpoolError;

/// Why a source cannot be scanned.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The index or `auto.cnf` cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The index is a folder, a pipe or the like.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// The index is larger than any index.
    #[error("{} is {len} bytes long: that is no binlog index", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// The index is malformed.
    #[error("{}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: IndexError,
    },
    /// No `server_uuid` is known.
    #[error("{} holds no server_uuid", path.display())]
    NoServerUuid {
        /// `auto.cnf`.
        path: PathBuf,
    },
    /// The index ends before a file that was closed already.
    #[error("{} ends before sequence {newest}, which was closed already: the numbering began anew", path.display())]
    Restarted {
        /// The index.
        path: PathBuf,
        /// The newest file that is known.
        newest: Sequence,
    },
    /// A name that is archived is another file now.
    #[error("{} is another file than the one archived under its name: sha256 {local} here, {archived} there", path.display())]
    Conflict {
        /// The local file.
        path: PathBuf,
        /// Its digest.
        local: Digest,
        /// The digest of the archived one.
        archived: Digest,
    },
    /// A file that is known cannot be compared.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Diagnose for WatchError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { .. }
            | Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::Index { .. }
            | Self::NoServerUuid { .. } => Exit::Usage,
            Self::Restarted { .. } | Self::Conflict { .. } => Exit::Conflict,
            Self::Seal(error) => error.exit(),
            Self::Spool(error) => error.exit(),
            Self::Ledger(error) => error.exit(),
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some(
                "check [[source]] index and datadir, and that this user may read there (run as mysql, or \
                 in its group)"
                    .to_owned(),
            ),
            Self::NotAFile { .. } | Self::TooLong { .. } | Self::Index { .. } => {
                Some("[[source]] index must name the server's log_bin_index".to_owned())
            }
            Self::NoServerUuid { .. } => Some(
                "set `datadir` of this [[source]] to the server's, or `server-uuid` to its \
                 @@server_uuid"
                    .to_owned(),
            ),
            Self::Restarted { .. } | Self::Conflict { .. } => Some(
                "nothing was overwritten, and new files are pinned: after RESET BINARY LOGS AND GTIDS, a restore or a clone, raise \
                 `incarnation` of this [[source]] by one; otherwise two servers share one server_uuid"
                    .to_owned(),
            ),
            Self::Seal(error) => error.hint(),
            Self::Spool(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
            Self::Queue(error) => error.hint(),
        }
    }
}

impl WatchError {
    /// Is it for a person to act, or worth another scan without a word?
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Index { source, .. } => source.retry_class(),
            Self::Seal(error) => error.retry_class(),
            Self::Spool(error) => error.retry_class(),
            Self::Ledger(error) | Self::Queue(QueueError::Ledger(error)) => error.retry_class(),
            Self::Read { .. }
            | Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::NoServerUuid { .. }
            | Self::Restarted { .. }
            | Self::Conflict { .. }
            | Self::Queue(_) => RetryClass::Never,
        }
    }
}
