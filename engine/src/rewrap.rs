//! Wraps the data keys of an archive anew, under the key that seals new objects. No object is read, none is changed.
//!
//! # Owns
//! The objects under `keys/` (FORMAT.md §8.6): which data keys need another envelope, and where those go.
//!
//! # Invariants
//! - An object holds data keys that were opened and wrapped by this run; it is created only where none is.
//! - What it holds is beside the entry's own envelope, never instead of it: nothing is lost if it is.
//!
//! # Crash consistency
//! Killed, a run leaves whole objects; the next one passes over what they hold.
//!
//! # Limits
//! [`IN_FLIGHT`] entries at once, [`Rewrap::batch`] data keys in memory, and 8 bytes for each file that has one.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

use crate::archive::KeyId;
use crate::clock::Clock;
use crate::data_keys::{self, DataKeyError, DataKeys, RewrappedError};
use crate::exit::{self, Diagnose, Exit};
use crate::keyring::{Keyring, KeyringError};
use crate::layout::{ClusterName, KeyKind, ObjectKey, Sequence, SourceIdentity};
use crate::manifest::rewrapped::{Rewrapped, RewrappedKeys};
use crate::manifest::{Entry, MAX_ENTRY_LEN, ManifestError};
use crate::retry::RetryClass;
use crate::store::{self, ObjectStore, StoreError};

/// Entries that are read, and data keys that are opened and wrapped, at once.
pub const IN_FLIGHT: usize = 8;

/// Troubles that are told one by one; the rest is counted.
pub const MAX_TROUBLES: usize = 100;

/// Why re-wrapping ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The key that all should be wrapped under, or one that must open, cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A data key could not be opened for now.
    #[error("{key}")]
    DataKey {
        /// The manifest entry.
        key: ObjectKey,
        /// Why.
        #[source]
        source: DataKeyError,
    },
    /// The store does not give, or does not take.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Re-wrapped keys that are there already cannot be read.
    #[error(transparent)]
    Rewrapped(#[from] RewrappedError),
    /// Another run has put others there.
    #[error("{key}: is there already, without all data keys of this run")]
    Conflict {
        /// The object.
        key: ObjectKey,
    },
    /// The reference stands for another key by now.
    #[error("the key was {before} when this began, and is {now}")]
    OtherKey {
        /// As it was.
        before: KeyId,
        /// As it is.
        now: KeyId,
    },
    /// What should be stored cannot be turned into bytes.
    #[error("encode data keys")]
    Encode(#[from] serde_json::Error),
}

impl Diagnose for RewrapError {
    fn exit(&self) -> Exit {
        match self {
            Self::Keyring(error) => error.exit(),
            Self::DataKey { source, .. } => source.exit(),
            Self::Store(error) => error.exit(),
            Self::Rewrapped(error) => error.exit(),
            Self::Conflict { .. } => Exit::Conflict,
            Self::OtherKey { .. } => Exit::Transient,
            Self::Encode(_) => Exit::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Keyring(error) => error.hint(),
            Self::DataKey { source, .. } => source.hint(),
            Self::Store(error) => error.hint(),
            Self::Rewrapped(error) => error.hint(),
            Self::Conflict { .. } | Self::OtherKey { .. } => {
                Some("run it again: what is done is passed over".to_owned())
            }
            Self::Encode(_) => None,
        }
    }
}

/// What is to be done at one destination.
#[derive(Debug)]
pub struct Rewrap<'a> {
    /// The destination.
    pub store: Arc<dyn ObjectStore>,
    /// Opens the data keys, and wraps them anew.
    pub keyring: Arc<Keyring>,
    /// Whose archive.
    pub cluster: &'a ClusterName,
    /// For the time of writing.
    pub clock: &'a dyn Clock,
    /// Data keys in one object, at most [`MAX_KEYS`](crate::manifest::rewrapped::MAX_KEYS).
    pub batch: usize,
}

/// What was done at one destination. Part of `key rewrap --format json`: additive changes only.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which.
    pub destination: String,
    /// The key that all are wrapped under.
    pub key_id: KeyId,
    /// Files that have an entry.
    pub files: u64,
    /// Sealed under that key.
    pub current: u64,
    /// Wrapped anew by earlier runs.
    pub covered: u64,
    /// Wrapped anew by this one.
    pub rewrapped: u64,
    /// Objects that this one wrote.
    pub objects: u64,
    /// Files whose data key could not be had.
    pub failed: u64,
    /// Why not, of the first [`MAX_TROUBLES`].
    pub troubles: Vec<Trouble>,
    /// The exit code of the gravest.
    #[serde(skip)]
    pub exit: Exit,
}

/// A data key that could not be had.
#[derive(Debug, Serialize)]
pub struct Trouble {
    /// The manifest entry.
    pub key: ObjectKey,
    /// What is wrong.
    pub error: String,
    /// What to check or run.
    pub hint: Option<String>,
}

/// What became of one entry.
enum Outcome {
    Current,
    Rewrapped(Rewrapped),
    Failed(Trouble, Exit),
}

impl Rewrap<'_> {
    /// Wraps what needs it. `progress` is told how many files there are, and how many of them are done.
    ///
    /// # Errors
    /// What may pass, and what ends all: then what was done so far is stored. What is wrong with one file is told in the
    /// report.
    pub async fn run(
        &self,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Report, RewrapError> {
        let key_id = self.keyring.try_current(self.cluster).await?;
        let mut report = Report {
            destination: self.store.url().to_owned(),
            key_id,
            files: 0,
            current: 0,
            covered: 0,
            rewrapped: 0,
            objects: 0,
            failed: 0,
            troubles: Vec::new(),
            exit: Exit::Ok,
        };
        let data_keys = DataKeys::new(Arc::clone(&self.store), Arc::clone(&self.keyring));
        for source in self.sources().await? {
            self.source(&source, &data_keys, &mut report, progress)
                .await?;
        }
        Ok(report)
    }

    async fn sources(&self) -> Result<Vec<SourceIdentity>, StoreError> {
        let cluster = self.cluster;
        let mut sources = Vec::new();
        for server in self.store.list_prefixes(&format!("{cluster}/")).await? {
            let Ok(server_uuid) = last_part(&server).parse() else {
                continue;
            };
            let server = format!("{cluster}/{server_uuid}/");
            for incarnation in self.store.list_prefixes(&server).await? {
                if let Ok(incarnation) = last_part(&incarnation).parse() {
                    sources.push(SourceIdentity {
                        cluster: cluster.clone(),
                        server_uuid,
                        incarnation,
                    });
                }
            }
        }
        Ok(sources)
    }

    async fn source(
        &self,
        source: &SourceIdentity,
        data_keys: &DataKeys,
        report: &mut Report,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), RewrapError> {
        let mut todo = self.entries(source).await?;
        let all = todo.len();
        report.files += all as u64;
        let covered = self.covered(source, &report.key_id).await?;
        todo.retain(|sequence| !covered.contains(sequence));
        report.covered += (all - todo.len()) as u64;
        let mut done = report.files - todo.len() as u64;
        progress(report.files, done);

        let key_id = report.key_id.clone();
        let mut outcomes = futures::stream::iter(todo)
            .map(|sequence| self.entry(source.manifest_key(sequence), data_keys, &key_id))
            .buffered(IN_FLIGHT);
        let mut batch = Vec::new();
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(Outcome::Current) => report.current += 1,
                Ok(Outcome::Rewrapped(key)) => batch.push(key),
                Ok(Outcome::Failed(trouble, exit)) => report.add(trouble, exit),
                Err(error) => {
                    drop(outcomes);
                    // What is done is done; what keeps it from being stored says no more than what ends this.
                    let _ = self.put(source, &mut batch, report).await;
                    return Err(error);
                }
            }
            done += 1;
            progress(report.files, done);
            if batch.len() >= self.batch {
                self.put(source, &mut batch, report).await?;
            }
        }
        self.put(source, &mut batch, report).await
    }

    /// The sequences that have an entry, ascending.
    async fn entries(&self, source: &SourceIdentity) -> Result<Vec<Sequence>, StoreError> {
        let prefix = source.manifest_prefix();
        let listed = self.store.list(&prefix, None);
        let sequences = listed.try_filter_map(|listed| async move {
            let parsed = listed.key.parse().ok();
            let entry = parsed.filter(|parsed| parsed.kind == KeyKind::Manifest);
            Ok(entry.map(|entry| entry.sequence))
        });
        sequences.try_collect().await
    }

    /// What earlier runs have wrapped under this key.
    async fn covered(
        &self,
        source: &SourceIdentity,
        key_id: &KeyId,
    ) -> Result<BTreeSet<Sequence>, RewrapError> {
        let store = self.store.as_ref();
        let mut names = data_keys::list(store, source).await?;
        names.retain(|name| name.is_under(key_id.as_str()));
        let mut read = futures::stream::iter(names)
            .map(|name| async move { data_keys::read(store, &name.key()).await })
            .buffer_unordered(IN_FLIGHT);
        let mut covered = BTreeSet::new();
        while let Some(keys) = read.next().await {
            match keys {
                Ok(keys) => covered.extend(keys.sequences()),
                // `verify` tells of it; its data keys are wrapped once more.
                Err(RewrappedError::Manifest(ManifestError::NotKeys { key, .. })) => {
                    tracing::warn!(%key, "passed over: not data keys");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(covered)
    }

    async fn entry(
        &self,
        key: ObjectKey,
        data_keys: &DataKeys,
        key_id: &KeyId,
    ) -> Result<Outcome, RewrapError> {
        let bytes = store::read_all(self.store.as_ref(), &key, MAX_ENTRY_LEN).await?;
        let entry = match Entry::parse(&key, &bytes) {
            Ok(entry) => entry,
            Err(error) => return Ok(failed(key, &error)),
        };
        let facts = &entry.object.facts;
        if facts.key_id == *key_id {
            return Ok(Outcome::Current);
        }
        let identity = entry.object_identity();
        let opened = data_keys.open(&facts.key_id, &facts.wrapped_key, &identity);
        let data_key = match opened.await {
            Ok(data_key) => data_key,
            Err(error) if error.retry_class() == RetryClass::Never => {
                return Ok(failed(key, &error));
            }
            Err(source) => return Err(RewrapError::DataKey { key, source }),
        };
        let (now, wrapped_key) = self.keyring.wrap(&data_key, &identity).await?;
        if now != *key_id {
            let before = key_id.clone();
            return Err(RewrapError::OtherKey { before, now });
        }
        Ok(Outcome::Rewrapped(Rewrapped {
            sequence: entry.sequence,
            wrapped_key,
        }))
    }

    /// Stores a batch, and empties it.
    async fn put(
        &self,
        source: &SourceIdentity,
        batch: &mut Vec<Rewrapped>,
        report: &mut Report,
    ) -> Result<(), RewrapError> {
        let keys = std::mem::take(batch);
        let count = keys.len() as u64;
        let written_at: Timestamp = self.clock.now();
        let keys = RewrappedKeys::new(source.clone(), report.key_id.clone(), keys, written_at);
        let Some(key) = keys.name().map(|name| name.key()) else {
            return Ok(());
        };
        match self
            .store
            .put_if_absent(&key, keys.to_bytes()?.into())
            .await
        {
            Ok(()) => {}
            // Another run's, or this one's own, whose answer was lost: any envelope of these data keys will do.
            Err(StoreError::AlreadyExists { .. }) => {
                let there = data_keys::read(self.store.as_ref(), &key).await?;
                if !keys
                    .sequences()
                    .all(|sequence| there.get(sequence).is_some())
                {
                    return Err(RewrapError::Conflict { key });
                }
            }
            Err(error) => return Err(error.into()),
        }
        report.rewrapped += count;
        report.objects += 1;
        Ok(())
    }
}

impl Report {
    fn add(&mut self, trouble: Trouble, exit: Exit) {
        self.failed += 1;
        self.exit = self.exit.graver(exit);
        if self.troubles.len() < MAX_TROUBLES {
            self.troubles.push(trouble);
        }
    }
}

fn failed(key: ObjectKey, error: &(impl Diagnose + 'static)) -> Outcome {
    let trouble = Trouble {
        key,
        error: exit::chain(error),
        hint: error.hint(),
    };
    Outcome::Failed(trouble, error.exit())
}

/// The name of a folder: stores list it with the path before it and a slash behind it.
fn last_part(folder: &str) -> &str {
    let folder = folder.trim_end_matches('/');
    folder.rsplit_once('/').map_or(folder, |(_, name)| name)
}
