//! What lies in the spool, for status.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::admission::Disk;
use super::{Spool, SpoolError, io_error, list};

/// What lies in the spool. Counting costs one `stat` for each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolUsage {
    /// Files that are held by a hard link.
    pub pinned_files: u64,
    /// Their bytes, which the server may share.
    pub pinned_bytes: u64,
    /// Sealed objects on their way out.
    pub sealed_files: u64,
    /// Their bytes.
    pub sealed_bytes: u64,
    /// Bytes free for this user on the file system.
    pub free: u64,
    /// Sealing waits for room.
    pub paused: Option<Paused>,
}

/// Sealing waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paused {
    /// When the first file began to wait.
    pub since: Timestamp,
    /// Free bytes that the largest of the waiting files needs.
    pub needed: u64,
}

impl Spool {
    /// Counts what lies in the spool. Blocks its thread.
    ///
    /// # Errors
    /// I/O errors.
    pub fn usage(&self) -> Result<SpoolUsage, SpoolError> {
        let (pinned_files, pinned_bytes) = count(&self.dir.join("pin"))?;
        let (sealed_files, sealed_bytes) = count(&self.dir.join("seal"))?;
        Ok(SpoolUsage {
            pinned_files,
            pinned_bytes,
            sealed_files,
            sealed_bytes,
            free: Disk::of(&self.dir)?.free,
            paused: self.admission.paused(),
        })
    }
}

/// Files with a name of their own in the folders of all sources, and their bytes.
fn count(dir: &Path) -> Result<(u64, u64), SpoolError> {
    let (mut files, mut bytes) = (0_u64, 0_u64);
    for folder in list(dir)? {
        for path in list(&folder)? {
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match path.symlink_metadata() {
                Ok(metadata) => {
                    files = files.saturating_add(1);
                    bytes = bytes.saturating_add(metadata.len());
                }
                // Let go of this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("look at", &path)(error)),
            }
        }
    }
    Ok((files, bytes))
}
