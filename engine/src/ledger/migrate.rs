//! Making and checking the tables: ours, and those of the queue.
//!
//! # Invariants
//! - Each history of migrations has a table of its own (migrations/README.md).
//! - One process migrates a database at a time: it holds a lock on `<file>.lock`, or PostgreSQL's advisory lock of
//!   sqlx's migrator. Who finds everything done needs neither.
//! - A reader migrates nothing: it finds exactly the schema that it was written for, or refuses.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::database::{Database, on};
use super::{Ledger, LedgerError};

/// When migrating a PostgreSQL database counts as lost. Waiting for another migrator ends sooner.
const MIGRATION_TIMEOUT: Duration = Duration::from_mins(10);

/// Between two looks at whether another process is done with migrating.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Migrations, and the table that says which of them were run.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) migrations: Migrator,
    pub(crate) table: &'static str,
}

impl History {
    /// Of the ledger itself.
    fn of_ledger(ledger: &Ledger) -> Self {
        let mut sqlite = sqlx::migrate!("../migrations/sqlite");
        sqlite.dangerous_set_table_name("_gtide_migrations");
        let mut postgres = sqlx::migrate!("../migrations/postgres");
        postgres.dangerous_set_table_name("gtide._gtide_migrations");
        postgres.create_schema("gtide");
        ledger.pool.pick(
            Self {
                migrations: sqlite,
                table: "_gtide_migrations",
            },
            Self {
                migrations: postgres,
                table: "gtide._gtide_migrations",
            },
        )
    }

    /// How many are still to be run, where those that were are the first of these.
    fn lacks(&self, applied: &[Applied]) -> Option<usize> {
        let known: Vec<_> = self.migrations.iter().collect();
        let begins = applied.len() < known.len()
            && (known.iter().zip(applied)).all(|(known, (version, sum))| {
                known.version == *version && *known.checksum == **sum
            });
        begins.then(|| known.len() - applied.len())
    }

    fn is_fulfilled_by(&self, applied: &[Applied]) -> bool {
        let known = self.migrations.iter();
        known.map(|m| (m.version, &*m.checksum)).eq(applied
            .iter()
            .map(|(version, sum)| (*version, sum.as_slice())))
    }
}

/// Version and checksum.
type Applied = (i64, Vec<u8>);

impl Ledger {
    pub(super) async fn migrate_ledger(&self) -> Result<(), LedgerError> {
        self.migrate(&History::of_ledger(self)).await
    }

    /// Runs what was not run yet.
    pub(crate) async fn migrate(&self, history: &History) -> Result<(), LedgerError> {
        let applied = self.applied(history.table).await?;
        if applied.is_some_and(|applied| history.is_fulfilled_by(&applied)) {
            return Ok(());
        }
        let outcome = match (&self.location, &self.pool) {
            (Database::Sqlite(path), Database::Sqlite(pool)) => {
                let _lock = lock(path, self.lock_timeout).await?;
                history.migrations.run(pool).await
            }
            (Database::Postgres(options), _) => migrate_server(options, &history.migrations).await,
            // A ledger's pool is one of what its location names.
            _ => Ok(()),
        };
        outcome.map_err(|error| match error {
            MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
                self.other_version(version)
            }
            other => LedgerError::database("create or migrate the tables")(other.into()),
        })
    }

    /// A reader must find exactly the schema that it was written for.
    pub(super) async fn check_schema(&self) -> Result<(), LedgerError> {
        let history = History::of_ledger(self);
        let Some(applied) = self.applied(history.table).await? else {
            let database = self.name().to_owned();
            return Err(match self.pool {
                Database::Sqlite(_) => LedgerError::Foreign { database },
                Database::Postgres(_) => LedgerError::Missing { database },
            });
        };
        if history.is_fulfilled_by(&applied) {
            return Ok(());
        }
        if let Some(missing) = history.lacks(&applied) {
            let database = self.name().to_owned();
            return Err(LedgerError::Older { database, missing });
        }
        let newest = applied.last().map_or(0, |(version, _)| *version);
        Err(self.other_version(newest))
    }

    fn other_version(&self, version: i64) -> LedgerError {
        LedgerError::OtherVersion {
            database: self.name().to_owned(),
            version,
        }
    }

    /// What was run, ascending; none when there is no history.
    async fn applied(&self, table: &'static str) -> Result<Option<Vec<Applied>>, LedgerError> {
        if !self.has_table(table).await? {
            return Ok(None);
        }
        let sql = format!("SELECT version, checksum FROM {table} WHERE success ORDER BY version");
        let applied = on!(self, |db| {
            sqlx::query_as(AssertSqlSafe(sql.clone()))
                .fetch_all(db)
                .await
        });
        let applied = applied.map_err(LedgerError::database("read the ledger's version"))?;
        Ok(Some(applied))
    }

    /// Whether there is a table of this name.
    pub(super) async fn has_table(&self, name: &str) -> Result<bool, LedgerError> {
        let sql = self.pool.pick(
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1)",
            "SELECT to_regclass($1) IS NOT NULL",
        );
        let found = on!(self, |db| sqlx::query_scalar(sql)
            .bind(name)
            .fetch_one(db)
            .await);
        found.map_err(LedgerError::database("look for a table"))
    }
}

/// In a session of its own, which is closed whatever happens: sqlx leaves its advisory lock held after an error.
async fn migrate_server(
    options: &PgConnectOptions,
    migrations: &Migrator,
) -> Result<(), MigrateError> {
    let limit = MIGRATION_TIMEOUT.as_millis().to_string();
    let options = options.clone().options([("statement_timeout", limit)]);
    let migrate = async {
        let session = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        sqlx::query(SEARCH_PATH).execute(&session).await?;
        let outcome = migrations.run(&session).await;
        session.close().await;
        outcome
    };
    let lost = |_| MigrateError::Execute(sqlx::Error::PoolTimedOut);
    let outcome = tokio::time::timeout(MIGRATION_TIMEOUT, migrate).await;
    outcome.map_err(lost)?
}

/// apalis's migrations name a function and a type without their schema: the function goes to apalis's own (a role
/// need not be able to write to `public`), the type is where somebody made its extension, if anybody did.
const SEARCH_PATH: &str = "SELECT set_config('search_path', concat_ws(', ', 'apalis', (
       SELECT string_agg(DISTINCT quote_ident(nspname), ', ')
       FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
       WHERE extname IN ('hstore', 'pgcrypto'))), false)";

/// Waits until no other process migrates the database.
async fn lock(database: &Path, timeout: Duration) -> Result<File, LedgerError> {
    // The same for all names of one database: symbolic links are followed.
    let database = database.canonicalize().unwrap_or(database.to_owned());
    let mut path = database.into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |source| LedgerError::File {
        doing: "lock",
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let deadline = Instant::now() + timeout;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let reason = "another process has been migrating it all the while";
                return Err(failed(io::Error::new(io::ErrorKind::TimedOut, reason)));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
        }
    }
}
