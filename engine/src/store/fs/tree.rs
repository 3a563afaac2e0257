//! Objects as files: how they appear, are looked at and read. Blocking.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::Errno;
use uuid::Uuid;

use crate::durable_fs;
use crate::layout::ObjectKey;
use crate::store::location::{STAGING, object_url};
use crate::store::{ObjectMeta, Operation, StoreError};

/// Bytes that are read at a time.
const READ_CHUNK: usize = 1 << 20;

/// So many folders are known to be [settled](Tree::settled), before they are found out anew.
const MAX_SETTLED: usize = 10_000;

/// The directory that is the store.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    url: String,
    /// Folders of which this process has synced all that are above them: they stay where they are.
    settled: Mutex<HashSet<PathBuf>>,
}

impl Tree {
    pub(super) fn new(root: PathBuf, url: String) -> Self {
        let settled = Mutex::default();
        Self { root, url, settled }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn url_of(&self, key: &ObjectKey) -> String {
        object_url(&self.url, key)
    }

    /// The file that is the object. The key was checked: it cannot lead out of the root.
    fn path_of(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Where everything unfinished lives.
    pub(super) fn staging(&self) -> PathBuf {
        self.root.join(STAGING)
    }

    pub(super) fn io(
        &self,
        operation: Operation,
        key: &ObjectKey,
    ) -> impl Fn(io::Error) -> StoreError {
        let object = self.url_of(key);
        move |source| StoreError::Io {
            operation,
            object: object.clone(),
            source,
        }
    }

    pub(super) fn put(&self, key: &ObjectKey, body: &[u8]) -> Result<(), StoreError> {
        let io = self.io(Operation::Put, key);
        durable_fs::create_dir_all(&self.staging()).map_err(&io)?;
        let staged = self.staging().join(format!("new-{}", Uuid::new_v4()));
        let result = write_synced(&staged, body)
            .map_err(&io)
            .and_then(|()| self.publish(Operation::Put, &staged, key));
        if result.is_err() {
            // Best effort: it is swept later otherwise.
            let _ = std::fs::remove_file(&staged);
        }
        result
    }

    /// Makes the staged and synced file the object `key`, if the key is free.
    pub(super) fn publish(
        &self,
        operation: Operation,
        staged: &Path,
        key: &ObjectKey,
    ) -> Result<(), StoreError> {
        let path = self.path_of(key);
        let created = durable_fs::create_dir_all(durable_fs::parent_of(&path));
        let moved = created.and_then(|()| durable_fs::move_new(staged, &path));
        self.entered(operation, key, moved)
    }

    /// Gives a whole and synced file of another directory's the name of the object `key`, if the key is free. `false`
    /// where that cannot be: it is on another file system, has another name already, or names cannot be added there.
    pub(super) fn link(&self, key: &ObjectKey, file: &Path) -> Result<bool, StoreError> {
        if !std::fs::metadata(file).is_ok_and(|found| found.nlink() == 1) {
            return Ok(false);
        }
        let io = self.io(Operation::Put, key);
        let path = self.path_of(key);
        durable_fs::create_dir_all(durable_fs::parent_of(&path)).map_err(&io)?;
        match durable_fs::link_new(file, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
                Ok(false)
            }
            linked => self.entered(Operation::Put, key, linked).map(|()| true),
        }
    }

    /// What became of giving an object its name.
    fn entered(
        &self,
        operation: Operation,
        key: &ObjectKey,
        outcome: io::Result<()>,
    ) -> Result<(), StoreError> {
        let io = self.io(operation, key);
        let path = self.path_of(key);
        match outcome {
            Ok(()) => self.settle(durable_fs::parent_of(&path)).map_err(&io),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_object(&path) => {
                // It may be our own, from before a crash: whoever takes it for that must find it
                // after the next one too.
                self.sync_object(&path).map_err(&io)?;
                Err(StoreError::AlreadyExists {
                    operation,
                    object: self.url_of(key),
                })
            }
            Err(error) => Err(io(error)),
        }
    }

    pub(super) fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        let io = self.io(Operation::Head, key);
        let path = self.path_of(key);
        let Some(mut file) = open_object(&path).map_err(&io)? else {
            return Ok(None);
        };
        let (size, crc32c) = measure(&mut file).map_err(&io)?;
        self.sync_object(&path).map_err(&io)?;
        Ok(Some(ObjectMeta {
            key: key.clone(),
            size,
            crc32c: Some(crc32c),
        }))
    }

    pub(super) fn remove(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match std::fs::remove_file(self.path_of(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.io(Operation::Remove, key)(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn open(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<Reader, StoreError> {
        let io = self.io(Operation::Get, key);
        let object = self.url_of(key);
        let Some(mut file) = open_object(&self.path_of(key)).map_err(&io)? else {
            return Err(StoreError::NotFound { object });
        };
        let size = file.metadata().map_err(&io)?.len();
        let range = match range {
            None => 0..size,
            Some(range) if range.start < range.end && range.start < size => {
                range.start..range.end.min(size)
            }
            Some(Range { start, end }) => {
                return Err(StoreError::InvalidRange { object, start, end });
            }
        };
        file.seek(SeekFrom::Start(range.start)).map_err(&io)?;
        Ok(Reader {
            file,
            left: range.end.saturating_sub(range.start),
            object,
        })
    }

    fn sync_object(&self, path: &Path) -> io::Result<()> {
        let folder = durable_fs::parent_of(path);
        let synced = File::open(path)?.sync_all();
        let synced = synced.and_then(|()| durable_fs::sync_dir(folder));
        match synced.and_then(|()| self.settle(folder)) {
            // Nothing on a read-only file system waits to be written.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            result => result,
        }
    }

    /// Syncs the folders above `folder` up to the root, once: one of them may be new, and an earlier process may have
    /// died before it was synced.
    fn settle(&self, folder: &Path) -> io::Result<()> {
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if folder == self.root || settled().contains(folder) {
            return Ok(());
        }
        for above in folder.ancestors().skip(1) {
            durable_fs::sync_dir(above)?;
            if above == self.root {
                break;
            }
        }
        let mut settled = settled();
        if settled.len() >= MAX_SETTLED {
            settled.clear();
        }
        settled.insert(folder.to_owned());
        Ok(())
    }
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The file, if one is there that can be an object.
fn open_object(path: &Path) -> io::Result<Option<File>> {
    // O_NONBLOCK: a pipe must not make us wait for its writer. It means nothing for a regular file.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if means_nothing_there(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

fn is_object(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file())
}

/// Nothing there; a file where a folder should be; a symbolic link; a socket.
fn means_nothing_there(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO)
    )
}

/// Size and CRC32C of all that is in the file.
pub(super) fn measure(file: &mut File) -> io::Result<(u64, u32)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut size, mut crc32c) = (0_u64, 0);
    let mut buffer = vec![0; READ_CHUNK];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok((size, crc32c));
        };
        crc32c = crc32c::crc32c_append(crc32c, bytes);
        size = size.saturating_add(bytes.len() as u64);
    }
}

/// An object being read.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    left: u64,
    object: String,
}

impl Reader {
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    pub(super) fn read(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let size = usize::try_from(self.left).map_or(READ_CHUNK, |left| left.min(READ_CHUNK));
        let mut chunk = vec![0; size];
        // An object that is shorter than it was a moment ago is an UnexpectedEof, never a short read.
        match self.file.read_exact(&mut chunk) {
            Ok(()) => {
                self.left = self.left.saturating_sub(size as u64);
                Ok(Some((chunk.into(), self)))
            }
            Err(source) => Err(StoreError::Io {
                operation: Operation::Get,
                object: self.object,
                source,
            }),
        }
    }
}
