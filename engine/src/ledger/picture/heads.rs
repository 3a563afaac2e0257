//! The first files of each lane: whatever runs, failed or comes next is among them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{HEADS_PER_LANE, JobPicture, LanePicture, MAX_LANES_SHOWN};
use crate::layout::Sequence;
use crate::ledger::{
    DestinationId, FileKey, LaneName, LastFailure, Ledger, LedgerError, Route, SourceId, on,
    unsigned,
};

/// Uploads in parts that are looked at: as many may be under way as there are lanes.
const MAX_UPLOADS: u32 = 10_000;

#[derive(sqlx::FromRow)]
struct Row {
    job_type: String,
    sequence: Option<i64>,
    name: Option<String>,
    size: Option<i64>,
    status: String,
    sealed: Option<i64>,
    attempts: i64,
    run_at: i64,
    began: Option<i64>,
    ended: Option<i64>,
    last_result: Option<String>,
}

impl Row {
    fn read(self, uploads: &BTreeSet<(Route, Sequence)>) -> Result<Head, LedgerError> {
        let lane: LaneName = self.job_type.parse()?;
        let sequence = self
            .sequence
            .ok_or_else(|| LedgerError::damaged("a job without a sequence, lane", &lane))?;
        let sequence = Sequence(unsigned(sequence, "a job's sequence")?);
        let second = |at: i64| {
            Timestamp::from_second(at).map_err(|_| LedgerError::damaged("a job's time", &at))
        };
        let attempts = u32::try_from(self.attempts);
        let job = JobPicture {
            sequence,
            file_name: self.name,
            size: self
                .size
                .map(|size| unsigned(size, "a file's size"))
                .transpose()?,
            status: self.status.parse()?,
            sealed: self.sealed.is_some(),
            uploading: uploads.contains(&(lane.route, sequence)),
            attempts: attempts
                .map_err(|_| LedgerError::damaged("a job's attempts", &self.attempts))?,
            run_at: second(self.run_at)?,
            began: self.began.map(second).transpose()?,
            ended: self.ended.map(second).transpose()?,
            failure: self.last_result.as_deref().map(LastFailure::read),
        };
        Ok((lane, job))
    }
}

/// A job among the first of its lane.
type Head = (LaneName, JobPicture);

impl Ledger {
    pub(super) async fn lane_pictures(
        &self,
        lanes: &BTreeMap<LaneName, u64>,
    ) -> Result<Vec<LanePicture>, LedgerError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let shown: Vec<String> = lanes
            .keys()
            .take(MAX_LANES_SHOWN)
            .map(ToString::to_string)
            .collect();
        let sql = self.pick(HEADS.0, HEADS.1);
        let rows: Vec<Row> = on!(self, |db| {
            sqlx::query_as(sql)
                .bind(sqlx::types::Json(&shown))
                .bind(i64::from(HEADS_PER_LANE))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("look at the lanes' heads"))?;
        let uploads = self.uploads().await?;
        let mut heads: BTreeMap<LaneName, Vec<JobPicture>> = BTreeMap::new();
        for row in rows {
            let (lane, job) = row.read(&uploads)?;
            heads.entry(lane).or_default().push(job);
        }
        let picture = |(&name, &queued): (&LaneName, &u64)| {
            let mut heads = heads.remove(&name).unwrap_or_default();
            heads.sort_by_key(|job| job.sequence);
            LanePicture {
                name,
                queued,
                heads,
            }
        };
        Ok(lanes.iter().map(picture).collect())
    }

    /// Uploads in parts that were begun.
    async fn uploads(&self) -> Result<BTreeSet<(Route, Sequence)>, LedgerError> {
        let rows: Vec<(i64, i64, i64)> = on!(self, |db| {
            sqlx::query_as("SELECT source, destination, sequence FROM uploads LIMIT $1")
                .bind(i64::from(MAX_UPLOADS))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list uploads"))?;
        rows.into_iter()
            .map(|(source, destination, sequence)| {
                let key = FileKey {
                    source: SourceId::read(source)?,
                    sequence: Sequence(unsigned(sequence, "a sequence")?),
                };
                let route = Route {
                    source: key.source,
                    destination: DestinationId::read(destination)?,
                };
                Ok((route, key.sequence))
            })
            .collect()
    }
}

/// By the stock index on (`job_type`, `idempotency_key`), once for each lane.
pub(in crate::ledger) const HEADS: (&str, &str) = (
    "SELECT j.job_type, j.sequence, f.name, f.size, j.status,
       (SELECT 1 FROM sealed s WHERE s.source = j.source AND s.sequence = j.sequence) AS sealed,
       j.attempts, j.run_at, j.lock_at AS began, j.done_at AS ended, j.last_result
     FROM (
       SELECT job.job_type, job.status, job.attempts, job.run_at, job.lock_at, job.done_at,
         job.last_result, CAST(substr(job.job_type, 9) AS INTEGER) AS source,
         CAST(job.idempotency_key AS INTEGER) AS sequence
       FROM json_each($1) AS lane CROSS JOIN Jobs job
       WHERE job.id IN (SELECT id FROM Jobs h WHERE h.job_type = lane.value
         ORDER BY h.idempotency_key LIMIT $2)) AS j
     LEFT JOIN files f ON f.source = j.source AND f.sequence = j.sequence",
    "SELECT j.job_type, j.sequence, f.name, f.size, j.status,
       (SELECT CAST(1 AS bigint) FROM sealed s
        WHERE s.source = j.source AND s.sequence = j.sequence) AS sealed,
       j.attempts, j.run_at, j.began, j.ended, j.last_result
     FROM (
       SELECT job.job_type, job.status, CAST(job.attempts AS bigint) AS attempts,
         CAST(floor(extract(epoch FROM job.run_at)) AS bigint) AS run_at,
         CAST(floor(extract(epoch FROM job.lock_at)) AS bigint) AS began,
         CAST(floor(extract(epoch FROM job.done_at)) AS bigint) AS ended,
         CAST(job.last_result AS text) AS last_result,
         CAST(substring(job.job_type FROM '^archive/([0-9]{1,10})/') AS bigint) AS source,
         CAST(substring(job.idempotency_key FROM '^00([0-9]{18})$') AS bigint) AS sequence
       FROM jsonb_array_elements_text($1) AS lane
       CROSS JOIN LATERAL (SELECT * FROM Jobs h WHERE h.job_type = lane
         ORDER BY h.idempotency_key LIMIT $2) AS job) AS j
     LEFT JOIN files f ON f.source = j.source AND f.sequence = j.sequence",
);
