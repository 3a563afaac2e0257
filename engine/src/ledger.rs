//! The ledger: what the archiver knows of its sources, files, uploads and commits, in SQL.
//!
//! # Owns
//! The tables of `migrations/`, and the read model of the queue's own table for status and console
//! (`gtide status`, `gtide-tui`). It knows nothing of the queue's crates.
//!
//! # Invariants
//! - The bucket is the truth: everything here can be deleted and is rebuilt from the bucket and the data
//!   directory ([`Ledger::import_commits`]).
//! - The watermark never passes a gap. It is kept in the transaction that records a commit.
//! - A commit, once recorded, is never replaced by another content ([`LedgerError::Conflict`]).
//!
//! # Crash consistency
//! What [`Tx::commit`] returned `Ok` for survives power loss: SQLite is in WAL mode with `synchronous=FULL`, PostgreSQL
//! commits synchronously, on every connection. A dropped [`Tx`] is rolled back. [`Ledger::begin_unsynced`] is the exception.
//!
//! # Concurrency
//! On SQLite the writers of one process queue up fairly in memory (one [`Tx`] at a time), those of several processes
//! wait for the file's lock. On PostgreSQL up to [`MAX_WRITERS`] of a process write at once; what concerns one source
//! takes turns, since such a [`Tx`] locks the source's row before anything else. Readers never wait. Asking for a
//! second [`Tx`] while holding one in the same task may wait for ever.
//!
//! # Limits
//! [`MAX_CONNECTIONS`] or [`MAX_SESSIONS`]; [`LOCK_TIMEOUT`], [`ACQUIRE_TIMEOUT`] and [`STATEMENT_TIMEOUT`]; lists are
//! bounded by constants beside their queries.

mod agent;
mod commit;
pub(crate) mod database;
mod error;
mod file;
mod job;
mod location;
mod migrate;
mod open;
mod parity;
mod pause;
mod picture;
mod server;
mod source;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod trial;
mod trouble;
mod upload;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use agent::{
    Agent, AgentReport, MAX_UPLOADS_REPORTED, Paused, REPORT_EVERY, SILENT_AFTER, UploadReport,
    agent_key,
};
pub use commit::{ChainHead, Commit, Committed, ImportedCommit, MAX_GAPS_LISTED};
pub use database::STATEMENT_TIMEOUT;
pub(crate) use database::on;
use database::{Database, Lease, Pool};
pub use error::{DatabaseError, LedgerError};
pub use file::{
    Discovery, FileKey, FileRow, Fingerprint, KnownFile, NewFile, SealedPayload, WaitingFile,
};
pub use job::{
    ArchiveJob, JOB_VERSION, JobFilter, JobRow, JobStatus, LaneName, LastFailure, MAX_JOBS_LISTED,
    Route,
};
use location::Location;
pub use location::database_path;
#[cfg(feature = "daemon")]
pub(crate) use migrate::History;
pub use parity::{ArchivedFile, Content, ListedFile, ParityRun, Scan};
pub use pause::{Pause, QueueScope};
pub use picture::{
    AgentPicture, Backlog, HEADS_PER_LANE, JobPicture, LanePicture, MAX_FILES_COUNTED,
    MAX_LANES_SHOWN, PICTURE_VERSION, Picture, Position, Recent, RoutePicture, SourcePicture,
    TroublePicture,
};
pub use server::{
    ChannelReport, Errant, ExpiryReport, PurgeReport, ServerReport, ServerState, ServerWarning,
    Silence,
};
pub use source::{Destination, DestinationId, Source, SourceId};
pub use status::{DestinationStatus, FailingFile, MAX_FAILURES_READ, SourceStatus};
pub use trial::Found;
pub use trouble::{Trouble, TroubleScope};
pub use upload::Upload;

/// How long a writer waits for another's transaction.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections of one process to a SQLite file: one writes, the others read.
pub const MAX_CONNECTIONS: u32 = 8;

/// Sessions of one process at a PostgreSQL server, which by default takes 100 from all of them. The claims have one
/// more.
pub const MAX_SESSIONS: u32 = 5;

/// Of [`MAX_SESSIONS`], those that may write at once: the others are for readers, so that no writer can wait for a
/// reader that waits for a writer.
pub const MAX_WRITERS: usize = 3;

/// How long a PostgreSQL server may take to give a session: an outage that is shorter is not noticed.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// An open ledger. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Ledger {
    pool: Pool,
    /// Of a SQLite file that is written: one connection that waits for no disk.
    unsynced: Option<SqlitePool>,
    writers: Arc<Semaphore>,
    location: Location,
    name: Arc<str>,
    lock_timeout: Duration,
}

/// A write transaction. Dropped without [`Tx::commit`], it never happened.
#[derive(Debug)]
pub struct Tx {
    inner: Database<sqlx::Transaction<'static, sqlx::Sqlite>, Lease>,
    _turn: OwnedSemaphorePermit,
}

impl Ledger {
    /// What messages call the database: the file's path, or the server's URL without password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins a write transaction, when it is this writer's turn.
    ///
    /// # Errors
    /// [`LedgerError::Database`] when another process holds the file's lock for longer than [`LOCK_TIMEOUT`], or the
    /// server gives no session within [`ACQUIRE_TIMEOUT`].
    pub async fn begin(&self) -> Result<Tx, LedgerError> {
        self.begin_on(&self.pool).await
    }

    /// Begins a write transaction of what may be forgotten when the power fails, and is made again: who works on a job,
    /// what a file looked like. It survives the process, and whatever is committed later is not kept without it: SQLite
    /// writes its log in order (`synchronous = NORMAL`), and the next [`Ledger::begin`]'s commit syncs all of it. PostgreSQL
    /// syncs it at once.
    ///
    /// # Errors
    /// As [`Ledger::begin`].
    pub async fn begin_unsynced(&self) -> Result<Tx, LedgerError> {
        match &self.unsynced {
            Some(pool) => self.begin_on(&Database::Sqlite(pool.clone())).await,
            None => self.begin().await,
        }
    }

    async fn begin_on(&self, pool: &Pool) -> Result<Tx, LedgerError> {
        // The semaphore is never closed; were it, the pool would be as well.
        let closed = |_| LedgerError::database("begin a transaction")(sqlx::Error::PoolClosed);
        let turn = Arc::clone(&self.writers).acquire_owned().await;
        let turn = turn.map_err(closed)?;
        let inner = pool.begin().await;
        Ok(Tx {
            inner: inner.map_err(LedgerError::database("begin a transaction"))?,
            _turn: turn,
        })
    }

    /// Waits for running statements and closes the database.
    pub async fn close(&self) {
        if let Some(pool) = &self.unsynced {
            pool.close().await;
        }
        match &self.pool {
            Database::Sqlite(pool) => pool.close().await,
            Database::Postgres(pool) => pool.close().await,
        }
    }

    /// One of two values: the SQL text for this database where the two differ.
    pub(crate) fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        self.pool.pick(sqlite, postgres)
    }

    /// For [`on!`].
    pub(crate) async fn session(&self) -> Result<Database<&SqlitePool, Lease>, sqlx::Error> {
        Ok(match &self.pool {
            Database::Sqlite(pool) => Database::Sqlite(pool),
            Database::Postgres(pool) => Database::Postgres(Lease::acquire(pool).await?),
        })
    }
}

impl Pool {
    async fn begin(
        &self,
    ) -> Result<Database<sqlx::Transaction<'static, sqlx::Sqlite>, Lease>, sqlx::Error> {
        Ok(match self {
            // IMMEDIATE: a transaction that reads first and then writes cannot fail half-way as busy.
            Self::Sqlite(pool) => Database::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => {
                let mut lease = Lease::acquire(pool).await?;
                lease.begin().await?;
                Database::Postgres(lease)
            }
        })
    }
}

impl Tx {
    /// Makes it durable.
    ///
    /// # Errors
    /// [`LedgerError::Database`]; it is then unknown whether it happened.
    pub async fn commit(self) -> Result<(), LedgerError> {
        let result = match self.inner {
            Database::Sqlite(transaction) => transaction.commit().await,
            Database::Postgres(mut lease) => lease.commit().await,
        };
        result.map_err(LedgerError::database("commit a transaction"))
    }

    /// Waits for other transactions that concern this source, and keeps new ones out. Whoever locks several sources
    /// MUST do so in ascending order. A SQLite file has one writer anyway.
    pub(crate) async fn lock_source(&mut self, source: SourceId) -> Result<(), LedgerError> {
        let Database::Postgres(_) = self.inner else {
            return Ok(());
        };
        let locked = on!(self, |db| {
            // Weaker than FOR UPDATE by one thing: rows that name the source may be inserted meanwhile.
            sqlx::query("SELECT 1 FROM sources WHERE id = $1 FOR NO KEY UPDATE")
                .bind(source.stored())
                .execute(db)
                .await
                .map(|_| ())
        });
        locked.map_err(LedgerError::database("wait for a source's other writers"))
    }

    /// One of two values: the SQL text for this database where the two differ.
    pub(crate) fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        self.inner.pick(sqlite, postgres)
    }

    /// For [`on!`].
    #[expect(clippy::unused_async, reason = "a ledger's is not")]
    pub(crate) async fn session(
        &mut self,
    ) -> Result<Database<&mut SqliteConnection, &mut Lease>, sqlx::Error> {
        Ok(match &mut self.inner {
            Database::Sqlite(transaction) => Database::Sqlite(transaction),
            Database::Postgres(lease) => Database::Postgres(lease),
        })
    }
}

impl fmt::Debug for Ledger {
    /// Without what it takes to connect, which may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ledger").field(&self.name).finish()
    }
}

/// A count, size or sequence as SQL stores it. No file system or server has one above 2^63.
fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The reverse of [`stored`].
fn unsigned(value: i64, what: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(value).map_err(|_| LedgerError::damaged(what, &value))
}

/// Text as both databases store it: PostgreSQL knows no NUL, which an error may quote from a damaged file.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Microseconds since 1970 as a time.
fn time(micros: i64, what: &'static str) -> Result<jiff::Timestamp, LedgerError> {
    jiff::Timestamp::from_microsecond(micros).map_err(|_| LedgerError::damaged(what, &micros))
}
