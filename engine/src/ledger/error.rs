//! Why the ledger could not be opened, read or written.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::layout::Sequence;
use crate::retry::RetryClass;

/// What the database said. Opaque, so that no caller depends on the driver.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(#[from] Box<dyn std::error::Error + Send + Sync>);

/// Why the ledger could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The configured database is none that the ledger can live in.
    #[error("database {url:?}: {reason}")]
    Url {
        /// As configured.
        url: String,
        /// Why not.
        reason: String,
    },
    /// Opened for reading, but there is nothing.
    #[error("there is no ledger at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A database, but not a ledger, or one that was never migrated.
    #[error("{} is a database, but not a ledger of gtide", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The schema is one that this program does not know.
    #[error("{} was migrated by another version of gtide (migration {version} is unknown here)", path.display())]
    OtherVersion {
        /// The database file.
        path: PathBuf,
        /// The migration that is missing or differs.
        version: i64,
    },
    /// The database file or its folder.
    #[error("{doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database: busy for too long, disk full, I/O error.
    #[error("{doing}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: DatabaseError,
    },
    /// A stored value that the ledger never writes.
    #[error("the ledger holds {value:?} as {what}")]
    Damaged {
        /// Which value.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// The file is committed at this destination already, with other content. Nothing was changed.
    #[error(
        "file {sequence} is already committed with manifest entry {recorded}, now comes {offered}"
    )]
    Conflict {
        /// The file.
        sequence: Sequence,
        /// Digest of the recorded manifest entry.
        recorded: Digest,
        /// Digest of the one that was to be recorded.
        offered: Digest,
    },
}

impl LedgerError {
    /// What may be done about it.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Database { .. } | Self::File { .. } => RetryClass::Backoff,
            _ => RetryClass::Never,
        }
    }

    /// For `map_err` on the driver's errors.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database {
            doing,
            source: DatabaseError(source.into()),
        }
    }

    /// For values that do not read as what they must be.
    pub(crate) fn damaged(what: &'static str, value: &impl ToString) -> Self {
        Self::Damaged {
            what,
            value: value.to_string(),
        }
    }
}

impl Diagnose for LedgerError {
    fn exit(&self) -> Exit {
        match self {
            Self::Url { .. }
            | Self::Missing { .. }
            | Self::Foreign { .. }
            | Self::OtherVersion { .. } => Exit::Usage,
            Self::File { .. } | Self::Database { .. } => Exit::Transient,
            Self::Damaged { .. } => Exit::Corrupt,
            Self::Conflict { .. } => Exit::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Url { .. } => {
                "use database = \"sqlite:gtide.db\" or \"sqlite:/path/to/gtide.db\""
            }
            Self::Missing { .. } => {
                "run `gtide run` first, or name the right --config; its relative paths are relative to itself"
            }
            Self::Foreign { .. } => "name another file in [queue] database",
            Self::OtherVersion { .. } => "use the version of gtide that wrote it, or a newer one",
            Self::File { .. } => {
                "check that the folder exists and belongs to the user that runs gtide"
            }
            Self::Database { .. } => {
                "check free space and that no other program locks the database"
            }
            Self::Damaged { .. } => {
                "stop gtide, move the database away and start again: it is rebuilt from the bucket"
            }
            Self::Conflict { .. } => {
                "two archivers, or two servers of the same identity, write to this destination: compare server_uuid and [[source]] with the other archiver's"
            }
        };
        Some(hint.to_owned())
    }
}
