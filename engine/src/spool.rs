//! The spool: pins that keep the server's files alive, and sealed objects on their way out.
//!
//! ```text
//! <dir>/id                                                       by which entries name this archiver
//! <dir>/pin/<server_uuid>-<incarnation>/<sequence>-<file name>   hard link to the server's file
//! <dir>/seal/<server_uuid>-<incarnation>/<sequence>.gtb          sealed object
//! <dir>/seal/<server_uuid>-<incarnation>/.<random>               one being written
//! ```
//!
//! # Invariants
//! - A pin is a hard link: the file outlives expiry and `PURGE BINARY LOGS` at no copy. It never
//!   replaces another pin: the same name with another inode is a conflict.
//! - A sealed object appears under its name only whole and fsynced.
//! - Nothing is removed before the file is committed at every destination.
//! - Sealing begins only where there is room for it ([`Spool::admit`]), and what it writes beyond that leaves
//!   nothing behind.
//!
//! # After a crash
//! Pins and sealed objects are found again by name; a half-written seal is a dot file, which
//! [`Spool::sweep_unfinished`] removes.

mod admission;
mod error;
mod expectation;
mod trial;
mod usage;
mod writer;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use self::admission::Admission;
pub use self::admission::{ADMISSION_POLL, FULL_PAUSE_MAX, Need, Room};
use self::error::io_error;
pub use self::error::{SpoolError, is_full};
pub use self::trial::Room as DiskRoom;
pub use self::usage::{Paused, SpoolUsage};
pub use self::writer::Writer;
use crate::archive::ObjectIdentity;
use crate::config::SpoolConfig;
use crate::durable_fs;
use crate::layout::{SEQUENCE_DIGITS, Sequence, SourceIdentity};

/// What became of a wish to pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// The file is held.
    Held,
    /// It cannot be held there: another filesystem, or the kernel forbids the link.
    Impossible {
        /// The reason, for a warning.
        reason: String,
    },
}

/// A file that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedFile {
    /// Which.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: String,
    /// The hard link.
    pub path: PathBuf,
}

/// The spool's folder. All clones share what they promise of its room.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    reserve: u64,
    pin: bool,
    admission: Arc<Admission>,
    writer: Arc<Writer>,
}

impl Spool {
    /// Makes the folder and its id if need be.
    ///
    /// # Errors
    /// When they can't be made.
    pub fn open(config: &SpoolConfig) -> Result<Self, SpoolError> {
        make_dir(&config.dir)?;
        Ok(Self {
            dir: config.dir.clone(),
            reserve: config.reserve,
            pin: config.pin,
            admission: Arc::default(),
            writer: Arc::new(Writer::of_spool(&config.dir)?),
        })
    }

    /// Who writes entries from this spool.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    fn pin_dir(&self, source: &SourceIdentity) -> PathBuf {
        self.dir.join("pin").join(folder(source))
    }

    fn pin_path(&self, file: &ObjectIdentity) -> PathBuf {
        let name = format!("{:0SEQUENCE_DIGITS$}-{}", file.sequence.0, file.file_name);
        self.pin_dir(&file.source).join(name)
    }

    /// Where the sealed object of a file lies.
    pub fn seal_path(&self, file: &ObjectIdentity) -> PathBuf {
        self.seal_dir(&file.source)
            .join(format!("{:0SEQUENCE_DIGITS$}.gtb", file.sequence.0))
    }

    fn seal_dir(&self, source: &SourceIdentity) -> PathBuf {
        self.dir.join("seal").join(folder(source))
    }

    /// Holds `file` by a hard link. Pinning the same file again is no error.
    ///
    /// # Errors
    /// [`SpoolError::Conflict`] when another file is pinned under this sequence; I/O errors.
    pub fn pin(&self, identity: &ObjectIdentity, file: &Path) -> Result<Pin, SpoolError> {
        if !self.pin {
            return Ok(Pin::Impossible {
                reason: "[spool] pin = false".to_owned(),
            });
        }
        // The file itself, should the index name a symbolic link.
        let file = &std::fs::canonicalize(file).map_err(io_error("look at", file))?;
        let metadata = std::fs::metadata(file).map_err(io_error("look at", file))?;
        if !metadata.is_file() {
            let reason = format!("{} is not a regular file", file.display());
            return Ok(Pin::Impossible { reason });
        }
        let dir = self.pin_dir(&identity.source);
        make_dir(&dir)?;
        let pin = self.pin_path(identity);
        match std::fs::hard_link(file, &pin) {
            Ok(()) => {
                durable_fs::sync_dir(&dir).map_err(io_error("sync", &dir))?;
                Ok(Pin::Held)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => same_file(&pin, file),
            Err(error) => self.refused(file, error),
        }
    }

    /// What a link that was refused means.
    fn refused(&self, file: &Path, error: io::Error) -> Result<Pin, SpoolError> {
        let reason = match error.kind() {
            io::ErrorKind::CrossesDevices => format!(
                "{} is on another filesystem than {}, or on another mount of it",
                self.dir.display(),
                file.display()
            ),
            io::ErrorKind::PermissionDenied => format!(
                "link {}: {error} (fs.protected_hardlinks: run as the files' owner)",
                file.display()
            ),
            io::ErrorKind::TooManyLinks => format!("link {}: {error}", file.display()),
            _ => return Err(io_error("pin", file)(error)),
        };
        Ok(Pin::Impossible { reason })
    }

    /// The path to read a file from: its pin if there is one, else the server's own.
    pub fn readable(&self, identity: &ObjectIdentity, file: &Path) -> PathBuf {
        let pin = self.pin_path(identity);
        if pin.exists() { pin } else { file.to_owned() }
    }

    /// Every file of a source that is held, in no order.
    ///
    /// # Errors
    /// I/O errors.
    pub fn pinned(&self, source: &SourceIdentity) -> Result<Vec<PinnedFile>, SpoolError> {
        let mut pinned = Vec::new();
        for path in list(&self.pin_dir(source))? {
            let name = path.file_name().and_then(|name| name.to_str());
            let parts = name.and_then(|name| name.split_once('-'));
            match parts.and_then(|(digits, name)| Some((digits.parse().ok()?, name))) {
                Some((sequence, file_name)) => pinned.push(PinnedFile {
                    sequence: Sequence(sequence),
                    file_name: file_name.to_owned(),
                    path,
                }),
                None => {
                    tracing::warn!(path = %path.display(), "unknown file among the pins: left alone");
                }
            }
        }
        Ok(pinned)
    }

    /// A nameless place to write a sealed object to; [`Spool::keep`] gives it its name.
    ///
    /// # Errors
    /// I/O errors.
    pub fn unfinished(&self, source: &SourceIdentity) -> Result<NamedTempFile, SpoolError> {
        let dir = self.seal_dir(source);
        make_dir(&dir)?;
        tempfile::Builder::new()
            .prefix(".")
            // Less the umask: it may become an archive's object as it is, and what it says is encrypted.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&dir)
            .map_err(io_error("create a file in", &dir))
    }

    /// Gives a whole sealed object its name, durably, in place of an earlier attempt's.
    ///
    /// # Errors
    /// I/O errors; then the name still holds what it held.
    pub fn keep(&self, file: &ObjectIdentity, sealed: NamedTempFile) -> Result<(), SpoolError> {
        let path = self.seal_path(file);
        sealed
            .as_file()
            .sync_all()
            .map_err(io_error("sync", &path))?;
        sealed
            .persist(&path)
            .map_err(|error| io_error("rename into", &path)(error.error))?;
        let dir = self.seal_dir(&file.source);
        durable_fs::sync_dir(&dir).map_err(io_error("sync", &dir))
    }

    /// Lets go of a file that is committed everywhere.
    ///
    /// # Errors
    /// I/O errors other than that it is gone already.
    pub fn clear(&self, file: &ObjectIdentity) -> Result<(), SpoolError> {
        remove(&self.seal_path(file))?;
        remove(&self.pin_path(file))
    }

    /// Lets go of a pin, and of nothing else.
    ///
    /// # Errors
    /// I/O errors other than that it is gone already.
    pub fn unpin(&self, file: &ObjectIdentity) -> Result<(), SpoolError> {
        remove(&self.pin_path(file))
    }

    /// Removes what a killed process left half-written. Only the owner of the queue may call it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn sweep_unfinished(&self, source: &SourceIdentity) -> Result<(), SpoolError> {
        for path in list(&self.seal_dir(source))? {
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b".") {
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// What lies in a folder; nothing when it was never made.
fn list(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_error("list", dir))?,
    };
    entries
        .map(|entry| Ok(entry.map_err(io_error("list", dir))?.path()))
        .collect()
}

fn remove(path: &Path) -> Result<(), SpoolError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn folder(source: &SourceIdentity) -> String {
    format!("{}-{}", source.server_uuid, source.incarnation)
}

fn same_file(pin: &Path, file: &Path) -> Result<Pin, SpoolError> {
    // Not by opening: a pipe would wait for a writer.
    let inode = |path: &Path| {
        std::fs::metadata(path)
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .map_err(io_error("look at", path))
    };
    if inode(pin)? == inode(file)? {
        Ok(Pin::Held)
    } else {
        Err(SpoolError::Conflict {
            pin: pin.to_owned(),
            file: file.to_owned(),
        })
    }
}

fn make_dir(path: &Path) -> Result<(), SpoolError> {
    durable_fs::create_dir_all(path).map_err(io_error("create", path))
}
