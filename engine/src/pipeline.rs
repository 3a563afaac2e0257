//! The life of one binlog file: seal → upload → verify → commit.
//!
//! # Owns
//! The order of the steps for one file and destination.
//!
//! # Invariants
//! - I1: object → verified → manifest → watermark → acknowledge. Each step takes what only the step
//!   before can make (`Sealed` → `Verified` → `Committed`).
//! - I3: a file commits only when every known file below it has committed at that destination.
//! - Each step finds the work of an earlier, killed attempt and goes on from there.
//! - What is done before a file's turn in its lane (`ahead`) is sealing, and nothing that leaves this host.
//!
//! # Cancellation
//! Cooperative: an attempt that is told to stop finishes the write that it has under way (a part, a put, a
//! completion, an entry) and begins nothing more (`stop`). One that is dropped instead, after the grace, is as
//! safe as one that is killed.
//!
//! # Limits
//! One job is one file; how many run is the queue's affair.

mod ahead;
pub mod backups;
pub mod commit;
mod error;
pub mod orphans;
pub mod pace;
pub mod progress;
mod recall;
pub mod seal;
mod sealing;
mod stop;
#[cfg(test)]
mod tests;
pub mod upload;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

pub use self::ahead::Fresh;
use self::backups::BaseBackups;
use self::commit::Commit;
pub use self::error::PipelineError;
use self::pace::Pace;
use self::progress::Uploads;
use self::seal::Sealed;
pub use self::sealing::SealLocks;
use self::sealing::{Origin, Spooled};
pub use self::upload::PartPlaces;
use self::upload::{Upload, Verified};
use crate::archive::ObjectIdentity;
use crate::binlog::Summary;
use crate::clock::Clock;
use crate::failpoint::failpoint;
use crate::keyring::Keyring;
use crate::layout::{BackupId, SourceIdentity};
use crate::ledger::{Committed, DestinationId, FileRow, Ledger, SourceId};
use crate::metrics::Meter;
use crate::queue::{ArchiveJob, Handler, JobFailure, JobRun, Route};
use crate::spool::Spool;
use crate::store::ObjectStore;
use crate::traces::STEP;

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
    /// How many files are sealed at once.
    pub pace: Arc<Pace>,
    /// One seal at a time per file.
    pub seals: SealLocks,
    /// What was sealed ahead.
    pub fresh: Fresh,
    /// Recorded base backups.
    pub backups: BaseBackups,
    /// Counts what happens.
    pub meter: Meter,
    /// What is being uploaded.
    pub uploads: Uploads,
    /// How many parts are under way at once.
    pub places: PartPlaces,
}

#[async_trait::async_trait]
impl Handler for Pipeline {
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        let outcome = self.archive_one(job, run).await;
        if let Ok((_, store)) = self.ends_of(job.route) {
            let failed = outcome.as_ref().err().map(PipelineError::retry_class);
            self.meter.attempted(store.url(), run.attempt(), failed);
        }
        outcome.map_err(|error| JobFailure::of(&error, error.retry_class()))
    }

    async fn prepare(&self, job: &ArchiveJob, cancel: &CancellationToken) {
        if let Err(error) = self.seal_ahead(job, cancel).await {
            let error = crate::exit::chain(&error);
            tracing::debug!(sequence = %job.sequence, error, "not sealed ahead");
        }
    }
}

impl Source {
    /// What the object of a file is bound to.
    fn object(&self, job: &ArchiveJob, file: &FileRow) -> ObjectIdentity {
        ObjectIdentity {
            source: self.identity.clone(),
            sequence: job.sequence,
            file_name: file.name.clone(),
        }
    }
}

impl Pipeline {
    /// Where the files of a route come from and go to.
    fn ends_of(&self, route: Route) -> Result<(&Source, &Arc<dyn ObjectStore>), PipelineError> {
        let unconfigured = |what| PipelineError::Unconfigured { what };
        let source = self.sources.get(&route.source);
        let store = self.stores.get(&route.destination);
        Ok((
            source.ok_or_else(|| unconfigured("source"))?,
            store.ok_or_else(|| unconfigured("destination"))?,
        ))
    }

    /// The base backup in force at the end of a file.
    async fn base_backup(
        &self,
        route: Route,
        summary: &Summary,
    ) -> Result<Option<BackupId>, PipelineError> {
        let (source, store) = self.ends_of(route)?;
        let executed = summary.previous_gtids.union(&summary.added_gtids);
        let (cluster, destination) = (&source.identity.cluster, route.destination);
        let backups = &self.backups;
        Ok(backups
            .in_force(store.as_ref(), destination, cluster, &executed)
            .await)
    }

    async fn archive_one(
        &self,
        job: &ArchiveJob,
        run: &JobRun,
    ) -> Result<Committed, PipelineError> {
        let (source, store) = self.ends_of(job.route)?;
        let stop = run.cancel();
        let sealed = self.sealed(source, job, stop).instrument(step("seal"));
        let Spooled {
            identity,
            sealed,
            origin,
        } = sealed.await?;
        Span::current().record("file", &identity.file_name);
        run.halfway();
        let upload = Upload {
            source: &source.name,
            store,
            destination: job.route.destination,
            file: job.file(),
            identity: &identity,
            sha256: sealed.sha256,
            facts: &sealed.facts,
            spooled: &self.spool.seal_path(&identity),
            ledger: &self.ledger,
            keyring: &self.keyring,
            stop,
            uploads: &self.uploads,
            places: &self.places,
            attempt: run.attempt(),
            meter: &self.meter,
            clock: self.clock.as_ref(),
        };
        let tried_before = origin == Origin::Spool || run.attempt() > 1;
        let begin = Instant::now();
        let verified = upload.run(tried_before).instrument(step("upload"));
        let verified = verified.await?;
        self.meter
            .uploaded(store.url(), verified.facts.size, begin.elapsed());
        failpoint!("verified");

        let commit = self.commit(job, run, &identity, &sealed, verified);
        let committed = commit.instrument(step("commit")).await?;
        tracing::info!(
            source = source.name,
            file = identity.file_name,
            bytes = sealed.summary.size,
            stored_bytes = sealed.facts.size,
            destination = store.url(),
            "archived"
        );
        Ok(committed)
    }

    /// Waits until every known file below has committed at the destination, and commits.
    async fn commit(
        &self,
        job: &ArchiveJob,
        run: &JobRun,
        identity: &ObjectIdentity,
        sealed: &Sealed,
        verified: Verified,
    ) -> Result<Committed, PipelineError> {
        let (source, store) = self.ends_of(job.route)?;
        failpoint!("before-turn");
        let previous = self.ledger.previous_file(job.file()).await?;
        run.turn(previous)
            .instrument(step("turn"))
            .await
            .map_err(|_| PipelineError::Stopping)?;
        let Route {
            source: id,
            destination,
        } = job.route;
        let head = self.ledger.chain_head(id, destination).await?;
        stop::check(run.cancel())?;
        let commit = Commit {
            store: store.as_ref(),
            source: &source.name,
            identity,
            sealed,
            head: head.as_ref(),
            base_backup: self.base_backup(job.route, &sealed.summary).await?,
            writer: self.spool.writer(),
            now: self.clock.now(),
        };
        commit.run(verified).await
    }
}

/// For traces.
fn step(name: &'static str) -> Span {
    tracing::debug_span!(target: STEP, "step", otel.name = name)
}
