//! The plan: from a target to the files, the cuts and the commands, or to a refusal. Pure: values in,
//! values out; cuts that must be found in files first are asked for ([`Stop::Probes`]).
//!
//! # Which line is led by
//! Servers of a cluster share one history, but their logs differ in order, in what a lagging replica has
//! not yet executed, and in what only one of them has. A target is a place on one line, the *lead*:
//! that of the source which is named; else of the one whose last transaction before the target was its
//! own, which is the server that was written to; else, or if several were, of the one that has executed
//! most by then; else of the one that committed last. Transactions of other lines that the lead never
//! learns of are errant: they are left out, and named.
//!
//! # Invariants
//! - What the plan executes on top of its start is the goal, less what is skipped on request; proved by
//!   GTID sets ([`crate::path`]), never by names or times.
//! - Every cut is a boundary between transactions.

pub mod commands;
pub mod draw;
pub(crate) mod estimate;
pub mod refusal;
mod saved;
#[cfg(test)]
mod tests;
pub mod text;

use std::sync::Arc;

use engine::base_backup::Record;
use engine::digest::Digest;
use engine::exit::{Diagnose, Exit};
use engine::gtid::GtidSet;
use engine::layout::{BackupId, ObjectKey, Sequence, SourceIdentity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::commands::{Commands, Invocation};
pub use self::draw::{Outline, Stop, draw};
pub use self::refusal::Refusal;
use self::saved::SavedFile;
use crate::cut::Mark;
use crate::target::{Cuts, Target};
use crate::timeline::Timeline;

/// The version of a saved plan. Additive changes keep it; anything that an older reader would misread
/// bumps it.
pub const VERSION: u32 = 1;

/// The largest plan that a reader accepts, in bytes: some 100,000 files.
pub const MAX_PLAN_LEN: usize = 64 * 1024 * 1024;

/// Where a plan may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// At the base backup from which the least is to be replayed.
    Any,
    /// At this one.
    Backup(BackupId),
    /// At a server that has executed these.
    Executed(GtidSet),
}

/// All that a plan follows from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The archived files of the cluster.
    pub timeline: &'a Timeline,
    /// Its base backups.
    pub backups: &'a [Record],
    /// The moment.
    pub target: &'a Target,
    /// Where to begin.
    pub start: &'a StartAt,
    /// The source to be led by, if one was named.
    pub lead: Option<&'a SourceIdentity>,
    /// Transactions to be left out.
    pub skip: &'a GtidSet,
    /// Flaws may be passed where the GTIDs allow.
    pub accept_damage: bool,
    /// Cuts that were found.
    pub cuts: &'a Cuts,
}

/// Where a plan begins. Part of a saved plan: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Base {
    /// A base backup that is recorded in the archive.
    Backup {
        /// Its id.
        id: BackupId,
        /// Where it lies.
        location: String,
        /// The moment that it shows, if it is known.
        taken_at: Option<Timestamp>,
    },
    /// A server whose GTIDs were stated.
    Stated,
    /// A server that was just initialised.
    Empty,
}

/// One file of a plan. Part of a saved plan, as a `SavedFile`: a plan may have half a million.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SavedFile", into = "SavedFile")]
pub struct PlannedFile {
    /// Whose file.
    pub source: SourceIdentity,
    /// Its sequence.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: Arc<str>,
    /// SHA-256 of the binlog file.
    pub sha256: Digest,
    /// Bytes of the binlog file.
    pub size: u64,
    /// Bytes of the archive object.
    pub stored_bytes: u64,
    /// Where its transactions begin to be wanted; none for its beginning.
    pub from: Option<u64>,
    /// Where it is cut; none for its end.
    pub to: Option<u64>,
    /// Bytes of the object that `cat` reads.
    pub fetch_bytes: u64,
}

impl PlannedFile {
    /// Bytes of the binlog file between the cuts.
    pub fn replay_bytes(&self) -> u64 {
        let end = self.to.unwrap_or(self.size);
        end.saturating_sub(self.from.unwrap_or(0))
    }

    /// Whether only a part of it is wanted.
    pub fn is_cut(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }
}

/// Where replaying stops. Part of a saved plan: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPoint {
    /// Whose file.
    #[serde(flatten)]
    pub source: SourceIdentity,
    /// Its name.
    pub file_name: String,
    /// File offset.
    pub position: u64,
    /// The last transaction before, where it is known.
    pub last: Option<Mark>,
    /// The first transaction behind, where it is known.
    pub next: Option<Mark>,
}

/// Transactions that another line has and the plan leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Who has them.
    #[serde(flatten)]
    pub source: SourceIdentity,
    /// The transactions.
    pub gtids: GtidSet,
}

/// A plan. Saved as JSON: additive changes only; see [`VERSION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`VERSION`] of the writer.
    pub plan_version: u32,
    /// Where the archive lies.
    pub destination: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The moment.
    pub target: Target,
    /// The line that it is a place on.
    pub lead: SourceIdentity,
    /// Where to begin.
    pub base: Base,
    /// `gtid_executed` to begin with.
    pub start: GtidSet,
    /// Where to stop.
    pub stop: StopPoint,
    /// The files, in order of replay.
    pub files: Vec<PlannedFile>,
    /// Transactions that are left out on request.
    pub skip: GtidSet,
    /// Transactions that are executed.
    pub adds: GtidSet,
    /// Expected `gtid_executed` at the end.
    pub executed: GtidSet,
    /// How many transactions are executed, anonymous ones aside.
    pub transactions: u64,
    /// Bytes of binlog that are replayed.
    pub replay_bytes: u64,
    /// Bytes that `cat` reads from the destination.
    pub fetch_bytes: u64,
    /// Seconds that `mysqlbinlog | mysql` will take, roughly; 0 in plans of a gtide that made no estimate.
    #[serde(default)]
    pub replay_seconds: u64,
    /// What other lines have and the plan leaves out.
    pub left_out: Vec<LeftOut>,
    /// What to think of before running it.
    pub warnings: Vec<String>,
    /// How to run it.
    pub commands: Commands,
}

/// Why a saved plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedPlanError {
    /// It could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not JSON of the expected form.
    #[error("{path}: not a saved plan")]
    Malformed {
        /// The file.
        path: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A newer gtide-restore made it.
    #[error("{path}: plan version {found}, and this gtide-restore reads up to {VERSION}")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: u64,
    },
    /// The archive holds another file now.
    #[error("{key}: holds another file than when the plan was made")]
    Changed {
        /// The entry.
        key: ObjectKey,
    },
}

impl Diagnose for SavedPlanError {
    fn exit(&self) -> Exit {
        match self {
            Self::Changed { .. } => Exit::Conflict,
            _ => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Version { .. } => "install the gtide-restore that made it, or a newer one",
            Self::Read { .. } | Self::Malformed { .. } => {
                "give a file that `gtide-restore plan --save FILE` wrote"
            }
            Self::Changed { .. } => "make the plan anew",
        };
        Some(hint.to_owned())
    }
}

impl Plan {
    /// Reads a saved plan; `path` is for errors.
    ///
    /// # Errors
    /// When the bytes are no plan, or one of an unknown version.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, SavedPlanError> {
        let malformed = |source| SavedPlanError::Malformed {
            path: path.to_owned(),
            source,
        };
        let Versioned { plan_version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if plan_version != u64::from(VERSION) {
            return Err(SavedPlanError::Version {
                path: path.to_owned(),
                found: plan_version,
            });
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }

    /// The bytes to save.
    ///
    /// # Errors
    /// Never for values that this crate makes; the serialiser's error otherwise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[derive(Deserialize)]
struct Versioned {
    plan_version: u64,
}
