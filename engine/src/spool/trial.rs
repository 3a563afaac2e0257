//! Tries what the spool is for, and leaves nothing behind: for `gtide check`.
//!
//! # After a crash
//! A trial's file or link may be left, with a name that begins in [`PREFIX`]; the next trial removes it.

use std::io::Write;
use std::path::Path;

use uuid::Uuid;

use super::admission::Disk;
use super::{Pin, Spool, SpoolError, io_error, list, remove};
use crate::durable_fs;

/// What the names of trials begin with.
const PREFIX: &str = ".check-";

/// What is written and synced, in bytes.
const WRITTEN: usize = 1 << 20;

/// The spool's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes free for this user.
    pub free: u64,
    /// All there are.
    pub total: u64,
}

impl Spool {
    /// How much room there is. Blocks its thread.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn room(&self) -> Result<Room, SpoolError> {
        let Disk { free, total } = Disk::of(&self.dir)?;
        Ok(Room { free, total })
    }

    /// Writes a mebibyte, makes it durable, and removes it. Blocks its thread.
    ///
    /// # Errors
    /// I/O errors.
    pub fn try_write(&self) -> Result<(), SpoolError> {
        self.sweep_trials()?;
        let mut file = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempfile_in(&self.dir)
            .map_err(io_error("create a file in", &self.dir))?;
        // Not zeros, which some file systems do not store.
        let written = file.write_all(&vec![0x5A; WRITTEN]);
        let synced = written.and_then(|()| file.as_file().sync_all());
        synced.map_err(io_error("write in", &self.dir))?;
        file.close()
            .map_err(io_error("remove a file in", &self.dir))?;
        durable_fs::sync_dir(&self.dir).map_err(io_error("sync", &self.dir))
    }

    /// Holds a file by a hard link for a moment. Blocks its thread.
    ///
    /// # Errors
    /// I/O errors; that it is not possible is none.
    pub fn try_pin(&self, file: &Path) -> Result<Pin, SpoolError> {
        self.sweep_trials()?;
        let file = &std::fs::canonicalize(file).map_err(io_error("look at", file))?;
        let link = self.dir.join(format!("{PREFIX}{}", Uuid::new_v4()));
        match std::fs::hard_link(file, &link) {
            Ok(()) => remove(&link).map(|()| Pin::Held),
            Err(error) => self.refused(file, error),
        }
    }

    /// A link that was left would keep the server's file on the disk for ever. Two checks of one spool at the
    /// same moment may disturb each other.
    fn sweep_trials(&self) -> Result<(), SpoolError> {
        for path in list(&self.dir)? {
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}
