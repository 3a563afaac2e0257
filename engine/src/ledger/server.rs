//! What each source's server said last, for status and console.
//!
//! An archiver asks the server beside it every few seconds; here is the last answer, and since when there was none. All of
//! it is found again within seconds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Ledger, LedgerError, SourceId, on, storable, time};
use crate::exit::Exit;

/// A server's own account, and the archive's measured by it. Stored as JSON; additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// `@@version`.
    pub version: String,
    /// `@@server_uuid`.
    pub server_uuid: Uuid,
    /// `@@gtid_mode`.
    pub gtid_mode: String,
    /// Does it take writes from clients (neither `read_only` nor `super_read_only`)?
    pub is_writable: bool,
    /// All transactions that it has.
    pub gtid_executed: String,
    /// Executed and not archived yet.
    pub waiting: String,
    /// How many those are.
    pub waiting_transactions: u64,
    /// In none of its binary logs any more, and not archived although nothing waits.
    pub never_archived: String,
    /// Archived, and not executed there.
    pub unknown_to_server: String,
    /// Where it replicates from.
    pub channels: Vec<ChannelReport>,
    /// Transactions of its replicas that it has not, by the replica's source name.
    pub errant: Vec<Errant>,
    /// Sessions that read its binary logs.
    pub readers: u32,
    /// The oldest file that is not archived, and when the server may remove it; none when all is archived, or nothing
    /// expires.
    pub expiry: Option<ExpiryReport>,
    /// What a purge would take; none before anybody has looked.
    #[serde(default)]
    pub purge: Option<PurgeReport>,
}

/// One replication channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Empty for the default one.
    pub name: String,
    /// Host and port that it replicates from.
    pub from: String,
    /// `server_uuid` of that; empty before it was connected.
    pub source_uuid: String,
    /// `ON`, `OFF` or `CONNECTING`.
    pub receiver: String,
    /// `ON` or `OFF`.
    pub applier: String,
    /// What either of them says is wrong.
    pub error: Option<String>,
    /// Age of the transaction that is being applied; none when there is none.
    pub lag_seconds: Option<u64>,
}

/// Transactions that a replica has and its source has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errant {
    /// The replica, as its source is configured.
    pub replica: String,
    /// Which transactions.
    pub gtids: String,
}

/// When a file that is not archived may be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryReport {
    /// Its name.
    pub file_name: String,
    /// The earliest moment.
    pub at: Timestamp,
    /// Little time is left.
    pub in_danger: bool,
    /// A pin holds it, so that it is archived all the same.
    pub is_pinned: bool,
}

/// What may go from the server, as `gtide purge` judges it: files go from the oldest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeReport {
    /// The last file that may go; none when none may.
    pub up_to: Option<String>,
    /// How many may go.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The first file that stays, and why; or why nothing can be told.
    pub stays: String,
    /// When it was looked at.
    pub at: Timestamp,
}

/// A source's server: its last answer, and its silence. Stored as JSON in pictures; additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Whose server.
    pub source: SourceId,
    /// When it answered last, and what; none if it never did.
    pub answer: Option<(Timestamp, ServerReport)>,
    /// Why it cannot be asked at present.
    pub silence: Option<Silence>,
}

/// A server that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The error with its causes.
    pub error: String,
    /// What to check or run.
    pub hint: Option<String>,
    /// The exit code that it calls for.
    pub exit: Exit,
    /// When it began.
    pub since: Timestamp,
}

/// Something that a person should know of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerWarning {
    /// What kind it is: the same for as long as it lasts.
    pub key: String,
    /// In words.
    pub message: String,
    /// What to check or run.
    pub hint: &'static str,
    /// The exit code that it calls for.
    pub exit: Exit,
}

impl ServerReport {
    /// What is wrong, by what the server says.
    pub fn warnings(&self) -> Vec<ServerWarning> {
        let mut warnings = Vec::new();
        let mut warn = |key: String, exit, message, hint| {
            warnings.push(ServerWarning {
                key,
                message,
                hint,
                exit,
            });
        };
        if !self.unknown_to_server.is_empty() {
            let gtids = &self.unknown_to_server;
            warn(
                "unknown".to_owned(),
                Exit::Conflict,
                format!("the archive has transactions that the server has not: {gtids}"),
                "after a RESET, a restore or a clone raise `incarnation` by one; otherwise look for another server behind \
                 this address",
            );
        }
        if !self.never_archived.is_empty() {
            let gtids = &self.never_archived;
            warn(
                "purged".to_owned(),
                Exit::Gap,
                format!("the server has purged transactions that were never archived: {gtids}"),
                "take a base backup: no recovery can cross the gap",
            );
        }
        for errant in &self.errant {
            let (replica, gtids) = (&errant.replica, &errant.gtids);
            warn(
                format!("errant {replica}"),
                Exit::Conflict,
                format!("replica {replica} has transactions that its source has not: {gtids}"),
                "they would surface after a failover: replicate them by hand, or rebuild the replica",
            );
        }
        if let Some(expiry) = self.expiry.as_ref().filter(|expiry| expiry.in_danger) {
            let (file, at) = (&expiry.file_name, expiry.at);
            let (pinned, hint) = if expiry.is_pinned {
                (
                    "; a pin holds it",
                    "see what holds up the archive: `gtide status`, `gtide queue ls`",
                )
            } else {
                (
                    " and is not pinned",
                    "raise binlog_expire_logs_seconds now, and see what holds up the archive: `gtide status`",
                )
            };
            warn(
                format!("expiry {file}"),
                Exit::Transient,
                format!("{file} is not archived, expires at {at:.0}{pinned}"),
                hint,
            );
        }
        for channel in &self.channels {
            if let Some(error) = &channel.error {
                let from = &channel.from;
                warn(
                    format!("channel {}", channel.name),
                    Exit::Ok,
                    format!("replication from {from}: {error}"),
                    "see SHOW REPLICA STATUS there",
                );
            }
        }
        warnings
    }
}

impl Ledger {
    /// Records a server's answer, which ends its silence.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn set_server_report(
        &self,
        source: SourceId,
        report: &ServerReport,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let json = serde_json::to_string(report)
            .map_err(|error| LedgerError::damaged("a server's report", &error))?;
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query(
                "INSERT INTO servers (source, answered_at, report) VALUES ($1, $2, $3)
                 ON CONFLICT (source) DO UPDATE SET answered_at = excluded.answered_at,
                   report = excluded.report, error = NULL, hint = NULL, exit = NULL,
                   silent_since = NULL",
            )
            .bind(source.stored())
            .bind(now.as_microsecond())
            .bind(storable(&json))
            .execute(db)
            .await
            .map(|_| ())
        });
        done.map_err(LedgerError::database("record a server's report"))?;
        tx.commit().await
    }

    /// Records that a server cannot be asked. Its last answer stays, and so does the beginning of its silence.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn set_server_silent(
        &self,
        source: SourceId,
        silence: &Silence,
    ) -> Result<(), LedgerError> {
        let exit = serde_json::to_string(&silence.exit);
        let exit = exit.map_err(|error| LedgerError::damaged("an exit code", &error))?;
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query(
                "INSERT INTO servers (source, error, hint, exit, silent_since)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (source) DO UPDATE SET error = excluded.error, hint = excluded.hint,
                   exit = excluded.exit,
                   silent_since = coalesce(servers.silent_since, excluded.silent_since)",
            )
            .bind(source.stored())
            .bind(storable(&silence.error))
            .bind(silence.hint.as_deref().map(storable))
            .bind(&exit)
            .bind(silence.since.as_microsecond())
            .execute(db)
            .await
            .map(|_| ())
        });
        done.map_err(LedgerError::database("record a server's silence"))?;
        tx.commit().await
    }

    /// Forgets a source's server: it is not configured any more.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn forget_server(&self, source: SourceId) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query("DELETE FROM servers WHERE source = $1")
                .bind(source.stored())
                .execute(db)
                .await
                .map(|_| ())
        });
        done.map_err(LedgerError::database("forget a server"))?;
        tx.commit().await
    }

    /// What each server said last, by source.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn servers(&self) -> Result<Vec<ServerState>, LedgerError> {
        let rows: Vec<Row> = on!(self, |db| {
            sqlx::query_as(
                "SELECT source, answered_at, report, error, hint, exit, silent_since FROM servers
                 ORDER BY source",
            )
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("list servers"))?;
        rows.into_iter().map(Row::read).collect()
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    source: i64,
    answered_at: Option<i64>,
    report: Option<String>,
    error: Option<String>,
    hint: Option<String>,
    exit: Option<String>,
    silent_since: Option<i64>,
}

impl Row {
    fn read(self) -> Result<ServerState, LedgerError> {
        let answer = match (self.answered_at, self.report) {
            (Some(at), Some(report)) => {
                let parsed = serde_json::from_str(&report);
                let report =
                    parsed.map_err(|_| LedgerError::damaged("a server's report", &report))?;
                Some((time(at, "the time of a server's answer")?, report))
            }
            _ => None,
        };
        let silence = match (self.error, self.exit, self.silent_since) {
            (Some(error), Some(exit), Some(since)) => Some(Silence {
                error,
                hint: self.hint,
                exit: serde_json::from_str(&exit)
                    .map_err(|error| LedgerError::damaged("an exit code", &error))?,
                since: time(since, "the beginning of a server's silence")?,
            }),
            _ => None,
        };
        Ok(ServerState {
            source: SourceId::read(self.source)?,
            answer,
            silence,
        })
    }
}
