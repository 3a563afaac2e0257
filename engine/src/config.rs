//! `gtide.toml`: what may stand in it, and what it means.
//!
//! Two steps: `Raw` is what the user typed (unknown keys are errors); [`Config`] is what the
//! archiver works with: complete, checked, paths absolute. Readers of an archive need less of the
//! same file: [`ReaderConfig`].
//!
//! Relative paths are relative to the file's own folder, so that a program started elsewhere (a
//! systemd unit, a cron job) means the same files. Secrets never stand in the file: keys and
//! credentials are references.

mod server;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use serde::Deserialize;
use uuid::Uuid;

use self::server::RawPurge;
pub use self::server::{DEFAULT_KEEP, MIN_MAX_RPO, PurgeConfig, ServerConfig};
use crate::exit::{Diagnose, Exit};
use crate::layout::ClusterName;
use crate::store::{LEAST_FOR_EACH, S3Settings, StoreConfig};

/// Where a configuration is looked for when none is named.
pub const DEFAULT_PATHS: [&str; 2] = ["gtide.toml", "/etc/gtide/gtide.toml"];

/// `[queue] yield-at` when it is absent: three that want two cores wait in half of the time, two in next to none of it.
const DEFAULT_YIELD_AT: u8 = 40;

/// Lanes of one source and destination when `[queue] lanes` is absent.
pub const DEFAULT_LANES: u32 = 4;
/// The most lanes: each holds one file in flight.
pub const MAX_LANES: u32 = 64;
/// Attempts before a file counts as stalled when `[queue] max-attempts` is absent.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;
/// How long SIGTERM waits for the parts under way when `[queue] shutdown-grace` is absent.
pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(30);
/// The longest `[queue] shutdown-grace`: whoever stops a service does not wait longer.
pub const MAX_SHUTDOWN_GRACE: Duration = Duration::from_hours(1);

/// The longest `renew-ahead`: no longer than most credentials live.
pub const MAX_RENEW_AHEAD: Duration = Duration::from_hours(1);
/// Where metrics are served when `[metrics]` has no `listen`: to this machine alone.
pub const DEFAULT_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9184);
/// zstd level when `[compression] level` is absent.
pub const DEFAULT_LEVEL: i32 = 3;
/// zstd's levels that its manual does not call "ultra" (those need much more memory), and none
/// of the negative ones.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// The file as typed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    cluster: Option<ClusterName>,
    #[serde(default)]
    source: Vec<RawSource>,
    #[serde(default)]
    queue: RawQueue,
    spool: Option<RawSpool>,
    #[serde(default)]
    destination: Vec<RawDestination>,
    encryption: Option<RawEncryption>,
    #[serde(default)]
    compression: RawCompression,
    metrics: Option<RawMetrics>,
    #[serde(default)]
    purge: RawPurge,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawSource {
    name: String,
    index: PathBuf,
    datadir: Option<PathBuf>,
    server_uuid: Option<Uuid>,
    incarnation: Option<u32>,
    mysql: Option<String>,
    password_file: Option<PathBuf>,
    #[serde(default)]
    replicas: Vec<String>,
    max_rpo: Option<SignedDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawQueue {
    database: Option<String>,
    lanes: Option<u32>,
    max_attempts: Option<u32>,
    shutdown_grace: Option<SignedDuration>,
    bandwidth_limit: Option<ByteSize>,
    yield_at: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawSpool {
    dir: PathBuf,
    reserve: Option<ByteSize>,
    pin: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawDestination {
    url: String,
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<String>,
    role: Option<String>,
    external_id: Option<String>,
    renew_ahead: Option<SignedDuration>,
    addressing: Option<String>,
    #[serde(default)]
    dual_stack: bool,
    sse: Option<String>,
    storage_class: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    object_lock: Option<String>,
    retain_days: Option<u32>,
    required: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawEncryption {
    key: String,
    #[serde(default)]
    old_keys: Vec<String>,
    endpoint: Option<String>,
    credentials: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawMetrics {
    listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawCompression {
    level: Option<i32>,
}

/// `[metrics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Where the monitoring system asks.
    pub listen: SocketAddr,
}

/// What the archiver works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster that all sources belong to.
    pub cluster: ClusterName,
    /// At least one.
    pub sources: Vec<SourceConfig>,
    /// The queue database and its lanes.
    pub queue: QueueConfig,
    /// Where pins and sealed objects lie until they are committed.
    pub spool: SpoolConfig,
    /// At least one.
    pub destinations: Vec<DestinationConfig>,
    /// The keys that seal and open it.
    pub encryption: EncryptionConfig,
    /// zstd level.
    pub level: i32,
    /// For a monitoring system; none without `[metrics]`.
    pub metrics: Option<MetricsConfig>,
    /// What may be done about files that are archived.
    pub purge: PurgeConfig,
}

/// One MySQL server.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// For people: messages, status, filters.
    pub name: String,
    /// The binlog index file.
    pub index: PathBuf,
    /// What the index's relative entries are relative to (TRAPS 12), and where `auto.cnf` lies.
    pub datadir: PathBuf,
    /// Instead of the one in `auto.cnf`.
    pub server_uuid: Option<Uuid>,
    /// Counts RESETs and restores, from 1.
    pub incarnation: u32,
    /// The server itself, where it may be asked.
    pub server: Option<ServerConfig>,
}

/// Keys, by their references: `file:/path`, `aws-kms:ARN`, `gcp-kms:projects/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionConfig {
    /// Seals new objects.
    pub key: String,
    /// Sealed older ones, and open them.
    pub old_keys: Vec<String>,
    /// The address of a key service that is not the provider's own.
    pub endpoint: Option<String>,
    /// Of the account at the key services, as of a destination.
    pub credentials: Option<String>,
}

impl EncryptionConfig {
    /// One key, at its provider's own address.
    pub fn new(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            old_keys: Vec::new(),
            endpoint: None,
            credentials: None,
        }
    }
}

/// A place where archives go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationConfig {
    /// Which, and how to reach it.
    pub store: StoreConfig,
    /// Must it have a file before the file counts as archived and the archiver lets go of it?
    pub required: bool,
}

/// The queue.
#[derive(Clone)]
pub struct QueueConfig {
    /// `sqlite:` and a path, or a `postgres://` URL, which may hold a password.
    pub database: String,
    /// Files in flight per source and destination.
    pub lanes: u32,
    /// Failures before a file counts as stalled.
    pub max_attempts: u32,
    /// How long a stop may wait for the parts under way.
    pub shutdown_grace: Duration,
    /// Bytes per second that all uploads together may take; at least [`LEAST_FOR_EACH`] for each of
    /// [`Config::uploads`].
    pub bandwidth_limit: Option<u64>,
    /// Percent of time in which something waits for a CPU, above which fewer files are sealed at once; 0 is never.
    pub yield_at: u8,
}

impl fmt::Debug for QueueConfig {
    /// Without the database.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueConfig")
            .field("lanes", &self.lanes)
            .field("max_attempts", &self.max_attempts)
            .field("shutdown_grace", &self.shutdown_grace)
            .field("bandwidth_limit", &self.bandwidth_limit)
            .field("yield_at", &self.yield_at)
            .finish_non_exhaustive()
    }
}

/// The spool.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// Best on the binlogs' filesystem: hard links hold files there at no copy.
    pub dir: PathBuf,
    /// Free space, in bytes, that sealing must leave.
    pub reserve: u64,
    /// Hold files by hard link until they are committed.
    pub pin: bool,
}

/// What readers of an archive need.
#[derive(Debug, Clone)]
pub struct ReaderConfig {
    /// At least one; those that are required first.
    pub destinations: Vec<StoreConfig>,
    /// The keys that seal and open it.
    pub encryption: EncryptionConfig,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None of [`DEFAULT_PATHS`] exists.
    #[error("no configuration: neither ./{} nor {} exists", DEFAULT_PATHS[0], DEFAULT_PATHS[1])]
    NotFound,
    /// The file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("{}: {key}: {reason}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: String,
        /// Why.
        reason: String,
    },
}

impl Diagnose for ConfigError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound => "name one with --config, or make one with `gtide init`",
            Self::Read { .. } => "check that the file exists and that this user may read it",
            Self::Syntax { .. } | Self::Value { .. } => {
                "`gtide init` writes an annotated example of every key"
            }
        };
        Some(hint.to_owned())
    }
}

/// The configuration to use: the one named, or the first of [`DEFAULT_PATHS`] that exists.
///
/// # Errors
/// When none is named and none exists.
pub fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    DEFAULT_PATHS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .ok_or(ConfigError::NotFound)
}

impl Config {
    /// Reads and checks the whole file.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or lacks what the archiver needs.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = RawFile::read(path)?;
        let reader = file.reader()?;
        let destinations = file.destinations()?;
        let spool = file.spool()?;
        let queue = file.queue()?;
        let config = Self {
            cluster: file
                .raw
                .cluster
                .clone()
                .ok_or_else(|| file.missing("cluster"))?,
            sources: file.sources()?,
            queue,
            spool,
            destinations,
            encryption: reader.encryption,
            level: file.level()?,
            metrics: file.metrics()?,
            purge: file.purge()?,
        };
        file.check_bandwidth(&config)?;
        Ok(config)
    }

    /// How many uploads there may be at once.
    #[must_use]
    pub fn uploads(&self) -> u64 {
        let routes = self.sources.len().saturating_mul(self.destinations.len());
        u64::from(self.queue.lanes).saturating_mul(routes as u64)
    }
}

impl ReaderConfig {
    /// Reads the file and checks the parts that a reader needs; others may be absent.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or names no destination or key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        RawFile::read(path)?.reader()
    }
}

/// The required ones first: they have all that counts as archived.
fn stores(mut destinations: Vec<DestinationConfig>) -> Vec<StoreConfig> {
    destinations.sort_by_key(|destination| !destination.required);
    destinations.into_iter().map(|d| d.store).collect()
}

/// The `[encryption]` of a file that would stand at `path` with this text.
///
/// # Errors
/// As [`ReaderConfig::load`].
pub fn encryption_of(path: &Path, text: &str) -> Result<EncryptionConfig, ConfigError> {
    Ok(RawFile::parse(path, text)?.reader()?.encryption)
}

/// A file as typed, and where it stands.
struct RawFile {
    path: PathBuf,
    folder: PathBuf,
    raw: Raw,
}

impl RawFile {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        Self::parse(path, &std::fs::read_to_string(path).map_err(read)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let absolute = std::path::absolute(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self {
            path: path.to_owned(),
            folder,
            raw,
        })
    }

    fn value(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.path.clone(),
            key: key.to_owned(),
            reason: reason.into(),
        }
    }

    fn missing(&self, key: &str) -> ConfigError {
        self.value(key, "missing")
    }

    fn reader(&self) -> Result<ReaderConfig, ConfigError> {
        let destinations = self.destinations()?;
        let encryption = self
            .raw
            .encryption
            .as_ref()
            .ok_or_else(|| self.missing("[encryption] key"))?;
        Ok(ReaderConfig {
            destinations: stores(destinations),
            encryption: self.encryption(encryption),
        })
    }

    fn encryption(&self, raw: &RawEncryption) -> EncryptionConfig {
        let old = raw.old_keys.iter();
        EncryptionConfig {
            key: self.reference(&raw.key),
            old_keys: old.map(|key| self.reference(key)).collect(),
            endpoint: raw.endpoint.clone(),
            credentials: raw.credentials.as_deref().map(|c| self.reference(c)),
        }
    }

    fn destinations(&self) -> Result<Vec<DestinationConfig>, ConfigError> {
        let listed = self.raw.destination.iter();
        let destinations: Vec<_> = listed
            .map(|raw| self.destination(raw))
            .collect::<Result<_, _>>()?;
        if destinations.is_empty() {
            return Err(self.missing("[[destination]]"));
        }
        let mut urls = HashSet::new();
        if let Some(twice) = destinations.iter().find(|d| !urls.insert(&d.store.url)) {
            let reason = format!("{} is listed twice", twice.store.url);
            return Err(self.value("[[destination]] url", reason));
        }
        if !destinations.iter().any(|d| d.required) {
            let reason =
                "false everywhere: one destination must have a file before it counts as archived";
            return Err(self.value("[[destination]] required", reason));
        }
        Ok(destinations)
    }

    fn destination(&self, raw: &RawDestination) -> Result<DestinationConfig, ConfigError> {
        let renew_ahead = raw.renew_ahead.map(|ahead| {
            let ahead = Duration::try_from(ahead).ok();
            ahead
                .filter(|ahead| *ahead <= MAX_RENEW_AHEAD)
                .ok_or_else(|| {
                    let reason = "is not from 0s to 1h";
                    self.value("[[destination]] renew-ahead", reason)
                })
        });
        Ok(DestinationConfig {
            store: StoreConfig {
                url: raw.url.clone(),
                endpoint: raw.endpoint.clone(),
                region: raw.region.clone(),
                credentials: raw.credentials.as_deref().map(|c| self.reference(c)),
                s3: S3Settings {
                    role: raw.role.clone(),
                    external_id: raw.external_id.clone(),
                    renew_ahead: renew_ahead.transpose()?,
                    addressing: raw.addressing.clone(),
                    dual_stack: raw.dual_stack,
                    encryption: raw.sse.clone(),
                    storage_class: raw.storage_class.clone(),
                    tags: raw.tags.clone(),
                    object_lock: raw.object_lock.clone(),
                    retain_days: raw.retain_days,
                },
            },
            required: raw.required.unwrap_or(true),
        })
    }

    /// `file:relative` becomes `file:/absolute`; all else stays.
    fn reference(&self, text: &str) -> String {
        match text.strip_prefix("file:") {
            Some(path) => format!("file:{}", self.folder.join(path).display()),
            None => text.to_owned(),
        }
    }

    fn sources(&self) -> Result<Vec<SourceConfig>, ConfigError> {
        if self.raw.source.is_empty() {
            return Err(self.missing("[[source]]"));
        }
        let mut names = HashSet::new();
        self.raw
            .source
            .iter()
            .map(|raw| {
                if raw.name.is_empty() || !names.insert(raw.name.as_str()) {
                    let reason = format!("{:?} is empty or used twice", raw.name);
                    return Err(self.value("[[source]] name", reason));
                }
                self.source(raw)
            })
            .collect()
    }

    fn source(&self, raw: &RawSource) -> Result<SourceConfig, ConfigError> {
        let index = self.folder.join(&raw.index);
        let datadir = match &raw.datadir {
            Some(datadir) => self.folder.join(datadir),
            None => index.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        let incarnation = raw.incarnation.unwrap_or(1);
        if incarnation == 0 {
            return Err(self.value("[[source]] incarnation", "counts from 1"));
        }
        Ok(SourceConfig {
            name: raw.name.clone(),
            index,
            datadir,
            server_uuid: raw.server_uuid,
            incarnation,
            server: self.server(raw)?,
        })
    }

    fn queue(&self) -> Result<QueueConfig, ConfigError> {
        let raw = &self.raw.queue;
        let lanes = raw.lanes.unwrap_or(DEFAULT_LANES);
        if !(1..=MAX_LANES).contains(&lanes) {
            let reason = format!("{lanes} is not from 1 to {MAX_LANES}");
            return Err(self.value("[queue] lanes", reason));
        }
        let max_attempts = raw.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS);
        if max_attempts == 0 {
            return Err(self.value("[queue] max-attempts", "counts from 1"));
        }
        let yield_at = raw.yield_at.unwrap_or(DEFAULT_YIELD_AT);
        if yield_at > 100 {
            let reason = format!("{yield_at} is not from 0 to 100");
            return Err(self.value("[queue] yield-at", reason));
        }
        Ok(QueueConfig {
            database: self.database()?,
            lanes,
            max_attempts,
            shutdown_grace: self.shutdown_grace()?,
            bandwidth_limit: raw.bandwidth_limit.map(|limit| limit.as_u64()),
            yield_at,
        })
    }

    /// An upload that gets next to nothing cannot be told from one whose peer is gone.
    fn check_bandwidth(&self, config: &Config) -> Result<(), ConfigError> {
        let uploads = config.uploads();
        let least = LEAST_FOR_EACH.saturating_mul(uploads);
        match config.queue.bandwidth_limit {
            Some(limit) if limit < least => {
                let reason = format!(
                    "{} a second is too little for {uploads} uploads at once (lanes, times sources, times \
                     destinations): at least {}",
                    ByteSize(limit),
                    ByteSize(least),
                );
                Err(self.value("[queue] bandwidth-limit", reason))
            }
            _ => Ok(()),
        }
    }

    fn shutdown_grace(&self) -> Result<Duration, ConfigError> {
        let Some(grace) = self.raw.queue.shutdown_grace else {
            return Ok(DEFAULT_SHUTDOWN_GRACE);
        };
        Duration::try_from(grace)
            .ok()
            .filter(|grace| *grace <= MAX_SHUTDOWN_GRACE)
            .ok_or_else(|| {
                let reason = format!("{grace:#} is not from 0s to 1h");
                self.value("[queue] shutdown-grace", reason)
            })
    }

    /// Not repeated in messages: a URL may hold a password. Whether a server's is right is found when it is opened.
    fn database(&self) -> Result<String, ConfigError> {
        let database = self.raw.queue.database.as_deref();
        let database = database.unwrap_or("sqlite:gtide.db");
        if database.starts_with("postgres://") || database.starts_with("postgresql://") {
            return Ok(database.to_owned());
        }
        let Some(path) = database.strip_prefix("sqlite:") else {
            let reason = "it is neither \"sqlite:\" and a path nor a \"postgres://\" URL";
            return Err(self.value("[queue] database", reason));
        };
        let path = self.folder.join(path.strip_prefix("//").unwrap_or(path));
        Ok(format!("sqlite:{}", path.display()))
    }

    fn spool(&self) -> Result<SpoolConfig, ConfigError> {
        let raw = self
            .raw
            .spool
            .as_ref()
            .ok_or_else(|| self.missing("[spool] dir"))?;
        Ok(SpoolConfig {
            dir: self.folder.join(&raw.dir),
            reserve: raw.reserve.unwrap_or(ByteSize::gib(2)).as_u64(),
            pin: raw.pin.unwrap_or(true),
        })
    }

    fn metrics(&self) -> Result<Option<MetricsConfig>, ConfigError> {
        let Some(raw) = &self.raw.metrics else {
            return Ok(None);
        };
        let listen = match &raw.listen {
            None => DEFAULT_METRICS,
            Some(text) => text.parse().map_err(|_| {
                let reason =
                    format!("{text:?} is not an address and a port, such as {DEFAULT_METRICS}");
                self.value("[metrics] listen", reason)
            })?,
        };
        Ok(Some(MetricsConfig { listen }))
    }

    fn level(&self) -> Result<i32, ConfigError> {
        let level = self.raw.compression.level.unwrap_or(DEFAULT_LEVEL);
        if LEVELS.contains(&level) {
            Ok(level)
        } else {
            let reason = format!("{level} is not from {} to {}", LEVELS.start(), LEVELS.end());
            Err(self.value("[compression] level", reason))
        }
    }
}

#[cfg(test)]
mod tests;
