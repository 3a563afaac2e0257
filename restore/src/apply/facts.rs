//! What is to be known of a server and of the clients before a plan is run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use engine::gtid::GtidSet;
use rustix::fs::statvfs;
use tokio::process::Command;

use crate::serve::report::CHANNEL;
use crate::server::{MYSQL, Row, Server, ServerError};

/// The client that makes SQL of binary logs.
pub const MYSQLBINLOG: &str = "mysqlbinlog";

/// A version of MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// `8.4` of `8.4.7`: within a series, formats do not change.
    pub series: (u32, u32),
    /// The third number.
    pub patch: u32,
}

impl Version {
    /// The first word of a text that is a version.
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let mut numbers = word.splitn(3, '.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let patch = numbers.next()?;
        let end = patch.find(|c: char| !c.is_ascii_digit());
        let patch = patch.get(..end.unwrap_or(patch.len()))?.parse().ok()?;
        Some(Self {
            series: (major, minor),
            patch,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.series;
        write!(f, "{major}.{minor}.{}", self.patch)
    }
}

/// What a server says of itself.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a server has as many switches"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `gtid_executed`.
    pub executed: GtidSet,
    /// `version`.
    pub version: String,
    /// `gtid_mode`.
    pub gtid_mode: String,
    /// Whether events run.
    pub event_scheduler: bool,
    /// Whether only privileged users may write.
    pub read_only: bool,
    /// Whether nobody may write.
    pub super_read_only: bool,
    /// The longest statement that it takes, in bytes.
    pub max_allowed_packet: u64,
    /// Whether it writes binary logs.
    pub log_bin: bool,
    /// `server_id`.
    pub server_id: u32,
    /// Where relay logs lie, without channel and number.
    pub relay_log: PathBuf,
    /// The server is on this machine.
    pub is_here: bool,
    /// The user may make replication channels, and remove them.
    pub may_replicate: bool,
    /// Connections of others, by user; replicas aside.
    pub sessions: Vec<String>,
    /// A replication channel applies what another server sends.
    pub applies: bool,
    /// A run that was stopped left its replication channel.
    pub leftover: bool,
    /// Bytes free for its data, where that is on this machine.
    pub free_bytes: Option<u64>,
}

const VARIABLES: &str = "SELECT REPLACE(@@GLOBAL.gtid_executed, CHAR(10), '') AS executed, @@GLOBAL.version AS version, \
    @@GLOBAL.gtid_mode AS gtid_mode, @@GLOBAL.event_scheduler AS event_scheduler, @@GLOBAL.read_only AS read_only, \
    @@GLOBAL.super_read_only AS super_read_only, @@GLOBAL.max_allowed_packet AS max_allowed_packet, \
    @@GLOBAL.log_bin AS log_bin, @@GLOBAL.server_id AS server_id, @@GLOBAL.datadir AS datadir, \
    @@GLOBAL.hostname AS hostname, @@GLOBAL.relay_log_basename AS relay_log";

const SESSIONS: &str = "SHOW PROCESSLIST";

/// The first version that knows `SHOW REPLICA STATUS`.
const REPLICA: Version = Version {
    series: (8, 0),
    patch: 22,
};

impl Facts {
    /// Asks a server.
    ///
    /// # Errors
    /// When it does not answer, or not with what was asked for.
    pub async fn ask(server: &Server) -> Result<Self, ServerError> {
        let variables = server.ask(VARIABLES).await?;
        let row = variables.into_iter().next().unwrap_or_default();
        let text = |name: &str| {
            row.get(name).cloned().ok_or_else(|| ServerError::Answer {
                address: server.address.to_string(),
                question: VARIABLES.to_owned(),
                column: name.to_owned(),
            })
        };
        let is_on = |name: &str| Ok(matches!(text(name)?.as_str(), "1" | "ON"));
        let version = text("version")?;
        let replica = match Version::find(&version) {
            Some(version) if version < REPLICA => "SHOW SLAVE STATUS",
            _ => "SHOW REPLICA STATUS",
        };
        let (sessions, channels) = (server.ask(SESSIONS).await?, server.ask(replica).await?);
        let datadir = PathBuf::from(text("datadir")?);
        let is_here = text("hostname")?.as_bytes() == rustix::system::uname().nodename().to_bytes();
        Ok(Self {
            executed: server.gtids(&text("executed")?)?,
            gtid_mode: text("gtid_mode")?,
            event_scheduler: is_on("event_scheduler")?,
            read_only: is_on("read_only")?,
            super_read_only: is_on("super_read_only")?,
            max_allowed_packet: text("max_allowed_packet")?.parse().unwrap_or_default(),
            log_bin: is_on("log_bin")?,
            server_id: text("server_id")?.parse().unwrap_or_default(),
            relay_log: PathBuf::from(text("relay_log")?),
            may_replicate: may_replicate(&server.ask("SHOW GRANTS").await?),
            sessions: sessions.iter().filter_map(other).collect(),
            applies: channels.iter().any(applies),
            leftover: channels.iter().any(is_ours),
            free_bytes: if is_here { free_bytes(&datadir) } else { None },
            is_here,
            version,
        })
    }
}

/// The user of a connection that may write: not this one's, not the server's own, not a replica's.
fn other(session: &Row) -> Option<String> {
    let field = |name: &str| session.get(name).map(String::as_str).unwrap_or_default();
    let quiet = field("Info") == SESSIONS
        || field("Command") == "Daemon"
        || field("Command").starts_with("Binlog Dump")
        || matches!(field("User"), "system user" | "event_scheduler");
    (!quiet).then(|| field("User").to_owned())
}

/// Whether these grants have what `CHANGE REPLICATION SOURCE` and `RESET REPLICA` need. MySQL 8 lists each privilege of an
/// account that has all.
fn may_replicate(grants: &[Row]) -> bool {
    let texts = || grants.iter().flat_map(BTreeMap::values);
    let has =
        |privilege| texts().any(|grant| grant.contains(privilege) && grant.contains(" ON *.* "));
    has("REPLICATION_SLAVE_ADMIN") && has("RELOAD")
}

/// Whether a channel applies something, gtide's own aside: a run that was killed leaves it, and the next one stops it.
fn applies(channel: &Row) -> bool {
    let is = |name: &str, value: &str| channel.get(name).is_some_and(|found| found == value);
    let runs = is("Replica_SQL_Running", "Yes") || is("Slave_SQL_Running", "Yes");
    runs && !is_ours(channel)
}

fn is_ours(channel: &Row) -> bool {
    channel
        .get("Channel_Name")
        .is_some_and(|name| name == CHANNEL)
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What the clients on PATH say that they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// `mysqlbinlog --version`.
    pub mysqlbinlog: String,
    /// `mysql --version`.
    pub mysql: String,
}

impl Clients {
    /// Asks them.
    ///
    /// # Errors
    /// When one cannot be run.
    pub async fn ask() -> Result<Self, ServerError> {
        Ok(Self {
            mysqlbinlog: version_of(MYSQLBINLOG).await?,
            mysql: version_of(MYSQL).await?,
        })
    }
}

async fn version_of(program: &str) -> Result<String, ServerError> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| ServerError::Spawn {
            program: program.to_owned(),
            source,
        })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_where_servers_and_clients_write_them() {
        let found = |text| Version::find(text).map(|version| version.to_string());
        assert_eq!(found("9.7.4-2").unwrap(), "9.7.4");
        assert_eq!(found("8.0.36-28.1-log").unwrap(), "8.0.36");
        let client = "/usr/bin/mysql  Ver 8.4.7 for Linux on x86_64 (MySQL Community Server - GPL)";
        assert_eq!(found(client).unwrap(), "8.4.7");
        assert_eq!(found(""), None);
        assert!(Version::find("8.0.9") < Version::find("8.0.22"));
    }

    #[test]
    fn a_replica_and_the_server_itself_are_no_writers() {
        let session = |user: &str, command: &str, info: &str| {
            let fields = [("User", user), ("Command", command), ("Info", info)];
            let row = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            other(&row.into_iter().collect())
        };
        assert_eq!(session("app", "Sleep", "NULL").unwrap(), "app");
        assert_eq!(session("root", "Query", SESSIONS), None);
        assert_eq!(session("repl", "Binlog Dump GTID", "NULL"), None);
        assert_eq!(session("system user", "Connect", "NULL"), None);
        assert_eq!(session("event_scheduler", "Daemon", "NULL"), None);
    }
}
