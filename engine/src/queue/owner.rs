//! One archiver per database: a lock beside the database file, released by the system when its owner dies.
//!
//! The file stays: deleting it would let two programs lock two files of the same name. Its content is only for
//! the error message. The lock is advisory (`flock`) and local: keep the database off network file systems.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::exit::{Diagnose, Exit};
use crate::ledger::{LedgerError, database_path};

/// The right to archive with one database, for as long as it lives.
#[derive(Debug)]
pub struct Ownership {
    _file: File,
    path: PathBuf,
}

/// Why the database cannot be owned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnershipError {
    /// Another archiver runs with it.
    #[error("{} is held by process {owner}", path.display())]
    Owned {
        /// The lock file.
        path: PathBuf,
        /// What the owner wrote into it: its process id.
        owner: String,
    },
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

impl Ownership {
    /// Claims the database of `url`. Claim before opening the ledger: opening migrates it.
    ///
    /// # Errors
    /// [`OwnershipError::Owned`] at once when another process has it.
    pub fn claim(url: &str) -> Result<Self, OwnershipError> {
        let path = lock_path(&database_path(url)?);
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
                let owner = read_owner(&mut file);
                return Err(OwnershipError::Owned { path, owner });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_owner(&mut file).map_err(failed)?;
        Ok(Self { _file: file, path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Diagnose for OwnershipError {
    fn exit(&self) -> Exit {
        match self {
            Self::Owned { .. } => Exit::Conflict,
            Self::Url(error) => error.exit(),
            Self::Lock { .. } => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Owned { owner, .. } => Some(format!(
                "stop process {owner} first; `gtide status` and `gtide-tui` can look on while it runs"
            )),
            Self::Url(error) => error.hint(),
            Self::Lock { .. } => Some(
                "check that the database's folder exists and belongs to the user that runs gtide"
                    .to_owned(),
            ),
        }
    }
}

/// The same for all names of one database: symbolic links are followed.
fn lock_path(database: &Path) -> PathBuf {
    let real = database
        .canonicalize()
        .unwrap_or_else(|_| database.to_owned());
    let mut name = real.into_os_string();
    name.push(".lock");
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

    #[test]
    fn a_second_owner_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("gtide.db").display());
        let first = Ownership::claim(&url).unwrap();
        let error = Ownership::claim(&url).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(
            error.to_string().ends_with(&format!("process {pid}")),
            "{error}"
        );
        assert_eq!(error.exit(), Exit::Conflict);
        assert!(error.hint().unwrap().contains(&pid));
        drop(first);
        Ownership::claim(&url).unwrap();
    }

    #[test]
    fn another_name_of_the_same_database_has_the_same_lock() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("gtide.db");
        File::create(&database).unwrap();
        let alias = dir.path().join("alias.db");
        std::os::unix::fs::symlink(&database, &alias).unwrap();
        let _first = Ownership::claim(&format!("sqlite:{}", database.display())).unwrap();
        let error = Ownership::claim(&format!("sqlite:{}", alias.display())).unwrap_err();
        assert!(matches!(error, OwnershipError::Owned { .. }), "{error}");
    }

    #[test]
    fn a_missing_folder_is_a_matter_of_configuration() {
        let error = Ownership::claim("sqlite:/does/not/exist/gtide.db").unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains("/does/not/exist/gtide.db.lock"));
    }
}
