//! The moment to restore, and where it lies on one line of a timeline.
//!
//! # What a time means
//! Commit time is the `immediate_commit_timestamp` of the server whose files are read, in µs, and not
//! the event's own time, which is when a statement began (TRAPS 17). A time target cuts before the
//! *first* transaction, in the order of the log, that was committed later than the target. Commit times
//! need not ascend: what stands behind that cut and was committed in time all the same stays out, and
//! the plan says so. So nothing that was committed after the target is ever in.

use std::fmt;

use engine::base_backup::Position;
use engine::gtid::{Gtid, GtidSet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cut::{Cut, Search};
use crate::timeline::{FileAt, Line};

/// The moment to restore. Part of a saved plan: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// Everything up to the first transaction committed later than this.
    Time {
        /// The moment; all that was committed at it is in.
        time: Timestamp,
    },
    /// Everything up to and including these transactions.
    ToGtid {
        /// At least one.
        gtids: GtidSet,
    },
    /// Everything before this transaction.
    BeforeGtid {
        /// The accident.
        gtid: Gtid,
    },
    /// Everything that ends at or before this place of one server's log.
    Position {
        /// The place.
        position: Position,
    },
    /// All that is archived.
    Latest,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { time } => write!(f, "all that was committed up to {time}"),
            Self::ToGtid { gtids } => write!(f, "up to and including {gtids}"),
            Self::BeforeGtid { gtid } => write!(f, "all before {gtid}"),
            Self::Position { position } => write!(f, "up to {position}"),
            Self::Latest => f.write_str("all that is archived"),
        }
    }
}

/// Where a target lies on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// In this file; the search finds the place.
    In {
        /// The file's number.
        file: usize,
        /// What to look for in it.
        search: Search,
    },
    /// At the end of this file.
    EndOf {
        /// The file's number.
        file: usize,
    },
    /// Not on this line.
    Nowhere(Elsewhere),
}

/// Why a target is not on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// The line has no files.
    Empty,
    /// It lies before the line's first file.
    Before,
    /// It lies behind the line's last file.
    Behind,
    /// These transactions are not in the line's files.
    Unknown(GtidSet),
    /// It lies among these transactions, which no file of the line holds.
    InGap(GtidSet),
    /// The line has no such file, or the file ends before the position.
    NoSuchPlace,
}

impl Target {
    /// Where the target lies on `line`, as far as manifest entries tell.
    pub fn on(&self, line: &Line) -> Spot {
        let Some(last) = line.files().len().checked_sub(1) else {
            return Spot::Nowhere(Elsewhere::Empty);
        };
        match self {
            Self::Time { time } => time_on(*time, line),
            Self::ToGtid { gtids } => behind(gtids, line),
            Self::BeforeGtid { gtid } => before(gtid, line),
            Self::Position { position } => position_on(position, line),
            Self::Latest => Spot::EndOf { file: last },
        }
    }
}

fn time_on(time: Timestamp, line: &Line) -> Spot {
    let mut commits = line.files().iter().map(|file| file.commits);
    let later = commits.position(|commits| commits.is_some_and(|(_, latest)| latest > time));
    let Some(file) = later else {
        return Spot::Nowhere(Elsewhere::Behind);
    };
    let earlier = line.files().get(..=file).unwrap_or_default();
    let any_in_time = earlier
        .iter()
        .any(|file| file.commits.is_some_and(|(earliest, _)| earliest <= time));
    if !any_in_time {
        return Spot::Nowhere(Elsewhere::Before);
    }
    Spot::In {
        file,
        search: Search::After(time),
    }
}

/// In the first file with which all of `gtids` are executed.
fn behind(gtids: &GtidSet, line: &Line) -> Spot {
    let unknown = gtids.subtract(line.known());
    if !unknown.is_empty() {
        return Spot::Nowhere(Elsewhere::Unknown(unknown));
    }
    let mut missing = gtids.clone();
    for run in line.runs() {
        missing = missing.subtract(&run.before);
        if missing.is_empty() {
            // The last of them was executed before this run: in files that are not there.
            return match run.files.start() {
                0 => Spot::Nowhere(Elsewhere::Before),
                _ => Spot::Nowhere(Elsewhere::Unknown(gtids.clone())),
            };
        }
        for file in run.files.clone() {
            let added = line.added_set(file);
            if added.is_disjoint(&missing) {
                continue;
            }
            let wanted = missing.intersect(&added);
            missing = missing.subtract(&added);
            if missing.is_empty() {
                let search = Search::Behind(wanted);
                return Spot::In { file, search };
            }
        }
    }
    Spot::Nowhere(Elsewhere::Unknown(missing))
}

fn before(gtid: &Gtid, line: &Line) -> Spot {
    let holds = |file: &usize| {
        line.added(*file)
            .any(|(tsid, first, last)| *tsid == gtid.tsid && (first..=last).contains(&gtid.gno))
    };
    match (0..line.files().len()).find(holds) {
        Some(file) => Spot::In {
            file,
            search: Search::Before(gtid.clone()),
        },
        None if line.known().contains(gtid) => Spot::Nowhere(Elsewhere::Before),
        None => {
            let mut unknown = GtidSet::new();
            // It was read from text, which checks the number.
            let _ = unknown.insert(gtid.clone());
            Spot::Nowhere(Elsewhere::Unknown(unknown))
        }
    }
}

fn position_on(position: &Position, line: &Line) -> Spot {
    let file = line.file_named(&position.file);
    let Some((file, record)) = file.and_then(|number| Some((number, line.file(number)?))) else {
        return Spot::Nowhere(Elsewhere::NoSuchPlace);
    };
    if position.offset > record.size {
        return Spot::Nowhere(Elsewhere::NoSuchPlace);
    }
    if position.offset >= record.last_position {
        return Spot::EndOf { file };
    }
    Spot::In {
        file,
        search: Search::At(position.offset),
    }
}

/// A place in a file that is to be cut, once it is known: the file, what to look for, and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Which file.
    pub at: FileAt,
    /// What to look for.
    pub search: Search,
}

/// Cuts that were found.
#[derive(Debug, Clone, Default)]
pub struct Cuts(Vec<(Probe, Cut)>);

impl Cuts {
    /// Remembers a cut.
    pub fn insert(&mut self, probe: Probe, cut: Cut) {
        self.0.push((probe, cut));
    }

    /// The cut that a probe found.
    pub fn get(&self, at: FileAt, search: &Search) -> Option<&Cut> {
        let found = |(probe, _): &&(Probe, Cut)| probe.at == at && probe.search == *search;
        self.0.iter().find(found).map(|(_, cut)| cut)
    }
}
