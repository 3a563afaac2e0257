//! Parallel runs: what an older job has listed, kept beside what is archived.

use jiff::{SignedDuration, Timestamp};

use super::commit::read_digest;
use super::{Ledger, LedgerError, SourceId, on, storable, stored, time, unsigned};
use crate::digest::Digest;
use crate::layout::Sequence;

/// A parallel run of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityRun {
    /// Whose files are compared.
    pub source: SourceId,
    /// When it began.
    pub started_at: Timestamp,
    /// How long both must agree.
    pub window: SignedDuration,
    /// How much later one side may have a file.
    pub grace: SignedDuration,
    /// Where the older job's manifests are, as they were named.
    pub manifests: Vec<String>,
    /// When a person ended it.
    pub finished_at: Option<Timestamp>,
    /// When all manifests were read last.
    pub scanned_at: Option<Timestamp>,
    /// Why they could not be read since.
    pub scan_error: Option<String>,
    /// Lines in them that are no sums, as of the last time: manifest and number.
    pub unread: Vec<String>,
}

/// A look at all manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// When.
    pub at: Timestamp,
    /// Lines that are no sums.
    pub unread: Vec<String>,
}

/// The binlog behind something that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Of the binlog.
    pub sha256: Digest,
    /// Bytes of it, where that is known.
    pub size: Option<u64>,
}

/// A line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// The manifest's URL.
    pub manifest: String,
    /// The name in it.
    pub object: String,
    /// The digest in it.
    pub listed: Digest,
    /// The binlog that it means.
    pub binlog: String,
    /// It was there when the run began.
    pub before_start: bool,
    /// When it was first seen.
    pub seen_at: Timestamp,
    /// The binlog in it, once known.
    pub content: Option<Content>,
    /// Why that cannot be known.
    pub note: Option<String>,
}

/// A file that is committed somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Its number.
    pub sequence: Sequence,
    /// Its name.
    pub name: String,
    /// Of its content.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// When it was committed first.
    pub at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct RunRow {
    source: i64,
    started_at: i64,
    window_seconds: i64,
    grace_seconds: i64,
    manifests: String,
    finished_at: Option<i64>,
    scanned_at: Option<i64>,
    scan_error: Option<String>,
    unread: Option<String>,
}

#[derive(sqlx::FromRow)]
struct ListedRow {
    manifest: String,
    object: String,
    listed: Vec<u8>,
    binlog: String,
    before_start: i64,
    seen_at: i64,
    content: Option<Vec<u8>>,
    content_size: Option<i64>,
    note: Option<String>,
}

#[derive(sqlx::FromRow)]
struct ArchivedRow {
    sequence: i64,
    name: String,
    sha256: Vec<u8>,
    size: i64,
    at: i64,
}

impl Ledger {
    /// Begins a parallel run; what an earlier one of this source has seen is forgotten.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn start_parity(&self, run: &ParityRun) -> Result<(), LedgerError> {
        let manifests = serde_json::to_string(&run.manifests)
            .map_err(|error| LedgerError::damaged("a list of manifests", &error))?;
        let mut tx = self.begin().await?;
        for statement in [
            "DELETE FROM parity_listed WHERE source = $1",
            "DELETE FROM parity_runs WHERE source = $1",
        ] {
            let done = on!(tx, |db| {
                sqlx::query(statement)
                    .bind(run.source.stored())
                    .execute(db)
                    .await
                    .map(|_| ())
            });
            done.map_err(LedgerError::database("forget a parallel run"))?;
        }
        let done = on!(tx, |db| {
            sqlx::query(
                "INSERT INTO parity_runs (source, started_at, window_seconds, grace_seconds, manifests)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(run.source.stored())
            .bind(run.started_at.as_microsecond())
            .bind(run.window.as_secs())
            .bind(run.grace.as_secs())
            .bind(&manifests)
            .execute(db)
            .await
            .map(|_| ())
        });
        done.map_err(LedgerError::database("begin a parallel run"))?;
        tx.commit().await
    }

    /// Ends a parallel run. What it saw stays.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn finish_parity(&self, source: SourceId, now: Timestamp) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query("UPDATE parity_runs SET finished_at = $2 WHERE source = $1")
                .bind(source.stored())
                .bind(now.as_microsecond())
                .execute(db)
                .await
                .map(|_| ())
        });
        done.map_err(LedgerError::database("end a parallel run"))?;
        tx.commit().await
    }

    /// All parallel runs, by source.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn parity_runs(&self) -> Result<Vec<ParityRun>, LedgerError> {
        let rows: Vec<RunRow> = on!(self, |db| {
            sqlx::query_as(
                "SELECT source, started_at, window_seconds, grace_seconds, manifests, finished_at, scanned_at,
                   scan_error, unread FROM parity_runs ORDER BY source",
            )
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("list parallel runs"))?;
        rows.into_iter().map(RunRow::read).collect()
    }

    /// Records what a look at all manifests found: new lines, and those whose content became known.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn record_listed(
        &self,
        source: SourceId,
        files: &[ListedFile],
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        for file in files {
            let content = file.content;
            let done = on!(tx, |db| {
                sqlx::query(
                    "INSERT INTO parity_listed (source, manifest, object, listed, binlog, before_start,
                       seen_at, content, content_size, note)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                     ON CONFLICT (source, manifest, object, listed) DO UPDATE SET
                       content = excluded.content, content_size = excluded.content_size,
                       note = excluded.note",
                )
                .bind(source.stored())
                .bind(storable(&file.manifest))
                .bind(storable(&file.object))
                .bind(file.listed.as_bytes().as_slice())
                .bind(storable(&file.binlog))
                .bind(i64::from(file.before_start))
                .bind(file.seen_at.as_microsecond())
                .bind(content.map(|content| content.sha256.as_bytes().to_vec()))
                .bind(content.and_then(|content| content.size).map(stored))
                .bind(file.note.as_deref().map(storable))
                .execute(db)
                .await
                .map(|_| ())
            });
            done.map_err(LedgerError::database("record a listed file"))?;
        }
        tx.commit().await
    }

    /// Records a look at all manifests, or why it failed; the time of the last good one stays.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn set_parity_scanned(
        &self,
        source: SourceId,
        scanned: Result<Scan, String>,
    ) -> Result<(), LedgerError> {
        let (at, unread, error) = match scanned {
            Ok(scan) => {
                let unread = serde_json::to_string(&scan.unread);
                let unread = unread
                    .map_err(|error| LedgerError::damaged("lines that are no sums", &error))?;
                (Some(scan.at.as_microsecond()), Some(unread), None)
            }
            Err(error) => (None, None, Some(error)),
        };
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query(
                "UPDATE parity_runs SET scanned_at = coalesce($2, scanned_at), scan_error = $3,
                   unread = coalesce($4, unread)
                 WHERE source = $1",
            )
            .bind(source.stored())
            .bind(at)
            .bind(error.as_deref().map(storable))
            .bind(unread.as_deref().map(storable))
            .execute(db)
            .await
            .map(|_| ())
        });
        done.map_err(LedgerError::database("record a look at manifests"))?;
        tx.commit().await
    }

    /// All that a run has seen in manifests.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn listed_files(&self, source: SourceId) -> Result<Vec<ListedFile>, LedgerError> {
        let rows: Vec<ListedRow> = on!(self, |db| {
            sqlx::query_as(
                "SELECT manifest, object, listed, binlog, before_start, seen_at, content, content_size, note
                 FROM parity_listed WHERE source = $1 ORDER BY manifest, object, listed",
            )
            .bind(source.stored())
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("list what manifests list"))?;
        rows.into_iter().map(ListedRow::read).collect()
    }

    /// The files of a source that were committed anywhere since a moment.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn archived_since(
        &self,
        source: SourceId,
        since: Timestamp,
    ) -> Result<Vec<ArchivedFile>, LedgerError> {
        let rows: Vec<ArchivedRow> = on!(self, |db| {
            sqlx::query_as(
                "SELECT c.sequence AS sequence, f.name AS name, c.plain_sha256 AS sha256, c.size AS size,
                   min(c.committed_at) AS at
                 FROM commits c JOIN files f ON f.source = c.source AND f.sequence = c.sequence
                 WHERE c.source = $1 GROUP BY c.sequence, f.name, c.plain_sha256, c.size
                 HAVING min(c.committed_at) >= $2 ORDER BY c.sequence",
            )
            .bind(source.stored())
            .bind(since.as_microsecond())
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("list what was archived"))?;
        rows.into_iter().map(ArchivedRow::read).collect()
    }

    /// One committed file of a source.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn archived_file(
        &self,
        source: SourceId,
        sequence: Sequence,
    ) -> Result<Option<ArchivedFile>, LedgerError> {
        let row: Option<ArchivedRow> = on!(self, |db| {
            sqlx::query_as(
                "SELECT c.sequence AS sequence, f.name AS name, c.plain_sha256 AS sha256, c.size AS size,
                   c.committed_at AS at
                 FROM commits c JOIN files f ON f.source = c.source AND f.sequence = c.sequence
                 WHERE c.source = $1 AND c.sequence = $2 ORDER BY c.committed_at LIMIT 1",
            )
            .bind(source.stored())
            .bind(stored(sequence.0))
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("look for a committed file"))?;
        row.map(ArchivedRow::read).transpose()
    }
}

impl RunRow {
    fn read(self) -> Result<ParityRun, LedgerError> {
        let at = |micros| time(micros, "a time of a parallel run");
        Ok(ParityRun {
            source: SourceId::read(self.source)?,
            started_at: at(self.started_at)?,
            window: SignedDuration::from_secs(self.window_seconds),
            grace: SignedDuration::from_secs(self.grace_seconds),
            manifests: serde_json::from_str(&self.manifests)
                .map_err(|_| LedgerError::damaged("a list of manifests", &self.manifests))?,
            finished_at: self.finished_at.map(at).transpose()?,
            scanned_at: self.scanned_at.map(at).transpose()?,
            scan_error: self.scan_error,
            unread: match &self.unread {
                Some(unread) => serde_json::from_str(unread)
                    .map_err(|_| LedgerError::damaged("lines that are no sums", unread))?,
                None => Vec::new(),
            },
        })
    }
}

impl ListedRow {
    fn read(self) -> Result<ListedFile, LedgerError> {
        let size = self.content_size;
        let size = size.map(|size| unsigned(size, "a size")).transpose()?;
        let sha256 = self.content.map(read_digest).transpose()?;
        Ok(ListedFile {
            manifest: self.manifest,
            object: self.object,
            listed: read_digest(self.listed)?,
            binlog: self.binlog,
            before_start: self.before_start != 0,
            seen_at: time(self.seen_at, "when a file was listed")?,
            content: sha256.map(|sha256| Content { sha256, size }),
            note: self.note,
        })
    }
}

impl ArchivedRow {
    fn read(self) -> Result<ArchivedFile, LedgerError> {
        Ok(ArchivedFile {
            sequence: Sequence(unsigned(self.sequence, "a sequence")?),
            name: self.name,
            sha256: read_digest(self.sha256)?,
            size: unsigned(self.size, "a size")?,
            at: time(self.at, "a commit's time")?,
        })
    }
}
