//! One owner per source: a lock that the system releases when its owner dies.
//!
//! # Owns
//! The right to archive a source with one database: a lock file beside a SQLite database, an advisory lock of
//! a dedicated session on PostgreSQL. Two archivers with two databases are out of its reach: there the store's conditional
//! create decides (TRAPS 32).
//!
//! # Invariants
//! - At most one [`Ownership`] of a source exists for a database.
//! - A lock file stays when its owner goes: deleting it would let two programs lock two files of the same
//!   name. Its content is only for messages.
//!
//! # Limits
//! File locks are advisory (`flock`) and local: keep a SQLite database off network file systems.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::exit::{Diagnose, Exit};
use crate::layout::SourceIdentity;
use crate::ledger::{LedgerError, database_path};

/// Claims sources on behalf of one archiver.
#[derive(Debug, Clone)]
pub struct Claims {
    database: PathBuf,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// The source is ours.
    Owned(Ownership),
    /// Another archiver has it.
    Held {
        /// Who, for a message.
        by: String,
    },
}

/// The right to archive one source, for as long as it lives.
#[derive(Debug)]
pub struct Ownership {
    _file: File,
    lost: CancellationToken,
}

/// Why a source cannot be claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnershipError {
    /// The configured database.
    #[error(transparent)]
    Url(#[from] LedgerError),
    /// The lock file.
    #[error("lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Claims {
    /// Prepares claims with the database of `url`.
    ///
    /// # Errors
    /// When the URL names no database.
    #[expect(
        clippy::unused_async,
        reason = "a session is opened where a server keeps the locks"
    )]
    pub async fn open(url: &str) -> Result<Self, OwnershipError> {
        let database = database_path(url)?;
        // The same for all names of one database: symbolic links are followed.
        let database = database.canonicalize().unwrap_or(database);
        Ok(Self { database })
    }

    /// Claims a source, if it is free. Does not wait.
    ///
    /// # Errors
    /// [`OwnershipError::Lock`].
    #[expect(
        clippy::unused_async,
        reason = "a server is asked where it keeps the locks"
    )]
    pub async fn try_claim(&self, source: &SourceIdentity) -> Result<Claim, OwnershipError> {
        let path = lock_path(&self.database, source);
        let failed = |source| OwnershipError::Lock {
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
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let by = format!("process {}", read_owner(&mut file));
                return Ok(Claim::Held { by });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_owner(&mut file).map_err(failed)?;
        let lost = CancellationToken::new();
        Ok(Claim::Owned(Ownership { _file: file, lost }))
    }
}

impl Ownership {
    /// Fires when another may own the source by now: the work on it must end.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Waits while it is not known whether the source is still ours. Nothing is committed before.
    #[expect(
        clippy::unused_async,
        reason = "a file lock is always certain, a session's is not"
    )]
    pub async fn certain(&self) {}
}

impl Diagnose for OwnershipError {
    fn exit(&self) -> Exit {
        match self {
            Self::Url(error) => error.exit(),
            Self::Lock { .. } => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Url(error) => error.hint(),
            Self::Lock { .. } => Some(
                "check that the database's folder exists and belongs to the user that runs gtide"
                    .to_owned(),
            ),
        }
    }
}

fn lock_path(database: &Path, source: &SourceIdentity) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!(
        ".{}-{}.lock",
        source.server_uuid, source.incarnation
    ));
    name.into()
}

fn write_owner(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_owner(file: &mut File) -> String {
    // Only a message hangs on it; the owner may be about to write it.
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &Path) -> String {
        format!("sqlite:{}", path.display())
    }

    fn source(incarnation: u32) -> SourceIdentity {
        SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation,
        }
    }

    async fn claim(url: &str, incarnation: u32) -> Claim {
        let claims = Claims::open(url).await.unwrap();
        claims.try_claim(&source(incarnation)).await.unwrap()
    }

    #[tokio::test]
    async fn a_second_owner_is_told_who_has_the_source_and_may_have_another() {
        let dir = tempfile::tempdir().unwrap();
        let url = url(&dir.path().join("gtide.db"));
        let first = claim(&url, 1).await;
        let Claim::Held { by } = claim(&url, 1).await else {
            panic!("claimed twice");
        };
        assert_eq!(by, format!("process {}", std::process::id()));
        assert!(matches!(claim(&url, 2).await, Claim::Owned(_)));
        drop(first);
        assert!(matches!(claim(&url, 1).await, Claim::Owned(_)));
    }

    #[tokio::test]
    async fn another_name_of_the_same_database_has_the_same_locks() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("gtide.db");
        File::create(&database).unwrap();
        let alias = dir.path().join("alias.db");
        std::os::unix::fs::symlink(&database, &alias).unwrap();
        let _first = claim(&url(&database), 1).await;
        assert!(matches!(claim(&url(&alias), 1).await, Claim::Held { .. }));
    }

    #[tokio::test]
    async fn a_missing_folder_is_a_matter_of_configuration() {
        let claims = Claims::open("sqlite:/does/not/exist/gtide.db")
            .await
            .unwrap();
        let error = claims.try_claim(&source(1)).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains("/does/not/exist/gtide.db"));
    }
}
