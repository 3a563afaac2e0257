//! Ownership by lock files beside a SQLite database.
//!
//! # Invariants
//! A lock file stays when its owner goes: deleting it would let two programs lock two files of the same name. Its
//! content is only for messages.
//!
//! # Limits
//! File locks are advisory (`flock`) and local: keep a SQLite database off network file systems.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{Claim, Lock, Ownership, OwnershipError};
use crate::layout::SourceIdentity;
use crate::ledger::database_path;

/// The lock files of one database.
#[derive(Debug, Clone)]
pub(super) struct Files {
    database: PathBuf,
}

impl Files {
    pub(super) fn beside(url: &str) -> Result<Self, OwnershipError> {
        let database = database_path(url)?;
        // The same for all names of one database: symbolic links are followed.
        let database = database.canonicalize().unwrap_or(database);
        Ok(Self { database })
    }

    pub(super) fn try_claim(&self, source: &SourceIdentity) -> Result<Claim, OwnershipError> {
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
        let lock = Lock::File(file);
        Ok(Claim::Owned(Ownership { lock, lost }))
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
    use crate::exit::{Diagnose, Exit};
    use crate::queue::Claims;

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
