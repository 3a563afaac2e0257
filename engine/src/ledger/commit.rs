//! Commits per file and destination, and what follows from them: chain head, watermark, gaps.
//!
//! # Invariants
//! - A recorded commit is never replaced: the same again is no change, another content is a
//!   [`LedgerError::Conflict`].
//! - `positions` follows `commits` in the same transaction. The watermark is the end of the unbroken run of
//!   sequences that begins with the first committed one, whatever order the commits came in.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DestinationId, FileKey, Ledger, LedgerError, NewFile, SourceId, Tx, on, stored, time, unsigned,
};
use crate::digest::Digest;
use crate::layout::Sequence;

/// Gaps that [`Ledger::gaps`] lists at most; nobody reads more, and the first one is what holds up the
/// watermark.
pub const MAX_GAPS_LISTED: u32 = 1_000;

/// What a file's manifest entry, once stored, says: all that the ledger keeps of it.
///
/// Stored inside the queue while a job is acknowledged; additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Digest of the manifest entry's bytes: the link of the hash chain.
    pub entry_sha256: Digest,
    /// Digest of the binlog file.
    pub plain_sha256: Digest,
    /// Bytes of the binlog file.
    pub size: u64,
    /// Commit time of its last transaction, if it has one.
    pub last_commit: Option<Timestamp>,
    /// All GTIDs up to the end of the file, as MySQL prints them.
    pub gtids: Option<String>,
}

/// A commit that was read from a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedCommit {
    /// Its sequence.
    pub sequence: Sequence,
    /// The binlog file's name.
    pub name: String,
    /// What its manifest entry says.
    pub committed: Committed,
    /// When the entry was written.
    pub committed_at: Timestamp,
}

/// A commit as it is recorded, for one file at one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Digest of its manifest entry's bytes.
    pub entry_sha256: Digest,
    /// Digest of the binlog file.
    pub plain_sha256: Digest,
    /// When it was committed.
    pub committed_at: Timestamp,
}

/// The last file committed at a destination: what the next manifest entry links to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// The file.
    pub sequence: Sequence,
    /// Digest of its manifest entry.
    pub entry_sha256: Digest,
    /// All GTIDs up to its end, as MySQL prints them.
    pub gtids: Option<String>,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// Commit time of its last transaction, if it has one.
    pub last_commit: Option<Timestamp>,
}

/// A commit as one statement for many of them takes it.
#[derive(Serialize)]
struct NewCommit {
    sequence: i64,
    entry_sha256: Digest,
    plain_sha256: Digest,
    size: i64,
    last_commit: Option<i64>,
    committed_at: i64,
}

impl NewCommit {
    fn new(sequence: Sequence, committed: &Committed, at: Timestamp) -> Self {
        Self {
            sequence: stored(sequence.0),
            entry_sha256: committed.entry_sha256,
            plain_sha256: committed.plain_sha256,
            size: stored(committed.size),
            last_commit: committed.last_commit.map(Timestamp::as_microsecond),
            committed_at: at.as_microsecond(),
        }
    }
}

impl Tx {
    /// Records a commit, moves the watermark and forgets the upload. The same commit again is no change.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when other content is committed there; nothing was changed then.
    pub async fn record_commit(
        &mut self,
        key: FileKey,
        destination: DestinationId,
        committed: &Committed,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.lock_source(key.source).await?;
        let row = NewCommit::new(key.sequence, committed, at);
        let sequences = key.sequence..=key.sequence;
        if self.insert_commits(key.source, destination, &[row]).await? {
            let gtids = committed.gtids.as_deref();
            self.advance(key.source, destination, sequences.clone(), gtids)
                .await?;
        }
        self.delete_uploads(key.source, destination, &sequences)
            .await
    }

    /// True when one of them was not recorded before.
    async fn insert_commits(
        &mut self,
        source: SourceId,
        destination: DestinationId,
        commits: &[NewCommit],
    ) -> Result<bool, LedgerError> {
        let sql = self.pick(
            "INSERT INTO commits (source, destination, sequence, entry_sha256, plain_sha256,
               size, last_commit, committed_at)
             SELECT $2, $3, value ->> '$.sequence', unhex(value ->> '$.entry_sha256'),
               unhex(value ->> '$.plain_sha256'), value ->> '$.size', value ->> '$.last_commit',
               value ->> '$.committed_at'
             FROM json_each($1) WHERE true
             ON CONFLICT (source, destination, sequence) DO NOTHING",
            "INSERT INTO commits (source, destination, sequence, entry_sha256, plain_sha256,
               size, last_commit, committed_at)
             SELECT $2, $3, sequence, decode(entry_sha256, 'hex'), decode(plain_sha256, 'hex'),
               size, last_commit, committed_at
             FROM jsonb_to_recordset($1) AS new (sequence bigint, entry_sha256 text,
               plain_sha256 text, size bigint, last_commit bigint, committed_at bigint)
             ON CONFLICT (source, destination, sequence) DO NOTHING",
        );
        let inserted = on!(self, |db| {
            sqlx::query(sql)
                .bind(sqlx::types::Json(commits))
                .bind(source.stored())
                .bind(destination.stored())
                .execute(db)
                .await
                .map(|done| done.rows_affected())
        })
        .map_err(LedgerError::database("record commits"))?;
        if inserted < commits.len() as u64 {
            self.compare_commits(source, destination, commits).await?;
        }
        Ok(inserted > 0)
    }

    /// What was recorded before must be the same.
    async fn compare_commits(
        &mut self,
        source: SourceId,
        destination: DestinationId,
        commits: &[NewCommit],
    ) -> Result<(), LedgerError> {
        let lowest = commits.iter().map(|commit| commit.sequence).min();
        let highest = commits.iter().map(|commit| commit.sequence).max();
        let rows: Vec<(i64, Vec<u8>)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT sequence, entry_sha256 FROM commits
                 WHERE source = $1 AND destination = $2 AND sequence BETWEEN $3 AND $4",
            )
            .bind(source.stored())
            .bind(destination.stored())
            .bind(lowest)
            .bind(highest)
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("compare commits"))?;
        let recorded: HashMap<i64, Vec<u8>> = rows.into_iter().collect();
        for commit in commits {
            let Some(digest) = recorded.get(&commit.sequence) else {
                continue;
            };
            let recorded = read_digest(digest.clone())?;
            if recorded != commit.entry_sha256 {
                return Err(LedgerError::Conflict {
                    sequence: Sequence(unsigned(commit.sequence, "a sequence")?),
                    recorded,
                    offered: commit.entry_sha256,
                });
            }
        }
        Ok(())
    }

    /// Forgets the uploads of committed files.
    async fn delete_uploads(
        &mut self,
        source: SourceId,
        destination: DestinationId,
        sequences: &RangeInclusive<Sequence>,
    ) -> Result<(), LedgerError> {
        on!(self, |db| {
            sqlx::query(FORGET_UPLOADS)
                .bind(source.stored())
                .bind(destination.stored())
                .bind(stored(sequences.start().0))
                .bind(stored(sequences.end().0))
                .execute(db)
                .await
                .map(|_| ())
        })
        .map_err(LedgerError::database("forget uploads"))
    }

    /// Brings `positions` in line with `commits` after sequences within `inserted` were added. `gtids` are
    /// those of the highest one.
    async fn advance(
        &mut self,
        source: SourceId,
        destination: DestinationId,
        inserted: RangeInclusive<Sequence>,
        gtids: Option<&str>,
    ) -> Result<(), LedgerError> {
        let old: Option<(i64, i64, i64, Option<String>)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT first, watermark, head, head_gtids FROM positions
                 WHERE source = $1 AND destination = $2",
            )
            .bind(source.stored())
            .bind(destination.stored())
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("read a watermark"))?;
        let (low, high) = (stored(inserted.start().0), stored(inserted.end().0));
        let (first, run_from, head, gtids) = match old {
            None => (low, low, high, gtids.map(str::to_owned)),
            Some((first, watermark, head, old_gtids)) => (
                first.min(low),
                // The unbroken run from the first sequence begins anew only when there is a new first.
                if low < first { low } else { watermark },
                head.max(high),
                if high >= head {
                    gtids.map(str::to_owned)
                } else {
                    old_gtids
                },
            ),
        };
        let watermark = self.end_of_run(source, destination, run_from).await?;
        on!(self, |db| {
            sqlx::query(
                "INSERT INTO positions (source, destination, first, watermark, head, head_gtids)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (source, destination) DO UPDATE SET first = excluded.first,
                   watermark = excluded.watermark, head = excluded.head,
                   head_gtids = excluded.head_gtids",
            )
            .bind(source.stored())
            .bind(destination.stored())
            .bind(first)
            .bind(watermark)
            .bind(head)
            .bind(gtids)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
        })
        .map_err(LedgerError::database("move a watermark"))?;
        Ok(())
    }

    /// The last sequence of the unbroken run of commits that holds `from`.
    async fn end_of_run(
        &mut self,
        source: SourceId,
        destination: DestinationId,
        from: i64,
    ) -> Result<i64, LedgerError> {
        on!(self, |db| {
            sqlx::query_scalar(END_OF_RUN)
                .bind(source.stored())
                .bind(destination.stored())
                .bind(from)
                .fetch_one(db)
                .await
        })
        .map_err(LedgerError::database("find the watermark"))
    }
}

impl Ledger {
    /// Records commits that a bucket holds, to rebuild the ledger or to catch up with another writer. One
    /// transaction for all of them: pass pages of a thousand or so that follow one another. Commits that are
    /// recorded already are left as they are.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when the bucket contradicts the ledger; nothing of the page was recorded then.
    pub async fn import_commits(
        &self,
        source: SourceId,
        destination: DestinationId,
        commits: &[ImportedCommit],
    ) -> Result<(), LedgerError> {
        let highest = commits.iter().max_by_key(|commit| commit.sequence);
        let lowest = commits.iter().map(|commit| commit.sequence).min();
        let (Some(lowest), Some(highest)) = (lowest, highest) else {
            return Ok(());
        };
        let files: Vec<NewFile> = commits
            .iter()
            .map(|commit| NewFile {
                key: FileKey {
                    source,
                    sequence: commit.sequence,
                },
                name: commit.name.clone(),
                path: None,
                size: commit.committed.size,
                fingerprint: None,
            })
            .collect();
        let rows: Vec<NewCommit> = commits
            .iter()
            .map(|commit| NewCommit::new(commit.sequence, &commit.committed, commit.committed_at))
            .collect();
        let sequences = lowest..=highest.sequence;
        let gtids = highest.committed.gtids.as_deref();
        let mut tx = self.begin().await?;
        tx.discover_all(&files, highest.committed_at).await?;
        tx.insert_commits(source, destination, &rows).await?;
        tx.delete_uploads(source, destination, &sequences).await?;
        tx.advance(source, destination, sequences, gtids).await?;
        tx.commit().await
    }

    /// The commit of a file at a destination; none while it is not committed there.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn commit(
        &self,
        key: FileKey,
        destination: DestinationId,
    ) -> Result<Option<Commit>, LedgerError> {
        let row: Option<(Vec<u8>, Vec<u8>, i64)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT entry_sha256, plain_sha256, committed_at FROM commits
                 WHERE source = $1 AND destination = $2 AND sequence = $3",
            )
            .bind(key.source.stored())
            .bind(destination.stored())
            .bind(stored(key.sequence.0))
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("read a commit"))?;
        let Some((entry, plain, at)) = row else {
            return Ok(None);
        };
        Ok(Some(Commit {
            entry_sha256: read_digest(entry)?,
            plain_sha256: read_digest(plain)?,
            committed_at: time(at, "a commit's time")?,
        }))
    }

    /// The last file committed at a destination: the highest sequence, gaps below it or not.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn chain_head(
        &self,
        source: SourceId,
        destination: DestinationId,
    ) -> Result<Option<ChainHead>, LedgerError> {
        let row: Option<HeadColumns> = on!(self, |db| {
            sqlx::query_as(CHAIN_HEAD)
                .bind(source.stored())
                .bind(destination.stored())
                .fetch_optional(db)
                .await
        })
        .map_err(LedgerError::database("read the chain's head"))?;
        let Some((sequence, entry, gtids, committed_at, last_commit)) = row else {
            return Ok(None);
        };
        Ok(Some(ChainHead {
            sequence: Sequence(unsigned(sequence, "a sequence")?),
            entry_sha256: read_digest(entry)?,
            gtids,
            committed_at: time(committed_at, "a commit's time")?,
            last_commit: last_commit
                .map(|t| time(t, "a transaction's commit time"))
                .transpose()?,
        }))
    }

    /// The highest sequence up to which, from the first committed one on, all are committed at this
    /// destination.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn watermark(
        &self,
        source: SourceId,
        destination: DestinationId,
    ) -> Result<Option<Sequence>, LedgerError> {
        let watermark: Option<i64> = on!(self, |db| {
            sqlx::query_scalar(
                "SELECT watermark FROM positions WHERE source = $1 AND destination = $2",
            )
            .bind(source.stored())
            .bind(destination.stored())
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("read a watermark"))?;
        watermark
            .map(|w| unsigned(w, "a watermark").map(Sequence))
            .transpose()
    }

    /// How many files are committed on a route.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn commit_count(
        &self,
        source: SourceId,
        destination: DestinationId,
    ) -> Result<u64, LedgerError> {
        let count: i64 = on!(self, |db| {
            sqlx::query_scalar(
                "SELECT count(*) FROM commits WHERE source = $1 AND destination = $2",
            )
            .bind(source.stored())
            .bind(destination.stored())
            .fetch_one(db)
            .await
        })
        .map_err(LedgerError::database("count commits"))?;
        unsigned(count, "a count")
    }

    /// The ranges of sequences that are missing between committed ones, ascending, at most
    /// [`MAX_GAPS_LISTED`].
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn gaps(
        &self,
        source: SourceId,
        destination: DestinationId,
    ) -> Result<Vec<RangeInclusive<Sequence>>, LedgerError> {
        // Below the watermark there is none, so an archive without gaps costs nothing to ask.
        let rows: Vec<(i64, i64)> = on!(self, |db| {
            sqlx::query_as(GAPS)
                .bind(source.stored())
                .bind(destination.stored())
                .bind(i64::from(MAX_GAPS_LISTED))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("look for gaps"))?;
        rows.into_iter()
            .map(|(from, to)| {
                let sequence = |s| unsigned(s, "a sequence").map(Sequence);
                Ok(sequence(from)?..=sequence(to)?)
            })
            .collect()
    }
}

/// Sequence, digest of the entry, GTIDs, time of the commit, time of the last transaction.
type HeadColumns = (i64, Vec<u8>, Option<String>, i64, Option<i64>);

// What another table has for a row is asked in scalar subqueries. A join PostgreSQL may turn around: without
// statistics, as after an import, it reads all commits of a route for each row.

pub(super) const END_OF_RUN: &str = "SELECT c.sequence FROM commits c
     WHERE c.source = $1 AND c.destination = $2 AND c.sequence >= $3
       AND (SELECT 1 FROM commits n WHERE n.source = $1 AND n.destination = $2
         AND n.sequence = c.sequence + 1) IS NULL
     ORDER BY c.sequence LIMIT 1";

// The last transaction need not be in the last file: an idle server closes empty ones. Of those a thousand are looked
// through.
pub(super) const CHAIN_HEAD: &str = "SELECT sequence, entry_sha256, (
       SELECT head_gtids FROM positions WHERE source = $1 AND destination = $2) AS gtids,
       committed_at, (
       SELECT c.last_commit FROM commits c WHERE c.source = $1 AND c.destination = $2
         AND c.sequence BETWEEN commits.sequence - 1000 AND commits.sequence
         AND c.last_commit IS NOT NULL ORDER BY c.sequence DESC LIMIT 1) AS last_commit
     FROM commits WHERE source = $1 AND destination = $2 AND sequence = (
       SELECT head FROM positions WHERE source = $1 AND destination = $2)";

pub(super) const GAPS: &str = "SELECT sequence + 1, next - 1 FROM (
       SELECT sequence, lead(sequence) OVER (ORDER BY sequence) AS next FROM commits
       WHERE source = $1 AND destination = $2 AND sequence >= (
         SELECT watermark FROM positions WHERE source = $1 AND destination = $2)) AS runs
     WHERE next > sequence + 1 ORDER BY sequence LIMIT $3";

pub(super) const FORGET_UPLOADS: &str = "DELETE FROM uploads
     WHERE source = $1 AND destination = $2 AND sequence BETWEEN $3 AND $4
       AND (SELECT 1 FROM commits c WHERE c.source = $1 AND c.destination = $2
         AND c.sequence = uploads.sequence) IS NOT NULL";

pub(super) fn read_digest(bytes: Vec<u8>) -> Result<Digest, LedgerError> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|bytes: Vec<u8>| LedgerError::damaged("a digest, with bytes", &bytes.len()))?;
    Ok(Digest::from(bytes))
}
