//! One owner per source: a lock that the system releases when its owner dies.
//!
//! # Owns
//! The right to archive a source with one database: a lock file beside a SQLite database (`owner/file.rs`), an
//! advisory lock of a session of its own on PostgreSQL (`owner/session.rs`). Two archivers with two databases are
//! out of its reach: there the store's conditional create decides (TRAPS 32).
//!
//! # Invariants
//! - At most one [`Ownership`] of a source is [certain](Ownership::certain) for a database.
//! - An ownership that another may have by now is [lost](Ownership::lost) for good: it never comes back.

mod backend;
mod file;
mod session;

use tokio_util::sync::CancellationToken;

use crate::exit::{self, Diagnose, Exit};
use crate::layout::SourceIdentity;
use crate::ledger::LedgerError;

/// Claims sources on behalf of one archiver.
#[derive(Debug, Clone)]
pub struct Claims(Keeper);

#[derive(Debug, Clone)]
enum Keeper {
    Files(file::Files),
    Session(session::Session),
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// The source is ours.
    Owned(Ownership),
    /// Another archiver has it.
    Held {
        /// Who, for a message.
        by: String,
    },
}

/// The right to archive one source, for as long as it lives.
#[derive(Debug)]
pub struct Ownership {
    lock: Lock,
    lost: CancellationToken,
}

#[derive(Debug)]
enum Lock {
    File(#[expect(dead_code, reason = "closing it gives the right up")] std::fs::File),
    Session(session::Hold),
}

/// Why a source cannot be claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnershipError {
    /// The configured database.
    #[error(transparent)]
    Url(#[from] LedgerError),
    /// The lock file.
    #[error("lock {}", path.display())]
    Lock {
        /// The lock file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database server.
    #[error("{doing} {database}")]
    Server {
        /// What was tried.
        doing: &'static str,
        /// The database, without a password.
        database: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// Locks there would be locks of whoever gets that session next.
    #[error("{database} is a pooler that gives a client another session at any time")]
    Pooled {
        /// The database, without a password.
        database: String,
    },
    /// Locks there are not those of the primary.
    #[error("{database} is a standby server")]
    Standby {
        /// The database, without a password.
        database: String,
    },
    /// The server still keeps a session of ours that was cut off.
    #[error("{database} still has our session that was cut off")]
    Ghost {
        /// The database, without a password.
        database: String,
    },
    /// The session that keeps the locks is cut off and not back yet.
    #[error("the session that keeps the locks is cut off: {why}")]
    Away {
        /// What the last attempt to get it back came to.
        why: String,
    },
}

impl Claims {
    /// Prepares claims with the database of `url`: on PostgreSQL, opens the session that will keep the locks.
    ///
    /// # Errors
    /// When the URL names no database, or none that can keep locks, or its server cannot be reached.
    pub async fn open(url: &str) -> Result<Self, OwnershipError> {
        let is_server = url.starts_with("postgres:") || url.starts_with("postgresql:");
        Ok(Self(if is_server {
            Keeper::Session(session::Session::open(url).await?)
        } else {
            Keeper::Files(file::Files::beside(url)?)
        }))
    }

    /// Claims a source, if it is free. Does not wait for another owner.
    ///
    /// # Errors
    /// [`OwnershipError::Lock`], or what the database server says; it may be asked again.
    pub async fn try_claim(&self, source: &SourceIdentity) -> Result<Claim, OwnershipError> {
        match &self.0 {
            Keeper::Files(files) => files.try_claim(source),
            Keeper::Session(session) => session.try_claim(source).await,
        }
    }
}

impl Ownership {
    /// Fires when another may own the source by now: the work on it must end. For good: to have the source again, claim
    /// it again.
    ///
    /// A file lock is never lost. On PostgreSQL a right is lost when the session that keeps it was cut off, and is
    /// back while another has the lock, or stays away for 10 s although the server is not down.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Ends when it is known that the source is still ours, at or after this call; waits while the session is cut
    /// off, and for ever once the ownership is lost. Nothing is committed before.
    ///
    /// A file lock is always certain. On PostgreSQL it costs one round trip, shared by all who ask at a time.
    pub async fn certain(&self) {
        match &self.lock {
            Lock::File(_) => {}
            Lock::Session(hold) => hold.certain().await,
        }
    }
}

impl OwnershipError {
    /// Whether the server has answered, so that its session lives on, but for a fatal answer.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Server { source, .. } if source.as_database_error().is_some())
    }

    /// For those who ask while it lasts.
    fn again(&self) -> Self {
        match self {
            Self::Pooled { database } => Self::Pooled {
                database: database.clone(),
            },
            other => Self::Away {
                why: exit::chain(other),
            },
        }
    }
}

impl Diagnose for OwnershipError {
    fn exit(&self) -> Exit {
        match self {
            Self::Url(error) => error.exit(),
            Self::Lock { .. } | Self::Pooled { .. } => Exit::Usage,
            Self::Server { source, .. } if backend::is_refused_for_good(source) => Exit::Usage,
            Self::Server { .. } | Self::Standby { .. } | Self::Ghost { .. } | Self::Away { .. } => {
                Exit::Transient
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Url(error) => return error.hint(),
            Self::Lock { .. } => {
                "check that the database's folder exists and belongs to the user that runs gtide"
            }
            Self::Server { .. } | Self::Away { .. } => {
                "check that the server runs and lets gtide in: try the same URL with psql"
            }
            Self::Pooled { .. } => {
                "let [queue] database name the server itself, or a pool in session mode: one owner per source is kept by locks of a session"
            }
            Self::Standby { .. } => "let [queue] database name the primary",
            Self::Ghost { .. } => "the server ends it by itself soon; nothing needs to be done",
        };
        Some(hint.to_owned())
    }
}
