//! `fetch`: the files of a selection into a directory, under their own names.
//!
//! # Invariants
//! - A file appears under its name only whole, verified and fsynced; nothing is overwritten.
//! - What is there already with the same content is done: fetching resumes by being run again.
//! - All names in the way are found before anything is downloaded.
//!
//! # After a crash or a cancel
//! Files under their names are whole. A file that was being written is hidden behind a dot and
//! [`PARTIAL_SUFFIX`]; a cancel removes it, and after a crash the next run does.
//!
//! # Limits
//! [`FILES_IN_FLIGHT`] files at once, a block of each in memory; one `fetch` for each directory, which
//! it holds a lock on.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use engine::digest::{Digest, Hasher};
use engine::durable_fs;
use engine::exit::{Diagnose, Exit};
use engine::layout::Sequence;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::task;

use crate::history::ArchivedFile;
use crate::object::{Archive, ReadError};
use crate::output::{self, REPORT_VERSION, Report};
use crate::progress::Progress;

/// Files that are downloaded at once.
pub const FILES_IN_FLIGHT: usize = 4;

/// How the hidden name of an unfinished file ends.
pub const PARTIAL_SUFFIX: &str = ".gtide-partial";

/// Bytes that are read at once to hash a file that is there already.
const HASH_BUFFER: usize = 1024 * 1024;

/// How many names in the way an error spells out.
const MAX_NAMED_CONFLICTS: usize = 5;

/// Why files could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Other files have the names.
    #[error("{}", conflicts(.0))]
    Conflict(Vec<PathBuf>),
    /// Another fetch writes to the directory.
    #[error("another gtide-restore is fetching into {}", .0.display())]
    Busy(PathBuf),
    /// The operating system.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn conflicts(paths: &[PathBuf]) -> String {
    let named: Vec<String> = paths
        .iter()
        .take(MAX_NAMED_CONFLICTS)
        .map(|path| path.display().to_string())
        .collect();
    let more = match paths.len().saturating_sub(MAX_NAMED_CONFLICTS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "other content than the archive's is in the way: {}{more}",
        named.join(", ")
    )
}

impl Diagnose for FetchError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read(error) => error.exit(),
            Self::Conflict(_) => Exit::Conflict,
            Self::Busy(_) => Exit::Transient,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::Transient,
                io::ErrorKind::PermissionDenied
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::ReadOnlyFilesystem => Exit::Usage,
                _ => Exit::Unexpected,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read(error) => return error.hint(),
            Self::Conflict(_) => {
                "nothing was written: move them away, or fetch into another directory"
            }
            Self::Busy(_) => "wait for it to end, or fetch into another directory",
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room and run the same command again: files that are whole are not fetched twice"
                }
                _ => "check that --dir is a directory that this user may write to",
            },
        };
        Some(hint.to_owned())
    }
}

/// What `fetch` did. `--format json` is this document: additive changes only.
#[derive(Debug, Clone, Serialize)]
pub struct Fetched {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// Where to.
    pub dir: PathBuf,
    /// The files, in ascending sequence.
    pub files: Vec<FetchedFile>,
}

/// One file that is in the directory now.
#[derive(Debug, Clone, Serialize)]
pub struct FetchedFile {
    /// Its sequence.
    pub sequence: Sequence,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes in it.
    pub size: u64,
    /// SHA-256 of it, as the archive has it and as it is.
    pub sha256: Digest,
    /// Whether it was fetched now, or was there.
    pub outcome: Outcome,
}

/// Whether a file was fetched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Now.
    Fetched,
    /// Its content was there already.
    Present,
}

impl Fetched {
    /// Nothing fetched yet, into `dir`.
    pub fn into(dir: &Path) -> Self {
        Self {
            report_version: REPORT_VERSION,
            dir: dir.to_owned(),
            files: Vec::new(),
        }
    }
}

impl Report for Fetched {
    fn human(&self) -> String {
        let fetched = self
            .files
            .iter()
            .filter(|file| file.outcome == Outcome::Fetched);
        let (count, size) = fetched.fold((0u64, 0u64), |(count, size), file| {
            (count.saturating_add(1), size.saturating_add(file.size))
        });
        let present = (self.files.len() as u64).saturating_sub(count);
        format!(
            "{}: {count} files fetched ({}), {present} already there\n",
            self.dir.display(),
            output::bytes(size)
        )
    }
}

/// Fetches `files` into `dir`, which is created if need be.
///
/// # Errors
/// [`FetchError::Conflict`] before anything was written. After any other error, the files that are
/// under their names are whole.
pub async fn fetch(
    archive: &Archive,
    files: &[ArchivedFile],
    dir: &Path,
) -> Result<Fetched, FetchError> {
    let directory = blocking({
        let dir = dir.to_owned();
        move || Directory::claim(dir)
    })
    .await?;
    let outcomes = directory.compare(files).await?;
    let missing = |outcome: &Outcome| *outcome == Outcome::Fetched;
    let wanted = files
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| missing(outcome));
    let total = wanted
        .clone()
        .fold(0u64, |sum, (file, _)| sum.saturating_add(file.size));
    let progress = Progress::bytes("fetch", total);
    stream::iter(wanted)
        .map(|(file, _)| directory.download(archive, file, &progress))
        .buffer_unordered(FILES_IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    let files = files
        .iter()
        .zip(outcomes)
        .map(|(file, outcome)| FetchedFile {
            sequence: file.sequence(),
            path: dir.join(file.file_name()),
            size: file.size,
            sha256: file.sha256,
            outcome,
        });
    Ok(Fetched {
        report_version: REPORT_VERSION,
        dir: dir.to_owned(),
        files: files.collect(),
    })
}

/// A directory that only this process fetches into.
struct Directory {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

/// What has a file's name.
enum Present {
    Nothing,
    Same,
    Other,
}

impl Directory {
    fn claim(path: PathBuf) -> Result<Self, FetchError> {
        durable_fs::create_dir_all(&path).map_err(|error| io_error("create", &path, error))?;
        let lock = File::open(&path).map_err(|error| io_error("open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(FetchError::Busy(path)),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(io_error("lock", &path, error));
            }
        }
        let directory = Self { path, _lock: lock };
        directory
            .sweep()
            .map_err(|error| io_error("clean up", &directory.path, error))?;
        Ok(directory)
    }

    /// Removes what a crash left: under the lock, every unfinished file is nobody's.
    fn sweep(&self) -> io::Result<()> {
        for entry in self.path.read_dir()? {
            let entry = entry?;
            if is_partial(&entry.file_name()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What is to be done for each file.
    async fn compare(&self, files: &[ArchivedFile]) -> Result<Vec<Outcome>, FetchError> {
        let mut outcomes = Vec::with_capacity(files.len());
        let mut in_the_way = Vec::new();
        for file in files {
            let path = self.path.join(file.file_name());
            let (size, sha256) = (file.size, file.sha256);
            let present = blocking(move || {
                look(&path, size, sha256).map_err(|error| io_error("read", &path, error))
            })
            .await?;
            match present {
                Present::Nothing => outcomes.push(Outcome::Fetched),
                Present::Same => outcomes.push(Outcome::Present),
                Present::Other => in_the_way.push(self.path.join(file.file_name())),
            }
        }
        if in_the_way.is_empty() {
            Ok(outcomes)
        } else {
            Err(FetchError::Conflict(in_the_way))
        }
    }

    async fn download(
        &self,
        archive: &Archive,
        file: &ArchivedFile,
        progress: &Progress,
    ) -> Result<(), FetchError> {
        let target = self.path.join(file.file_name());
        let staged = tempfile::Builder::new()
            .prefix(&format!(".{}.", file.file_name()))
            .suffix(PARTIAL_SUFFIX)
            .tempfile_in(&self.path)
            .map_err(|error| io_error("create a file in", &self.path, error))?;
        let (out, staged) = staged.into_parts();
        let write = |error| io_error("write", &target, error);
        let mut out = tokio::fs::File::from_std(out);
        let mut blocks = archive.prefetch(file);
        while let Some(block) = blocks.next().await? {
            out.write_all(&block).await.map_err(write)?;
            progress.add(block.len() as u64);
        }
        out.flush().await.map_err(write)?;
        out.sync_all().await.map_err(write)?;
        blocking(move || match durable_fs::rename_new(&staged, &target) {
            Ok(()) => {
                // The hidden name is gone; nothing is left to be removed.
                staged
                    .keep()
                    .map(drop)
                    .map_err(|error| io_error("keep", &target, error.error))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(FetchError::Conflict(vec![target]))
            }
            Err(error) => Err(io_error("rename to", &target, error)),
        })
        .await
    }
}

/// Compares what is at `path` with a file of this size and digest.
fn look(path: &Path, size: u64, sha256: Digest) -> io::Result<Present> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Present::Nothing),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() || metadata.len() != size {
        return Ok(Present::Other);
    }
    let same = digest_of(&mut File::open(path)?)? == sha256;
    Ok(if same { Present::Same } else { Present::Other })
}

fn digest_of(file: &mut File) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; HASH_BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some([]) | None => return Ok(hasher.finish()),
            Some(bytes) => hasher.update(bytes),
        }
    }
}

fn is_partial(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(PARTIAL_SUFFIX.as_bytes())
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
