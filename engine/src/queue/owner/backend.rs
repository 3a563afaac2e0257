//! A session with a PostgreSQL server that keeps advisory locks: every statement that ownership needs.
//!
//! # Invariants
//! - Nothing waits longer than [`ANSWER_WITHIN`].
//! - After an error the session is thrown away: whether it still keeps its locks is unknown.
//! - The server ends the session 10 s after it last heard of this host, no earlier and
//!   not much later: a host that died does not keep its locks for hours.
//!
//! # Limits
//! PostgreSQL 12 or newer. A lock belongs to a database of the server: all archivers must name the same one.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow};
use tokio::time::{sleep, timeout};

use super::OwnershipError;
use crate::ledger::LedgerError;

/// How long the server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// After 10 s without a sign of life from a host the server ends its session: the first probe after 4 s of silence,
/// then one every 2 s; and the limit for an acknowledgement of data under way, when there are no probes.
const NOTICE: &str = "SET tcp_keepalives_idle = 4; SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3; SET tcp_user_timeout = '10s'";

/// How often it is looked whether the former session has ended, and the pause between.
const GHOST_LOOKS: u32 = 10;
const GHOST_PAUSE: Duration = Duration::from_millis(100);

/// The server shows 63 bytes of a session's name: the process id behind the host's must be among them.
const MAX_HOST_LEN: usize = 40;

/// The key of an advisory lock in `pg_locks`, from its two halves.
const KEY: &str = "((classid::bigint << 32) | objid::bigint)";

/// A database on a server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    /// Without a password.
    name: String,
}

/// A session that may still exist on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ghost {
    pid: i32,
    /// Process ids come again, with another start.
    started: String,
}

/// An open session.
#[derive(Debug)]
pub(super) struct Backend {
    server: Server,
    connection: PgConnection,
    identity: Ghost,
}

/// The answer to a lock.
#[derive(Debug)]
pub(super) enum TryLock {
    /// Ours, under this key.
    Locked(i64),
    /// Another session has it.
    Held { by: String },
}

impl Server {
    pub(super) fn from_url(url: &str) -> Result<Self, OwnershipError> {
        // A URL that cannot be read is not shown: it may have a password in it.
        let options = PgConnectOptions::from_str(url).map_err(|error| LedgerError::Url {
            url: "postgres://…".to_owned(),
            reason: error.to_string(),
        })?;
        let name = display_name(&options);
        let options = options
            .application_name(&application_name())
            .disable_statement_logging();
        Ok(Self { options, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Opens a session, and makes sure that it is one: behind a pooler a lock is worth nothing.
    pub(super) async fn connect_first(&self) -> Result<Backend, OwnershipError> {
        let mut backend = self.connect().await?;
        let failed = |source| self.failed("look for a pooler before", source);
        let mut probe = answer(self.options.connect()).await.map_err(failed)?;
        // While the transaction lasts, a pooler cannot give its session to us too.
        let text = "BEGIN; SELECT pg_backend_pid()";
        let (theirs,): (i32,) = one(&mut probe, text).await.map_err(failed)?;
        let text = "SELECT pg_backend_pid()";
        let (ours,): (i32,) = one(&mut backend.connection, text).await.map_err(failed)?;
        let first = backend.identity.pid;
        if theirs == first || ours != first {
            return Err(self.pooled());
        }
        let _ = answer(probe.close()).await;
        Ok(backend)
    }

    /// Opens a session in place of one that was cut off, which has ended by then.
    pub(super) async fn connect_again(&self, former: &Ghost) -> Result<Backend, OwnershipError> {
        let mut backend = self.connect().await?;
        backend.end(former).await?;
        Ok(backend)
    }

    async fn connect(&self) -> Result<Backend, OwnershipError> {
        let failed = |source| self.failed("connect to", source);
        let mut connection = answer(self.options.connect()).await.map_err(failed)?;
        let text = format!(
            "{NOTICE}; SET statement_timeout = 0;
             SELECT pid, backend_start::text, pg_is_in_recovery()
             FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        );
        let (pid, started, is_standby): (i32, String, bool) =
            one(&mut connection, &text).await.map_err(failed)?;
        if is_standby {
            return Err(OwnershipError::Standby {
                database: self.name.clone(),
            });
        }
        Ok(Backend {
            server: self.clone(),
            connection,
            identity: Ghost { pid, started },
        })
    }

    fn failed(&self, doing: &'static str, source: sqlx::Error) -> OwnershipError {
        OwnershipError::Server {
            doing,
            database: self.name.clone(),
            source,
        }
    }

    fn pooled(&self) -> OwnershipError {
        OwnershipError::Pooled {
            database: self.name.clone(),
        }
    }
}

impl Backend {
    /// What is left of it on the server if it is cut off.
    pub(super) fn ghost(&self) -> Ghost {
        self.identity.clone()
    }

    /// Takes the lock of this name unless another session has it. Does not wait.
    pub(super) async fn try_lock(&mut self, name: &str) -> Result<TryLock, OwnershipError> {
        let failed = |source| self.server.failed("claim a source with", source);
        let text = format!(
            "SELECT key, pg_try_advisory_lock(key)
             FROM (SELECT hashtextextended({}, 0) AS key) AS lock",
            literal(name)
        );
        let (key, is_ours): (i64, bool) = one(&mut self.connection, &text).await.map_err(failed)?;
        if is_ours {
            return Ok(TryLock::Locked(key));
        }
        let by = holder(&mut self.connection, key).await.map_err(failed)?;
        Ok(TryLock::Held { by })
    }

    /// Gives a lock back.
    pub(super) async fn unlock(&mut self, key: i64) -> Result<(), OwnershipError> {
        let text = format!("SELECT pg_advisory_unlock({key})");
        let answer: sqlx::Result<(bool,)> = one(&mut self.connection, &text).await;
        match answer {
            Ok(_) => Ok(()),
            Err(source) => Err(self.server.failed("release a source with", source)),
        }
    }

    /// The keys of all locks that the session has at this moment.
    pub(super) async fn locks(&mut self) -> Result<BTreeSet<i64>, OwnershipError> {
        let failed = |source| self.server.failed("look at our locks with", source);
        let text = format!(
            "SELECT pg_backend_pid(), {KEY} FROM (SELECT) AS once LEFT JOIN pg_locks
             ON locktype = 'advisory' AND objsubid = 1 AND granted AND pid = pg_backend_pid()"
        );
        let locks: Vec<(i32, Option<i64>)> =
            rows(&mut self.connection, &text).await.map_err(failed)?;
        if locks.iter().any(|(pid, _)| *pid != self.identity.pid) {
            return Err(self.server.pooled());
        }
        Ok(locks.into_iter().filter_map(|(_, key)| key).collect())
    }

    /// A lock that the server has forgotten while the session lives: the session was not ours alone.
    pub(super) fn forgotten(&self) -> OwnershipError {
        self.server.pooled()
    }

    /// Ends the session as a client should; the server would notice anyway.
    pub(super) async fn close(self) {
        let _ = answer(self.connection.close()).await;
    }

    /// Ends a former session of ours that the server may not have missed yet, and its locks with it.
    async fn end(&mut self, ghost: &Ghost) -> Result<(), OwnershipError> {
        let failed = |source| self.server.failed("end our former session with", source);
        let text = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid = {} AND backend_start = {}::timestamptz",
            ghost.pid,
            literal(&ghost.started)
        );
        for _ in 0..GHOST_LOOKS {
            let told: Vec<(bool,)> = rows(&mut self.connection, &text).await.map_err(failed)?;
            if told.is_empty() {
                return Ok(());
            }
            sleep(GHOST_PAUSE).await;
        }
        Err(OwnershipError::Ghost {
            database: self.server.name.clone(),
        })
    }
}

/// Who has a lock, for a message. The server shows a user little of others.
async fn holder(connection: &mut PgConnection, key: i64) -> sqlx::Result<String> {
    let text = format!(
        "SELECT pid, application_name, host(client_addr) FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
         WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND {KEY} = {key}
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let mut holders: Vec<(i32, Option<String>, Option<String>)> = rows(connection, &text).await?;
    let Some((pid, name, address)) = holders.pop() else {
        return Ok("a session that has just ended".to_owned());
    };
    let name = name.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("session {pid}"));
    Ok(match address {
        Some(address) => format!("{name} from {address}"),
        None => name,
    })
}

/// The rows of one or more statements. Simple queries, none prepared: a pooler would answer those with an error
/// that does not tell what is wrong.
async fn rows<T>(connection: &mut PgConnection, text: &str) -> sqlx::Result<Vec<T>>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let query = sqlx::raw_sql(AssertSqlSafe(text.to_owned()));
    let rows = answer(query.fetch_all(connection)).await?;
    rows.iter().map(T::from_row).collect()
}

async fn one<T>(connection: &mut PgConnection, text: &str) -> sqlx::Result<T>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let mut rows = rows(connection, text).await?;
    rows.pop().ok_or(sqlx::Error::RowNotFound)
}

async fn answer<T>(future: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(ANSWER_WITHIN, future).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
    })
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn display_name(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match options.get_socket() {
        Some(socket) => {
            let socket = socket.display();
            format!("postgres:///{database}?host={socket}&user={user}")
        }
        None => format!(
            "postgres://{user}@{}:{}/{database}",
            options.get_host(),
            options.get_port()
        ),
    }
}

/// Shown by the server to those who ask who has a lock.
fn application_name() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let host: String = host.chars().take(MAX_HOST_LEN).collect();
    format!("gtide {host}:{}", std::process::id())
}

/// Whether nobody gets a session at this moment: the server is down, starts or stops.
pub(super) fn is_down(error: &OwnershipError) -> bool {
    let OwnershipError::Server { source, .. } = error else {
        return false;
    };
    match source {
        // NotFound: the socket, where the server listens on one.
        sqlx::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
        ),
        // cannot_connect_now
        sqlx::Error::Database(error) => error.code().as_deref() == Some("57P03"),
        _ => false,
    }
}

/// Whether trying again is no use: no such user, password or database, no permission, or a server too old to know
/// what it is asked for.
pub(super) fn is_refused_for_good(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    matches!(
        code.as_deref(),
        Some("28000" | "28P01" | "3D000" | "42501" | "42704" | "42883")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_without_its_password() {
        let name = |url: &str| Server::from_url(url).unwrap().name().to_owned();
        assert_eq!(
            name("postgres://archiver:secret@db.example:5433/gtide?sslmode=require"),
            "postgres://archiver@db.example:5433/gtide"
        );
        assert_eq!(
            name("postgresql:///gtide?host=/run/postgresql&user=archiver&password=secret"),
            "postgres:///gtide?host=/run/postgresql&user=archiver"
        );
        let error = Server::from_url("postgres://archiver:secret@db:port/gtide").unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_process_id_is_never_cut_off() {
        let name = application_name();
        assert!(name.starts_with("gtide ") && name.len() <= 63, "{name}");
        assert!(name.ends_with(&format!(":{}", std::process::id())));
    }
}
