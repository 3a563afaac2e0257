//! Seals one binlog file: one pass over its bytes for events, CRCs, digest, compression and
//! encryption.
//!
//! # Owns
//! The proof that the file stood still from its discovery to the end of the reading.
//!
//! # Invariants
//! - What is hashed is what is sealed: every byte is read once (TRAPS 2).
//! - A file that changed in inode, size or mtime since it was found, or while it was read, is not sealed.
//!
//! # After a crash
//! Nothing: the object gets its name in the spool only when it is whole.
//!
//! # Limits
//! Memory: [`MEMORY`] for each place that the file takes, whatever its size.

mod blocks;
mod error;
mod line;
mod trial;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::blocks::Blocks;
pub use self::error::{SealError, UNSTABLE_RETRY};
pub use self::trial::{Trial, try_sealing};
use crate::archive::{
    MAX_BLOCK_PLAIN, MAX_BLOCK_SEALED, ObjectFacts, ObjectIdentity, ObjectWriter, SealingKey,
};
use crate::binlog::scanner::MAX_PREVIOUS_GTIDS;
use crate::binlog::{Scanner, Summary};
use crate::digest::{Digest, Hasher};
use crate::failpoint::failpoint;
use crate::ledger::Fingerprint;
use crate::pipeline::pace::Pace;
use crate::spool::Spool;

/// Bytes asked of the kernel at once.
const READ_SIZE: usize = 256 * 1024;

/// What sealing takes at most in each place, in bytes, beside the compressor's own memory ([`Trial::compressor_bytes`]) and
/// the index (some 100 bytes for each block): the block that is gathered, the one that is compressed, one that waits for its
/// turn, what is read at once, and the largest event that is kept whole.
pub const MEMORY: u64 =
    (MAX_BLOCK_PLAIN + 2 * MAX_BLOCK_SEALED + READ_SIZE) as u64 + MAX_PREVIOUS_GTIDS as u64;

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

/// A file to be sealed.
#[derive(Debug)]
pub struct Sealing {
    /// Where it is read.
    pub path: PathBuf,
    /// What the object is bound to.
    pub identity: ObjectIdentity,
    /// How it was found, if it could be looked at then.
    pub found: Option<Fingerprint>,
    /// zstd level.
    pub level: i32,
    /// Where the object goes.
    pub spool: Spool,
    /// Whose free places help with the blocks.
    pub pace: Option<Arc<Pace>>,
    /// Fires when sealing is to end at the next piece that is read.
    pub stop: CancellationToken,
}

impl Sealing {
    /// Seals the file into the spool, and says what it found and how the file looks. Blocks its thread.
    ///
    /// # Errors
    /// See [`SealError`]; the spool then holds nothing new.
    pub fn run(&self, key: SealingKey) -> Result<(Sealed, Fingerprint), SealError> {
        let (mut file, before) = open(&self.path)?;
        if self.found.is_some_and(|found| !is_still(&found, &before)) {
            return Err(self.unstable(before));
        }
        let archive = |source| SealError::Archive {
            path: self.path.clone(),
            source,
        };
        let out = self.spool.unfinished(&self.identity.source)?;
        let writer = ObjectWriter::create(out, &self.identity, key, self.level).map_err(archive)?;
        let mut blocks = Blocks::new(writer, self.pace.clone());
        read_pieces(&mut file, &self.path, |piece| {
            if self.stop.is_cancelled() {
                let path = self.path.clone();
                return Err(SealError::Stopped { path });
            }
            blocks.push(piece).map_err(|error| error.of(&self.path))
        })?;
        let contents = blocks.finish().map_err(|error| error.of(&self.path))?;

        let after = fingerprint(&file, &self.path)?;
        if before != after || contents.summary.size != after.size {
            return Err(self.unstable(after));
        }
        failpoint!("before-keep");
        self.spool.keep(&self.identity, contents.out)?;
        failpoint!("kept");
        let sealed = Sealed {
            sha256: contents.sha256,
            summary: contents.summary,
            facts: contents.facts,
        };
        Ok((sealed, after))
    }

    fn unstable(&self, now: Fingerprint) -> SealError {
        let path = self.path.clone();
        SealError::Unstable { path, now }
    }
}

/// Does a file that was found as `found` look the same `now`? The device's number is not compared: it may be
/// another after the machine has started again.
pub fn is_still(found: &Fingerprint, now: &Fingerprint) -> bool {
    let content = |file: &Fingerprint| (file.inode, file.size, file.mtime_ns);
    content(found) == content(now)
}

/// How the file at `path` looks.
///
/// # Errors
/// When it cannot be looked at.
pub fn look(path: &Path) -> Result<Fingerprint, SealError> {
    let metadata = std::fs::metadata(path).map_err(|source| SealError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Fingerprint::of(&metadata))
}

/// SHA-256 and fingerprint of the file at `path`, for comparing it with what is archived.
///
/// # Errors
/// When it cannot be read, or changes meanwhile.
pub fn digest(path: &Path) -> Result<(Digest, Fingerprint), SealError> {
    let (mut file, before) = open(path)?;
    let mut hasher = Hasher::default();
    read_pieces(&mut file, path, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    let now = fingerprint(&file, path)?;
    if before != now {
        return Err(SealError::Unstable {
            path: path.to_owned(),
            now,
        });
    }
    Ok((hasher.finish(), now))
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
    read_pieces(&mut file, path, |piece| {
        scanner.push(piece).map_err(refused)?;
        // Only the summary is wanted.
        drop(scanner.take_boundaries());
        Ok(())
    })?;
    scanner.finish().map_err(refused)
}

/// Reads to the end of the file, piece by piece.
fn read_pieces(
    file: &mut File,
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), SealError>,
) -> Result<(), SealError> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => take(buffer.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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
