//! Where the ledger's database is: what `[queue] database` says.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::LedgerError;
use super::database::{Database, STATEMENT_TIMEOUT};

/// A database file, or how to reach a server. The latter holds a password: it is never shown.
pub(crate) type Location = Database<PathBuf, Box<PgConnectOptions>>;

/// Reads `sqlite:PATH` or `postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE[?…]`. What a PostgreSQL URL does not say
/// comes from libpq's variables (`PGPASSWORD`, …) and `~/.pgpass`.
///
/// # Errors
/// [`LedgerError::Url`], which never repeats a password.
pub(crate) fn parse(url: &str) -> Result<Location, LedgerError> {
    if is_postgres(url) {
        let options = PgConnectOptions::from_str(url).map_err(|error| LedgerError::Url {
            // Not repeated: whatever is wrong with it may be wrong with the password.
            url: "postgres://…".to_owned(),
            reason: error.to_string(),
        })?;
        return Ok(Database::Postgres(Box::new(options)));
    }
    database_path(url).map(Database::Sqlite)
}

/// Whether a configured database is a PostgreSQL one.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
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
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return Err(refuse("neither a sqlite: nor a postgres:// URL"));
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

impl Location {
    /// What messages call it: the path, or the URL without password and options.
    pub(crate) fn name(&self) -> String {
        let options = match self {
            Self::Sqlite(path) => return path.display().to_string(),
            Self::Postgres(options) => options,
        };
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let mut name = format!("postgres://{}@{host}", options.get_username());
        // Writing to a String cannot fail.
        let _ = write!(name, ":{}", options.get_port());
        let _ = write!(name, "/{}", options.get_database().unwrap_or_default());
        name
    }
}

/// What every PostgreSQL connection of ours is set to, whatever the server's or the role's defaults are.
///
/// - A commit that was answered survives power loss of the server.
/// - A plan that was made while a table was empty is not kept.
/// - Nobody waits for a lock for longer than `lock_timeout`, nor runs a statement for longer than
///   [`STATEMENT_TIMEOUT`]; a process that is stopped in a transaction does not hold up the others for longer.
pub(crate) fn settings(options: PgConnectOptions, lock_timeout: Duration) -> PgConnectOptions {
    let limit = STATEMENT_TIMEOUT.as_millis().to_string();
    options
        .application_name(&application_name())
        .options([
            ("search_path", "gtide,apalis"),
            ("synchronous_commit", "on"),
            ("client_min_messages", "warning"),
            ("plan_cache_mode", "force_custom_plan"),
            ("statement_timeout", limit.as_str()),
            ("idle_in_transaction_session_timeout", limit.as_str()),
            (
                "lock_timeout",
                lock_timeout.as_millis().to_string().as_str(),
            ),
        ])
        .disable_statement_logging()
}

/// How other sessions see ours: `gtide HOST:PID`.
pub(crate) fn application_name() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    format!("gtide {host}:{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_part_of_a_name_or_an_error() {
        let location = parse("postgres://archiver:s3cret@db.example:6543/ledger?sslmode=require");
        let name = location.unwrap().name();
        assert_eq!(name, "postgres://archiver@db.example:6543/ledger");
        for broken in [
            "postgres://archiver:s3cret@db:port/ledger",
            "postgres://archiver:s3cret@/ledger?sslmode=s3cret-mode",
            "postgresql://archiver:s3cret@[::/ledger",
        ] {
            let error = parse(broken).unwrap_err();
            let text = crate::exit::chain(&error);
            assert!(!text.contains("archiver"), "{text}");
            assert!(!text.contains("s3cret@"), "{text}");
        }
    }
}
