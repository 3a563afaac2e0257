//! Which base backup is in force when a file is archived, for its manifest entry.
//!
//! That is the largest recorded one that holds no transaction which the file and those before it do not: a restore to the
//! end of the file would begin with it. It is for people and for retention; planning reads the records themselves.
//!
//! # Limits
//! The records are looked at every `LOOK_EVERY` at each destination: a backup is in force for the files that are archived
//! that much later. At most `MAX_RECORDS` are known. When they cannot be read, what was known before counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use tokio::sync::Mutex;

use crate::base_backup::{MAX_RECORD_LEN, Record};
use crate::exit;
use crate::gtid::GtidSet;
use crate::layout::{BackupId, ClusterName, ObjectKey};
use crate::ledger::DestinationId;
use crate::store::{self, ObjectStore, StoreError};

/// Records are looked for this often.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// Records that are known at most: a backup each day for thirty years.
const MAX_RECORDS: usize = 10_000;

/// Records that are read at once.
const READS_IN_FLIGHT: usize = 8;

/// The base backups that are recorded at each destination.
#[derive(Debug, Default)]
pub struct BaseBackups {
    known: Mutex<BTreeMap<DestinationId, Known>>,
}

/// What is known of one destination.
#[derive(Debug, Clone)]
struct Known {
    looked: Instant,
    /// None of a record that states no GTID set, or is none.
    sets: BTreeMap<ObjectKey, Option<Arc<Backup>>>,
}

#[derive(Debug)]
struct Backup {
    id: BackupId,
    gtid_set: GtidSet,
}

impl BaseBackups {
    /// The backup in force where these transactions were executed.
    pub async fn in_force(
        &self,
        store: &dyn ObjectStore,
        destination: DestinationId,
        cluster: &ClusterName,
        executed: &GtidSet,
    ) -> Option<BackupId> {
        let mut known = self.known.lock().await;
        let is_fresh = |known: &Known| known.looked.elapsed() < LOOK_EVERY;
        if !known.get(&destination).is_some_and(is_fresh) {
            let before = known.remove(&destination).map(|known| known.sets);
            let sets = look(store, cluster, before.unwrap_or_default()).await;
            let looked = Instant::now();
            known.insert(destination, Known { looked, sets });
        }
        let backups = known.get(&destination)?.sets.values().flatten();
        backups
            .filter(|backup| executed.is_superset(&backup.gtid_set))
            .max_by_key(|backup| backup.gtid_set.count())
            .map(|backup| backup.id.clone())
    }
}

/// The records that are there now, or as many as can be read and those known before.
async fn look(
    store: &dyn ObjectStore,
    cluster: &ClusterName,
    mut sets: BTreeMap<ObjectKey, Option<Arc<Backup>>>,
) -> BTreeMap<ObjectKey, Option<Arc<Backup>>> {
    let listed: Result<Vec<ObjectKey>, StoreError> = store
        .list(&ObjectKey::base_prefix(cluster), None)
        .map_ok(|listed| listed.key)
        .try_filter(|key| futures::future::ready(key.parse_base_backup().is_some()))
        .take(MAX_RECORDS)
        .try_collect()
        .await;
    let keys = match listed {
        Ok(keys) => keys,
        Err(error) => {
            unreadable(store, &exit::chain(&error));
            return sets;
        }
    };
    sets.retain(|key, _| keys.contains(key));
    let new: Vec<ObjectKey> = keys
        .into_iter()
        .filter(|key| !sets.contains_key(key))
        .collect();
    let mut read = futures::stream::iter(new)
        .map(|key| async move { (store::read_all(store, &key, MAX_RECORD_LEN).await, key) })
        .buffered(READS_IN_FLIGHT);
    while let Some((bytes, key)) = read.next().await {
        match bytes {
            Ok(bytes) => {
                let backup = parse(store, &key, &bytes);
                sets.insert(key, backup.map(Arc::new));
            }
            Err(error) => unreadable(store, &exit::chain(&error)),
        }
    }
    sets
}

fn parse(store: &dyn ObjectStore, key: &ObjectKey, bytes: &[u8]) -> Option<Backup> {
    match Record::parse(key, bytes) {
        Ok(Record {
            id, coordinates, ..
        }) => coordinates.gtid_set.map(|gtid_set| Backup { id, gtid_set }),
        Err(error) => {
            unreadable(store, &exit::chain(&error));
            None
        }
    }
}

fn unreadable(store: &dyn ObjectStore, error: &str) {
    let destination = store.url();
    tracing::warn!(
        destination,
        error,
        "base backup records cannot be read: entries name those that are known"
    );
}
