//! One source in the hands of this process.
//!
//! # Owns
//! The right to the source, the pipeline of its files, and its routes: a route is opened (the destination is reached,
//! and the ledger agrees with it) before its lanes run. What is watched is the source supervisor's affair; a source
//! that is not watched any more has a tenure as well, until what is queued for it is archived.
//!
//! # Invariants
//! - Nothing is queued, sealed, uploaded or cleared for a source but by whoever holds its tenure.
//!
//! # After a crash
//! The locks are the system's and go with the process; a tenure begins with what another left behind.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::clearing;
use super::parts::{Destination, Parts, Right, lock};
use crate::config::SourceConfig;
use crate::exit;
use crate::layout::{Sequence, SourceIdentity};
use crate::ledger::{DestinationId, LedgerError, Route, SourceId};
use crate::pipeline::backups::BaseBackups;
use crate::pipeline::{Fresh, Pipeline, SealLocks, Source, orphans};
use crate::queue::QueueError;
use crate::reconcile;
use crate::rollup::Rollups;
use crate::watch::{self, Pins};

/// The source, until it is dropped.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) parts: Arc<Parts>,
    /// As configured.
    pub(super) name: String,
    pub(super) identity: SourceIdentity,
    pub(super) source: SourceId,
    pipeline: Arc<Pipeline>,
    right: Right,
    archived: Mutex<Option<Sequence>>,
}

impl Tenure {
    /// Takes up a source that was claimed.
    ///
    /// # Errors
    /// What database and spool say.
    pub(super) async fn begin(
        parts: Arc<Parts>,
        name: &str,
        identity: SourceIdentity,
        right: Right,
    ) -> anyhow::Result<Self> {
        let source = parts.ledger.source(&identity, name).await?;
        // Before any lane writes there.
        parts.spool.sweep_unfinished(&identity)?;
        let pipeline = pipeline(&parts, name, &identity, source);
        parts.owned().insert(source, identity.clone());
        let tenure = Self {
            parts,
            name: name.to_owned(),
            identity,
            source,
            pipeline: Arc::new(pipeline),
            right,
            archived: Mutex::default(),
        };
        tenure.note_archived().await?;
        Ok(tenure)
    }

    /// Fires when another may own the source.
    pub(super) fn lost(&self) -> &CancellationToken {
        self.right.ownership.lost()
    }

    pub(super) fn pins(&self) -> Pins {
        Pins {
            identity: self.identity.clone(),
            source: self.source,
            release: self.parts.release(),
            spool: self.parts.spool.clone(),
            queue: Arc::clone(&self.parts.queue),
        }
    }

    /// Pins what the server has closed and is not archived. The database is not asked.
    ///
    /// # Errors
    /// See [`watch::pin_closed`].
    pub(super) async fn pin_closed(&self, config: &SourceConfig) -> anyhow::Result<()> {
        let archived = *lock(&self.archived);
        let (config, identity) = (config.clone(), self.identity.clone());
        let spool = self.parts.spool.clone();
        let pin = move || watch::pin_closed(&config, &identity, &spool, archived);
        Ok(tokio::task::spawn_blocking(pin).await??)
    }

    /// Takes note of how far all is archived: nothing up to there needs to be pinned.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn note_archived(&self) -> Result<(), LedgerError> {
        let watermark = self.watermark().await?;
        *lock(&self.archived) = watermark;
        Ok(())
    }

    /// The source names no server: what one said earlier is not shown any more.
    pub(super) async fn forget_server(&self) {
        if let Err(error) = self.parts.ledger.forget_server(self.source).await {
            let error = exit::chain(&error);
            tracing::info!(error, "an earlier server is shown until the next start");
        }
    }

    pub(super) fn route(&self, destination: DestinationId) -> Route {
        Route {
            source: self.source,
            destination,
        }
    }

    /// Reaches a destination and makes the ledger agree with what it has of this source.
    ///
    /// # Errors
    /// Those of the store, of another layout, and of an archive that was tampered with.
    pub(super) async fn open(&self, destination: &Destination) -> anyhow::Result<()> {
        let (store, route) = (destination.store.as_ref(), self.route(destination.id));
        reconcile::layout_version(store, &self.identity.cluster).await?;
        let imported = reconcile::source(&self.parts.ledger, store, &self.identity, route).await?;
        let dropped = self.parts.queue.drop_overtaken(route).await?;
        if imported > 0 || dropped > 0 {
            tracing::info!(
                source = self.name,
                destination = store.url(),
                imported,
                dropped,
                "entries were in the bucket that the ledger did not know"
            );
        }
        Ok(())
    }

    /// Ends uploads to an open destination that nobody goes on with. What cannot be ended now is tried again by the next
    /// sweep.
    pub(super) async fn sweep(&self, destination: &Destination) {
        let (store, route) = (destination.store.as_ref(), self.route(destination.id));
        let swept = orphans::sweep(store, &self.parts.ledger, route, &self.identity);
        if let Err(error) = swept.await {
            let (source, destination) = (&self.name, store.url());
            let error = exit::chain(&error);
            tracing::warn!(
                source,
                destination,
                error,
                "orphaned uploads could not be ended"
            );
        }
    }

    /// Writes the rollups that are due at an open destination. What cannot be written now is tried again by the next look;
    /// nothing waits for them.
    pub(super) async fn roll_up(&self, destination: &Destination, rollups: &mut Rollups) {
        if let Err(error) = self.try_roll_up(destination, rollups).await {
            let (source, destination) = (&self.name, destination.store.url());
            let error = format!("{error:#}");
            tracing::info!(source, destination, error, "rollups are written later");
        }
    }

    async fn try_roll_up(
        &self,
        destination: &Destination,
        rollups: &mut Rollups,
    ) -> anyhow::Result<()> {
        let ledger = &self.parts.ledger;
        if let Some(head) = ledger.chain_head(self.source, destination.id).await? {
            let store = destination.store.as_ref();
            rollups.write_due(store, head.sequence).await?;
        }
        Ok(())
    }

    /// Runs the lanes of an open route until `stop` fires or the source is lost, and the work in hand has come to a
    /// safe point.
    ///
    /// # Errors
    /// What the database says at the start.
    pub(super) async fn work(
        &self,
        destination: DestinationId,
        stop: CancellationToken,
    ) -> Result<(), QueueError> {
        let handler = Arc::clone(&self.pipeline);
        let (ownership, source) = (&self.right.ownership, self.source);
        let queue = &self.parts.queue;
        queue
            .run(ownership, source, &[destination], handler, stop)
            .await
    }

    /// Up to where everything is committed at every required destination; none where one of them has nothing.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn watermark(&self) -> Result<Option<Sequence>, LedgerError> {
        let mut lowest = Some(Sequence::MAX);
        for id in self.parts.required_ids() {
            lowest = lowest.min(self.parts.ledger.watermark(self.source, id).await?);
        }
        Ok(lowest)
    }

    /// Files committed at the required destination that has fewest.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn archived_files(&self) -> Result<u64, LedgerError> {
        let mut fewest = u64::MAX;
        for id in self.parts.required_ids() {
            fewest = fewest.min(self.parts.ledger.commit_count(self.source, id).await?);
        }
        Ok(fewest)
    }

    /// Sequences missing between committed files at any required destination: first and last of each run.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn gaps(&self) -> Result<Vec<(u64, u64)>, LedgerError> {
        let mut gaps = BTreeSet::new();
        for id in self.parts.required_ids() {
            let missing = self.parts.ledger.gaps(self.source, id).await?;
            gaps.extend(missing.iter().map(|gap| (gap.start().0, gap.end().0)));
        }
        Ok(gaps.into_iter().collect())
    }

    /// Has any of its files been archived from here? Then what the ledger knows is not less than what there is.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn has_history(&self) -> Result<bool, LedgerError> {
        for id in self.parts.release().destinations {
            let head = self.parts.ledger.chain_head(self.source, id).await?;
            if head.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Is nothing queued any more? Then pins of what is committed everywhere are let go.
    ///
    /// # Errors
    /// What database and spool say.
    pub(super) async fn is_drained(&self) -> anyhow::Result<bool> {
        if self.parts.queued(self.source).await? > 0 {
            return Ok(false);
        }
        self.pins().let_go().await?;
        Ok(true)
    }

    /// Clears what can be cleared of this source, pins among it that were taken anew while the database was away.
    pub(super) async fn clear_spool(&self) {
        let ours = HashMap::from([(self.source, self.identity.clone())]);
        clearing::clear_and_tell(&self.parts, &ours).await;
        if let Err(error) = self.pins().let_go().await {
            let error = crate::exit::chain(&error);
            tracing::warn!(error, "pins of archived files stay until the next start");
        }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.parts.owned().remove(&self.source);
    }
}

fn pipeline(parts: &Parts, name: &str, identity: &SourceIdentity, source: SourceId) -> Pipeline {
    let stores = parts.destinations.iter();
    let stores = stores.map(|d| (d.id, Arc::clone(&d.store))).collect();
    let name = name.to_owned();
    let identity = identity.clone();
    Pipeline {
        ledger: parts.ledger.clone(),
        keyring: Arc::clone(&parts.keyring),
        spool: parts.spool.clone(),
        level: parts.level,
        clock: Arc::clone(&parts.clock),
        sources: HashMap::from([(source, Source { name, identity })]),
        stores,
        seals: SealLocks::default(),
        fresh: Fresh::default(),
        backups: BaseBackups::default(),
        meter: parts.meter.clone(),
        pace: Arc::clone(&parts.pace),
        uploads: parts.uploads.clone(),
        places: parts.places.clone(),
    }
}
