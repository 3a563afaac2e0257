//! The life of one binlog file: seal → upload → verify → commit.
//!
//! # Owns
//! The order of the steps for one file and destination, and what they share: sealing happens once
//! per file, whichever destination's job comes first.
//!
//! # Invariants
//! - I1: object → verified → manifest → watermark → acknowledge. Each step takes what only the step
//!   before can make (`Sealed` → `Verified` → `Committed`).
//! - I3: a file commits only when every known file below it has committed at that destination.
//! - Each step finds the work of an earlier, killed attempt and goes on from there.
//!
//! # Limits
//! One job is one file; how many run is the queue's affair.

pub mod commit;
mod error;
pub mod seal;
pub mod upload;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub use self::error::PipelineError;
use crate::archive::ObjectIdentity;
use crate::clock::Clock;
use crate::failpoint::failpoint;
use crate::keyring::Keyring;
use crate::layout::SourceIdentity;
use crate::ledger::{Committed, DestinationId, FileKey, FileRow, Ledger, SealedPayload, SourceId};
use crate::queue::{ArchiveJob, Handler, JobFailure, JobRun};
use crate::spool::Spool;
use crate::store::ObjectStore;

use seal::Sealed;
use upload::Upload;

/// A configured source, as the pipeline needs it.
#[derive(Debug, Clone)]
pub struct Source {
    /// For people.
    pub name: String,
    /// Whose files.
    pub identity: SourceIdentity,
}

/// Everything that archiving a file needs.
#[derive(Debug)]
pub struct Pipeline {
    /// SQL state.
    pub ledger: Ledger,
    /// The key-encryption key.
    pub keyring: Arc<Keyring>,
    /// Pins and sealed objects.
    pub spool: Spool,
    /// zstd level.
    pub level: i32,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Configured sources.
    pub sources: HashMap<SourceId, Source>,
    /// Configured destinations.
    pub stores: HashMap<DestinationId, Arc<dyn ObjectStore>>,
    /// One seal at a time per file.
    pub seals: SealLocks,
}

#[async_trait::async_trait]
impl Handler for Pipeline {
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        let outcome = tokio::select! {
            outcome = self.archive_one(job, run) => outcome,
            () = run.cancel().cancelled() => Err(PipelineError::Stopping),
        };
        outcome.map_err(|error| JobFailure::of(&error, error.retry_class()))
    }
}

impl Pipeline {
    async fn archive_one(
        &self,
        job: &ArchiveJob,
        run: &JobRun,
    ) -> Result<Committed, PipelineError> {
        let unconfigured = |what| PipelineError::Unconfigured { what };
        let source = self.sources.get(&job.route.source);
        let source = source.ok_or_else(|| unconfigured("source"))?;
        let store = self.stores.get(&job.route.destination);
        let store = store.ok_or_else(|| unconfigured("destination"))?.as_ref();
        let file = self
            .ledger
            .file(job.file())
            .await?
            .ok_or(PipelineError::Forgotten)?;
        let identity = ObjectIdentity {
            source: source.identity.clone(),
            sequence: job.sequence,
            file_name: file.name.clone(),
        };

        let sealed = self.seal_once(&file, &identity).await?;
        let upload = Upload {
            store,
            destination: job.route.destination,
            file: file.key,
            identity: &identity,
            sha256: sealed.sha256,
            facts: &sealed.facts,
            spooled: &self.spool.seal_path(&identity),
            ledger: &self.ledger,
            keyring: &self.keyring,
        };
        let verified = upload.run(run.attempt() > 1).await?;

        failpoint!("before-turn");
        let previous = self.ledger.previous_file(file.key).await?;
        run.turn(previous)
            .await
            .map_err(|_| PipelineError::Stopping)?;
        let head = self
            .ledger
            .chain_head(job.route.source, job.route.destination)
            .await?;
        let now = self.clock.now();
        let committed =
            commit::commit(store, &identity, &sealed, verified, head.as_ref(), now).await?;
        tracing::info!(
            source = source.name,
            file = file.name,
            bytes = sealed.summary.size,
            stored_bytes = sealed.facts.size,
            destination = store.url(),
            "archived"
        );
        Ok(committed)
    }

    /// The sealed file: an earlier attempt's, if the spool still holds it, else sealed now under a
    /// new data key (TRAPS 30).
    async fn seal_once(
        &self,
        file: &FileRow,
        identity: &ObjectIdentity,
    ) -> Result<Sealed, PipelineError> {
        let lock = self.seals.of(file.key);
        let _guard = lock.lock().await;
        // Read behind the lock: another destination's job may just have sealed it.
        let recorded = self
            .ledger
            .file(file.key)
            .await?
            .and_then(|file| file.sealed);
        if let Some(sealed) = recorded.and_then(|payload| Sealed::read(&payload))
            && self.spool_holds(&sealed, identity).await?
        {
            return Ok(sealed);
        }
        let key = self.keyring.new_data_key(identity).await?;
        let named = file
            .path
            .clone()
            .unwrap_or_else(|| file.name.clone().into());
        let path = self.spool.readable(identity, &named);
        let work = {
            let (identity, spool, level) = (identity.clone(), self.spool.clone(), self.level);
            move || seal::seal(&path, &identity, key, level, &spool)
        };
        let (sealed, fingerprint) = blocking(work).await??;
        self.ledger
            .record_sealed(file.key, &sealed.payload()?)
            .await?;
        self.ledger.set_fingerprint(file.key, fingerprint).await?;
        flag(&sealed, identity);
        Ok(sealed)
    }

    /// Is the sealed object in the spool still the one that the ledger knows?
    async fn spool_holds(
        &self,
        sealed: &Sealed,
        identity: &ObjectIdentity,
    ) -> Result<bool, PipelineError> {
        let path = self.spool.seal_path(identity);
        let (size, crc32c) = (sealed.facts.size, sealed.facts.crc32c);
        // One that cannot be read is sealed anew.
        blocking(move || spooled_as(&path, size, crc32c).unwrap_or(false)).await
    }
}

impl Sealed {
    fn payload(&self) -> Result<SealedPayload, PipelineError> {
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
fn flag(sealed: &Sealed, identity: &ObjectIdentity) {
    let file = &identity.file_name;
    if let Some(damage) = &sealed.summary.damage {
        let (offset, reason) = (damage.offset, &damage.reason);
        tracing::warn!(
            file,
            offset,
            reason,
            "damaged: archived byte for byte, and flagged"
        );
    } else if let Some(obstacle) = &sealed.summary.obstacle {
        let (offset, reason) = (obstacle.offset, &obstacle.reason);
        tracing::warn!(
            file,
            offset,
            reason,
            "a replay must not pass this unasked: archived, and flagged"
        );
    }
}

/// Runs `work` where it may block. A panic in it goes on here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PipelineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(PipelineError::Stopping),
    }
}

/// Does the file at `path` have this size and CRC32C?
fn spooled_as(path: &Path, size: u64, crc32c: u32) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    let mut buffer = vec![0; seal::READ_SIZE];
    let mut found = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(found == crc32c),
            read => found = crc32c::crc32c_append(found, buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// One lock per file under way, so that two destinations do not seal it twice.
#[derive(Debug, Default)]
pub struct SealLocks(Mutex<HashMap<FileKey, Weak<tokio::sync::Mutex<()>>>>);

impl SealLocks {
    fn of(&self, file: FileKey) -> Arc<tokio::sync::Mutex<()>> {
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
