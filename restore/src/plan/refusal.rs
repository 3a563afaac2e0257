//! Why there is no plan.

use std::fmt::Write as _;

use engine::exit::{Diagnose, Exit};
use engine::gtid::GtidSet;
use engine::layout::{BackupId, SourceIdentity};
use serde::Serialize;

use crate::target::Target;
use crate::timeline::Break;

/// How many things in the way a refusal spells out.
const MAX_NAMED: usize = 5;

/// Why a target cannot be reached, or not unasked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The archive does not reach as far.
    #[error("the target ({target}) is not in the archive: {reason}")]
    Unreachable {
        /// The target.
        target: Target,
        /// Where the archive ends, or what is not known.
        reason: String,
        /// Transactions of the target that no file holds.
        missing: GtidSet,
    },
    /// Transactions that no file supplies.
    #[error("{}", gap(.missing, .breaks, .base))]
    Gap {
        /// The transactions; empty when only a flaw is in the way.
        missing: GtidSet,
        /// What stands in the way, as text.
        breaks: Vec<String>,
        /// `--accept-damage` may open a way.
        acceptable: bool,
        /// From where.
        base: String,
    },
    /// The target's transactions are of histories that parted.
    #[error("fork: no server has executed all of {target}: {}", parted(.parts))]
    Fork {
        /// What was asked for.
        target: GtidSet,
        /// What each server lacks of it.
        parts: Vec<(SourceIdentity, GtidSet)>,
    },
    /// The start has transactions that the target does not have.
    #[error("{base} has executed {beyond}, which the target has not")]
    BeyondTarget {
        /// Which start.
        base: String,
        /// The transactions.
        beyond: GtidSet,
    },
    /// Nothing to begin with.
    #[error(
        "no base backup to begin with: the archive rolls forward a server that has executed {needs}"
    )]
    NoBase {
        /// What a base must have executed, as text.
        needs: String,
        /// The same as a set.
        missing: GtidSet,
    },
    /// A backup that is not recorded.
    #[error("no base backup {0} is recorded")]
    UnknownBackup(BackupId),
    /// A backup of which it is not known what is in it.
    #[error("base backup {0} states no GTID set, and its binlog position is of no archived file")]
    UnplacedBackup(BackupId),
    /// A transaction that is to be left out is not in the plan.
    #[error("{0} cannot be left out: the plan does not execute it")]
    NothingToSkip(GtidSet),
    /// Anonymous transactions can be replayed by position only.
    #[error(
        "{source_identity} has anonymous transactions, and {base} does not say where in its files it ends"
    )]
    Anonymous {
        /// Whose files.
        source_identity: SourceIdentity,
        /// Which start.
        base: String,
    },
    /// A position is a place in one server's log.
    #[error("several sources have that file: {}", names(.0))]
    AmbiguousPosition(Vec<SourceIdentity>),
}

/// A refusal for programs. Part of `plan --format json`: additive changes only.
#[derive(Debug, Clone, Serialize)]
pub struct RefusalReport {
    /// [`crate::output::REPORT_VERSION`].
    pub report_version: u32,
    /// The kind.
    pub refused: &'static str,
    /// The same for people.
    pub message: String,
    /// Transactions that are missing, or that stand in the way.
    pub missing: GtidSet,
    /// What the program exits with.
    pub exit_code: u8,
}

fn names(sources: &[SourceIdentity]) -> String {
    let names: Vec<String> = sources.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn parted(parts: &[(SourceIdentity, GtidSet)]) -> String {
    let parts: Vec<String> = parts
        .iter()
        .map(|(source, lacking)| format!("{source} lacks {lacking}"))
        .collect();
    parts.join("; ")
}

fn gap(missing: &GtidSet, breaks: &[String], base: &str) -> String {
    let mut text = if missing.is_empty() {
        format!("the way from {base} to the target passes what must not be passed unasked")
    } else {
        format!("gap: nothing that is archived leads from {base} to {missing}")
    };
    let named = breaks.iter().take(MAX_NAMED);
    for (index, one) in named.enumerate() {
        let separator = if index == 0 { ": " } else { "; " };
        let _ = write!(text, "{separator}{one}");
    }
    if let more @ 1.. = breaks.len().saturating_sub(MAX_NAMED) {
        let _ = write!(text, "; and {more} more");
    }
    text
}

/// Breaks as text, each once.
pub(super) fn texts(breaks: &[Break]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for text in breaks.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

impl Refusal {
    /// The refusal for programs.
    pub fn report(&self) -> RefusalReport {
        let (refused, missing) = match self {
            Self::Unreachable { missing, .. } => ("unreachable", missing.clone()),
            Self::Gap { missing, .. } => ("gap", missing.clone()),
            Self::Fork { target, .. } => ("fork", target.clone()),
            Self::BeyondTarget { beyond, .. } => ("beyond_target", beyond.clone()),
            Self::NoBase { missing, .. } => ("no_base", missing.clone()),
            Self::UnknownBackup(_) => ("unknown_backup", GtidSet::new()),
            Self::UnplacedBackup(_) => ("unplaced_backup", GtidSet::new()),
            Self::NothingToSkip(gtids) => ("nothing_to_skip", gtids.clone()),
            Self::Anonymous { .. } => ("anonymous", GtidSet::new()),
            Self::AmbiguousPosition(_) => ("ambiguous_position", GtidSet::new()),
        };
        RefusalReport {
            report_version: crate::output::REPORT_VERSION,
            refused,
            message: self.to_string(),
            missing,
            exit_code: self.exit() as u8,
        }
    }
}

impl Diagnose for Refusal {
    fn exit(&self) -> Exit {
        match self {
            Self::UnknownBackup(_) | Self::AmbiguousPosition(_) | Self::NothingToSkip(_) => {
                Exit::Usage
            }
            _ => Exit::Gap,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { .. } => {
                "`gtide-restore ls` shows what each source reaches; --to-latest takes all of it"
            }
            Self::Gap {
                acceptable: true, ..
            } => {
                "name an earlier target, or another source with --source; --accept-damage passes damage where the GTIDs allow"
            }
            Self::Gap { .. } => {
                "begin with another base backup, name an earlier target, or look for the files at another destination"
            }
            Self::Fork { .. } => "name GTIDs of one server's history, or another target",
            Self::BeyondTarget { .. } => {
                "begin with an earlier backup: `gtide backup ls` lists them"
            }
            Self::NoBase { .. } => {
                "record one with `gtide backup add`, or state where you begin with --from-gtid-set ('' for a server without any transaction)"
            }
            Self::UnknownBackup(_) => "`gtide backup ls` lists them",
            Self::UnplacedBackup(_) => "state what is in it with --from-gtid-set",
            Self::NothingToSkip(_) => {
                "compare the GTID with the source's binary log; what a base backup has executed cannot be left out"
            }
            Self::Anonymous { .. } => "begin with a base backup that states a binlog position",
            Self::AmbiguousPosition(_) => "name one of them with --source",
        };
        Some(hint.to_owned())
    }
}
