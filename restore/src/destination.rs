//! One destination of the archive, opened for reading: which sources it holds, and whether this
//! program can read their layout.

use std::sync::Arc;

use engine::config::ReaderConfig;
use engine::exit::{self, Diagnose, Exit};
use engine::layout::{ClusterName, LAYOUT_VERSION, ObjectKey, SourceIdentity};
use engine::store::{self, ObjectStore, StoreError};
use serde::Deserialize;

/// The largest `gtide.json` that is read, in bytes: it holds one number.
const MAX_LAYOUT_LEN: usize = 4096;

/// An archive at one destination.
#[derive(Debug, Clone)]
pub struct Destination {
    store: Arc<dyn ObjectStore>,
}

/// Why a destination cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The store refuses or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A url that the configuration does not list.
    #[error("{url} is none of the configured destinations: {}", .configured.join(", "))]
    Unknown {
        /// The one asked for.
        url: String,
        /// Those that there are.
        configured: Vec<String>,
    },
    /// A newer gtide wrote the archive.
    #[error("{key}: layout version {found}, and this gtide-restore reads up to {LAYOUT_VERSION}")]
    NewerLayout {
        /// The object that says so.
        key: ObjectKey,
        /// The version.
        found: u64,
    },
    /// `gtide.json` does not say which layout it is.
    #[error("{key}: no layout version")]
    NoLayout {
        /// The object.
        key: ObjectKey,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

impl Diagnose for DestinationError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Unknown { .. } | Self::NewerLayout { .. } => Exit::Usage,
            Self::NoLayout { .. } => Exit::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Store(error) => return error.hint(),
            Self::Unknown { .. } => "give --destination a url as [[destination]] spells it",
            Self::NewerLayout { .. } => "install the gtide that wrote the archive, or a newer one",
            Self::NoLayout { .. } => {
                "put the object back from the bucket's older versions or another destination"
            }
        };
        Some(hint.to_owned())
    }
}

/// What `<cluster>/gtide.json` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A version that this program reads.
    Known,
    /// The object is not there.
    Absent,
}

#[derive(Deserialize)]
struct LayoutVersion {
    layout_version: u64,
}

impl Destination {
    /// Connects to the destination with `url`, or to the first that is configured.
    ///
    /// # Errors
    /// When no such destination is configured or its store cannot be opened.
    pub fn open(config: &ReaderConfig, url: Option<&str>) -> Result<Self, DestinationError> {
        let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
        let chosen = match url {
            None => config.destinations.first(),
            Some(url) => config
                .destinations
                .iter()
                .find(|known| same(&known.url, url)),
        };
        let chosen = chosen.ok_or_else(|| DestinationError::Unknown {
            url: url.unwrap_or_default().to_owned(),
            configured: config
                .destinations
                .iter()
                .map(|known| known.url.clone())
                .collect(),
        })?;
        Ok(Self {
            store: store::connect(chosen)?,
        })
    }

    /// The configured destinations, the one with `url` before the others.
    ///
    /// # Errors
    /// When no such destination is configured or a store cannot be opened.
    pub fn all(config: &ReaderConfig, url: Option<&str>) -> Result<Vec<Self>, DestinationError> {
        let first = Self::open(config, url)?;
        let mut all = Vec::new();
        for listed in &config.destinations {
            let store = store::connect(listed)?;
            if store.url() != first.url() {
                all.push(Self { store });
            }
        }
        all.insert(0, first);
        Ok(all)
    }

    /// Puts the first that answers and holds an archive before the others, and tells of those that do not. A single
    /// one is not asked.
    ///
    /// # Errors
    /// When none answers: what the first one says.
    pub async fn first_that_answers(mut all: Vec<Self>) -> Result<Vec<Self>, DestinationError> {
        let mut failure = None;
        let mut is_empty = false;
        for at in 0..all.len() {
            let Some(destination) = all.get(at).filter(|_| all.len() > 1) else {
                break;
            };
            let url = destination.url();
            match destination.clusters(None).await {
                Ok(clusters) if !clusters.is_empty() => {
                    all.rotate_left(at);
                    return Ok(all);
                }
                Ok(_) => {
                    tracing::warn!("{url} holds no archive");
                    is_empty = true;
                }
                Err(error) => {
                    let chain = exit::chain(&error);
                    tracing::warn!(error = chain, "{url} does not answer");
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if !is_empty => Err(error),
            _ => Ok(all),
        }
    }

    /// Its store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Its url, as the store spells it.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// The clusters that have a folder here, or `only` that one. Other folders of a shared bucket
    /// are among them when their names could be a cluster's.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn clusters(
        &self,
        only: Option<&ClusterName>,
    ) -> Result<Vec<ClusterName>, DestinationError> {
        if let Some(cluster) = only {
            return Ok(vec![cluster.clone()]);
        }
        let folders = self.store.list_prefixes("").await?;
        Ok(folders
            .iter()
            .filter_map(|folder| last_part(folder).parse().ok())
            .collect())
    }

    /// The sources of all clusters, or of `only` that one, ordered.
    ///
    /// # Errors
    /// When the store cannot be listed, or a cluster's layout is not one that this program reads.
    pub async fn sources(
        &self,
        only: Option<&ClusterName>,
    ) -> Result<Vec<SourceIdentity>, DestinationError> {
        let mut sources = Vec::new();
        for cluster in self.clusters(only).await? {
            let found = self.sources_of(&cluster).await?;
            if !found.is_empty() && self.layout(&cluster).await? == Layout::Absent {
                let key = ObjectKey::layout_version(&cluster);
                tracing::warn!(%key, "no layout version in the archive: taken for {LAYOUT_VERSION}");
            }
            sources.extend(found);
        }
        sources.sort();
        Ok(sources)
    }

    async fn sources_of(
        &self,
        cluster: &ClusterName,
    ) -> Result<Vec<SourceIdentity>, DestinationError> {
        let mut sources = Vec::new();
        for server in self.store.list_prefixes(&format!("{cluster}/")).await? {
            let Ok(server_uuid) = last_part(&server).parse() else {
                continue;
            };
            for incarnation in self
                .store
                .list_prefixes(&format!("{cluster}/{server_uuid}/"))
                .await?
            {
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

    /// Whether this program reads the cluster's layout.
    ///
    /// # Errors
    /// When a newer gtide wrote it, or it does not say; or the store does not give it.
    pub async fn layout(&self, cluster: &ClusterName) -> Result<Layout, DestinationError> {
        let key = ObjectKey::layout_version(cluster);
        match store::read_all(self.store.as_ref(), &key, MAX_LAYOUT_LEN).await {
            Ok(bytes) => check_layout(key, &bytes).map(|()| Layout::Known),
            Err(StoreError::NotFound { .. }) => Ok(Layout::Absent),
            Err(error) => Err(error.into()),
        }
    }
}

fn check_layout(key: ObjectKey, bytes: &[u8]) -> Result<(), DestinationError> {
    match serde_json::from_slice(bytes) {
        Ok(LayoutVersion { layout_version }) if layout_version <= u64::from(LAYOUT_VERSION) => {
            Ok(())
        }
        Ok(LayoutVersion { layout_version }) => Err(DestinationError::NewerLayout {
            key,
            found: layout_version,
        }),
        Err(source) => Err(DestinationError::NoLayout { key, source }),
    }
}

/// The name of a folder: stores list it with the path before it and a slash behind it.
fn last_part(folder: &str) -> &str {
    let folder = folder.trim_end_matches('/');
    folder.rsplit_once('/').map_or(folder, |(_, name)| name)
}
