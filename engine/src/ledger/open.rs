//! Opening the ledger: for the archiver (created, migrated) and for readers (neither).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Semaphore;

use super::database::{Database, Pool};
use super::location::{self, Location};
use super::{
    ACQUIRE_TIMEOUT, LOCK_TIMEOUT, Ledger, LedgerError, MAX_CONNECTIONS, MAX_SESSIONS, MAX_WRITERS,
};
use crate::durable_fs;

/// The WAL file shrinks back to this after a checkpoint, in bytes.
const WAL_SIZE_LIMIT: &str = "67108864";

/// Connections of a reader.
const READER_CONNECTIONS: u32 = 2;

impl Ledger {
    /// Opens the ledger for writing: creates a SQLite file (mode 0600), or the schemas in a PostgreSQL database,
    /// and migrates it as needed.
    ///
    /// `url` is `sqlite:PATH` or `postgres://…`. Who archives a source claims it first (`queue::Claims`).
    ///
    /// # Errors
    /// [`LedgerError::Url`], [`LedgerError::OtherVersion`] for a newer schema, or what the file system or
    /// the database says.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        Self::open_with(url, LOCK_TIMEOUT).await
    }

    /// [`Ledger::open`] with another time to wait for others' locks than [`LOCK_TIMEOUT`].
    ///
    /// # Errors
    /// As there.
    pub async fn open_with(url: &str, lock_timeout: Duration) -> Result<Self, LedgerError> {
        let mut unsynced = None;
        let (location, pool, writers) = match location::parse(url)? {
            Database::Sqlite(path) => {
                create_private(&path)?;
                let options = options(&path, lock_timeout)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .pragma("journal_size_limit", WAL_SIZE_LIMIT);
                let relaxed = options.clone().synchronous(SqliteSynchronous::Normal);
                let pool = connect_file(options, lock_timeout, MAX_CONNECTIONS).await?;
                unsynced = Some(pool_of(lock_timeout, 1).connect_lazy_with(relaxed));
                (Database::Sqlite(path), pool, 1)
            }
            Database::Postgres(options) => {
                let options = location::settings(*options, lock_timeout);
                let pool = connect_server(options.clone(), MAX_SESSIONS).await?;
                (Database::Postgres(Box::new(options)), pool, MAX_WRITERS)
            }
        };
        let ledger = Self {
            unsynced,
            ..Self::new(location, pool, writers, lock_timeout)
        };
        ledger.migrate_ledger().await?;
        Ok(ledger)
    }

    /// Opens an existing ledger for reading, beside running archivers or without one. Creates and changes
    /// nothing.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::Foreign`] or [`LedgerError::OtherVersion`] when there is no
    /// ledger that this program can read.
    pub async fn open_read_only(url: &str) -> Result<Self, LedgerError> {
        let (location, pool) = match location::parse(url)? {
            Database::Sqlite(path) => {
                must_exist(&path)?;
                let options = options(&path, LOCK_TIMEOUT).read_only(true);
                let pool = connect_file(options, LOCK_TIMEOUT, READER_CONNECTIONS).await?;
                (Database::Sqlite(path), pool)
            }
            Database::Postgres(options) => {
                let options = location::settings(*options, LOCK_TIMEOUT)
                    .options([("default_transaction_read_only", "on")]);
                let pool = connect_server(options.clone(), READER_CONNECTIONS).await?;
                (Database::Postgres(Box::new(options)), pool)
            }
        };
        let ledger = Self::new(location, pool, 1, LOCK_TIMEOUT);
        ledger.check_schema().await?;
        Ok(ledger)
    }

    /// Opens an existing ledger to change what a person may change (pauses, retries), beside running archivers.
    /// Creates and migrates nothing.
    ///
    /// # Errors
    /// As [`Ledger::open_read_only`].
    pub async fn open_existing(url: &str) -> Result<Self, LedgerError> {
        let (location, pool) = match location::parse(url)? {
            Database::Sqlite(path) => {
                must_exist(&path)?;
                let options = options(&path, LOCK_TIMEOUT)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true);
                let pool = connect_file(options, LOCK_TIMEOUT, READER_CONNECTIONS).await?;
                (Database::Sqlite(path), pool)
            }
            Database::Postgres(options) => {
                let options = location::settings(*options, LOCK_TIMEOUT);
                let pool = connect_server(options.clone(), READER_CONNECTIONS).await?;
                (Database::Postgres(Box::new(options)), pool)
            }
        };
        let ledger = Self::new(location, pool, 1, LOCK_TIMEOUT);
        ledger.check_schema().await?;
        Ok(ledger)
    }

    fn new(location: Location, pool: Pool, writers: usize, lock_timeout: Duration) -> Self {
        Self {
            pool,
            unsynced: None,
            writers: Arc::new(Semaphore::new(writers)),
            name: location.name().into(),
            location,
            lock_timeout,
        }
    }
}

fn options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(busy_timeout)
}

async fn connect_file(
    options: SqliteConnectOptions,
    timeout: Duration,
    connections: u32,
) -> Result<Pool, LedgerError> {
    let pool = pool_of(timeout, connections).connect_with(options).await;
    let pool = pool.map_err(LedgerError::database("open the ledger"))?;
    Ok(Database::Sqlite(pool))
}

fn pool_of(timeout: Duration, connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        // A file does not hang up, and asking costs as much as most statements.
        .test_before_acquire(false)
        .max_connections(connections)
        .acquire_timeout(timeout)
}

/// The first connection is made here and at once, for the server's own words: the pool would go on trying, and then say
/// nothing but that it took too long.
async fn connect_server(options: PgConnectOptions, sessions: u32) -> Result<Pool, LedgerError> {
    let first = async { options.connect().await?.close().await };
    let outcome = tokio::time::timeout(ACQUIRE_TIMEOUT, first).await;
    let outcome = outcome.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    outcome.map_err(LedgerError::database("connect to the ledger's server"))?;
    let pool = PgPoolOptions::new()
        .max_connections(sessions)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options);
    Ok(Database::Postgres(pool))
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

fn must_exist(path: &Path) -> Result<(), LedgerError> {
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(LedgerError::Missing {
            database: path.display().to_string(),
        }),
        Err(source) => Err(LedgerError::File {
            doing: "look for",
            path: path.to_owned(),
            source,
        }),
    }
}
