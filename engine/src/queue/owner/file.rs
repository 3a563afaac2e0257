//! Ownership by lock files beside a SQLite database.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{Claim, Lock, Ownership, OwnershipError};
use crate::layout::SourceIdentity;
use crate::ledger::database_path;
use crate::lock_file::{self, LockFile};

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
        let file = match lock_file::try_lock(&path).map_err(failed)? {
            LockFile::Ours(file) => file,
            LockFile::Held { process } => {
                let by = format!("process {process}");
                return Ok(Claim::Held { by });
            }
        };
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
        std::fs::File::create(&database).unwrap();
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
