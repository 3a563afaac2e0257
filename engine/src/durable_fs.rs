//! Files that are still there after a power cut.
//!
//! # Invariants
//! - When a function here returns `Ok`, both the bytes and the directory entries that lead to them
//!   are on the disk (`fsync` of the file, then of its parent: `fsync(2)`, "calling `fsync()` does not
//!   necessarily ensure that the entry in the directory … has also reached disk").
//! - A file appears whole or not at all, under its name; nothing is overwritten except by [`replace`].
//!
//! # After a crash
//! A name either has its old content (or none) or all of the new. A hidden `.NAME.….tmp` file may
//! be left beside it, and may be deleted. After an error the outcome is one of the two: look.
//!
//! All functions block; async callers run them on the blocking pool.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// Creates `path` with all of `bytes` and the permission bits `mode` (less the umask).
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when the name is taken: it is left as it was.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let staged = stage(path, bytes, mode)?.into_temp_path();
    rename_new(&staged, path)
}

/// Puts `bytes` at `path`, in place of what may be there. Readers see the old content or the new.
/// An existing file keeps its permission bits; a new one gets 0666 less the umask.
///
/// # Errors
/// Any I/O error; the old content is then still in place, unless only the last `fsync` failed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = match path.metadata() {
        Ok(metadata) => Some(metadata.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let staged = stage(path, bytes, 0o666)?;
    if let Some(permissions) = mode {
        staged.as_file().set_permissions(permissions)?;
        staged.as_file().sync_all()?;
    }
    staged.persist(path).map_err(|failed| failed.error)?;
    sync_parent(path)
}

/// Renames `from` to `to`, replacing what may be there.
///
/// # Errors
/// Any I/O error; unless only the `fsync` failed, nothing has changed.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    rustix::fs::rename(from, to)?;
    sync_both(from, to)
}

/// Renames `from` to `to` if that name is free; both must be on one file system.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when the name is taken: both files are left as they were.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    rename_unless_taken(from, to)?;
    sync_both(from, to)
}

/// The same where the old name is of no account: should it come back after a crash, it is swept. Only the new one is
/// synced.
///
/// # Errors
/// As [`rename_new`].
pub fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    rename_unless_taken(from, to)?;
    sync_parent(to)
}

fn rename_unless_taken(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // NFS and old kernels know no RENAME_NOREPLACE, but every one of them has hard links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_then_unlink(from, to),
        Err(error) => Err(error.into()),
    }
}

fn link_then_unlink(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// Gives the file `existing` a second name `new`, if that name is free. `existing` itself is not
/// synced: a link adds no bytes.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when the name is taken, [`io::ErrorKind::CrossesDevices`] when
/// the two are not on one file system.
pub fn link_new(existing: &Path, new: &Path) -> io::Result<()> {
    std::fs::hard_link(existing, new)?;
    sync_parent(new)
}

/// Removes the name `path`. That it is not there is no error, so that a removal can be repeated.
///
/// # Errors
/// Any other I/O error.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_parent(path),
    }
}

/// Creates the directory `path` and those above it that are missing, each one synced into its parent.
///
/// # Errors
/// Any I/O error, such as a file where a directory should be.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error)?;
            create_dir_all(parent)?;
            create_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Syncs the entries of the directory `path`.
///
/// # Errors
/// Any I/O error but "this file system cannot sync a directory": there is nothing more to be done then.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    match rustix::fs::fsync(File::open(path)?) {
        // Some network file systems; PostgreSQL's fsync_fname_ext ignores the same two.
        Err(Errno::INVAL | Errno::BADF) => Ok(()),
        result => Ok(result?),
    }
}

/// The directory that holds `path`: `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent_of(path))
}

/// The new name first: to have both after a crash is better than to have none.
fn sync_both(from: &Path, to: &Path) -> io::Result<()> {
    sync_parent(to)?;
    if parent_of(from) == parent_of(to) {
        return Ok(());
    }
    sync_parent(from)
}

/// A synced temporary file with `bytes`, beside `path`.
fn stage(path: &Path, bytes: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut staged = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent_of(path))?;
    staged.write_all(bytes)?;
    staged.as_file().sync_all()?;
    Ok(staged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn create_new_writes_once_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create_new(&path, b"first", 0o600).unwrap();
        let again = create_new(&path, b"second", 0o600).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["key"]);
    }

    #[test]
    fn replace_keeps_the_permission_bits_of_the_file_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"one").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()), ["state"]);
    }

    #[test]
    fn a_taken_name_is_refused_with_and_without_rename_noreplace() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for rename in [rename_new, link_then_unlink] {
            replace(&from, b"new").unwrap();
            replace(&to, b"old").unwrap();
            let refused = rename(&from, &to).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&to).unwrap(), b"old");
            assert_eq!(std::fs::read(&from).unwrap(), b"new");
            remove(&to).unwrap();
            rename(&from, &to).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), b"new");
            assert_eq!(names(dir.path()), ["to"]);
        }
    }

    #[test]
    fn a_link_outlives_the_first_name_and_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (binlog, pin) = (dir.path().join("binlog.000001"), dir.path().join("pin"));
        replace(&binlog, b"events").unwrap();
        link_new(&binlog, &pin).unwrap();
        let again = link_new(&binlog, &pin).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        remove(&binlog).unwrap();
        remove(&binlog).unwrap();
        assert_eq!(std::fs::read(&pin).unwrap(), b"events");
    }

    #[test]
    fn directories_are_made_down_to_the_last_and_a_file_in_the_way_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        assert!(deep.is_dir());
        replace(&dir.path().join("file"), b"").unwrap();
        assert!(create_dir_all(&dir.path().join("file")).is_err());
        assert!(create_dir_all(&dir.path().join("file/below")).is_err());
    }
}
