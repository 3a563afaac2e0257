//! SQLite and PostgreSQL: two native drivers, one code path.
//!
//! # Owns
//! [`Database`], which holds whatever there is of each of the two, and [`on!`], which expands the body of a query
//! once for each, so that sqlx infers the driver. The SQL text is the same wherever both accept it; where they
//! differ, the two texts stand side by side ([`Database::pick`]).
//!
//! # Invariants
//! - Nothing waits for ever. A SQLite statement waits for the file's lock as long as it is told to; a PostgreSQL
//!   statement ends after [`STATEMENT_TIMEOUT`] on the server, and a little later here, should the server be gone
//!   without a word.
//! - A PostgreSQL connection goes back to its pool only after success ([`Lease`]). What was dropped in the middle,
//!   failed, or stands in a transaction that was not committed is closed: the server rolls it back.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::sqlite::SqlitePool;
use sqlx::{Executor, Postgres};
use tokio::time::error::Elapsed;

/// When PostgreSQL ends a statement by itself.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// When a statement counts as lost: the server has not said a word of its own timeout.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// Something that there is one of for each database.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Database<S, P> {
    Sqlite(S),
    Postgres(P),
}

/// The connections of an open ledger.
pub(crate) type Pool = Database<SqlitePool, PgPool>;

/// A PostgreSQL connection for one statement or one transaction.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: PoolConnection<Postgres>,
    /// A statement is under way, or failed.
    broken: bool,
    /// A transaction was begun and not committed.
    open: bool,
}

/// Runs one statement on whichever database the target (a [`Ledger`](super::Ledger) or a [`Tx`](super::Tx)) is.
///
/// `on!(tx, |db| sqlx::query("…").bind(x).fetch_one(db).await)` is a `Result<_, sqlx::Error>`. The body is compiled
/// once for each database, with `db` as its connection; it MUST NOT use `?`.
macro_rules! on {
    ($target:expr, |$db:ident| $body:expr) => {
        match $target.session().await {
            Ok($crate::ledger::database::Database::Sqlite($db)) => $body,
            Ok($crate::ledger::database::Database::Postgres(lease)) => {
                #[allow(
                    unused_mut,
                    reason = "a transaction lends its lease, a ledger gives one"
                )]
                let mut lease = lease;
                let $db = lease.start();
                let limit = $crate::ledger::database::ANSWER_TIMEOUT;
                let outcome = tokio::time::timeout(limit, async { $body }).await;
                lease.end(outcome)
            }
            Err(error) => Err(error),
        }
    };
}
pub(crate) use on;

impl<S, P> Database<S, P> {
    /// The one of two values that is for this database.
    pub(crate) fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

impl Lease {
    pub(crate) async fn acquire(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self {
            connection: pool.acquire().await?,
            broken: false,
            open: false,
        })
    }

    /// For one statement, whose outcome [`Lease::end`] is told.
    pub(crate) fn start(&mut self) -> &mut PgConnection {
        self.broken = true;
        &mut self.connection
    }

    pub(crate) fn end<T>(
        &mut self,
        outcome: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, sqlx::Error> {
        let outcome = outcome.unwrap_or_else(|_| {
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer");
            Err(sqlx::Error::Io(error))
        });
        self.broken = outcome.is_err();
        outcome
    }

    /// Each statement sees what was committed before it began: after waiting for a lock, the present.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.open = true;
        self.command("BEGIN ISOLATION LEVEL READ COMMITTED").await
    }

    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        if self.broken {
            // PostgreSQL would answer such a COMMIT with a rollback, and call that a success.
            let reason = "commit of a transaction in which a statement failed";
            return Err(sqlx::Error::Protocol(reason.to_owned()));
        }
        self.command("COMMIT").await?;
        self.open = false;
        Ok(())
    }

    async fn command(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let outcome = tokio::time::timeout(ANSWER_TIMEOUT, self.start().execute(sql)).await;
        self.end(outcome).map(|_| ())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.broken || self.open {
            self.connection.close_on_drop();
        }
    }
}
