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
//! SQLite in WAL mode with `synchronous=FULL`, on every connection: what [`Tx::commit`] returned `Ok` for
//! survives power loss. A dropped [`Tx`] is rolled back.
//!
//! # Concurrency
//! Writers of one process queue up fairly in memory (one [`Tx`] at a time), those of several processes wait
//! for the file's lock up to [`BUSY_TIMEOUT`]. Readers never wait. Asking for a second [`Tx`] while holding
//! one in the same task would wait for ever.
//!
//! # Limits
//! [`MAX_CONNECTIONS`]; lists are bounded by constants beside their queries.

mod agent;
mod commit;
mod error;
mod file;
mod job;
mod open;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod trouble;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use agent::{Agent, AgentReport, Paused, REPORT_EVERY, SILENT_AFTER};
pub use commit::{ChainHead, Committed, ImportedCommit, MAX_GAPS_LISTED};
pub use error::{DatabaseError, LedgerError};
pub use file::{
    Discovery, FileKey, FileRow, Fingerprint, KnownFile, NewFile, SealedPayload, WaitingFile,
};
pub use job::{
    ArchiveJob, JOB_VERSION, JobFilter, JobRow, JobStatus, LaneName, LastFailure, MAX_JOBS_LISTED,
    Route,
};
pub use open::database_path;
pub use source::{Destination, DestinationId, Source, SourceId};
pub use status::{DestinationStatus, FailingFile, MAX_FAILURES_READ, SourceStatus};
pub use trouble::{Trouble, read_trouble_key, trouble_key};
pub use upload::Upload;

/// How long a writer waits for another process's transaction.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections of one process: one writes, the others read.
pub const MAX_CONNECTIONS: u32 = 8;

/// An open ledger. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: SqlitePool,
    writers: Arc<Semaphore>,
    path: PathBuf,
}

/// A write transaction. Dropped without [`Tx::commit`], it never happened.
#[derive(Debug)]
pub struct Tx {
    inner: sqlx::Transaction<'static, sqlx::Sqlite>,
    _turn: OwnedSemaphorePermit,
}

impl Ledger {
    /// Where the database file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a write transaction, when it is this writer's turn.
    ///
    /// # Errors
    /// [`LedgerError::Database`] when another process holds the lock for longer than [`BUSY_TIMEOUT`].
    pub async fn begin(&self) -> Result<Tx, LedgerError> {
        // The semaphore is never closed; were it, the pool would be as well.
        let closed = |_| LedgerError::database("begin a transaction")(sqlx::Error::PoolClosed);
        let turn = Arc::clone(&self.writers).acquire_owned().await;
        let turn = turn.map_err(closed)?;
        // IMMEDIATE: a transaction that reads first and then writes cannot fail half-way as busy.
        let inner = self.pool.begin_with("BEGIN IMMEDIATE").await;
        Ok(Tx {
            inner: inner.map_err(LedgerError::database("begin a transaction"))?,
            _turn: turn,
        })
    }

    /// Waits for running statements and closes the database.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }
}

impl Tx {
    /// Makes it durable.
    ///
    /// # Errors
    /// [`LedgerError::Database`]; it is then unknown whether it happened.
    pub async fn commit(self) -> Result<(), LedgerError> {
        let result = self.inner.commit().await;
        result.map_err(LedgerError::database("commit a transaction"))
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.inner
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

/// Microseconds since 1970 as a time.
fn time(micros: i64, what: &'static str) -> Result<jiff::Timestamp, LedgerError> {
    jiff::Timestamp::from_microsecond(micros).map_err(|_| LedgerError::damaged(what, &micros))
}
