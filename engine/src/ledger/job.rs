//! The queue's jobs, as the ledger reads them: their stored form, and a read model for status and console.
//!
//! The table `Jobs` and its columns are those of apalis-sqlite and apalis-postgres 1.0.0 (there in the schema `apalis`); it
//! does not exist before an archiver ran for the first time, and then there are no jobs. A lane's name is its
//! `job_type`, a file's sequence in 20 digits its `idempotency_key`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DestinationId, FileKey, Ledger, LedgerError, QueueScope, SourceId, on, unsigned};
use crate::exit::Exit;
use crate::layout::Sequence;
use crate::retry::RetryClass;

/// The version of [`ArchiveJob`]'s stored form. Bump it with any change that an older program would misread.
pub const JOB_VERSION: u32 = 1;

/// Jobs that [`Ledger::jobs`] lists at most in one call.
pub const MAX_JOBS_LISTED: u32 = 1_000;

/// Where files go from and to: commits are strictly in sequence on each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// From.
    pub source: SourceId,
    /// To.
    pub destination: DestinationId,
}

/// One file to be archived at one destination. Stored as JSON; additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveJob {
    /// [`JOB_VERSION`] of the program that wrote it.
    pub version: u32,
    /// Whose file, and whereto.
    #[serde(flatten)]
    pub route: Route,
    /// Which file.
    pub sequence: Sequence,
}

/// The name of a lane's queue, `archive/<source>/<destination>/<lane>`. A lane runs its lowest sequence, one
/// at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneName {
    /// Whose files, and whereto.
    pub route: Route,
    /// From 0; `sequence % lanes`.
    pub lane: u32,
}

/// Status words of the queue, as stored and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// Waits for its turn.
    Pending,
    /// Taken by a worker, not begun.
    Queued,
    /// Being archived.
    Running,
    /// Archived. Never stored by gtide: success deletes the job.
    Done,
    /// The last attempt failed; the next is at `run_at`.
    Failed,
    /// Never stored by gtide: no file is given up.
    Killed,
}

/// Why the last attempt failed. Stored as JSON in `last_result`; additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// The error, with all its causes.
    #[serde(rename = "Err")]
    pub message: String,
    /// What may be done about it.
    pub class: RetryClass,
    /// Retries are slow now: someone has to look.
    #[serde(default)]
    pub stalled: bool,
    /// The exit code that it calls for.
    #[serde(default = "unexpected")]
    pub exit: Exit,
    /// What a person should check or run.
    #[serde(default)]
    pub hint: Option<String>,
    /// How many times in a row the archiver ended without a word while it worked on the file.
    #[serde(default)]
    pub interruptions: u32,
}

fn unexpected() -> Exit {
    Exit::Unexpected
}

/// One job as status and console show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its id; ids ascend by source, destination, sequence.
    pub id: String,
    /// Where it queues.
    pub lane: LaneName,
    /// Which file.
    pub sequence: Sequence,
    /// The file's name; none when the ledger does not know the file.
    pub file_name: Option<String>,
    /// What it is doing.
    pub status: JobStatus,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not before.
    pub run_at: Timestamp,
    /// Why the last attempt failed, if one did.
    pub failure: Option<LastFailure>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only those in this status.
    pub status: Option<JobStatus>,
    /// Only those behind the job of this id: the next page.
    pub after: Option<String>,
    /// At most so many; [`MAX_JOBS_LISTED`] when that is less.
    pub limit: u32,
}

impl ArchiveJob {
    /// The job of one file at one destination.
    pub fn new(route: Route, sequence: Sequence) -> Self {
        Self {
            version: JOB_VERSION,
            route,
            sequence,
        }
    }

    /// The file.
    pub fn file(&self) -> FileKey {
        FileKey {
            source: self.route.source,
            sequence: self.sequence,
        }
    }

    /// Where it queues when there are `lanes` lanes.
    pub fn lane(&self, lanes: u32) -> LaneName {
        let lane = self.sequence.0.checked_rem(lanes.into()).unwrap_or(0);
        LaneName {
            route: self.route,
            // Less than `lanes`, so it fits.
            lane: u32::try_from(lane).unwrap_or(0),
        }
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route {
            source,
            destination,
        } = self.route;
        write!(f, "archive/{source}/{destination}/{}", self.lane)
    }
}

impl FromStr for LaneName {
    type Err = LedgerError;

    fn from_str(s: &str) -> Result<Self, LedgerError> {
        let parse = || {
            let mut parts = s.strip_prefix("archive/")?.split('/');
            let mut number = || parts.next()?.parse::<u32>().ok();
            let route = Route {
                source: SourceId(number()?),
                destination: DestinationId(number()?),
            };
            let lane = number()?;
            parts.next().is_none().then_some(Self { route, lane })
        };
        parse().ok_or_else(|| LedgerError::damaged("a queue's name", &s))
    }
}

impl JobStatus {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Queued => "Queued",
            Self::Running => "Running",
            Self::Done => "Done",
            Self::Failed => "Failed",
            Self::Killed => "Killed",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobStatus {
    type Err = LedgerError;

    fn from_str(s: &str) -> Result<Self, LedgerError> {
        [
            Self::Pending,
            Self::Queued,
            Self::Running,
            Self::Done,
            Self::Failed,
            Self::Killed,
        ]
        .into_iter()
        .find(|status| status.as_str() == s)
        .ok_or_else(|| LedgerError::damaged("a job's status", &s))
    }
}

impl LastFailure {
    /// Reads what is stored; text of another shape (another program's) is shown as it is.
    pub(crate) fn read(stored: &str) -> Self {
        serde_json::from_str(stored).unwrap_or_else(|_| Self {
            message: stored.to_owned(),
            class: RetryClass::Backoff,
            stalled: false,
            exit: Exit::Unexpected,
            hint: None,
            interruptions: 0,
        })
    }

    /// The reverse of [`LastFailure::read`].
    #[cfg(feature = "daemon")]
    pub(crate) fn stored(&self) -> Result<String, LedgerError> {
        let storable = Self {
            message: super::storable(&self.message).into_owned(),
            hint: self
                .hint
                .as_deref()
                .map(|hint| super::storable(hint).into_owned()),
            ..self.clone()
        };
        serde_json::to_string(&storable)
            .map_err(|e| LedgerError::damaged("a failure that is no JSON", &e))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    job_type: String,
    sequence: Option<i64>,
    name: Option<String>,
    status: String,
    attempts: i64,
    run_at: i64,
    last_result: Option<String>,
}

impl Row {
    fn read(self) -> Result<JobRow, LedgerError> {
        let sequence = self
            .sequence
            .ok_or_else(|| LedgerError::damaged("a job without a sequence, id", &&self.id))?;
        let run_at = Timestamp::from_second(self.run_at);
        let status: JobStatus = self.status.parse()?;
        let failure = self.last_result.as_deref().map(LastFailure::read);
        Ok(JobRow {
            lane: self.job_type.parse()?,
            sequence: Sequence(unsigned(sequence, "a job's sequence")?),
            file_name: self.name,
            status,
            attempts: u32::try_from(self.attempts)
                .map_err(|_| LedgerError::damaged("a job's attempts", &self.attempts))?,
            run_at: run_at.map_err(|_| LedgerError::damaged("a job's run_at", &self.run_at))?,
            failure,
            id: self.id,
        })
    }
}

impl Ledger {
    /// Jobs by source, destination and sequence: one page.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRow>, LedgerError> {
        if !self.has_jobs().await? {
            return Ok(Vec::new());
        }
        // Source and sequence are read out of the names that make the order, whatever the stored job looks like: one
        // that this program cannot read must not hide the others.
        let sql = self.pick(
            "SELECT j.id, j.job_type, j.sequence, (SELECT name FROM files f
                 WHERE f.source = j.source AND f.sequence = j.sequence) AS name,
               j.status, j.attempts, j.run_at, j.last_result
             FROM (
               SELECT id, job_type, status, attempts, run_at, last_result,
                 CAST(substr(job_type, 9) AS INTEGER) AS source,
                 CAST(idempotency_key AS INTEGER) AS sequence
               FROM Jobs
               WHERE id > $1 AND ($2 IS NULL OR status = $2) AND job_type LIKE 'archive/%'
               ORDER BY id LIMIT $3) AS j
             ORDER BY j.id",
            // Ids are letters and digits, which not every collation orders as they count.
            "SELECT j.id, j.job_type, j.sequence, (SELECT name FROM files f
                 WHERE f.source = j.source AND f.sequence = j.sequence) AS name,
               j.status, j.attempts, j.run_at, j.last_result
             FROM (
               SELECT id, job_type, status, CAST(attempts AS bigint) AS attempts,
                 CAST(floor(extract(epoch FROM run_at)) AS bigint) AS run_at,
                 CAST(last_result AS text) AS last_result,
                 CAST(substring(job_type FROM '^archive/([0-9]{1,10})/') AS bigint) AS source,
                 CAST(substring(idempotency_key FROM '^00([0-9]{18})$') AS bigint) AS sequence
               FROM Jobs
               WHERE id COLLATE \"C\" > $1 AND ($2 IS NULL OR status = $2)
                 AND job_type LIKE 'archive/%'
               ORDER BY id COLLATE \"C\" LIMIT $3) AS j
             ORDER BY j.id COLLATE \"C\"",
        );
        let rows: Vec<Row> = on!(self, |db| {
            sqlx::query_as(sql)
                .bind(filter.after.as_deref().unwrap_or_default())
                .bind(filter.status.map(JobStatus::as_str))
                .bind(i64::from(filter.limit.min(MAX_JOBS_LISTED)))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list jobs"))?;
        rows.into_iter().map(Row::read).collect()
    }

    /// Makes every failed job of a part of the queue, or of all, due now, with its attempts forgiven. A running
    /// archiver notices within seconds. Returns how many there were.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn retry_failed(
        &self,
        scope: Option<QueueScope>,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        if !self.has_jobs().await? {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        // Without `done_at`, the time of the failure, no delay is left to wait for.
        let sql = tx.pick(
            "UPDATE Jobs SET status = 'Pending', attempts = 0, run_at = $1, done_at = NULL
             WHERE status = 'Failed' AND job_type LIKE $2",
            "UPDATE Jobs SET status = 'Pending', attempts = 0, run_at = to_timestamp($1::bigint),
               done_at = NULL
             WHERE status = 'Failed' AND job_type LIKE $2",
        );
        let lanes = scope.map_or("archive/%".to_owned(), QueueScope::pattern);
        let retried = on!(tx, |db| {
            sqlx::query(sql)
                .bind(now.as_second())
                .bind(&lanes)
                .execute(db)
                .await
                .map(|done| done.rows_affected())
        })
        .map_err(LedgerError::database("retry failed jobs"))?;
        tx.commit().await?;
        Ok(retried)
    }

    /// An archiver ran at least once with this database.
    pub(super) async fn has_jobs(&self) -> Result<bool, LedgerError> {
        self.has_table(self.pick("Jobs", "apalis.jobs")).await
    }
}
