//! What a server is asked, and what it answers.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use uuid::Uuid;

use super::Version;
use crate::gtid::GtidSet;

/// Those that are judged or shown; a version that does not know one of them leaves it out.
pub(super) const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN (
    'binlog_checksum', 'binlog_encryption', 'binlog_expire_logs_auto_purge', 'binlog_expire_logs_seconds',
    'binlog_format', 'binlog_row_image', 'enforce_gtid_consistency', 'gtid_mode', 'innodb_flush_log_at_trx_commit',
    'log_bin', 'log_bin_index', 'log_replica_updates', 'log_slave_updates', 'max_binlog_size', 'performance_schema',
    'read_only', 'server_id', 'server_uuid', 'super_read_only', 'sync_binlog', 'version')";

/// By themselves: `SHOW VARIABLES` cuts long values.
pub(super) const GTID_SETS: &str = "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged";

/// One row for each channel. What the applier lags behind is the age of the transaction that it works at; nothing when it
/// waits for more.
pub(super) const CHANNELS: &str = "SELECT
    c.CHANNEL_NAME,
    CONCAT(conf.HOST, ':', conf.PORT),
    c.SOURCE_UUID,
    c.SERVICE_STATE,
    IF(c.LAST_ERROR_NUMBER = 0, '', c.LAST_ERROR_MESSAGE),
    c.RECEIVED_TRANSACTION_SET,
    a.SERVICE_STATE,
    COALESCE((SELECT MAX(w.LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker w
        WHERE w.CHANNEL_NAME = c.CHANNEL_NAME AND w.LAST_ERROR_NUMBER <> 0), ''),
    (SELECT MAX(TIMESTAMPDIFF(MICROSECOND, w.APPLYING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP, NOW(6)))
        FROM performance_schema.replication_applier_status_by_worker w
        WHERE w.CHANNEL_NAME = c.CHANNEL_NAME AND w.APPLYING_TRANSACTION <> '')
  FROM performance_schema.replication_connection_status c
  JOIN performance_schema.replication_connection_configuration conf USING (CHANNEL_NAME)
  JOIN performance_schema.replication_applier_status a USING (CHANNEL_NAME)
  WHERE conf.HOST <> '' AND c.CHANNEL_NAME NOT LIKE 'group\\_replication\\_%'
  ORDER BY c.CHANNEL_NAME LIMIT 256";

pub(super) const DUMP_THREADS: &str = "SELECT
    PROCESSLIST_ID AS id, COALESCE(PROCESSLIST_USER, '') AS user, COALESCE(PROCESSLIST_HOST, '') AS host,
    COALESCE(PROCESSLIST_STATE, '') AS state
  FROM performance_schema.threads WHERE PROCESSLIST_COMMAND IN ('Binlog Dump', 'Binlog Dump GTID')
  ORDER BY PROCESSLIST_ID LIMIT 1024";

pub(super) const OPEN_BINLOGS: &str = "SELECT FILE_NAME FROM performance_schema.file_instances
  WHERE EVENT_NAME = 'wait/io/file/sql/binlog' AND OPEN_COUNT > 0";

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// Global variables, as `SHOW` prints them.
    pub variables: BTreeMap<String, String>,
    /// All transactions that it has.
    pub gtid_executed: GtidSet,
    /// Those of them that are in none of its binary logs.
    pub gtid_purged: GtidSet,
    /// Where it replicates from.
    pub channels: Vec<Channel>,
    /// Who reads its binary logs.
    pub dump_threads: Vec<DumpThread>,
}

/// One replication channel, at the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Empty for the default one.
    pub name: String,
    /// Host and port.
    pub source: String,
    /// Empty before it was connected for the first time.
    pub source_uuid: String,
    /// `ON`, `OFF` or `CONNECTING`.
    pub receiver: String,
    /// Empty when nothing is wrong.
    pub receiver_error: String,
    /// The GTID set that came.
    pub received: String,
    /// `ON` or `OFF`.
    pub applier: String,
    /// Empty when nothing is wrong.
    pub applier_error: String,
    /// Age of the transaction that is being applied, in microseconds; none when there is none.
    pub lag_micros: Option<i64>,
}

/// A session that reads binary logs: a replica's, or a client's.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct DumpThread {
    /// As in `SHOW PROCESSLIST`.
    pub id: u64,
    /// Its account.
    pub user: String,
    /// Where it comes from.
    pub host: String,
    /// What it does.
    pub state: String,
}

impl Answers {
    /// A variable's value; empty where the version does not know it.
    #[must_use]
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// Is it `ON` (or 1, as `SHOW` prints some)?
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.variable(name), "ON" | "1")
    }

    /// The server's version; it was looked at when the answers came.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        Version::parse(self.variable("version"))
    }

    /// Whose files its binary logs are.
    #[must_use]
    pub fn server_uuid(&self) -> Option<Uuid> {
        self.variable("server_uuid").parse().ok()
    }

    /// How long the server keeps a file after it was last written; none for ever.
    #[must_use]
    pub fn expire_after(&self) -> Option<SignedDuration> {
        // Without the switch (before 8.0.29) it is on.
        if self.variable("binlog_expire_logs_auto_purge") == "OFF" {
            return None;
        }
        let seconds: i64 = self.variable("binlog_expire_logs_seconds").parse().ok()?;
        (seconds > 0).then(|| SignedDuration::from_secs(seconds))
    }
}
