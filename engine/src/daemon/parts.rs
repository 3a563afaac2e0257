//! What all sources of one archiver share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::spool_lock::{self, Lock, SpoolLock};
use crate::clock::Clock;
use crate::cloud::Lifetime;
use crate::config::{Config, DestinationConfig, PurgeConfig, SourceConfig};
use crate::exit::{Exit, Failure};
use crate::keyring::Keyring;
use crate::layout::{ClusterName, SourceIdentity};
use crate::ledger::{DestinationId, Ledger, LedgerError, Route, SourceId, agent_key};
use crate::metrics::{Meter, Subject};
use crate::pipeline::PartPlaces;
use crate::pipeline::pace::{Pace, places_for};
use crate::pipeline::progress::Uploads;
use crate::queue::{Claim, Claims, Ownership, Queue, QueueConfig};
use crate::spool::Spool;
use crate::store::{self, Bandwidth, ObjectStore, StoreError};
use crate::watch::{self, Release};

/// Everything but the sources themselves.
#[derive(Debug)]
pub(super) struct Parts {
    /// This machine's name.
    pub(super) host: String,
    /// This archiver's key in the ledger.
    pub(super) agent: String,
    pub(super) cluster: ClusterName,
    pub(super) ledger: Ledger,
    pub(super) queue: Arc<Queue>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) spool: Spool,
    pub(super) level: i32,
    pub(super) purge: PurgeConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meter: Meter,
    /// What is being uploaded.
    pub(super) uploads: Uploads,
    pub(super) pace: Arc<Pace>,
    pub(super) places: PartPlaces,
    reserve: u64,
    pub(super) destinations: Vec<Destination>,
    /// Take the last file too, when it ends in ROTATE or STOP.
    pub(super) include_last: bool,
    pub(super) spool_dir: PathBuf,
    claims: Claims,
    /// Whose files the configured sources' are, as far as it is known.
    names: Mutex<HashMap<SourceIdentity, String>>,
    /// The sources that this process owns now.
    owned: Mutex<HashMap<SourceId, SourceIdentity>>,
}

/// A configured destination. Nobody has tried to reach it yet.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) id: DestinationId,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) required: bool,
}

/// The right to archive one source with this database and this spool, until it is dropped.
#[derive(Debug)]
pub(super) struct Right {
    pub(super) ownership: Arc<Ownership>,
    _lock: SpoolLock,
}

/// The answer to a claim.
#[derive(Debug)]
pub(super) enum Claimed {
    Ours(Right),
    /// Another archiver has it; who, for a message.
    Held {
        by: String,
    },
}

impl Parts {
    /// Opens everything that is here: keys, spool and database. A destination's settings are checked; it is not
    /// reached for.
    pub(super) async fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        include_last: bool,
        meter: Meter,
    ) -> anyhow::Result<Self> {
        let keyring = Arc::new(Keyring::open(&config.encryption)?);
        let limit = config.queue.bandwidth_limit;
        let bandwidth = limit.and_then(|limit| Bandwidth::new(limit, config.uploads()));
        let bandwidth = bandwidth.map(Arc::new);
        let connect = |d: &DestinationConfig| {
            let store = store::connect_within(&d.store, bandwidth.clone())?;
            Ok((store, d.required))
        };
        let stores = config.destinations.iter().map(connect);
        let stores: Vec<_> = stores.collect::<Result<_, StoreError>>()?;
        let spool = Spool::open(&config.spool)?;
        let claims = Claims::open(&config.queue.database).await?;
        let queue = open_queue(config, Arc::clone(&clock))
            .await?
            .metered(meter.clone());
        let ledger = queue.ledger().clone();
        let mut destinations = Vec::new();
        for (store, required) in stores {
            let id = ledger.destination(store.url()).await?;
            destinations.push(Destination {
                id,
                store,
                required,
            });
        }
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        Ok(Self {
            agent: agent_key(&host, &config.spool.dir.display().to_string()),
            host,
            cluster: config.cluster.clone(),
            ledger,
            queue: Arc::new(queue),
            keyring,
            spool,
            level: config.level,
            purge: config.purge,
            clock,
            meter,
            uploads: Uploads::default(),
            pace: Arc::new(Pace::new(
                places_for(config.uploads()),
                config.queue.yield_at,
            )),
            places: PartPlaces::new(config.uploads()),
            reserve: config.spool.reserve,
            destinations,
            include_last,
            spool_dir: config.spool.dir.clone(),
            claims,
            names: Mutex::default(),
            owned: Mutex::default(),
        })
    }

    /// Finds out whose files a configured source's are.
    ///
    /// # Errors
    /// When `auto.cnf` cannot be read, and when another configured source has the same files: two workers on one lane
    /// would break its order.
    pub(super) fn identify(&self, source: &SourceConfig) -> anyhow::Result<SourceIdentity> {
        let identity = identify(&self.cluster, source)?;
        let mut names = lock(&self.names);
        names.retain(|other, name| *name != source.name || *other == identity);
        let name = names
            .entry(identity.clone())
            .or_insert_with(|| source.name.clone());
        if *name == source.name {
            return Ok(identity);
        }
        Err(Failure {
            message: format!("{identity} is archived as source {name:?} already"),
            exit: Exit::Usage,
            hint: Some(
                "list each server once, or give a clone a server_uuid of its own".to_owned(),
            ),
        }
        .into())
    }

    /// Claims a source with the spool and the database, if it is free at both. Does not wait for its owner.
    pub(super) async fn try_claim(&self, identity: &SourceIdentity) -> anyhow::Result<Claimed> {
        let lock = match spool_lock::try_lock(&self.spool_dir, identity)? {
            Lock::Ours(lock) => lock,
            Lock::Held { by } => return Ok(Claimed::Held { by }),
        };
        Ok(match self.claims.try_claim(identity).await? {
            Claim::Owned(ownership) => Claimed::Ours(Right {
                ownership: Arc::new(ownership),
                _lock: lock,
            }),
            Claim::Held { by } => Claimed::Held { by },
        })
    }

    /// Are they the files of a configured source?
    pub(super) fn is_configured(&self, identity: &SourceIdentity) -> bool {
        lock(&self.names).contains_key(identity)
    }

    /// Jobs of a source for the configured destinations.
    pub(super) async fn queued(&self, source: SourceId) -> Result<u64, LedgerError> {
        let queued = self.ledger.queued().await?;
        let routes = self.destinations.iter().map(|destination| Route {
            source,
            destination: destination.id,
        });
        Ok(routes.filter_map(|route| queued.get(&route)).sum())
    }

    /// Pins what a server has closed while its source cannot be claimed because the database does not answer.
    pub(super) async fn pin_unclaimed(&self, source: &SourceConfig) {
        let (cluster, dir) = (self.cluster.clone(), self.spool_dir.clone());
        let (spool, source) = (self.spool.clone(), source.clone());
        let pin = move || pin_unclaimed(&cluster, &spool, &dir, &source);
        if let Err(error) = tokio::task::spawn_blocking(pin).await {
            tracing::warn!(%error, "not pinned");
        }
    }

    fn destination_ids(&self) -> Vec<DestinationId> {
        self.destinations.iter().map(|d| d.id).collect()
    }

    /// Those that must have a file before it counts as archived.
    pub(super) fn required_ids(&self) -> Vec<DestinationId> {
        let required = self.destinations.iter().filter(|d| d.required);
        required.map(|d| d.id).collect()
    }

    /// When something held is not needed any more.
    pub(super) fn release(&self) -> Release {
        Release {
            destinations: self.destination_ids(),
            required: self.required_ids(),
            clock: Arc::clone(&self.clock),
        }
    }

    /// The sources that this process owns now.
    pub(super) fn owned(&self) -> MutexGuard<'_, HashMap<SourceId, SourceIdentity>> {
        lock(&self.owned)
    }
}

impl Subject for Parts {
    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn agent(&self) -> &str {
        &self.agent
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn owns(&self, source: &SourceIdentity) -> Option<bool> {
        let is_owned = || self.owned().values().any(|owned| owned == source);
        self.is_configured(source).then(is_owned)
    }

    fn reserve(&self) -> u64 {
        self.reserve
    }

    fn seal_places(&self) -> usize {
        self.pace.places()
    }

    fn credentials(&self) -> Vec<(String, Lifetime)> {
        let stores = self.destinations.iter();
        let stores = stores.map(|d| (d.store.url().to_owned(), d.store.credentials()));
        stores.chain(self.keyring.credentials()).collect()
    }
}

/// Pins what the servers have closed while the database cannot be opened.
pub(super) fn pin_all_unclaimed(config: &Config) {
    if let Ok(spool) = Spool::open(&config.spool) {
        for source in &config.sources {
            pin_unclaimed(&config.cluster, &spool, &config.spool.dir, source);
        }
    }
}

/// A source that another archiver has is left to it; one that cannot be read is told of elsewhere.
fn pin_unclaimed(cluster: &ClusterName, spool: &Spool, dir: &Path, source: &SourceConfig) {
    let Ok(identity) = identify(cluster, source) else {
        return;
    };
    if let Ok(Lock::Ours(_lock)) = spool_lock::try_lock(dir, &identity)
        && let Err(error) = watch::pin_closed(source, &identity, spool, None)
    {
        let error = crate::exit::chain(&error);
        tracing::warn!(source = source.name, error, "cannot be pinned");
    }
}

fn identify(cluster: &ClusterName, source: &SourceConfig) -> anyhow::Result<SourceIdentity> {
    Ok(SourceIdentity {
        cluster: cluster.clone(),
        server_uuid: watch::server_uuid(source)?,
        incarnation: source.incarnation,
    })
}

async fn open_queue(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Queue> {
    let ledger = Ledger::open(&config.queue.database).await?;
    let lanes = QueueConfig {
        lanes: config.queue.lanes,
        max_attempts: config.queue.max_attempts,
        shutdown_grace: config.queue.shutdown_grace,
    };
    Ok(Queue::open(ledger, lanes, clock).await?)
}

/// Nothing panics while it holds one of these.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
