//! How far each source is archived at each destination, and what is in the way: for status and console.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::{
    ChainHead, DestinationId, JobFilter, JobRow, JobStatus, LaneName, LastFailure, Ledger,
    LedgerError, MAX_JOBS_LISTED, Route, Source, SourceId, on, unsigned,
};
use crate::layout::Sequence;

/// Failed jobs that [`Ledger::status`] reads at most. There is one per lane: more than that many lanes are
/// beyond any sane configuration.
pub const MAX_FAILURES_READ: u32 = MAX_JOBS_LISTED;

/// One source's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Which.
    pub source: Source,
    /// The newest file that was found, archived or not.
    pub newest: Option<Sequence>,
    /// Each destination that it has commits or jobs for, by URL.
    pub destinations: Vec<DestinationStatus>,
}

/// One source's state at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationStatus {
    /// Which.
    pub destination: DestinationId,
    /// Its URL.
    pub url: String,
    /// All files from the first committed one up to this are committed.
    pub watermark: Option<Sequence>,
    /// The last file committed.
    pub head: Option<ChainHead>,
    /// What is missing between committed files.
    pub gaps: Vec<RangeInclusive<Sequence>>,
    /// Jobs that are not done, the failing ones included.
    pub queued: u64,
    /// Of those, the ones that are retried slowly because someone has to look.
    pub stalled: u64,
    /// The lowest failing file: what holds up the watermark.
    pub failing: Option<FailingFile>,
}

/// A file whose last attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingFile {
    /// Which.
    pub sequence: Sequence,
    /// Its name, when known.
    pub file_name: Option<String>,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt: Timestamp,
    /// Why it failed.
    pub failure: LastFailure,
}

impl Ledger {
    /// The state of every source at every destination.
    ///
    /// Each part is read by itself: while files are being committed, parts may be a moment apart.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn status(&self) -> Result<Vec<SourceStatus>, LedgerError> {
        let destinations = self.destinations().await?;
        let queued = self.queued().await?;
        let failing = self.failing().await?;
        let newest = self.newest_files().await?;
        let mut sources = Vec::new();
        for source in self.sources().await? {
            let mut states = Vec::new();
            for destination in &destinations {
                let route = Route {
                    source: source.id,
                    destination: destination.id,
                };
                let head = self.chain_head(source.id, destination.id).await?;
                let depth = queued.get(&route).copied().unwrap_or(0);
                if head.is_none() && depth == 0 {
                    continue;
                }
                let failures = failing.get(&route).map_or(&[][..], Vec::as_slice);
                states.push(DestinationStatus {
                    destination: destination.id,
                    url: destination.url.clone(),
                    watermark: self.watermark(source.id, destination.id).await?,
                    head,
                    gaps: self.gaps(source.id, destination.id).await?,
                    queued: depth,
                    stalled: failures.iter().filter(|f| f.failure.stalled).count() as u64,
                    failing: failures.iter().min_by_key(|f| f.sequence).cloned(),
                });
            }
            sources.push(SourceStatus {
                newest: newest.get(&source.id).copied(),
                source,
                destinations: states,
            });
        }
        Ok(sources)
    }

    pub(super) async fn newest_files(&self) -> Result<BTreeMap<SourceId, Sequence>, LedgerError> {
        let rows: Vec<(i64, Option<i64>)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT id, (SELECT max(sequence) FROM files WHERE source = sources.id)
                 FROM sources",
            )
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("look for the newest files"))?;
        rows.into_iter()
            .filter_map(|(source, newest)| Some((source, newest?)))
            .map(|(source, newest)| {
                let newest = unsigned(newest, "a sequence").map(Sequence)?;
                Ok((SourceId::read(source)?, newest))
            })
            .collect()
    }

    /// Jobs that are not done, by route.
    pub(crate) async fn queued(&self) -> Result<BTreeMap<Route, u64>, LedgerError> {
        let mut queued = BTreeMap::new();
        for (lane, count) in self.queued_by_lane().await? {
            *queued.entry(lane.route).or_default() += count;
        }
        Ok(queued)
    }

    /// Jobs that are not done, by lane.
    pub(super) async fn queued_by_lane(&self) -> Result<BTreeMap<LaneName, u64>, LedgerError> {
        if !self.has_jobs().await? {
            return Ok(BTreeMap::new());
        }
        // Answered from the index on (job_type, idempotency_key) alone, also for a backlog of 500,000.
        let rows: Vec<(String, i64)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT job_type, count(*) FROM Jobs
                 WHERE job_type LIKE 'archive/%' GROUP BY job_type",
            )
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("count jobs"))?;
        rows.into_iter()
            .map(|(lane, count)| Ok((lane.parse()?, unsigned(count, "a count")?)))
            .collect()
    }

    async fn failing(&self) -> Result<BTreeMap<Route, Vec<FailingFile>>, LedgerError> {
        let filter = JobFilter {
            status: Some(JobStatus::Failed),
            after: None,
            limit: MAX_FAILURES_READ,
        };
        let mut failing: BTreeMap<Route, Vec<FailingFile>> = BTreeMap::new();
        for job in self.jobs(&filter).await? {
            let route = job.lane.route;
            failing.entry(route).or_default().extend(job.into_failing());
        }
        Ok(failing)
    }
}

impl JobRow {
    fn into_failing(self) -> Option<FailingFile> {
        Some(FailingFile {
            sequence: self.sequence,
            file_name: self.file_name,
            attempts: self.attempts,
            next_attempt: self.run_at,
            failure: self.failure?,
        })
    }
}
