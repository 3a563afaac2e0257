//! What backup tools leave behind, read for GTID set, position and time. Pure: text in, values out.
//!
//! Which tool wrote a text is told by the text itself. Fields that a tool does not state stay unknown;
//! nothing is guessed. Two texts of one backup (`xtrabackup_binlog_info` and `xtrabackup_info`) add up,
//! and must not contradict each other.
//!
//! # Limits
//! A dump may be of any size: its beginning is enough ([`MAX_TEXT`] bytes), since mysqldump writes all
//! of this before the first table.

mod clone;
mod enterprise;
mod mydumper;
mod mysqldump;
mod shell;
#[cfg(test)]
mod tests;
mod xtrabackup;

use jiff::civil::DateTime;

use super::{Coordinates, Position, Tool};
use crate::exit::{Diagnose, Exit};
use crate::gtid::{GtidError, GtidSet};

/// How much of a file is looked at, in bytes. A GTID set of a million intervals fits.
pub const MAX_TEXT: usize = 16 * 1024 * 1024;

/// What a text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// All that is certain.
    pub coordinates: Coordinates,
    /// A time without a zone: the clock of the machine where the tool ran.
    pub local_time: Option<DateTime>,
}

/// Why a text tells nothing that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// No known tool writes such a text.
    #[error("{name}: not a text that a known backup tool leaves behind")]
    Unknown {
        /// The file.
        name: String,
    },
    /// A known text that is not as its tool writes it, or tells of a backup that is of no use.
    #[error("{name}: {tool}: {reason}", tool = .tool.name())]
    Unusable {
        /// The file.
        name: String,
        /// Who wrote it.
        tool: Tool,
        /// What is the matter.
        reason: String,
    },
    /// Two texts that cannot be of one backup.
    #[error("{name}: {what} is {found}, and {other} before it")]
    Contradiction {
        /// The later file.
        name: String,
        /// What of the backup.
        what: &'static str,
        /// There.
        found: String,
        /// In an earlier file.
        other: String,
    },
    /// There was nothing to read.
    #[error("nothing tells which transactions are in the backup")]
    Nothing,
}

impl Diagnose for EvidenceError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } | Self::Nothing => Exit::Usage,
            Self::Unusable { .. } => Exit::Corrupt,
            Self::Contradiction { .. } => Exit::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Contradiction { .. } => "give the files of one backup only",
            Self::Unknown { .. } | Self::Unusable { .. } | Self::Nothing => {
                "give xtrabackup_binlog_info, backup_variables.txt, a mysqldump, @.json, mydumper's metadata or \
                 #clone/#view_status; or state the GTID set of the backup with --gtid"
            }
        };
        Some(hint.to_owned())
    }
}

/// What one tool's parser says of a text: nothing when another tool wrote it.
type Parsed = Option<Result<Evidence, (Tool, String)>>;

/// Reads the texts of one backup, each with its file's name.
///
/// # Errors
/// When one of them is of no known tool, malformed, or contradicts another.
pub fn read<'a>(
    texts: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Evidence, EvidenceError> {
    let mut whole: Option<Evidence> = None;
    for (name, text) in texts {
        let part = read_one(name, text)?;
        whole = Some(match whole {
            None => part,
            Some(earlier) => merge(earlier, part, name)?,
        });
    }
    whole.ok_or(EvidenceError::Nothing)
}

fn read_one(name: &str, text: &str) -> Result<Evidence, EvidenceError> {
    let parsers: [fn(&str) -> Parsed; 8] = [
        shell::dump,
        xtrabackup::info,
        enterprise::variables,
        enterprise::gtid_executed,
        mysqldump::head,
        mydumper::metadata,
        clone::status,
        xtrabackup::binlog_info,
    ];
    match parsers.iter().find_map(|parse| parse(text)) {
        Some(Ok(evidence)) => Ok(evidence),
        Some(Err((tool, reason))) => Err(EvidenceError::Unusable {
            name: name.to_owned(),
            tool,
            reason,
        }),
        None => Err(EvidenceError::Unknown {
            name: name.to_owned(),
        }),
    }
}

fn merge(earlier: Evidence, later: Evidence, name: &str) -> Result<Evidence, EvidenceError> {
    let (a, b) = (earlier.coordinates, later.coordinates);
    let contradiction = |what, found: String, other: String| EvidenceError::Contradiction {
        name: name.to_owned(),
        what,
        found,
        other,
    };
    if a.tool != b.tool {
        let (found, other) = (b.tool.name(), a.tool.name());
        return Err(contradiction("the tool", found.into(), other.into()));
    }
    Ok(Evidence {
        coordinates: Coordinates {
            tool: a.tool,
            tool_version: a.tool_version.or(b.tool_version),
            server_version: a.server_version.or(b.server_version),
            server_uuid: a.server_uuid.or(b.server_uuid),
            gtid_set: agree(a.gtid_set, b.gtid_set).map_err(|(other, found)| {
                contradiction("the GTID set", found.to_string(), other.to_string())
            })?,
            position: agree(a.position, b.position).map_err(|(other, found)| {
                contradiction("the position", found.to_string(), other.to_string())
            })?,
            taken_at: a.taken_at.or(b.taken_at),
        },
        local_time: earlier.local_time.or(later.local_time),
    })
}

fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> Result<Option<T>, (T, T)> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err((a, b)),
        (a, b) => Ok(a.or(b)),
    }
}

/// Evidence with neither GTIDs nor a position is of no use.
fn finish(
    coordinates: Coordinates,
    local_time: Option<DateTime>,
) -> Result<Evidence, (Tool, String)> {
    if coordinates.gtid_set.is_none() && coordinates.position.is_none() {
        let reason = "it states neither a GTID set nor a binlog position";
        return Err((coordinates.tool, reason.to_owned()));
    }
    Ok(Evidence {
        coordinates,
        local_time,
    })
}

/// A GTID set as tools print it: over several lines, or with the line ends escaped.
fn gtid_set(text: &str) -> Result<GtidSet, GtidError> {
    text.replace("\\n", "").parse()
}

/// A position from a file's name and a decimal offset; none when either is empty.
fn position(file: &str, offset: &str) -> Result<Option<Position>, String> {
    if file.is_empty() {
        return Ok(None);
    }
    let parsed = offset.parse().ok();
    let position = parsed.and_then(|offset| Position::new(file, offset));
    let error = || format!("{file:?} {offset:?} is not a binlog position");
    position.map(Some).ok_or_else(error)
}

/// `2026-11-22 20:37:04`, perhaps with decimals.
fn local_time(text: &str) -> Option<DateTime> {
    text.trim().replacen(' ', "T", 1).parse().ok()
}

/// The value of `key = value` or `key=value`, without white space and quotes around it.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches(['\'', '"']))
    })
}
