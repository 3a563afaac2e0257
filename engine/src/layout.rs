//! Every object key of the archive, and the identities that keys are made of.
//!
//! A file of the archive is *source + sequence*; a source is *cluster + `server_uuid` + incarnation*
//! (TRAPS 14 to 16: neither a name nor a `server_uuid` alone tells two histories apart).
//!
//! ```text
//! <cluster>/gtide.json                                              layout version
//! <cluster>/base/<id>.json                                          base backup record
//! <cluster>/check/<uuid>                                            a probe of `gtide check`, soon gone
//! <cluster>/<server_uuid>/<incarnation>/log/0000000123.gtb          archive object
//! <cluster>/<server_uuid>/<incarnation>/manifest/0000000123.json    manifest entry
//! <cluster>/<server_uuid>/<incarnation>/rollup/0000000000-0000000999.json.zst   the entries of 1,000 sequences together
//! <cluster>/<server_uuid>/<incarnation>/keys/<first>-<last>-<key>.json   data keys that were wrapped anew
//! ```
//!
//! Keys are relative to the destination's prefix, which only the store knows. Sequences are ten
//! digits wide so that a store's byte order is numeric order (MySQL's own six digits grow to seven:
//! TRAPS 11).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};
use uuid::Uuid;

mod probe;
mod rewrapped;
mod rollup;

pub use probe::ProbeKey;
pub use rewrapped::RewrappedName;
pub use rollup::RollupName;

/// Digits of a sequence in a key. MySQL's last sequence is 2^31 - 1, which has ten
/// (`MAX_LOG_UNIQUE_FN_EXT` in the server's `sql/binlog.cc`).
pub const SEQUENCE_DIGITS: usize = 10;

/// The longest cluster name, in bytes: keys stay far below the stores' limit of 1,024.
pub const MAX_CLUSTER_LEN: usize = 64;

/// The version of this layout, stored in `<cluster>/gtide.json`. Stored; bump it with any change
/// that an older reader would misread.
pub const LAYOUT_VERSION: u32 = 1;

/// A string that is no valid name, sequence or key of this layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Cluster names become part of keys and of shell commands.
    #[error(
        "cluster name {0:?} is not 1 to {MAX_CLUSTER_LEN} of a-z, A-Z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    )]
    Cluster(String),
    /// Backup ids become part of keys and of shell commands.
    #[error(
        "backup id {0:?} is not 1 to {MAX_CLUSTER_LEN} of a-z, A-Z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    )]
    Backup(String),
    /// A binlog file's name must end in a dot and its sequence.
    #[error(
        "{0:?} is not a binlog file name: it does not end in '.' and a number from 1 to 2147483647"
    )]
    FileName(String),
    /// A key that this layout does not produce.
    #[error("{0:?} is not a key of this layout")]
    Key(String),
}

/// A cluster's name: servers that share one GTID history. Cloning is cheap: each of very many files names its cluster.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = LayoutError;

    fn from_str(s: &str) -> Result<Self, LayoutError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins_well = s.starts_with(|c: char| c.is_ascii_alphanumeric());
        if s.len() <= MAX_CLUSTER_LEN && begins_well && s.chars().all(allowed) {
            Ok(Self(s.into()))
        } else {
            Err(LayoutError::Cluster(s.to_owned()))
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a base backup's record in the archive, unique in its cluster.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct BackupId(String);

impl BackupId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupId {
    type Err = LayoutError;

    /// By the rule of cluster names: it becomes part of keys and of shell commands.
    fn from_str(s: &str) -> Result<Self, LayoutError> {
        match s.parse() {
            Ok(ClusterName(id)) => Ok(Self(id.as_ref().to_owned())),
            Err(_) => Err(LayoutError::Backup(s.to_owned())),
        }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number at the end of a binlog file's name: `binlog.000042` has sequence 42.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The greatest sequence that a server makes (`MAX_LOG_UNIQUE_FN_EXT`).
    pub const MAX: Self = Self(0x7FFF_FFFF);

    /// The sequence of a binlog file name: all digits after the last dot, read as a number.
    ///
    /// # Errors
    /// When there is no dot, or no number from 1 to [`Sequence::MAX`] behind it.
    pub fn of_file_name(name: &str) -> Result<Self, LayoutError> {
        let error = || LayoutError::FileName(name.to_owned());
        let (_, digits) = name.rsplit_once('.').ok_or_else(error)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let number: u64 = digits.parse().map_err(|_| error())?;
        if (1..=Self::MAX.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(error())
        }
    }

    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One uninterrupted numbering of binlog files on one server. `RESET BINARY LOGS AND GTIDS` or a
/// restore begins another incarnation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// The cluster whose GTID history the server shares.
    pub cluster: ClusterName,
    /// The server's `server_uuid`.
    pub server_uuid: Uuid,
    /// Counts from 1.
    pub incarnation: u32,
}

impl SourceIdentity {
    /// The prefix of all keys of this source, ending in a slash.
    pub fn prefix(&self) -> String {
        format!(
            "{}/{}/{}/",
            self.cluster, self.server_uuid, self.incarnation
        )
    }

    /// The prefix of its archive objects.
    pub fn log_prefix(&self) -> String {
        format!("{}log/", self.prefix())
    }

    /// The prefix of its manifest entries.
    pub fn manifest_prefix(&self) -> String {
        format!("{}manifest/", self.prefix())
    }

    /// The prefix of its rollups.
    pub fn rollup_prefix(&self) -> String {
        format!("{}rollup/", self.prefix())
    }

    /// The prefix of its data keys that were wrapped anew.
    pub fn keys_prefix(&self) -> String {
        format!("{}keys/", self.prefix())
    }

    /// The key of one file's archive object.
    pub fn log_key(&self, sequence: Sequence) -> ObjectKey {
        ObjectKey(format!(
            "{}{:0SEQUENCE_DIGITS$}.gtb",
            self.log_prefix(),
            sequence.0
        ))
    }

    /// The key of one file's manifest entry.
    pub fn manifest_key(&self, sequence: Sequence) -> ObjectKey {
        ObjectKey(format!(
            "{}{:0SEQUENCE_DIGITS$}.json",
            self.manifest_prefix(),
            sequence.0
        ))
    }
}

impl fmt::Display for SourceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.cluster, self.server_uuid, self.incarnation
        )
    }
}

/// An object's key, relative to the destination's prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// A key as a store's listing gave it. Nothing is checked: listings show foreign objects too.
    pub fn from_listing(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key of the cluster's layout version.
    pub fn layout_version(cluster: &ClusterName) -> Self {
        Self(format!("{cluster}/gtide.json"))
    }

    /// The key of a base backup's record.
    pub fn base_backup(cluster: &ClusterName, id: &BackupId) -> Self {
        Self(format!("{}{id}.json", Self::base_prefix(cluster)))
    }

    /// The prefix of a cluster's base backup records.
    pub fn base_prefix(cluster: &ClusterName) -> String {
        format!("{cluster}/base/")
    }

    /// The base backup that the key's record is of, if this layout made it.
    pub fn parse_base_backup(&self) -> Option<(ClusterName, BackupId)> {
        let (cluster, rest) = self.0.split_once('/')?;
        let id = rest.strip_prefix("base/")?.strip_suffix(".json")?;
        Some((cluster.parse().ok()?, id.parse().ok()?))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the key names, if this layout made it.
    ///
    /// # Errors
    /// When the key is not one of a log or manifest object of this layout.
    pub fn parse(&self) -> Result<ParsedKey, LayoutError> {
        self.parse_parts()
            .ok_or_else(|| LayoutError::Key(self.0.clone()))
    }

    fn parse_parts(&self) -> Option<ParsedKey> {
        let mut parts = self.0.split('/');
        let source = SourceIdentity {
            cluster: parts.next()?.parse().ok()?,
            server_uuid: parts.next()?.parse().ok()?,
            incarnation: parts.next()?.parse().ok()?,
        };
        let (kind, digits) = match (parts.next()?, parts.next()?.rsplit_once('.')?) {
            ("log", (digits, "gtb")) => (KeyKind::Log, digits),
            ("manifest", (digits, "json")) => (KeyKind::Manifest, digits),
            _ => return None,
        };
        let sequence = Sequence(digits.parse().ok()?);
        let key = ParsedKey {
            source,
            kind,
            sequence,
        };
        // Only the one canonical spelling names the object.
        (parts.next().is_none() && key.key() == *self).then_some(key)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key of this layout names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedKey {
    /// Whose file it is.
    pub source: SourceIdentity,
    /// Archive object or manifest entry.
    pub kind: KeyKind,
    /// The file's sequence.
    pub sequence: Sequence,
}

impl ParsedKey {
    fn key(&self) -> ObjectKey {
        match self.kind {
            KeyKind::Log => self.source.log_key(self.sequence),
            KeyKind::Manifest => self.source.manifest_key(self.sequence),
        }
    }
}

/// The kinds of object that belong to one binlog file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The sealed binlog file.
    Log,
    /// Its manifest entry.
    Manifest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> SourceIdentity {
        SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3E11FA47-71CA-11E1-9E33-C80AA9429562".parse().unwrap(),
            incarnation: 2,
        }
    }

    #[test]
    fn keys_are_as_documented_and_parse_back() {
        let key = source().log_key(Sequence(123));
        assert_eq!(
            key.as_str(),
            "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/2/log/0000000123.gtb"
        );
        let parsed = key.parse().unwrap();
        assert_eq!(
            (parsed.kind, parsed.sequence),
            (KeyKind::Log, Sequence(123))
        );
        assert_eq!(parsed.source, source());
        assert!(source().manifest_key(Sequence(1)).parse().is_ok());
    }

    #[test]
    fn foreign_keys_are_refused_not_guessed() {
        for key in [
            "orders/gtide.json",
            "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/2/log/123.gtb",
            "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/2/log/0000000123.gtb.bak",
            "orders/3E11FA47-71CA-11E1-9E33-C80AA9429562/2/log/0000000123.gtb",
            "orders/not-a-uuid/2/log/0000000123.gtb",
            "",
        ] {
            assert!(ObjectKey::from_listing(key).parse().is_err(), "{key}");
        }
    }

    /// TRAPS 11: the sequence is a number; seven digits sort behind six.
    #[test]
    fn sequence_beyond_999999_sorts_by_number() {
        let six = Sequence::of_file_name("binlog.999999").unwrap();
        let seven = Sequence::of_file_name("binlog.1000000").unwrap();
        assert!(six < seven);
        assert!(source().log_key(six) < source().log_key(seven));
    }

    /// TRAPS 12: basenames may contain dots.
    #[test]
    fn base_names_may_contain_dots() {
        assert_eq!(
            Sequence::of_file_name("db1.example.bin.000007"),
            Ok(Sequence(7))
        );
        for name in [
            "binlog",
            "binlog.",
            "binlog.000000",
            "binlog.00x",
            "binlog.99999999999",
            "binlog.+1",
        ] {
            assert!(Sequence::of_file_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn cluster_names_cannot_leave_their_folder() {
        for name in ["", "..", "a/b", "-x", ".hidden", "ü", &"x".repeat(65)] {
            assert!(name.parse::<ClusterName>().is_err(), "{name}");
        }
        assert!("orders-eu.1".parse::<ClusterName>().is_ok());
    }
}
