//! One session with a server: made when it is needed, made anew when it broke.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, FromRow, Row};
use zeroize::Zeroizing;

use super::answers::{self, Answers};
use super::{MysqlError, Version, version};
use crate::config::ServerConfig;
use crate::gtid::GtidSet;
use crate::server_address::{Address, SslMode};

/// A server that has not taken a session by then is away.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Each statement is answered within this, or the session is given up.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

/// One PURGE of [`MAX_BATCH_BYTES`](crate::purge::MAX_BATCH_BYTES) on a slow disk.
const PURGE_TIMEOUT: Duration = Duration::from_mins(10);

/// A longer password is no password.
const MAX_PASSWORD_LEN: u64 = 4096;

/// Of others, in a file's mode: read.
const OTHERS_READ: u32 = 0o004;

/// A server, with or without a session at the moment.
#[derive(Debug)]
pub struct Server {
    address: Address,
    password_file: Option<PathBuf>,
    session: Option<MySqlConnection>,
}

impl Server {
    /// The server of a source. Nothing is connected yet.
    pub fn new(config: &ServerConfig) -> Self {
        Self::at(&config.address, config)
    }

    /// A server that replicates from a source's, with the same account.
    pub fn replica(address: &Address, config: &ServerConfig) -> Self {
        Self::at(address, config)
    }

    fn at(address: &Address, config: &ServerConfig) -> Self {
        Self {
            address: address.clone(),
            password_file: config.password_file.clone(),
            session: None,
        }
    }

    /// Where it is, for messages.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// What it says of itself, all at about one moment.
    ///
    /// # Errors
    /// When it cannot be reached, refuses, or is no MySQL.
    pub async fn ask(&mut self) -> Result<Answers, MysqlError> {
        let variables = self.rows(answers::VARIABLES).await?;
        let [(executed, purged)]: [(String, String); 1] =
            self.exactly_one(answers::GTID_SETS).await?;
        let answers = Answers {
            variables: variables.into_iter().collect(),
            gtid_executed: self.gtids("gtid_executed", &executed)?,
            gtid_purged: self.gtids("gtid_purged", &purged)?,
            channels: self.rows(answers::CHANNELS).await?,
            dump_threads: self.rows(answers::DUMP_THREADS).await?,
        };
        self.check_version(answers.variable("version"))?;
        Ok(answers)
    }

    /// The binary logs that the server has open: the one that it writes, and those that dump threads read.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when `performance_schema` is off.
    pub async fn open_binlogs(&mut self) -> Result<Vec<String>, MysqlError> {
        let open: Vec<(String,)> = self.rows(answers::OPEN_BINLOGS).await?;
        if open.is_empty() {
            // The active one is always open: nothing means that nobody counts.
            return Err(MysqlError::Unseen {
                address: self.name(),
            });
        }
        Ok(open.into_iter().map(|(path,)| path).collect())
    }

    /// What a replica has received, applied or not.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn received(&mut self) -> Result<GtidSet, MysqlError> {
        let answers = self.ask().await?;
        let channels = answers.channels.iter();
        let mut received = answers.gtid_executed.clone();
        for channel in channels {
            received.union_with(&self.gtids("a channel's received set", &channel.received)?);
        }
        Ok(received)
    }

    /// The privileges that this account has on everything, by `SHOW GRANTS`.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn grants(&mut self) -> Result<Vec<String>, MysqlError> {
        let [(roles,)]: [(String,); 1] = self.exactly_one("SELECT CURRENT_ROLE()").await?;
        let question = match roles.as_str() {
            "NONE" => "SHOW GRANTS".to_owned(),
            roles => format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"),
        };
        let grants: Vec<(String,)> = self.rows(&question).await?;
        Ok(grants.into_iter().map(|(grant,)| grant).collect())
    }

    /// Closes the active binary log and begins another.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn flush_binary_logs(&mut self) -> Result<(), MysqlError> {
        self.run("FLUSH BINARY LOGS", STATEMENT_TIMEOUT).await
    }

    /// Makes the server forget all files before this one. What a dump thread reads it keeps by itself.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn purge_to(&mut self, file_name: &str) -> Result<(), MysqlError> {
        let quoted = file_name.replace('\\', "\\\\").replace('\'', "''");
        let statement = format!("PURGE BINARY LOGS TO '{quoted}'");
        self.run(&statement, PURGE_TIMEOUT).await
    }

    fn check_version(&self, text: &str) -> Result<(), MysqlError> {
        match Version::parse(text) {
            Some(found) if found >= version::OLDEST => Ok(()),
            _ => Err(MysqlError::Unsupported {
                address: self.name(),
                version: text.to_owned(),
            }),
        }
    }

    fn gtids(&self, what: &'static str, text: &str) -> Result<GtidSet, MysqlError> {
        // The server writes a line for each UUID.
        let text = text.replace('\n', "");
        text.parse().map_err(|_| MysqlError::Answer {
            address: self.name(),
            what,
            found: text,
        })
    }

    async fn exactly_one<T, const N: usize>(&mut self, question: &str) -> Result<[T; N], MysqlError>
    where
        T: for<'r> FromRow<'r, MySqlRow> + Send + Unpin,
    {
        let rows: Vec<T> = self.rows(question).await?;
        let count = rows.len();
        rows.try_into().map_err(|_| MysqlError::Answer {
            address: self.name(),
            what: "the number of rows",
            found: count.to_string(),
        })
    }

    async fn rows<T>(&mut self, question: &str) -> Result<Vec<T>, MysqlError>
    where
        T: for<'r> FromRow<'r, MySqlRow> + Send + Unpin,
    {
        let rows = self.send("ask", STATEMENT_TIMEOUT, question).await?;
        let rows = rows.iter().map(T::from_row);
        let rows: Result<_, sqlx::Error> = rows.collect();
        rows.map_err(|source| self.broken("read its answer", source))
    }

    async fn run(&mut self, statement: &str, within: Duration) -> Result<(), MysqlError> {
        self.send("tell it what to do", within, statement).await?;
        Ok(())
    }

    /// Sends a statement as text: not all of them can be prepared. A session that fails is given up, and so is one whose
    /// answer is not waited for to the end.
    async fn send(
        &mut self,
        doing: &'static str,
        within: Duration,
        statement: &str,
    ) -> Result<Vec<MySqlRow>, MysqlError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect().await?,
        };
        let sent = session.fetch_all(sqlx::raw_sql(AssertSqlSafe(statement)));
        match tokio::time::timeout(within, sent).await {
            Err(_) => Err(self.silent(doing, within)),
            Ok(Err(source)) => Err(self.broken(doing, source)),
            Ok(Ok(rows)) => {
                self.session = Some(session);
                Ok(rows)
            }
        }
    }

    async fn connect(&self) -> Result<MySqlConnection, MysqlError> {
        let doing = "log in";
        let options = self.options()?;
        let connecting = MySqlConnection::connect_with(&options);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Err(_) => Err(self.silent(doing, CONNECT_TIMEOUT)),
            Ok(connected) => connected.map_err(|source| self.broken(doing, source)),
        }
    }

    fn options(&self) -> Result<MySqlConnectOptions, MysqlError> {
        let address = &self.address;
        // What is read here depends on no session setting.
        let mut options = MySqlConnectOptions::new()
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .disable_statement_logging()
            .host(address.host().unwrap_or("localhost"))
            .ssl_mode(match address.ssl_mode().unwrap_or(SslMode::Preferred) {
                SslMode::Disabled => MySqlSslMode::Disabled,
                SslMode::Preferred => MySqlSslMode::Preferred,
                SslMode::Required => MySqlSslMode::Required,
                SslMode::VerifyCa => MySqlSslMode::VerifyCa,
                SslMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
            });
        if let Some(port) = address.port() {
            options = options.port(port);
        }
        if let Some(socket) = address.socket() {
            options = options.socket(socket);
        }
        if let Some(user) = address.user() {
            options = options.username(user);
        }
        if let Some(ca) = address.ssl_ca() {
            options = options.ssl_ca(ca);
        }
        if let Some(path) = &self.password_file {
            options = options.password(&read_password(path)?);
        }
        Ok(options)
    }

    fn silent(&self, doing: &'static str, within: Duration) -> MysqlError {
        MysqlError::Silent {
            address: self.name(),
            doing,
            within,
        }
    }

    fn broken(&self, doing: &'static str, source: sqlx::Error) -> MysqlError {
        MysqlError::of(self.name(), doing, source)
    }
}

/// Read anew for each session, so that a changed password needs no restart.
fn read_password(path: &Path) -> Result<Zeroizing<String>, MysqlError> {
    let failed = |source| MysqlError::PasswordFile {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & OTHERS_READ != 0 {
        return Err(MysqlError::PasswordExposed {
            path: path.to_owned(),
        });
    }
    let mut text = Zeroizing::new(String::new());
    let mut file = file.take(MAX_PASSWORD_LEN);
    file.read_to_string(&mut text).map_err(failed)?;
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}

impl FromRow<'_, MySqlRow> for super::Channel {
    fn from_row(row: &MySqlRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get(0)?,
            source: row.try_get(1)?,
            source_uuid: row.try_get(2)?,
            receiver: row.try_get(3)?,
            receiver_error: row.try_get(4)?,
            received: row.try_get(5)?,
            applier: row.try_get(6)?,
            applier_error: row.try_get(7)?,
            lag_micros: row.try_get(8)?,
        })
    }
}
