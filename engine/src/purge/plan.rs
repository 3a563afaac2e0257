//! Which binary logs a server may forget, and why not more. Pure: whoever asks has looked at everything before.
//!
//! # Invariants
//! - Files go from the oldest on, without leaving one out: a server knows no other way.
//! - The active file, what is not committed at every required destination, and what a replica or another reader still
//!   needs never go, whatever else is wished (TRAPS 28).
//! - What cannot be told keeps a file.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::gtid::GtidSet;
use crate::layout::Sequence;

/// Bytes that one statement makes a server delete at most: while it does, commits may wait (TRAPS 28). A larger file goes
/// by itself.
pub const MAX_BATCH_BYTES: u64 = 16 << 30;

/// Files that one statement makes a server delete at most.
pub const MAX_BATCH_FILES: usize = 200;

/// One file of the server, from the oldest on, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub sequence: Sequence,
    /// Its name in the index.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written; none where that cannot be told.
    pub closed: Option<Timestamp>,
    /// Is this very file committed at every required destination?
    pub archived: Archived,
    /// All GTIDs up to its end: `previous_gtids` of the file behind it. None where that cannot be read.
    pub gtids: Option<GtidSet>,
}

/// What the ledger says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived {
    /// Committed at every required destination, below the watermark of each, and the file is still the one that was read.
    Yes,
    /// Not yet.
    No,
    /// Another file of that name is.
    Changed,
}

/// What keeps a file at the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Reason {
    /// The server writes to it.
    Active,
    /// It is not committed at every required destination.
    NotArchived,
    /// The file is not the one that was archived under its name.
    Changed,
    /// It was closed later than `keep` ago.
    Young,
    /// A replica's dump thread, or another client's, has it open.
    Read,
    /// A replica lacks transactions in it.
    Lacking {
        /// Which replica.
        replica: String,
        /// What it lacks.
        gtids: String,
    },
    /// A replica could not be asked.
    Unknown {
        /// Which replica, or what could not be read.
        what: String,
    },
    /// A file before it stays.
    Behind,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("the server writes to it"),
            Self::NotArchived => f.write_str("not committed at every required destination"),
            Self::Changed => f.write_str("not the file that was archived under this name"),
            Self::Young => f.write_str("younger than `keep`"),
            Self::Read => f.write_str("a replica or a client reads it, or one before it"),
            Self::Lacking { replica, gtids } => write!(f, "replica {replica} lacks {gtids}"),
            Self::Unknown { what } => {
                write!(f, "it cannot be told whether it is needed: {what}")
            }
            Self::Behind => f.write_str("a file before it does"),
        }
    }
}

/// Who may need a file.
#[derive(Debug, Clone, Default)]
pub struct Readers {
    /// The lowest file that is open at the server; the active one always is.
    pub lowest_open: Option<Sequence>,
    /// What each replica has received, or why it cannot be asked.
    pub replicas: Vec<(String, Result<GtidSet, String>)>,
}

/// What is to be done about each file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub file_name: String,
    /// Its number.
    pub sequence: u64,
    /// Bytes.
    pub size: u64,
    /// None when it may go.
    pub kept: Option<Reason>,
}

/// Judges each file, in order. The last one is the active file.
#[must_use]
pub fn plan(
    files: &[Candidate],
    readers: &Readers,
    keep: Duration,
    now: Timestamp,
) -> Vec<Verdict> {
    let mut is_blocked = false;
    let last = files.len().saturating_sub(1);
    let mut verdicts = Vec::with_capacity(files.len());
    for (nth, file) in files.iter().enumerate() {
        let own = if nth == last {
            Some(Reason::Active)
        } else {
            reason(file, readers, keep, now)
        };
        // Its own reason says more than that another one is before it.
        let kept = own.or_else(|| is_blocked.then_some(Reason::Behind));
        is_blocked |= kept.is_some();
        verdicts.push(Verdict {
            file_name: file.file_name.clone(),
            sequence: file.sequence.0,
            size: file.size,
            kept,
        });
    }
    verdicts
}

fn reason(file: &Candidate, readers: &Readers, keep: Duration, now: Timestamp) -> Option<Reason> {
    match file.archived {
        Archived::Yes => {}
        Archived::No => return Some(Reason::NotArchived),
        Archived::Changed => return Some(Reason::Changed),
    }
    match readers.lowest_open {
        Some(lowest) if lowest > file.sequence => {}
        Some(_) => return Some(Reason::Read),
        None => {
            let what = "which binary logs are read".to_owned();
            return Some(Reason::Unknown { what });
        }
    }
    if let Some(reason) = readers
        .replicas
        .iter()
        .find_map(|replica| lacking(file, replica))
    {
        return Some(reason);
    }
    let age = file.closed.map(|closed| now.duration_since(closed));
    let age = age.and_then(|age| Duration::try_from(age).ok());
    // A file from the future is young, too.
    age.is_none_or(|age| age < keep).then_some(Reason::Young)
}

fn lacking(
    file: &Candidate,
    (replica, received): &(String, Result<GtidSet, String>),
) -> Option<Reason> {
    let unknown = |what: String| Some(Reason::Unknown { what });
    match (received, &file.gtids) {
        (Err(error), _) => unknown(format!("{replica}: {error}")),
        (Ok(_), None) => unknown(format!("the GTIDs in {}", file.file_name)),
        (Ok(received), Some(gtids)) => {
            let lacking = gtids.subtract(received);
            (!lacking.is_empty()).then(|| Reason::Lacking {
                replica: replica.clone(),
                gtids: lacking.to_string(),
            })
        }
    }
}

/// The statements that carry a plan out: for each the first file that stays, so that no more than [`MAX_BATCH_BYTES`] or
/// [`MAX_BATCH_FILES`] go at once.
#[must_use]
pub fn batches(verdicts: &[Verdict]) -> Vec<Batch> {
    let gone = verdicts.iter().take_while(|verdict| verdict.kept.is_none());
    let mut batches: Vec<Batch> = Vec::new();
    for (nth, file) in gone.enumerate() {
        // There is one: the active file stays.
        let Some(next) = verdicts.get(nth + 1) else {
            break;
        };
        match batches.last_mut() {
            Some(batch)
                if batch.files < MAX_BATCH_FILES
                    && batch.bytes.saturating_add(file.size) <= MAX_BATCH_BYTES =>
            {
                batch.up_to.clone_from(&next.file_name);
                batch.files += 1;
                batch.bytes += file.size;
            }
            _ => batches.push(Batch {
                up_to: next.file_name.clone(),
                files: 1,
                bytes: file.size,
            }),
        }
    }
    batches
}

/// One `PURGE BINARY LOGS TO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The first file that stays.
    pub up_to: String,
    /// Files that go.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

#[cfg(test)]
mod tests;
