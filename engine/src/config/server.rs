//! A source's server and what may be asked of it, and `[purge]`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use super::{ConfigError, RawFile, RawSource};
use crate::server_address::Address;

/// The least `[[source]] max-rpo`: a server that rotates more often makes more files than transactions.
pub const MIN_MAX_RPO: Duration = Duration::from_secs(10);

/// How long archived files stay at the server when `[purge] keep` is absent: replicas that were away for a weekend still
/// find them there.
pub const DEFAULT_KEEP: Duration = Duration::from_hours(3 * 24);

/// The server that writes a source's files. Archiving needs none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it is, and as whom to log in.
    pub address: Address,
    /// Holds the password, of these servers and of `replicas`.
    pub password_file: Option<PathBuf>,
    /// Servers that replicate from it: nothing that one of them lacks is purged.
    pub replicas: Vec<Address>,
    /// The active file is closed when transactions in it are older.
    pub max_rpo: Option<Duration>,
}

/// What the archiver may do about files that are archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeConfig {
    /// The daemon purges by itself.
    pub auto: bool,
    /// Files that were closed later than this long ago stay.
    pub keep: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPurge {
    #[serde(default)]
    auto: bool,
    keep: Option<SignedDuration>,
}

impl RawFile {
    pub(super) fn server(&self, raw: &RawSource) -> Result<Option<ServerConfig>, ConfigError> {
        let Some(mysql) = &raw.mysql else {
            let needs = [
                ("[[source]] password-file", raw.password_file.is_some()),
                ("[[source]] replicas", !raw.replicas.is_empty()),
                ("[[source]] max-rpo", raw.max_rpo.is_some()),
            ];
            return match needs.into_iter().find(|(_, is_there)| *is_there) {
                Some((key, _)) => Err(self.value(key, "needs `mysql`, the server's address")),
                None => Ok(None),
            };
        };
        let address = |key: &str, text: &String| {
            let parsed = text.parse::<Address>();
            parsed.map_err(|error| self.value(key, error.to_string()))
        };
        let replicas = raw.replicas.iter();
        let replicas = replicas.map(|text| address("[[source]] replicas", text));
        Ok(Some(ServerConfig {
            address: address("[[source]] mysql", mysql)?,
            password_file: raw
                .password_file
                .as_ref()
                .map(|path| self.folder.join(path)),
            replicas: replicas.collect::<Result<_, _>>()?,
            max_rpo: self.max_rpo(raw)?,
        }))
    }

    fn max_rpo(&self, raw: &RawSource) -> Result<Option<Duration>, ConfigError> {
        let Some(wanted) = raw.max_rpo else {
            return Ok(None);
        };
        let wanted = Duration::try_from(wanted).ok();
        let wanted = wanted.filter(|wanted| *wanted >= MIN_MAX_RPO);
        let too_short = || self.value("[[source]] max-rpo", "is less than 10s");
        wanted.ok_or_else(too_short).map(Some)
    }

    pub(super) fn purge(&self) -> Result<PurgeConfig, ConfigError> {
        let raw = &self.raw.purge;
        let keep = raw.keep.map(Duration::try_from).transpose();
        let keep = keep.map_err(|_| self.value("[purge] keep", "is negative"))?;
        let has_server = self.raw.source.iter().any(|source| source.mysql.is_some());
        if raw.auto && !has_server {
            return Err(self.value(
                "[purge] auto",
                "no [[source]] has `mysql`, the server's address",
            ));
        }
        Ok(PurgeConfig {
            auto: raw.auto,
            keep: keep.unwrap_or(DEFAULT_KEEP),
        })
    }
}
