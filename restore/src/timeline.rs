//! The archived files of a cluster as one GTID history.
//!
//! # Owns
//! One [`Line`] for each source: its files in ascending sequence, cut into [`Run`]s wherever the next
//! file does not follow, or must not be passed unasked. What lies between lines (overlap after a
//! failover, transactions that only one of them has) is a [`Relation`]. All of it is values; whether
//! something matters is for [`crate::path`] to say.
//!
//! # Invariants
//! - Order within a line is the sequence's; between lines there is none but that of GTID sets: never
//!   a name, never a time (TRAPS 16).
//! - Within a run, the GTIDs before a file are those before the run and those that the run's earlier
//!   files added; nothing is missing, and nothing is damaged. A flawed or missing file is a run of its
//!   own.
//!
//! # What entries do not say
//! A file's `PREVIOUS_GTIDS` are what the server's own binary logs held. What it was set up with, by a
//! restore, CLONE or `SET GTID_PURGED`, is not among them (`gtids_only_in_table` in the server's
//! `sql/binlog.cc`): the first files of such a server seem to follow from nothing. It shows where a TSID
//! begins above 1: if a backup, the start or another server knows of the numbers below, the server was
//! set up with all of them ([`Timeline::settle`]); if nobody does, they may never have existed
//! ([`Line::holes`]). A TSID of which the server never logged anything since cannot be seen.
//!
//! # Limits
//! Some 200 bytes for each file, 24 for each interval that it adds, and a GTID set for each run: the
//! sets of all files before, which entries repeat, are not kept.

mod line;
#[cfg(test)]
pub(crate) mod made;
#[cfg(test)]
mod tests;

use engine::gtid::GtidSet;
use engine::layout::{Sequence, SourceIdentity};

pub use self::line::{Break, FileRecord, Line, Run};
use crate::history::StoredEntry;

/// The files of all sources of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// Ordered by source.
    lines: Vec<Line>,
}

/// What two lines know of each other's transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Transactions that both know.
    pub common: GtidSet,
    /// Transactions that only the first knows.
    pub only_first: GtidSet,
    /// Transactions that only the second knows.
    pub only_second: GtidSet,
}

/// A file of a timeline: line and file, both counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileAt {
    /// Which line.
    pub line: usize,
    /// Which file of it.
    pub file: usize,
}

impl Timeline {
    /// Takes the next entry: those of a source MUST come in ascending sequence; sources in any order.
    pub fn push(&mut self, stored: &StoredEntry) {
        let source = &stored.entry.source;
        let place = self.lines.binary_search_by(|line| line.source.cmp(source));
        let place = place.unwrap_or_else(|place| {
            self.lines.insert(place, Line::new(source.clone()));
            place
        });
        if let Some(line) = self.lines.get_mut(place) {
            line.push(&stored.entry, stored.sha256);
        }
    }

    /// To be called when all entries were taken: adds to each line what its server was set up with, as
    /// far as it shows. `evidence` are transactions that are known to have been executed somewhere.
    pub fn settle(&mut self, evidence: &GtidSet) {
        let known: Vec<GtidSet> = self.lines.iter().map(|line| line.known().clone()).collect();
        for (number, line) in self.lines.iter_mut().enumerate() {
            let mut elsewhere = evidence.clone();
            let others = known.iter().enumerate();
            for (_, known) in others.filter(|(other, _)| *other != number) {
                elsewhere.union_with(known);
            }
            line.settle(&elsewhere);
        }
    }

    /// The lines, ordered by source.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The line with this number.
    pub fn line(&self, number: usize) -> Option<&Line> {
        self.lines.get(number)
    }

    /// The number of the line of `source`.
    pub fn line_of(&self, source: &SourceIdentity) -> Option<usize> {
        self.lines
            .binary_search_by(|line| line.source.cmp(source))
            .ok()
    }

    /// A file and its line.
    pub fn file(&self, at: FileAt) -> Option<(&Line, &FileRecord)> {
        let line = self.lines.get(at.line)?;
        Some((line, line.file(at.file)?))
    }

    /// Whether [`lose`](Self::lose) was told of this file.
    pub fn is_lost(&self, at: FileAt) -> bool {
        let line = self.lines.get(at.line);
        let run = line.and_then(|line| line.runs().get(line.run_of(at.file)?));
        run.is_some_and(|run| run.flaws.iter().any(|flaw| !flaw.is_readable()))
    }

    /// The entry of this file is there, and its object is not: no plan may read it.
    pub fn lose(&mut self, source: &SourceIdentity, sequence: Sequence) {
        let line = self.line_of(source);
        if let Some(line) = line.and_then(|line| self.lines.get_mut(line)) {
            line.lose(sequence);
        }
    }

    /// What two lines know of each other's transactions.
    pub fn relation(&self, first: usize, second: usize) -> Option<Relation> {
        let (first, second) = (self.line(first)?.known(), self.line(second)?.known());
        Some(Relation {
            common: first.intersect(second),
            only_first: first.subtract(second),
            only_second: second.subtract(first),
        })
    }

    /// Every transaction that some line knows.
    pub fn known(&self) -> GtidSet {
        let mut known = GtidSet::new();
        for line in &self.lines {
            known.union_with(line.known());
        }
        known
    }
}
