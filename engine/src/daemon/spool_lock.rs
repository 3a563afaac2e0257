//! One archiver per source and spool, whatever their databases.
//!
//! # Owns
//! `<spool>/<server_uuid>-<incarnation>.lock`. The right to archive a source with one database is
//! [`Ownership`](crate::queue::Ownership)'s; two archivers with two databases and one spool would clear and seal over
//! each other, and this lock keeps them apart.

use std::fs::File;
use std::path::Path;

use crate::layout::SourceIdentity;
use crate::lock_file::{self, LockFile};
use crate::spool::SpoolError;

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
    match lock_file::try_lock(&path) {
        Ok(LockFile::Ours(file)) => Ok(Lock::Ours(SpoolLock { _file: file })),
        Ok(LockFile::Held { process }) => Ok(Lock::Held {
            by: format!("process {process} with this spool"),
        }),
        Err(source) => Err(SpoolError::Io {
            action: "lock",
            path,
            source,
        }),
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

    fn is_ours(dir: &Path, incarnation: u32) -> bool {
        matches!(try_lock(dir, &source(incarnation)).unwrap(), Lock::Ours(_))
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
        assert!(is_ours(dir.path(), 2), "another source is free");
        drop(first);
        assert!(is_ours(dir.path(), 1));
    }

    #[test]
    fn a_missing_spool_is_named() {
        let error = try_lock(Path::new("/does/not/exist"), &source(1)).unwrap_err();
        assert!(error.to_string().contains("lock /does/not/exist/3e11fa47"));
    }
}
