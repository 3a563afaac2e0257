//! Files that one process at a time has: the system releases them when it dies.
//!
//! # Invariants
//! - A lock file stays when its owner goes: deleting it would let two programs lock two files of the same name. Its
//!   content, the owner's process id, is only for messages.
//!
//! # Limits
//! `flock` is advisory and local: keep lock files off network file systems.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The longest text of a lock file that is read.
const MAX_OWNER_LEN: u64 = 32;

/// The answer to [`try_lock`].
#[derive(Debug)]
pub(crate) enum LockFile {
    /// Ours until it is closed.
    Ours(File),
    /// Another process has it.
    Held {
        /// Its id, for a message.
        process: String,
    },
}

/// Locks the file at `path`, which is made if need be. Does not wait.
///
/// # Errors
/// I/O errors.
pub(crate) fn try_lock(path: &Path) -> io::Result<LockFile> {
    let mut writable = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // One that stays open for writing would keep its filesystem from being remounted read-only.
    let mut file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => {
            writable.set_len(0)?;
            writeln!(writable, "{}", std::process::id())?;
            Ok(LockFile::Ours(file))
        }
        Err(TryLockError::WouldBlock) => Ok(LockFile::Held {
            process: read_owner(&mut file),
        }),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read_owner(file: &mut File) -> String {
    // The owner may be about to write it.
    let mut text = String::new();
    match file.take(MAX_OWNER_LEN).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
