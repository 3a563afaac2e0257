//! Seals one binlog file: one pass over its bytes for events, CRCs, digest, compression and
//! encryption.
//!
//! # Owns
//! The cut of a file into blocks, and the proof that the file stood still while it was read.
//!
//! # Invariants
//! - What is hashed is what is sealed: every byte is read once (TRAPS 2).
//! - A block ends at a transaction boundary wherever one lies in its reach; only a transaction
//!   larger than [`MAX_BLOCK_PLAIN`] is cut inside, and all behind the first damage.
//!
//! # After a crash
//! Nothing: the object gets its name in the spool only when it is whole.
//!
//! # Limits
//! Memory: one block of plaintext and one of ciphertext, whatever the file's size.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::archive::{
    ArchiveError, BlockInfo, MAX_BLOCK_PLAIN, ObjectFacts, ObjectIdentity, ObjectWriter, SealingKey,
};
use crate::binlog::{Boundary, Refusal, Scanner, Summary};
use crate::digest::{Digest, Hasher};
use crate::exit::{Diagnose, Exit};
use crate::failpoint::failpoint;
use crate::ledger::Fingerprint;
use crate::retry::RetryClass;
use crate::spool::{Spool, SpoolError};

/// Bytes asked of the kernel at once.
pub(super) const READ_SIZE: usize = 256 * 1024;

/// A sealed file: its object lies whole in the spool. Stored in the ledger: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// SHA-256 of the binlog file.
    pub sha256: Digest,
    /// What is in it.
    pub summary: Summary,
    /// Size, checksum, key and index digest of the object.
    pub facts: ObjectFacts,
}

/// Why a file could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a file at all.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// It is no binlog to be archived.
    #[error("{}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// It was told to stop; nothing is wrong.
    #[error("stopped while sealing {}", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// It changed under the reader.
    #[error("{} changed while it was read", path.display())]
    Unstable {
        /// The file.
        path: PathBuf,
    },
    /// The object could not be written.
    #[error("seal {}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl SealError {
    /// May it go away by itself?
    pub fn retry_class(&self) -> RetryClass {
        match self {
            // A missing or unreadable file stays so until a person acts.
            Self::Read { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                    RetryClass::Never
                }
                _ => RetryClass::Backoff,
            },
            Self::NotAFile { .. } | Self::Refused { .. } => RetryClass::Never,
            Self::Unstable { .. } | Self::Archive { .. } => RetryClass::Backoff,
            Self::Stopped { .. } => RetryClass::Cancelled,
            Self::Spool(error) => error.retry_class(),
        }
    }
}

impl Diagnose for SealError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } | Self::NotAFile { .. } => Exit::Usage,
            Self::Refused { source, .. } => source.exit(),
            Self::Unstable { .. } => Exit::Transient,
            Self::Stopped { .. } => Exit::Interrupted,
            Self::Archive { source, .. } => source.exit(),
            Self::Spool(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(
                "the index names a file that is not there: it was removed by hand, or the index is \
                 another server's"
                    .to_owned(),
            ),
            Self::Read { .. } => {
                Some("let this user read the file: run as mysql, or as a member of its group".to_owned())
            }
            Self::NotAFile { .. } => Some("check what the binlog index names".to_owned()),
            Self::Refused { source, .. } => source.hint(),
            Self::Unstable { .. } => {
                Some("only closed files are sealed: does another program write to it?".to_owned())
            }
            Self::Archive { source, .. } => source.hint(),
            Self::Spool(error) => error.hint(),
            Self::Stopped { .. } => None,
        }
    }
}

/// Seals the file at `path` into the spool and says what it found. Blocks its thread; ends at the next
/// piece that it reads after `stop` fired.
///
/// # Errors
/// See [`SealError`]; the spool then holds nothing new.
pub fn seal(
    path: &Path,
    identity: &ObjectIdentity,
    key: SealingKey,
    level: i32,
    spool: &Spool,
    stop: &CancellationToken,
) -> Result<(Sealed, Fingerprint), SealError> {
    let (mut file, before) = open(path)?;
    spool.admit(before.size)?;
    let out = spool.unfinished(&identity.source)?;
    let archive = |source| SealError::Archive {
        path: path.to_owned(),
        source,
    };
    let writer = ObjectWriter::create(out, identity, key, level).map_err(archive)?;

    let mut blocks = Blocks::new(writer);
    let mut buffer = vec![0; READ_SIZE];
    loop {
        if stop.is_cancelled() {
            return Err(SealError::Stopped {
                path: path.to_owned(),
            });
        }
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(SealError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        blocks
            .push(buffer.get(..read).unwrap_or_default())
            .map_err(|error| error.of(path))?;
    }
    let (out, sealed) = blocks.finish().map_err(|error| error.of(path))?;

    let after = fingerprint(&file, path)?;
    if before != after || sealed.summary.size != after.size {
        return Err(SealError::Unstable {
            path: path.to_owned(),
        });
    }
    failpoint!("before-keep");
    spool.keep(identity, out)?;
    failpoint!("kept");
    Ok((sealed, after))
}

/// SHA-256 and fingerprint of the file at `path`, for comparing it with what is archived.
///
/// # Errors
/// When it cannot be read, or changes meanwhile.
pub fn digest(path: &Path) -> Result<(Digest, Fingerprint), SealError> {
    let (mut file, before) = open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(SealError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
    let after = fingerprint(&file, path)?;
    if before != after {
        return Err(SealError::Unstable {
            path: path.to_owned(),
        });
    }
    Ok((hasher.finish(), after))
}

/// What a whole file holds, without sealing it.
///
/// # Errors
/// When it cannot be read or is no binlog.
pub fn summarise(path: &Path) -> Result<Summary, SealError> {
    let (mut file, _) = open(path)?;
    let refused = |source| SealError::Refused {
        path: path.to_owned(),
        source,
    };
    let mut scanner = Scanner::new();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return scanner.finish().map_err(refused),
            Ok(read) => {
                scanner
                    .push(buffer.get(..read).unwrap_or_default())
                    .map_err(refused)?;
                // Only the summary is wanted.
                drop(scanner.take_boundaries());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(SealError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
}

fn open(path: &Path) -> Result<(File, Fingerprint), SealError> {
    // Not by `File::open` first: opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(|source| SealError::Read {
        path: path.to_owned(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(SealError::NotAFile {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(|source| SealError::Read {
        path: path.to_owned(),
        source,
    })?;
    let fingerprint = fingerprint(&file, path)?;
    Ok((file, fingerprint))
}

fn fingerprint(file: &File, path: &Path) -> Result<Fingerprint, SealError> {
    let metadata = file.metadata().map_err(|source| SealError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Fingerprint::of(&metadata))
}

/// Why the byte stream could not be sealed; the path is added outside.
enum BlockError {
    Refused(Refusal),
    Archive(ArchiveError),
}

impl BlockError {
    fn of(self, path: &Path) -> SealError {
        let path = path.to_owned();
        match self {
            Self::Refused(source) => SealError::Refused { path, source },
            Self::Archive(source) => SealError::Archive { path, source },
        }
    }
}

/// Cuts a stream of bytes into blocks of whole transactions.
struct Blocks<W: std::io::Write> {
    scanner: Scanner,
    hasher: Hasher,
    writer: ObjectWriter<W>,
    /// Plaintext not yet written, and the file offset of its first byte.
    pending: Vec<u8>,
    start: u64,
    /// Boundaries at or behind `start`.
    boundaries: VecDeque<Boundary>,
}

impl<W: std::io::Write> Blocks<W> {
    fn new(writer: ObjectWriter<W>) -> Self {
        Self {
            scanner: Scanner::new(),
            hasher: Hasher::default(),
            writer,
            pending: Vec::with_capacity(MAX_BLOCK_PLAIN),
            start: 0,
            boundaries: VecDeque::new(),
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), BlockError> {
        self.scanner.push(bytes).map_err(BlockError::Refused)?;
        self.hasher.update(bytes);
        self.boundaries.extend(self.scanner.take_boundaries());
        while !bytes.is_empty() {
            let room = MAX_BLOCK_PLAIN.saturating_sub(self.pending.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == MAX_BLOCK_PLAIN {
                let end = self.cut();
                self.write(end)?;
            }
        }
        Ok(())
    }

    /// How many pending bytes the next block takes: up to the last boundary in reach.
    fn cut(&self) -> usize {
        self.boundaries
            .iter()
            .rev()
            .filter_map(|boundary| usize::try_from(boundary.offset.checked_sub(self.start)?).ok())
            .find(|&len| len > 0 && len <= self.pending.len())
            .unwrap_or(self.pending.len())
    }

    fn write(&mut self, len: usize) -> Result<(), BlockError> {
        let end = self.start.saturating_add(len as u64);
        let mut info = BlockInfo {
            boundary: self.start == 0
                || self
                    .boundaries
                    .front()
                    .is_some_and(|first| first.offset == self.start),
            first_gtid: None,
            first_commit: None,
            last_commit: None,
        };
        while let Some(boundary) = self.boundaries.pop_front_if(|next| next.offset < end) {
            if info.first_gtid.is_none() {
                info.first_gtid = boundary.gtid;
            }
            info.first_commit = earlier(info.first_commit, boundary.commit);
            info.last_commit = info.last_commit.max(boundary.commit);
        }
        let plain = self.pending.get(..len).unwrap_or_default();
        self.writer
            .write_block(plain, info)
            .map_err(BlockError::Archive)?;
        failpoint!("seal-block");
        self.pending.drain(..len);
        self.start = end;
        Ok(())
    }

    fn finish(mut self) -> Result<(W, Sealed), BlockError> {
        if !self.pending.is_empty() {
            self.write(self.pending.len())?;
        }
        let summary = self.scanner.finish().map_err(BlockError::Refused)?;
        let sha256 = self.hasher.finish();
        let (out, facts) = self.writer.finish(sha256).map_err(BlockError::Archive)?;
        Ok((
            out,
            Sealed {
                sha256,
                summary,
                facts,
            },
        ))
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
