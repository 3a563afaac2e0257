//! One archiver per source and spool, whatever their databases.
//!
//! # Owns
//! `<spool>/<server_uuid>-<incarnation>.lock`. The right to archive a source with one database is
//! [`Ownership`](crate::queue::Ownership)'s; two archivers with two databases and one spool would clear and seal over
//! each other, and this lock keeps them apart.
//!
//! # Invariants
//! - A lock file stays when its owner goes: deleting it would let two programs lock two files of the same name. Its
//!   content is only for messages.
//!
//! # Limits
//! `flock` is advisory and local: a spool belongs on a local disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::layout::SourceIdentity;
use crate::spool::SpoolError;

/// The longest text of a lock file that is read.
const MAX_OWNER_LEN: u64 = 32;

/// The right to use the spool for one source, until it is dropped or its process dies.
#[derive(Debug)]
pub(super) struct SpoolLock {
    _file: File,
}

/// The answer to [`try_lock`].
#[derive(Debug)]
pub(super) enum Lock {
    Ours(SpoolLock),
    /// Another archiver has it; who, for a message.
    Held {
        by: String,
    },
}

/// Locks a source in the spool, if it is free. Does not wait.
///
/// # Errors
/// I/O errors.
pub(super) fn try_lock(spool: &Path, source: &SourceIdentity) -> Result<Lock, SpoolError> {
    let name = format!("{}-{}.lock", source.server_uuid, source.incarnation);
    let path = spool.join(name);
    let failed = |source: io::Error| SpoolError::Io {
        action: "lock",
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            write_owner(&mut file).map_err(failed)?;
            Ok(Lock::Ours(SpoolLock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => Ok(Lock::Held {
            by: format!("process {} with this spool", read_owner(&mut file)),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn write_owner(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_owner(file: &mut File) -> String {
    // Only a message hangs on it; the owner may be about to write it.
    let mut text = String::new();
    match file.take(MAX_OWNER_LEN).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(incarnation: u32) -> SourceIdentity {
        SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation,
        }
    }

    #[test]
    fn a_source_is_locked_once_in_a_spool_and_free_again_when_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = try_lock(dir.path(), &source(1)).unwrap();
        let Lock::Held { by } = try_lock(dir.path(), &source(1)).unwrap() else {
            panic!("locked twice");
        };
        let us = std::process::id();
        assert_eq!(by, format!("process {us} with this spool"));
        assert!(matches!(
            try_lock(dir.path(), &source(2)).unwrap(),
            Lock::Ours(_)
        ));
        drop(first);
        assert!(matches!(
            try_lock(dir.path(), &source(1)).unwrap(),
            Lock::Ours(_)
        ));
    }

    #[test]
    fn a_missing_spool_is_named() {
        let error = try_lock(Path::new("/does/not/exist"), &source(1)).unwrap_err();
        assert!(error.to_string().contains("lock /does/not/exist/3e11fa47"));
    }
}
