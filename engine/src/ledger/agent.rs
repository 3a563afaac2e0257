//! Archivers at work: what each of them reports of itself, for status and console.
//!
//! An agent is one host and spool: whoever archives from there, one process after the other. The row of one that ended
//! in order is removed; that of a killed one stays and grows old, which is how its death is seen.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Ledger, LedgerError, Route, SourceId, on, time};
use crate::layout::Sequence;

/// An agent reports this often, and at once when it pauses or goes on.
pub const REPORT_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Uploads that a report names at most, the oldest first.
pub const MAX_UPLOADS_REPORTED: usize = 256;

/// Not heard of for this long, an agent is taken for dead.
pub const SILENT_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Agents that were not heard of for this long are forgotten.
const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Agents that are listed at most: more archivers on one database are beyond any sane fleet.
const MAX_AGENTS_LISTED: u32 = 10_000;

/// What an archiver says of itself. Stored as JSON; additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The machine's name.
    pub host: String,
    /// Its spool's folder.
    pub spool: String,
    /// Process id.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// When the process began.
    pub started: Timestamp,
    /// The sources that it owns.
    #[serde(rename = "source_ids")]
    pub sources: Vec<SourceId>,
    /// Files that pins hold.
    pub pinned_files: u64,
    /// Bytes in them, whether or not the server still has the files.
    pub pinned_bytes: u64,
    /// Sealed objects that wait to be uploaded or committed.
    pub sealed_files: u64,
    /// Bytes in them.
    pub sealed_bytes: u64,
    /// Bytes free for the spool.
    pub free_bytes: u64,
    /// Why sealing waits, if it does.
    pub paused: Option<Paused>,
    /// Uploads in parts that are under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uploads: Vec<UploadReport>,
}

/// An upload under way. What is put in one piece is not told of: it is there, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadReport {
    /// From and to.
    pub route: Route,
    /// Which file.
    pub sequence: Sequence,
    /// Bytes of the object.
    pub total: u64,
    /// Bytes of it that are there, in whole parts.
    pub done: u64,
    /// Of those, what an earlier attempt had sent.
    pub resumed: u64,
    /// When this attempt began to send.
    pub started: Timestamp,
}

/// Sealing waits for room in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Timestamp,
    /// Free bytes that are needed.
    pub needed_bytes: u64,
}

/// An agent, and when it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// When it reported last.
    pub seen: Timestamp,
    /// What it reported.
    pub report: AgentReport,
}

/// The key of the agent that archives from a host with a spool.
pub fn agent_key(host: &str, spool: &str) -> String {
    format!("{host}:{spool}")
}

impl AgentReport {
    /// The agent's key.
    pub fn key(&self) -> String {
        agent_key(&self.host, &self.spool)
    }
}

impl Agent {
    /// Was it not heard of for so long that it must have died?
    pub fn is_silent(&self, now: Timestamp) -> bool {
        now.duration_since(self.seen) > SILENT_AFTER
    }
}

impl Ledger {
    /// Records an agent's report in place of its last one, and forgets agents that are long gone.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn report_agent(
        &self,
        report: &AgentReport,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let json = serde_json::to_string(report)
            .map_err(|error| LedgerError::damaged("an agent's report", &error))?;
        let long_ago = now.saturating_sub(FORGET_AFTER).unwrap_or(Timestamp::MIN);
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query(
                "INSERT INTO agents (agent, seen_at, report) VALUES ($1, $2, $3)
                 ON CONFLICT (agent) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report",
            )
            .bind(report.key())
            .bind(now.as_microsecond())
            .bind(&json)
            .execute(db)
            .await
            .map(|_| ())
        });
        done.map_err(LedgerError::database("record an agent's report"))?;
        let done = on!(tx, |db| {
            sqlx::query("DELETE FROM agents WHERE seen_at < $1")
                .bind(long_ago.as_microsecond())
                .execute(db)
                .await
                .map(|_| ())
        });
        done.map_err(LedgerError::database("forget old agents"))?;
        tx.commit().await
    }

    /// Removes an agent that ends in order.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn retire_agent(&self, report: &AgentReport) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query("DELETE FROM agents WHERE agent = $1")
                .bind(report.key())
                .execute(db)
                .await
                .map(|_| ())
        });
        done.map_err(LedgerError::database("remove an agent"))?;
        tx.commit().await
    }

    /// The agents that were heard of, by host and spool.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn agents(&self) -> Result<Vec<Agent>, LedgerError> {
        let rows: Vec<(i64, String)> = on!(self, |db| {
            sqlx::query_as("SELECT seen_at, report FROM agents ORDER BY agent LIMIT $1")
                .bind(i64::from(MAX_AGENTS_LISTED))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list agents"))?;
        rows.into_iter()
            .map(|(seen, report)| {
                Ok(Agent {
                    seen: time(seen, "the time of an agent's report")?,
                    report: serde_json::from_str(&report)
                        .map_err(|_| LedgerError::damaged("an agent's report", &report))?,
                })
            })
            .collect()
    }
}
