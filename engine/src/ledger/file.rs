//! Binlog files as they were found, and what sealing them yielded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::commit::read_digest;
use super::{DestinationId, Ledger, LedgerError, SourceId, Tx, on, stored, time, unsigned};
use crate::digest::Digest;
use crate::layout::Sequence;

/// One binlog file of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    /// Whose.
    pub source: SourceId,
    /// Which.
    pub sequence: Sequence,
}

/// Tells whether a file is still the one that was seen before, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// `st_mtim` in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// A file to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Which.
    pub key: FileKey,
    /// Its name on the server.
    pub name: String,
    /// Where the index names it; none for a file that is only known from a bucket.
    pub path: Option<PathBuf>,
    /// Bytes.
    pub size: u64,
    /// As found on disk; none for a file that is only known from a bucket.
    pub fingerprint: Option<Fingerprint>,
}

/// A recorded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Which.
    pub key: FileKey,
    /// Its name on the server.
    pub name: String,
    /// Where the index named it; none for a file that is only known from a bucket.
    pub path: Option<PathBuf>,
    /// Bytes.
    pub size: u64,
    /// As last seen on disk; none for a file that is only known from a bucket.
    pub fingerprint: Option<Fingerprint>,
    /// When it was first recorded.
    pub discovered_at: Timestamp,
    /// What sealing it yielded, until that is cleared.
    pub sealed: Option<SealedPayload>,
}

/// What the watch compares a name in the index with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// As last seen on disk; none for a file that is only known from a bucket.
    pub fingerprint: Option<Fingerprint>,
    /// Digest of its content, once it is committed anywhere.
    pub sha256: Option<Digest>,
}

/// A file that is committed nowhere yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFile {
    /// Which.
    pub key: FileKey,
    /// Its name on the server.
    pub name: String,
    /// Where the index named it.
    pub path: Option<PathBuf>,
}

/// What sealing a file yielded, as JSON whose shape the pipeline owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedPayload(pub String);

/// Whether a file was new to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Recorded just now.
    New,
    /// Recorded before; the row was left as it was.
    Known,
}

impl Fingerprint {
    /// The fingerprint of a file.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
        }
    }
}

/// Device, inode, size, mtime as stored. The first two are opaque bits.
type StoredFingerprint = (Option<i64>, Option<i64>, Option<i64>, Option<i64>);

fn stored_fingerprint(fingerprint: Option<Fingerprint>) -> StoredFingerprint {
    match fingerprint {
        None => (None, None, None, None),
        Some(f) => (
            Some(f.device.cast_signed()),
            Some(f.inode.cast_signed()),
            Some(stored(f.size)),
            Some(f.mtime_ns),
        ),
    }
}

fn read_fingerprint(columns: StoredFingerprint) -> Result<Option<Fingerprint>, LedgerError> {
    let (Some(device), Some(inode), Some(size), Some(mtime_ns)) = columns else {
        return Ok(None);
    };
    Ok(Some(Fingerprint {
        device: device.cast_unsigned(),
        inode: inode.cast_unsigned(),
        size: unsigned(size, "a file's size")?,
        mtime_ns,
    }))
}

/// Paths come out of the index, which is UTF-8.
fn stored_path(path: Option<&Path>) -> Result<Option<&str>, LedgerError> {
    let text = |path: &Path| LedgerError::damaged("a path that is not UTF-8", &path.display());
    path.map(|path| path.to_str().ok_or_else(|| text(path)))
        .transpose()
}

pub(super) const KNOWN_FILES: &str = "SELECT sequence, device, inode, file_size, mtime_ns, (
       SELECT c.plain_sha256 FROM destinations d JOIN commits c
         ON c.source = f.source AND c.destination = d.id AND c.sequence = f.sequence
       LIMIT 1) AS sha256
     FROM files f WHERE source = $1 AND sequence >= $2";

pub(super) const WAITING_FILES: &str = "SELECT sequence, name, path FROM files f
     WHERE source = $1 AND sequence > coalesce(
         (SELECT min(watermark) FROM positions WHERE source = $1), 0)
       AND (SELECT 1 FROM destinations d JOIN commits c
         ON c.source = f.source AND c.destination = d.id AND c.sequence = f.sequence
         LIMIT 1) IS NULL
     ORDER BY sequence";

pub(super) const ARCHIVED_FILES: &str = "SELECT sequence, name, size FROM files f
     WHERE source = $1 AND sequence > $2
       AND (SELECT 1 FROM destinations d JOIN commits c
         ON c.source = f.source AND c.destination = d.id AND c.sequence = f.sequence
         LIMIT 1) IS NOT NULL
     ORDER BY sequence";

pub(super) const PREVIOUS_FILE: &str =
    "SELECT max(sequence) FROM files WHERE source = $1 AND sequence < $2";

/// A file as one statement for many of them takes it.
#[derive(Serialize)]
struct Discovered<'a> {
    source: i64,
    sequence: i64,
    name: &'a str,
    size: i64,
    device: Option<i64>,
    inode: Option<i64>,
    file_size: Option<i64>,
    mtime_ns: Option<i64>,
    path: Option<&'a str>,
}

impl Tx {
    /// Records a file unless it is known.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn discover(
        &mut self,
        file: &NewFile,
        at: Timestamp,
    ) -> Result<Discovery, LedgerError> {
        let new = self.discover_all(std::slice::from_ref(file), at).await?;
        Ok(if new == 0 {
            Discovery::Known
        } else {
            Discovery::New
        })
    }

    /// Records those of many files that are not known, in one statement: a restart offers the whole index
    /// again. A file that was only known from a bucket gets its path. Returns how many were new or found.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn discover_all(
        &mut self,
        files: &[NewFile],
        at: Timestamp,
    ) -> Result<u64, LedgerError> {
        // Each once: PostgreSQL updates no row twice in a statement.
        let files: BTreeMap<FileKey, &NewFile> =
            files.iter().map(|file| (file.key, file)).collect();
        let rows: Vec<Discovered<'_>> = files
            .values()
            .map(|file| {
                let (device, inode, file_size, mtime_ns) = stored_fingerprint(file.fingerprint);
                Ok(Discovered {
                    source: file.key.source.stored(),
                    sequence: stored(file.key.sequence.0),
                    name: &file.name,
                    size: stored(file.size),
                    device,
                    inode,
                    file_size,
                    mtime_ns,
                    path: stored_path(file.path.as_deref())?,
                })
            })
            .collect::<Result<_, LedgerError>>()?;
        let sources: BTreeSet<SourceId> = files.keys().map(|key| key.source).collect();
        for source in sources {
            self.lock_source(source).await?;
        }
        let sql = self.pick(
            "INSERT INTO files
               (source, sequence, name, size, device, inode, file_size, mtime_ns, path, discovered_at)
             SELECT value ->> '$.source', value ->> '$.sequence', value ->> '$.name',
               value ->> '$.size', value ->> '$.device', value ->> '$.inode',
               value ->> '$.file_size', value ->> '$.mtime_ns', value ->> '$.path', $2
             FROM json_each($1) WHERE true
             ON CONFLICT (source, sequence) DO UPDATE SET path = excluded.path
               WHERE files.path IS NULL AND excluded.path IS NOT NULL",
            "INSERT INTO files
               (source, sequence, name, size, device, inode, file_size, mtime_ns, path, discovered_at)
             SELECT source, sequence, name, size, device, inode, file_size, mtime_ns, path, $2
             FROM jsonb_to_recordset($1) AS file (source bigint, sequence bigint, name text,
               size bigint, device bigint, inode bigint, file_size bigint, mtime_ns bigint, path text)
             ON CONFLICT (source, sequence) DO UPDATE SET path = excluded.path
               WHERE files.path IS NULL AND excluded.path IS NOT NULL",
        );
        let recorded = on!(self, |db| {
            sqlx::query(sql)
                .bind(sqlx::types::Json(&rows))
                .bind(at.as_microsecond())
                .execute(db)
                .await
                .map(|done| done.rows_affected())
        });
        recorded.map_err(LedgerError::database("record files"))
    }
}

impl Tx {
    async fn set_fingerprint(
        &mut self,
        key: FileKey,
        fingerprint: Fingerprint,
    ) -> Result<(), LedgerError> {
        let (device, inode, size, mtime_ns) = stored_fingerprint(Some(fingerprint));
        on!(self, |db| {
            sqlx::query(
                "UPDATE files SET size = $5, device = $3, inode = $4, file_size = $5, mtime_ns = $6
                 WHERE source = $1 AND sequence = $2",
            )
            .bind(key.source.stored())
            .bind(stored(key.sequence.0))
            .bind(device)
            .bind(inode)
            .bind(size)
            .bind(mtime_ns)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(LedgerError::database("record a fingerprint"))
    }

    /// Forgets a file that was lost before it was archived.
    ///
    /// # Errors
    /// [`LedgerError::Database`], also when it is committed somewhere.
    pub async fn forget_file(&mut self, key: FileKey) -> Result<(), LedgerError> {
        self.lock_source(key.source).await?;
        for sql in [
            "DELETE FROM uploads WHERE source = $1 AND sequence = $2",
            "DELETE FROM sealed WHERE source = $1 AND sequence = $2",
            "DELETE FROM files WHERE source = $1 AND sequence = $2",
        ] {
            on!(self, |db| {
                sqlx::query(sql)
                    .bind(key.source.stored())
                    .bind(stored(key.sequence.0))
                    .execute(db)
                    .await
                    .map(|_| ())
            })
            .map_err(LedgerError::database("forget a lost file"))?;
        }
        Ok(())
    }
}

impl Ledger {
    /// One file, with what sealing it yielded.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn file(&self, key: FileKey) -> Result<Option<FileRow>, LedgerError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            name: String,
            path: Option<String>,
            size: i64,
            device: Option<i64>,
            inode: Option<i64>,
            file_size: Option<i64>,
            mtime_ns: Option<i64>,
            discovered_at: i64,
            payload: Option<String>,
        }
        let row: Option<Row> = on!(self, |db| {
            sqlx::query_as(
                "SELECT name, path, size, device, inode, file_size, mtime_ns, discovered_at,
                   payload FROM files LEFT JOIN sealed USING (source, sequence)
                 WHERE source = $1 AND sequence = $2",
            )
            .bind(key.source.stored())
            .bind(stored(key.sequence.0))
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("read a file's record"))?;
        let Some(row) = row else { return Ok(None) };
        let columns = (row.device, row.inode, row.file_size, row.mtime_ns);
        Ok(Some(FileRow {
            key,
            name: row.name,
            path: row.path.map(PathBuf::from),
            size: unsigned(row.size, "a file's size")?,
            fingerprint: read_fingerprint(columns)?,
            discovered_at: time(row.discovered_at, "a file's time of discovery")?,
            sealed: row.payload.map(SealedPayload),
        }))
    }

    /// A file's name on its server, when it is recorded.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn file_name(&self, key: FileKey) -> Result<Option<String>, LedgerError> {
        let name = on!(self, |db| {
            sqlx::query_scalar("SELECT name FROM files WHERE source = $1 AND sequence = $2")
                .bind(key.source.stored())
                .bind(stored(key.sequence.0))
                .fetch_optional(db)
                .await
        });
        name.map_err(LedgerError::database("read a file's name"))
    }

    /// The recorded files of a source from a sequence on.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn known_files(
        &self,
        source: SourceId,
        from: Sequence,
    ) -> Result<BTreeMap<Sequence, KnownFile>, LedgerError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            sequence: i64,
            device: Option<i64>,
            inode: Option<i64>,
            file_size: Option<i64>,
            mtime_ns: Option<i64>,
            sha256: Option<Vec<u8>>,
        }
        let rows: Vec<Row> = on!(self, |db| {
            sqlx::query_as(KNOWN_FILES)
                .bind(source.stored())
                .bind(stored(from.0))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list known files"))?;
        rows.into_iter()
            .map(|row| {
                let columns = (row.device, row.inode, row.file_size, row.mtime_ns);
                let known = KnownFile {
                    fingerprint: read_fingerprint(columns)?,
                    sha256: row.sha256.map(read_digest).transpose()?,
                };
                Ok((Sequence(unsigned(row.sequence, "a sequence")?), known))
            })
            .collect()
    }

    /// The recorded files of a source that are committed nowhere, ascending.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn waiting_files(&self, source: SourceId) -> Result<Vec<WaitingFile>, LedgerError> {
        // None stands below a watermark, so what is archived long since is not looked at.
        let rows: Vec<(i64, String, Option<String>)> = on!(self, |db| {
            sqlx::query_as(WAITING_FILES)
                .bind(source.stored())
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list waiting files"))?;
        rows.into_iter()
            .map(|(sequence, name, path)| {
                let sequence = Sequence(unsigned(sequence, "a sequence")?);
                let key = FileKey { source, sequence };
                Ok(WaitingFile {
                    key,
                    name,
                    path: path.map(PathBuf::from),
                })
            })
            .collect()
    }

    /// When a file had been committed at all of these destinations; none while it lacks at one of them.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn committed_at_all(
        &self,
        key: FileKey,
        destinations: &[DestinationId],
    ) -> Result<Option<Timestamp>, LedgerError> {
        let mut last = None;
        for &destination in destinations {
            let Some(commit) = self.commit(key, destination).await? else {
                return Ok(None);
            };
            last = last.max(Some(commit.committed_at));
        }
        Ok(last)
    }

    /// The files of a source behind `sequence` that are committed anywhere, ascending, as they are known without their
    /// server: without path and fingerprint.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn archived_files(
        &self,
        source: SourceId,
        behind: Sequence,
    ) -> Result<Vec<NewFile>, LedgerError> {
        let rows: Vec<(i64, String, i64)> = on!(self, |db| {
            sqlx::query_as(ARCHIVED_FILES)
                .bind(source.stored())
                .bind(stored(behind.0))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list archived files"))?;
        rows.into_iter()
            .map(|(sequence, name, size)| {
                let sequence = Sequence(unsigned(sequence, "a sequence")?);
                Ok(NewFile {
                    key: FileKey { source, sequence },
                    name,
                    path: None,
                    size: unsigned(size, "a file's size")?,
                    fingerprint: None,
                })
            })
            .collect()
    }

    /// The files that are sealed in the spool, as far as the ledger knows.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn sealed_files(&self) -> Result<Vec<FileKey>, LedgerError> {
        let rows: Vec<(i64, i64)> = on!(self, |db| {
            sqlx::query_as("SELECT source, sequence FROM sealed")
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list sealed files"))?;
        rows.into_iter()
            .map(|(source, sequence)| {
                let sequence = Sequence(unsigned(sequence, "a sequence")?);
                Ok(FileKey {
                    source: SourceId::read(source)?,
                    sequence,
                })
            })
            .collect()
    }

    /// The file before `key` among the recorded ones: the one whose commit must precede its own.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn previous_file(&self, key: FileKey) -> Result<Option<Sequence>, LedgerError> {
        let sequence: Option<i64> = on!(self, |db| {
            sqlx::query_scalar(PREVIOUS_FILE)
                .bind(key.source.stored())
                .bind(stored(key.sequence.0))
                .fetch_one(db)
                .await
        })
        .map_err(LedgerError::database("look for the file before"))?;
        sequence
            .map(|s| unsigned(s, "a sequence").map(Sequence))
            .transpose()
    }

    /// Sizes of the files between these two, both excluded, of which no sealed object is known: at most `limit`, the
    /// last ones first.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn unsealed_sizes(
        &self,
        after: Option<Sequence>,
        before: FileKey,
        limit: u32,
    ) -> Result<Vec<u64>, LedgerError> {
        let sizes: Vec<i64> = on!(self, |db| {
            sqlx::query_scalar(
                "SELECT size FROM files WHERE source = $1 AND sequence > $2 AND sequence < $3
                   AND NOT EXISTS (SELECT 1 FROM sealed
                     WHERE sealed.source = files.source AND sealed.sequence = files.sequence)
                 ORDER BY sequence DESC LIMIT $4",
            )
            .bind(before.source.stored())
            .bind(after.map_or(0, |after| stored(after.0)))
            .bind(stored(before.sequence.0))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("look for the files before"))?;
        sizes
            .into_iter()
            .map(|size| unsigned(size, "a size"))
            .collect()
    }

    /// Records a file's fingerprint and size as they are now, after a check of its content. Lost with the power alone: the
    /// content is checked again.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn set_fingerprint(
        &self,
        key: FileKey,
        fingerprint: Fingerprint,
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin_unsynced().await?;
        tx.set_fingerprint(key, fingerprint).await?;
        tx.commit().await
    }

    /// Records what sealing a file yielded, in place of what was there, and how the file looked where that is known.
    /// Durable when it returns: after that, the spooled object may be uploaded.
    ///
    /// # Errors
    /// [`LedgerError::Database`], also when the file is not recorded.
    pub async fn record_sealed(
        &self,
        key: FileKey,
        sealed: &SealedPayload,
        fingerprint: Option<Fingerprint>,
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        if let Some(fingerprint) = fingerprint {
            tx.set_fingerprint(key, fingerprint).await?;
        }
        on!(tx, |db| {
            sqlx::query(
                "INSERT INTO sealed (source, sequence, payload) VALUES ($1, $2, $3)
                 ON CONFLICT (source, sequence) DO UPDATE SET payload = excluded.payload",
            )
            .bind(key.source.stored())
            .bind(stored(key.sequence.0))
            .bind(&sealed.0)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(LedgerError::database("record a sealed file"))?;
        tx.commit().await
    }

    /// Forgets what sealing a file yielded, once no destination needs it.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn clear_sealed(&self, key: FileKey) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        on!(tx, |db| {
            sqlx::query("DELETE FROM sealed WHERE source = $1 AND sequence = $2")
                .bind(key.source.stored())
                .bind(stored(key.sequence.0))
                .execute(db)
                .await
                .map(|_| ())
        })
        .map_err(LedgerError::database("forget a sealed file"))?;
        tx.commit().await
    }
}
