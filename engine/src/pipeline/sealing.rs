//! A file's sealed object: the one that an earlier attempt left in the spool, or a new one.
//!
//! # Owns
//! The durable step *seal*. It is done once per file, whichever destination's job comes first; what a destination has
//! already is not sealed again for another one (`recall`).
//!
//! # Invariants
//! - A spooled object is used when size and CRC32C are those recorded (or it is new: `ahead`), as a destination's are
//!   compared with them after the upload: what is uploaded is what was sealed. Its blocks' tags vouch for more, to
//!   whoever reads it.
//! - An object whose file has changed since is dropped and the file sealed again, as long as nothing of it is
//!   anywhere. What is uploaded stays what is archived.
//! - A full disk is waited out ([`Spool::admit`](crate::spool::Spool::admit)); it fails no attempt.
//!
//! # Crash consistency
//! | killed after               | found on restart                   | done then                        |
//! |----------------------------|------------------------------------|----------------------------------|
//! | some blocks were written   | a nameless file                    | removed; sealed under a new key  |
//! | the object got its name    | an object that the ledger lacks    | replaced by a new one            |
//! | it was recorded            | object and record                  | compared, used                   |

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::seal::{self, SealError, Sealed, Sealing};
use super::stop::unless;
use super::{Pipeline, PipelineError, Source};
use crate::archive::ObjectIdentity;
use crate::failpoint::failpoint;
use crate::ledger::{FileKey, FileRow, Fingerprint, Route, SealedPayload};
use crate::queue::{ArchiveJob, MAX_LANES};
use crate::spool::Need;

/// Bytes of a spooled object that are read at once.
const READ_SIZE: usize = 256 * 1024;

/// Where a sealed object comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An earlier attempt, perhaps of another process, left it in the spool: it may be uploaded already.
    Spool,
    /// It was sealed just now, under a key that no object has.
    Now,
}

/// A file whose object lies in the spool.
#[derive(Debug)]
pub(super) struct Spooled {
    /// What the object is bound to.
    pub(super) identity: ObjectIdentity,
    /// What is known of it.
    pub(super) sealed: Sealed,
    /// Where it comes from.
    pub(super) origin: Origin,
}

/// A file on its way to one destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The source's name, for the log.
    pub(super) source: &'a str,
    /// In the ledger.
    pub(super) file: FileKey,
    /// From where to where.
    pub(super) route: Route,
    /// What the object is bound to.
    pub(super) identity: &'a ObjectIdentity,
    /// Fires when the work is to come to a safe point.
    pub(super) stop: &'a CancellationToken,
}

impl Pipeline {
    /// The sealed file: an earlier attempt's, if the spool still holds it, else sealed now under a new data key
    /// (TRAPS 30).
    pub(super) async fn sealed(
        &self,
        source: &Source,
        job: &ArchiveJob,
        stop: &CancellationToken,
    ) -> Result<Spooled, PipelineError> {
        let lock = self.seals.of(job.file());
        let _guard = unless(stop, lock.lock()).await?;
        // Read behind the lock: another destination's job may just have sealed it.
        let file = self.row(job).await?;
        let identity = source.object(job, &file);
        let subject = Subject {
            source: &source.name,
            file: file.key,
            route: job.route,
            identity: &identity,
            stop,
        };
        let (sealed, origin) = self.found_or_made(subject, &file).await?;
        Ok(Spooled {
            identity,
            sealed,
            origin,
        })
    }

    /// What the ledger knows of a job's file.
    pub(super) async fn row(&self, job: &ArchiveJob) -> Result<FileRow, PipelineError> {
        let file = self.ledger.file(job.file()).await?;
        file.ok_or(PipelineError::Forgotten)
    }

    async fn found_or_made(
        &self,
        subject: Subject<'_>,
        file: &FileRow,
    ) -> Result<(Sealed, Origin), PipelineError> {
        let fresh = self.fresh.take(file.key);
        let recorded = file.sealed.as_ref().and_then(Sealed::read);
        if let Some(sealed) = recorded
            && (fresh || self.is_whole(subject, &sealed).await?)
            && self.is_of_the_file_as_it_is(subject, file).await?
        {
            let origin = if fresh { Origin::Now } else { Origin::Spool };
            return Ok((sealed, origin));
        }
        if file.sealed.is_some() {
            self.forget_sealing(subject.file).await?;
        }
        self.recalled_or_made(subject, file).await
    }

    /// What another destination has of a file, else the file sealed now.
    pub(super) async fn recalled_or_made(
        &self,
        subject: Subject<'_>,
        file: &FileRow,
    ) -> Result<(Sealed, Origin), PipelineError> {
        if let Some(sealed) = self.recall(subject, file).await? {
            return Ok((sealed, Origin::Spool));
        }
        let sealed = self.seal_where_there_is_room(subject, file).await?;
        tell_what_is_odd(subject, &sealed);
        Ok((sealed, Origin::Now))
    }

    fn readable(&self, identity: &ObjectIdentity, file: &FileRow) -> PathBuf {
        let named = file.path.clone();
        let named = named.unwrap_or_else(|| file.name.clone().into());
        self.spool.readable(identity, &named)
    }

    /// Is the object in the spool the one that was recorded?
    async fn is_whole(&self, subject: Subject<'_>, sealed: &Sealed) -> Result<bool, PipelineError> {
        let object = self.spool.seal_path(subject.identity);
        let expected = (sealed.facts.size, sealed.facts.crc32c);
        let is_whole = blocking(move || measure(&object).is_ok_and(|found| found == expected));
        unless(subject.stop, is_whole).await?
    }

    /// Is the object in the spool one of the file as it is now, or one that must be archived whatever the file is?
    async fn is_of_the_file_as_it_is(
        &self,
        subject: Subject<'_>,
        file: &FileRow,
    ) -> Result<bool, PipelineError> {
        let (path, found) = (self.readable(subject.identity, file), file.fingerprint);
        // A file that is gone: the object is all there is.
        let Ok(now) = blocking(move || seal::look(&path)).await? else {
            return Ok(true);
        };
        if found.is_none_or(|found| seal::is_still(&found, &now)) {
            return Ok(true);
        }
        let (source, file) = (subject.source, &subject.identity.file_name);
        if self.may_be_uploaded(subject).await? {
            tracing::warn!(
                source,
                file,
                "the file has changed since it was sealed and uploaded: archived as it was then"
            );
            return Ok(true);
        }
        tracing::info!(
            source,
            file,
            "the file has changed since it was sealed: sealed again"
        );
        Ok(false)
    }

    /// Is anything of the sealed object at any destination? One that cannot be asked may have it.
    async fn may_be_uploaded(&self, subject: Subject<'_>) -> Result<bool, PipelineError> {
        let key = subject.identity.source.log_key(subject.identity.sequence);
        for (&destination, store) in &self.stores {
            let begun = self.ledger.upload(subject.file, destination).await?;
            if begun.is_some() || !matches!(store.head(&key).await, Ok(None)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Forgets an object that is not to be used, and the uploads that were begun with its bytes: they cannot be
    /// gone on with, and the next sweep aborts them.
    async fn forget_sealing(&self, file: FileKey) -> Result<(), PipelineError> {
        for &destination in self.stores.keys() {
            self.ledger.clear_upload(file, destination).await?;
        }
        Ok(self.ledger.clear_sealed(file).await?)
    }

    async fn seal_where_there_is_room(
        &self,
        subject: Subject<'_>,
        file: &FileRow,
    ) -> Result<Sealed, PipelineError> {
        let path = self.readable(subject.identity, file);
        let mut refused = 0;
        loop {
            let earlier = self.unsealed_before(subject).await?;
            let need = Need {
                source: subject.source,
                file: &file.name,
                size: seal::look(&path).map_or(file.size, |now| now.size),
                earlier: &earlier,
                refused,
            };
            let room = unless(subject.stop, self.spool.admit(&need)).await??;
            // Behind the room: what is waited for there is freed by uploads, and by who has a place already.
            let place = unless(subject.stop, self.pace.place()).await?;
            let key = self.keyring.new_data_key(subject.identity).await;
            self.meter.data_key(key.is_ok());
            let key = key?;
            let sealing = Sealing {
                path: path.clone(),
                identity: subject.identity.clone(),
                found: file.fingerprint,
                level: self.level,
                spool: self.spool.clone(),
                pace: Some(Arc::clone(&self.pace)),
                stop: subject.stop.clone(),
            };
            failpoint!("before-seal");
            let begin = Instant::now();
            let outcome = blocking(move || {
                let _held = (room, place);
                sealing.run(key)
            });
            match outcome.await? {
                Ok((sealed, fingerprint)) => {
                    let (plain, size) = (sealed.summary.size, sealed.facts.size);
                    self.meter
                        .sealed(subject.source, plain, size, begin.elapsed());
                    self.record(subject, &sealed, fingerprint).await?;
                    return Ok(sealed);
                }
                Err(error) if error.is_full() => {
                    refused = refused.saturating_add(1);
                    let (source, file) = (subject.source, &file.name);
                    let error = crate::exit::chain(&error);
                    tracing::info!(
                        source,
                        file,
                        error,
                        "the disk was full in the middle of sealing: nothing is left of it"
                    );
                }
                Err(SealError::Unstable { path, now }) => {
                    // The next attempt wants to find it as it is now.
                    self.ledger.set_fingerprint(subject.file, now).await?;
                    return Err(SealError::Unstable { path, now }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn record(
        &self,
        subject: Subject<'_>,
        sealed: &Sealed,
        fingerprint: Fingerprint,
    ) -> Result<(), PipelineError> {
        self.spool.learn(sealed.summary.size, sealed.facts.size);
        self.ledger
            .record_sealed(subject.file, &sealed.payload()?, Some(fingerprint))
            .await?;
        failpoint!("sealed");
        Ok(())
    }

    /// Sizes of the files before this one that are neither sealed nor committed where this one goes. They are in
    /// the lanes' hands, of which each has one file and one more ahead.
    pub(super) async fn unsealed_before(
        &self,
        subject: Subject<'_>,
    ) -> Result<Vec<u64>, PipelineError> {
        let Route {
            source,
            destination,
        } = subject.route;
        let head = self.ledger.chain_head(source, destination).await?;
        let head = head.map(|head| head.sequence);
        let sizes = self
            .ledger
            .unsealed_sizes(head, subject.file, 2 * MAX_LANES);
        Ok(sizes.await?)
    }
}

impl Sealed {
    pub(super) fn payload(&self) -> Result<SealedPayload, PipelineError> {
        serde_json::to_string(self)
            .map(SealedPayload)
            .map_err(PipelineError::Payload)
    }

    /// None when another version wrote it: the file is sealed anew.
    fn read(payload: &SealedPayload) -> Option<Self> {
        serde_json::from_str(&payload.0).ok()
    }
}

/// Says what is odd about a file. It is archived all the same.
fn tell_what_is_odd(subject: Subject<'_>, sealed: &Sealed) {
    let (source, file) = (subject.source, &subject.identity.file_name);
    if let Some(damage) = &sealed.summary.damage {
        let (offset, reason) = (damage.offset, &damage.reason);
        tracing::warn!(
            source,
            file,
            offset,
            reason,
            "damaged: archived byte for byte, and flagged"
        );
    } else if let Some(obstacle) = &sealed.summary.obstacle {
        let (offset, reason) = (obstacle.offset, &obstacle.reason);
        tracing::warn!(
            source,
            file,
            offset,
            reason,
            "a replay must not pass this unasked: archived, and flagged"
        );
    }
}

/// Runs `work` where it may block. A panic in it goes on here.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PipelineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(PipelineError::Stopping),
    }
}

/// Size and CRC32C of a spooled object.
fn measure(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = std::fs::File::open(path)?;
    let (mut size, mut crc32c) = (0_u64, 0);
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, crc32c)),
            Ok(read) => {
                crc32c = crc32c::crc32c_append(crc32c, buffer.get(..read).unwrap_or_default());
                size = size.saturating_add(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// One lock per file under way, so that two destinations do not seal it twice.
#[derive(Debug, Default)]
pub struct SealLocks(Mutex<HashMap<FileKey, Weak<tokio::sync::Mutex<()>>>>);

impl SealLocks {
    pub(super) fn of(&self, file: FileKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&file).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(file, Arc::downgrade(&lock));
        lock
    }
}
