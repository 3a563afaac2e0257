//! Wires the parts together, and stops them in order.
//!
//! # Owns
//! Start (open, reconcile, watch, work) and stop (no new work, the work in hand to its next safe
//! point). One source's trouble stops that source alone.
//!
//! # After a crash
//! Starting again is the recovery: see [`crate::reconcile`] and [`crate::queue`].

mod clearing;
mod outcome;
mod watching;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::clearing::{clear_spool, keep_spool_clear};
pub use self::outcome::{Outcome, Problem, SourceOutcome};
use self::watching::{keep_watch, warn_unpinned};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, SourceConfig};
use crate::exit::{Exit, Failure};
use crate::keyring::Keyring;
use crate::layout::{ClusterName, SourceIdentity};
use crate::ledger::{DestinationId, Ledger, Route, SourceId};
use crate::pipeline::{Pipeline, SealLocks, Source};
use crate::queue::{Claim, Claims, Ownership, Queue, QueueConfig, Settled};
use crate::reconcile;
use crate::spool::Spool;
use crate::store::{self, ObjectStore};
use crate::watch::{self, Watch, WatchError};

/// The archiver, opened and reconciled, not yet working.
#[derive(Debug)]
pub struct Archiver {
    queue: Arc<Queue>,
    pipeline: Arc<Pipeline>,
    watches: Vec<Watch>,
    owned: HashMap<SourceId, Arc<Ownership>>,
    /// Sources that could not be opened.
    stopped: Vec<SourceOutcome>,
    /// Of those, the ones whose index or `auto.cnf` could not be read, with the cluster and the spool.
    unreadable: Unreadable,
}

/// Why [`Archiver::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// A source that could not be read at the start can be read now: open anew.
    MoreSources,
}

impl Archiver {
    /// Opens everything, checks that every destination can be written, and makes the ledger agree
    /// with the bucket.
    ///
    /// # Errors
    /// Whatever keeps *all* sources from working. What concerns one source is told of it in the end.
    pub async fn open(config: &Config, include_last: bool) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keyring = Keyring::open(&config.key)?;
        let spool = Spool::open(&config.spool)?;
        let claims = Claims::open(&config.queue.database).await?;
        let queue = open_queue(config, &clock).await?;
        let ledger = queue.ledger().clone();
        // Before anything can fail that is far away: what is pinned is safe from expiry.
        let pinned = pin_sources(config, &spool);
        let stores = match open_stores(config, &ledger).await {
            Ok(stores) => stores,
            Err(error) => return Err(stop_all(config, &ledger, clock.now(), error).await?),
        };

        let (mut sources, mut owned) = (HashMap::new(), HashMap::new());
        let (mut watches, mut stopped) = (Vec::new(), Vec::new());
        let mut unreadable = Unreadable::new(config, &spool);
        for (source, identity) in config.sources.iter().zip(pinned) {
            if identity.is_err() {
                unreadable.add(source);
            }
            let opened = open_source(source, identity, &claims, &ledger, &stores).await;
            match opened {
                Ok((id, identity, ownership)) => {
                    owned.insert(id, Arc::new(ownership));
                    let name = source.name.clone();
                    sources.insert(
                        id,
                        Source {
                            name,
                            identity: identity.clone(),
                        },
                    );
                    watches.push(Watch {
                        config: source.clone(),
                        identity,
                        source: id,
                        destinations: stores.keys().copied().collect(),
                        spool: spool.clone(),
                        queue: Arc::clone(&queue),
                        include_last,
                    });
                }
                // Not this source's trouble: all of them are tried again together.
                Err(error) if Problem::of(&error).exit == Exit::Transient => return Err(error),
                Err(error) => {
                    let problem = Problem::of(&error);
                    let trouble = problem.trouble(clock.now());
                    ledger.set_trouble(&source.name, Some(&trouble)).await?;
                    stopped.push(SourceOutcome::stopped(&source.name, problem));
                }
            }
        }
        let seals = SealLocks::default();
        let level = config.level;
        let pipeline = Arc::new(Pipeline {
            ledger,
            keyring,
            spool,
            level,
            clock,
            sources,
            stores,
            seals,
        });
        Ok(Self {
            queue,
            pipeline,
            watches,
            owned,
            stopped,
            unreadable,
        })
    }

    /// Archives everything that is closed and comes to rest. None when `stop` fired before.
    ///
    /// # Errors
    /// What the database says.
    pub async fn run_once(self, stop: CancellationToken) -> anyhow::Result<Option<Outcome>> {
        let mut outcomes = self.stopped.clone();
        let mut before = HashMap::new();
        for watch in &self.watches {
            before.insert(watch.source, self.archived(watch).await?);
            let mut outcome = SourceOutcome::new(&watch.config.name);
            match watch.first_scan().await {
                Ok(scan) => {
                    outcome.active = scan.active;
                    let lost = scan.lost.iter().map(|file| Problem::lost(file));
                    let late = scan.late.iter().map(|file| Problem::late(file));
                    outcome.problems.extend(lost.chain(late));
                    warn_unpinned(watch, scan.unpinned.as_deref());
                }
                Err(error) => outcome.problems.push(Problem::of(&error.into())),
            }
            watching::record(watch, outcome.problems.first()).await;
            outcomes.push(outcome);
        }
        for watch in &self.watches {
            self.queue.retry_failed(watch.source).await?;
        }

        let mut lanes = self.start_lanes(&stop);
        let routes = self.watches.iter().flat_map(|watch| {
            let source = watch.source;
            watch.destinations.iter().map(move |&destination| Route {
                source,
                destination,
            })
        });
        let routes: Vec<Route> = routes.collect();
        let settled = tokio::select! {
            settled = self.queue.settled(&routes) => Some(settled),
            () = stop.cancelled() => None,
            // Lanes end by themselves only when they could not begin.
            outcome = &mut lanes => {
                outcome??;
                Some(Settled::default())
            }
        };
        // Whoever was faster: told to stop is told to stop.
        let settled = settled.filter(|_| !stop.is_cancelled());
        stop.cancel();
        if !lanes.is_finished() {
            lanes.await??;
        }
        clear_spool(&self.pipeline).await?;
        let Some(settled) = settled else {
            return Ok(None);
        };

        for (watch, outcome) in self
            .watches
            .iter()
            .zip(outcomes.iter_mut().skip(self.stopped.len()))
        {
            let archived = self.archived(watch).await?;
            let earlier = before.get(&watch.source).copied().unwrap_or_default();
            outcome.archived = archived.saturating_sub(earlier);
            outcome.watermark = self.watermark(watch).await?;
            outcome.gaps = self.gaps(watch).await?;
            outcome.add_settled(watch.source, &settled);
        }
        Ok(Some(Outcome { sources: outcomes }))
    }

    /// Archives files as the servers close them, until `stop` fires and the work in hand has come to
    /// a safe point.
    ///
    /// # Errors
    /// What the database says at the start, or when no source can be watched at all.
    pub async fn run(self, stop: &CancellationToken) -> anyhow::Result<Ended> {
        for outcome in &self.stopped {
            outcome.tell();
        }
        if self.watches.is_empty() {
            let outcome = Outcome {
                sources: self.stopped,
            };
            return Err(Failure {
                message: "no source can be archived".to_owned(),
                exit: outcome.exit(),
                hint: Some("the reasons are above, one for each source".to_owned()),
            }
            .into());
        }
        let asked_to_stop = stop.clone();
        let stop = stop.child_token();
        let lanes = self.start_lanes(&stop);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.unreadable.wait(stop.clone()));
        tasks.spawn(keep_spool_clear(
            Arc::clone(&self.queue),
            Arc::clone(&self.pipeline),
            stop.clone(),
        ));
        for watch in self.watches {
            tasks.spawn(keep_watch(watch, stop.clone()));
        }
        // The lanes end when told to, or at once when the database cannot be read.
        let outcome = lanes.await;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        outcome??;
        Ok(if asked_to_stop.is_cancelled() {
            Ended::Stopped
        } else {
            Ended::MoreSources
        })
    }

    fn start_lanes(
        &self,
        stop: &CancellationToken,
    ) -> tokio::task::JoinHandle<Result<(), crate::queue::QueueError>> {
        let mut sources = JoinSet::new();
        for watch in &self.watches {
            let Some(ownership) = self.owned.get(&watch.source).cloned() else {
                continue;
            };
            let (queue, handler) = (Arc::clone(&self.queue), Arc::clone(&self.pipeline));
            let (source, destinations) = (watch.source, watch.destinations.clone());
            let stop = stop.clone();
            sources.spawn(async move {
                queue
                    .run(&ownership, source, &destinations, handler, stop)
                    .await
            });
        }
        tokio::spawn(async move {
            while let Some(outcome) = sources.join_next().await {
                outcome.unwrap_or(Ok(()))?;
            }
            Ok(())
        })
    }

    /// Files committed at the destination that has fewest.
    async fn archived(&self, watch: &Watch) -> anyhow::Result<u64> {
        let mut fewest = u64::MAX;
        for &destination in &watch.destinations {
            let count = self
                .pipeline
                .ledger
                .commit_count(watch.source, destination)
                .await?;
            fewest = fewest.min(count);
        }
        Ok(fewest)
    }

    /// The lowest of the destinations' watermarks; none while one of them has none.
    async fn watermark(&self, watch: &Watch) -> anyhow::Result<Option<u64>> {
        let mut lowest = Some(u64::MAX);
        for &destination in &watch.destinations {
            let watermark = self
                .pipeline
                .ledger
                .watermark(watch.source, destination)
                .await?;
            lowest = lowest.min(watermark.map(|sequence| sequence.0));
        }
        Ok(lowest)
    }

    async fn gaps(&self, watch: &Watch) -> anyhow::Result<Vec<(u64, u64)>> {
        let mut gaps = Vec::new();
        for &destination in &watch.destinations {
            let missing = self.pipeline.ledger.gaps(watch.source, destination).await?;
            gaps.extend(
                missing
                    .into_iter()
                    .map(|range| (range.start().0, range.end().0)),
            );
        }
        gaps.sort_unstable();
        gaps.dedup();
        Ok(gaps)
    }
}

async fn open_queue(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<Queue>> {
    let ledger = Ledger::open(&config.queue.database).await?;
    let lanes = QueueConfig {
        lanes: config.queue.lanes,
        max_attempts: config.queue.max_attempts,
        shutdown_grace: config.queue.shutdown_grace,
    };
    Ok(Arc::new(
        Queue::open(ledger, lanes, Arc::clone(clock)).await?,
    ))
}

/// Writes down that all sources stand still, and hands the reason back.
async fn stop_all(
    config: &Config,
    ledger: &Ledger,
    now: Timestamp,
    error: anyhow::Error,
) -> anyhow::Result<anyhow::Error> {
    let trouble = Problem::of(&error).trouble(now);
    for source in &config.sources {
        ledger.set_trouble(&source.name, Some(&trouble)).await?;
    }
    Ok(error)
}

async fn open_stores(
    config: &Config,
    ledger: &Ledger,
) -> anyhow::Result<HashMap<DestinationId, Arc<dyn ObjectStore>>> {
    let mut stores = HashMap::new();
    for destination in &config.destinations {
        let store = store::connect(destination)?;
        reconcile::layout_version(store.as_ref(), &config.cluster).await?;
        stores.insert(ledger.destination(store.url()).await?, store);
    }
    Ok(stores)
}

/// Finds out whose files each source's are, and pins those that are closed.
fn pin_sources(config: &Config, spool: &Spool) -> Vec<Result<SourceIdentity, WatchError>> {
    let sources = config.sources.iter();
    sources
        .map(|source| pin_source(&config.cluster, source, spool))
        .collect()
}

fn pin_source(
    cluster: &ClusterName,
    source: &SourceConfig,
    spool: &Spool,
) -> Result<SourceIdentity, WatchError> {
    let identity = SourceIdentity {
        cluster: cluster.clone(),
        server_uuid: watch::server_uuid(source)?,
        incarnation: source.incarnation,
    };
    watch::pin_closed(source, &identity, spool)?;
    Ok(identity)
}

/// Sources that could not be read at the start: a datadir that is mounted later, say.
#[derive(Debug)]
struct Unreadable {
    cluster: ClusterName,
    spool: Spool,
    sources: Vec<SourceConfig>,
}

impl Unreadable {
    fn new(config: &Config, spool: &Spool) -> Self {
        let (cluster, spool) = (config.cluster.clone(), spool.clone());
        Self {
            cluster,
            spool,
            sources: Vec::new(),
        }
    }

    fn add(&mut self, source: &SourceConfig) {
        self.sources.push(source.clone());
    }

    /// Fires `stop` as soon as one of them can be read.
    async fn wait(self, stop: CancellationToken) {
        let can_be_read =
            |source: &SourceConfig| pin_source(&self.cluster, source, &self.spool).is_ok();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(watching::TROUBLE_POLL) => {}
            }
            if let Some(source) = self.sources.iter().find(|source| can_be_read(source)) {
                tracing::info!(source = source.name, "can be read now");
                return stop.cancel();
            }
        }
    }
}

/// Finds out what the bucket has of a source's files.
async fn open_source(
    source: &SourceConfig,
    identity: Result<SourceIdentity, WatchError>,
    claims: &Claims,
    ledger: &Ledger,
    stores: &HashMap<DestinationId, Arc<dyn ObjectStore>>,
) -> anyhow::Result<(SourceId, SourceIdentity, Ownership)> {
    let identity = identity?;
    let ownership = match claims.try_claim(&identity).await? {
        Claim::Owned(ownership) => ownership,
        Claim::Held { by } => {
            return Err(Failure {
                message: format!("{identity} is archived by {by} already"),
                exit: Exit::Conflict,
                hint: Some(
                    "list each server once, or give a clone a server_uuid of its own".to_owned(),
                ),
            }
            .into());
        }
    };
    let id = ledger.source(&identity, &source.name).await?;
    for (&destination, store) in stores {
        let route = Route {
            source: id,
            destination,
        };
        let imported = reconcile::source(ledger, store.as_ref(), &identity, route).await?;
        if imported > 0 {
            tracing::info!(
                source = source.name,
                destination = store.url(),
                imported,
                "entries were in the bucket that the ledger did not know"
            );
        }
    }
    Ok((id, identity, ownership))
}
