//! Records of base backups: where one lies, and which transactions are in it.
//!
//! # Owns
//! The stored form of a record, `<cluster>/base/<id>.json`, and what the backup tools leave behind to
//! make one from ([`evidence`]). The backups themselves are the tools' own.
//!
//! # Invariants
//! A record is written once, by conditional create, and never changed.
//!
//! # Limits
//! A record is at most [`MAX_RECORD_LEN`] bytes.

pub mod evidence;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::exit::{Diagnose, Exit};
use crate::gtid::GtidSet;
use crate::layout::{BackupId, ClusterName, ObjectKey, Sequence};

/// The version of the stored form. Additive changes keep it; anything that an older reader would
/// misread bumps it.
pub const VERSION: u32 = 1;

/// The largest record that a reader accepts, in bytes.
pub const MAX_RECORD_LEN: usize = 16 * 1024 * 1024;

/// What made a backup. Stored: additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// Percona XtraBackup.
    Xtrabackup,
    /// MySQL Enterprise Backup.
    EnterpriseBackup,
    /// mysqldump.
    Mysqldump,
    /// MySQL Shell's dump utilities.
    MysqlShell,
    /// mydumper.
    Mydumper,
    /// The server's CLONE.
    Clone,
    /// Anything else: somebody stated its GTID set or position.
    Stated,
}

impl Tool {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xtrabackup => "XtraBackup",
            Self::EnterpriseBackup => "MySQL Enterprise Backup",
            Self::Mysqldump => "mysqldump",
            Self::MysqlShell => "MySQL Shell dump",
            Self::Mydumper => "mydumper",
            Self::Clone => "CLONE",
            Self::Stated => "stated",
        }
    }
}

/// A place in the binary log of the server that was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The file's name.
    pub file: String,
    /// File offset.
    pub offset: u64,
}

impl Position {
    /// A position, if `file` is a binlog file's name; folders before it are dropped.
    pub fn new(file: &str, offset: u64) -> Option<Self> {
        let file = file.rsplit('/').next().unwrap_or(file);
        Sequence::of_file_name(file).ok()?;
        Some(Self {
            file: file.to_owned(),
            offset,
        })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinates {
    /// What made it.
    pub tool: Tool,
    /// Its version, as it calls itself.
    pub tool_version: Option<String>,
    /// Version of the server that was backed up.
    pub server_version: Option<String>,
    /// Its `server_uuid`.
    pub server_uuid: Option<Uuid>,
    /// The transactions in it: after a restore, `gtid_executed`. None when nobody said so; an empty
    /// set is a statement.
    pub gtid_set: Option<GtidSet>,
    /// Where in that server's binary log it ends.
    pub position: Option<Position>,
    /// The moment that it shows, or the one at which it ended.
    pub taken_at: Option<Timestamp>,
}

impl Coordinates {
    /// Nothing is known yet.
    pub fn unknown(tool: Tool) -> Self {
        Self {
            tool,
            tool_version: None,
            server_version: None,
            server_uuid: None,
            gtid_set: None,
            position: None,
            taken_at: None,
        }
    }
}

/// One base backup. Stored: additive changes only; see [`VERSION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Its name.
    pub id: BackupId,
    /// The cluster whose history it is a moment of.
    pub cluster: ClusterName,
    /// What is known of it.
    #[serde(flatten)]
    pub coordinates: Coordinates,
    /// Where it lies, for people.
    pub location: String,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Who recorded it, for people: program, version and host.
    pub writer: String,
}

/// Why bytes are not the record that they should be.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of the expected form.
    #[error("{key}: not a base backup's record")]
    Malformed {
        /// Where it was read.
        key: ObjectKey,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A newer gtide wrote it.
    #[error("{key}: base backup record version {found}, and this gtide reads up to {VERSION}")]
    Version {
        /// Where it was read.
        key: ObjectKey,
        /// Its version.
        found: u64,
    },
    /// A record under another's key.
    #[error("{key}: holds the record of {cluster}'s backup {id}")]
    Misplaced {
        /// Where it was read.
        key: ObjectKey,
        /// Whose it says it is.
        cluster: ClusterName,
        /// Which it says it is.
        id: BackupId,
    },
}

impl Diagnose for RecordError {
    fn exit(&self) -> Exit {
        match self {
            Self::Version { .. } => Exit::Usage,
            Self::Malformed { .. } | Self::Misplaced { .. } => Exit::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Version { .. } => "install the gtide that wrote the archive, or a newer one",
            Self::Malformed { .. } | Self::Misplaced { .. } => {
                "compare with the same key at another destination, or begin elsewhere with --from-gtid-set"
            }
        };
        Some(hint.to_owned())
    }
}

impl Record {
    /// Its key.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::base_backup(&self.cluster, &self.id)
    }

    /// The bytes to store: indented JSON and a final newline.
    ///
    /// # Errors
    /// Never for values that this crate makes; the serialiser's error otherwise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the record stored at `key`.
    ///
    /// # Errors
    /// When the bytes are no record, of an unknown version, or belong under another key.
    pub fn parse(key: &ObjectKey, bytes: &[u8]) -> Result<Self, RecordError> {
        let malformed = |source| RecordError::Malformed {
            key: key.clone(),
            source,
        };
        let Versioned { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != u64::from(VERSION) {
            return Err(RecordError::Version {
                key: key.clone(),
                found: version,
            });
        }
        let record: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if record.key() != *key {
            return Err(RecordError::Misplaced {
                key: key.clone(),
                cluster: record.cluster,
                id: record.id,
            });
        }
        Ok(record)
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}
