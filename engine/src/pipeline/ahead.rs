//! Sealing ahead: while a lane's file is sent and committed, the file that comes next in the lane is sealed.
//!
//! Sealing wants the processor and sending wants the network: a lane that did one after the other would leave each of
//! them idle for half of the time.
//!
//! # Owns
//! Which objects in the spool were sealed so, and have met no job yet.
//!
//! # Invariants
//! - What is sealed ahead is recorded as all sealing is; its job finds it in the spool.
//! - An object is trusted unread only by the first attempt at its job in this process. Every other one compares its size
//!   and CRC32C first.
//! - A failure is no attempt. The job meets it again, and tells.
//!
//! # After a crash
//! An object and its record are left, as behind any attempt that ended before the upload.
//!
//! # Limits
//! One file for each lane (`queue::ahead`); of [`MAX_FRESH`] objects it is known that they are new.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::sealing::{Origin, Subject};
use super::stop::unless;
use super::{Pipeline, PipelineError};
use crate::ledger::FileKey;
use crate::queue::ArchiveJob;

/// Objects that are known to be new. One that is forgotten is read once more.
const MAX_FRESH: usize = 4_096;

/// Files whose objects this process sealed ahead, and no job has met yet.
#[derive(Debug, Default)]
pub struct Fresh(Mutex<HashSet<FileKey>>);

impl Fresh {
    fn add(&self, file: FileKey) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= MAX_FRESH {
            files.clear();
        }
        files.insert(file);
    }

    /// Is it new? It is asked once.
    pub(super) fn take(&self, file: FileKey) -> bool {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(&file)
    }
}

impl Pipeline {
    /// Seals the file of a job that is not running, unless it is sealed.
    pub(super) async fn seal_ahead(
        &self,
        job: &ArchiveJob,
        stop: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let (source, _) = self.ends_of(job.route)?;
        let lock = self.seals.of(job.file());
        let _guard = unless(stop, lock.lock()).await?;
        let file = self.row(job).await?;
        Span::current().record("file", &file.name);
        if file.sealed.is_some() {
            return Ok(());
        }
        let identity = source.object(job, &file);
        let subject = Subject {
            source: &source.name,
            file: file.key,
            route: job.route,
            identity: &identity,
            stop,
        };
        let (_, origin) = self.recalled_or_made(subject, &file).await?;
        if origin == Origin::Now {
            self.fresh.add(file.key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Sequence;
    use crate::ledger::SourceId;

    fn file(sequence: u64) -> FileKey {
        FileKey {
            source: SourceId(1),
            sequence: Sequence(sequence),
        }
    }

    #[test]
    fn an_object_is_new_once() {
        let fresh = Fresh::default();
        assert!(!fresh.take(file(1)));
        fresh.add(file(1));
        assert!(fresh.take(file(1)));
        assert!(!fresh.take(file(1)));
    }

    #[test]
    fn what_no_job_asks_for_is_forgotten() {
        let fresh = Fresh::default();
        for sequence in 0..=MAX_FRESH as u64 {
            fresh.add(file(sequence));
        }
        assert!(!fresh.take(file(0)));
        assert!(fresh.take(file(MAX_FRESH as u64)));
    }
}
