//! Why the ledger could not be opened, read or written.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::layout::Sequence;
use crate::retry::RetryClass;

/// What the database said. Opaque, so that no caller depends on the driver.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(#[from] sqlx::Error);

/// Why the ledger could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The configured database is none that the ledger can live in.
    #[error("database {url:?}: {reason}")]
    Url {
        /// As configured, without a password.
        url: String,
        /// Why not.
        reason: String,
    },
    /// Opened for reading, but there is nothing.
    #[error("there is no ledger at {database}")]
    Missing {
        /// Where it was looked for.
        database: String,
    },
    /// A database, but not a ledger, or one that was never migrated.
    #[error("{database} is a database, but not a ledger of gtide")]
    Foreign {
        /// The database file.
        database: String,
    },
    /// The schema is one that this program does not know.
    #[error(
        "{database} was migrated by another version of gtide (migration {version} is unknown here)"
    )]
    OtherVersion {
        /// The database's name ([`Ledger::name`](super::Ledger::name)).
        database: String,
        /// The migration that is missing or differs.
        version: i64,
    },
    /// The schema is an older one.
    #[error("{database} is of an older version of gtide: {missing} migrations are to be run")]
    Older {
        /// The database's name.
        database: String,
        /// How many.
        missing: usize,
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
    /// The database: busy or gone for too long, disk full, I/O error, not allowed.
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

impl DatabaseError {
    /// What a PostgreSQL server answers with: five characters (its manual, appendix A).
    fn sqlstate(&self) -> Option<Cow<'_, str>> {
        let error = match &self.0 {
            sqlx::Error::Migrate(migrate) => match &**migrate {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
                _ => return None,
            },
            error => error,
        };
        let error = error.as_database_error()?;
        error.try_downcast_ref::<PgDatabaseError>()?;
        error.code()
    }

    /// Whether no retry can help, but only who runs the server.
    fn exit(&self) -> Exit {
        match self.sqlstate().as_deref() {
            Some("0A000" | "28000" | "28P01" | "3D000" | "42501" | "58P01" | "25006") => {
                Exit::Usage
            }
            _ => Exit::Transient,
        }
    }

    fn hint(&self) -> &'static str {
        let Some(state) = self.sqlstate() else {
            return match &self.0 {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut => {
                    "check that the database's server runs and can be reached from here"
                }
                _ => "check free space and that no other program locks the database",
            };
        };
        match &*state {
            "28000" | "28P01" => {
                "check user and password: in the URL, PGPASSWORD or ~/.pgpass (mode 0600), and the server's pg_hba.conf"
            }
            "3D000" => "create the database first: createdb, or CREATE DATABASE",
            "42501" => {
                "the role needs CREATE on its database: GRANT CREATE ON DATABASE ... TO ...; or let an administrator run CREATE EXTENSION hstore and CREATE EXTENSION pgcrypto there"
            }
            // The first before PostgreSQL 16.
            "58P01" | "0A000" => {
                "install the server's extensions hstore and pgcrypto (Debian: in postgresql, Red Hat: postgresql-contrib)"
            }
            "25006" => {
                "this server, or this role, only reads: name the primary in [queue] database"
            }
            "55P03" | "57014" => "another session holds a lock: see pg_stat_activity on the server",
            _ => "see the PostgreSQL server's log",
        }
    }
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
            source: DatabaseError(source),
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
            | Self::OtherVersion { .. }
            | Self::Older { .. } => Exit::Usage,
            Self::File { .. } => Exit::Transient,
            Self::Database { source, .. } => source.exit(),
            Self::Damaged { .. } => Exit::Corrupt,
            Self::Conflict { .. } => Exit::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Url { .. } => {
                "use database = \"sqlite:/path/to/gtide.db\" or \"postgres://user@host:5432/database\""
            }
            Self::Missing { .. } => {
                "run `gtide run` first, or name the right --config; its relative paths are relative to itself"
            }
            Self::Foreign { .. } => "name another one in [queue] database",
            Self::Older { .. } => {
                "`gtide run` of this version migrates it; end the archivers of the older one first"
            }
            Self::OtherVersion { .. } => "use the version of gtide that wrote it, or a newer one",
            Self::File { .. } => {
                "check that the folder exists and belongs to the user that runs gtide"
            }
            Self::Database { source, .. } => source.hint(),
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
