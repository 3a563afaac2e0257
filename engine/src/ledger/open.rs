//! Opening the ledger: for the archiver (created, migrated) and for readers (neither).

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use sqlx::SqlitePool;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::Semaphore;

use super::{BUSY_TIMEOUT, Ledger, LedgerError, MAX_CONNECTIONS};
use crate::durable_fs;

/// The history of our migrations; the queue's tables have one of their own (migrations/README.md).
const HISTORY: &str = "_gtide_migrations";

/// The WAL file shrinks back to this after a checkpoint, in bytes.
const WAL_SIZE_LIMIT: &str = "67108864";

impl Ledger {
    /// Opens the ledger for writing: creates the file (mode 0600) and migrates it as needed.
    ///
    /// `url` is `sqlite:PATH`. Only one program may archive with it: claim it first
    /// (`queue::Ownership`).
    ///
    /// # Errors
    /// [`LedgerError::Url`], [`LedgerError::OtherVersion`] for a newer schema, or what the file system or
    /// the database says.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        let path = database_path(url)?;
        create_private(&path)?;
        let options = options(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("journal_size_limit", WAL_SIZE_LIMIT);
        let ledger = connect(path, options, MAX_CONNECTIONS).await?;
        let outcome = migrator().run(ledger.pool()).await;
        outcome.map_err(|error| migration_error(error, &ledger.path))?;
        Ok(ledger)
    }

    /// Opens an existing ledger for reading, beside a running archiver or without one. Creates and changes
    /// nothing.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::Foreign`] or [`LedgerError::OtherVersion`] when there is no
    /// ledger that this program can read.
    pub async fn open_read_only(url: &str) -> Result<Self, LedgerError> {
        let path = database_path(url)?;
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(LedgerError::Missing { path }),
            Err(source) => {
                let doing = "look for";
                return Err(LedgerError::File {
                    doing,
                    path,
                    source,
                });
            }
        }
        let ledger = connect(path.clone(), options(&path).read_only(true), 2).await?;
        check_schema(&ledger).await?;
        Ok(ledger)
    }
}

/// The file that a `sqlite:` URL names.
///
/// # Errors
/// [`LedgerError::Url`] for another scheme, an in-memory database, or text that is no URL.
pub fn database_path(url: &str) -> Result<PathBuf, LedgerError> {
    let refuse = |reason: &str| LedgerError::Url {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return Err(refuse("PostgreSQL is not supported yet"));
    }
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return Err(refuse("not a sqlite: URL"));
    };
    if rest.contains(":memory:") || rest.contains('?') {
        return Err(refuse(
            "neither options nor in-memory databases are possible",
        ));
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|e| refuse(&e.to_string()))?;
    match options.get_filename() {
        path if path.file_name().is_some() => Ok(path.to_owned()),
        _ => Err(refuse("it names no file")),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
}

async fn connect(
    path: PathBuf,
    options: SqliteConnectOptions,
    connections: u32,
) -> Result<Ledger, LedgerError> {
    let pool: SqlitePool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(LedgerError::database("open the ledger"))?;
    Ok(Ledger {
        pool,
        writers: Arc::new(Semaphore::new(1)),
        path,
    })
}

/// SQLite would create the file readable for all; its -wal and -shm files take over this one's mode.
fn create_private(path: &Path) -> Result<(), LedgerError> {
    match durable_fs::create_new(path, b"", 0o600) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(LedgerError::File {
            doing: "create",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/sqlite");
    migrator.dangerous_set_table_name(HISTORY);
    migrator
}

fn migration_error(error: MigrateError, path: &Path) -> LedgerError {
    let path = path.to_owned();
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
            LedgerError::OtherVersion { path, version }
        }
        other => LedgerError::database("migrate the ledger")(other.into()),
    }
}

/// A reader runs no migration, so it must find exactly the schema that it was written for.
async fn check_schema(ledger: &Ledger) -> Result<(), LedgerError> {
    let path = || ledger.path.clone();
    let read = LedgerError::database("read the ledger's version");
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM sqlite_master WHERE name = '_gtide_migrations'")
            .fetch_optional(ledger.pool())
            .await
            .map_err(read)?;
    if found.is_none() {
        return Err(LedgerError::Foreign { path: path() });
    }
    let read = LedgerError::database("read the ledger's version");
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM _gtide_migrations WHERE success")
            .fetch_one(ledger.pool())
            .await
            .map_err(read)?;
    let known = migrator().iter().map(|m| m.version).max();
    if newest == known {
        Ok(())
    } else {
        let version = newest.unwrap_or_default();
        Err(LedgerError::OtherVersion {
            path: path(),
            version,
        })
    }
}
