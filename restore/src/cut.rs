//! Where a file is cut: the search for a boundary between two transactions, fed with the boundaries
//! that a scanner finds.
//!
//! # Invariants
//! - A cut is a boundary: the start of a transaction, or the end of one.
//! - A search may be fed with the file from its beginning, or from any boundary on (the *suffix*). What
//!   the file adds before the cut is then all that it adds less what begins behind the cut. A suffix
//!   that cannot decide says so ([`Seeker::finish`] gives none), and the file is fed whole.

use engine::binlog::Boundary;
use engine::gtid::{Gtid, GtidSet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is looked for in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// Before the first transaction that was committed later than this.
    After(Timestamp),
    /// Behind the last of these transactions, all of which the file adds.
    Behind(GtidSet),
    /// Before this transaction.
    Before(Gtid),
    /// The last boundary at or before this offset.
    At(u64),
    /// Before the first transaction that is not one of these; an anonymous one is none of them.
    Outside(GtidSet),
    /// Before the last transaction, which is cut off.
    Torn,
    /// At the end: only the last transaction is of interest.
    End,
}

/// A transaction beside a cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// None for an anonymous one.
    pub gtid: Option<Gtid>,
    /// Its `immediate_commit_timestamp`.
    pub commit: Option<Timestamp>,
}

/// A boundary in a file, and what lies before and behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// File offset; none when the file's end comes before what was looked for.
    pub offset: Option<u64>,
    /// What the file adds before the cut.
    pub executed: GtidSet,
    /// The transaction before the cut, where it was seen.
    pub last: Option<Mark>,
    /// The transaction that begins at the cut, if one does.
    pub next: Option<Mark>,
    /// Only for [`Search::After`]: behind the cut stand transactions that were committed in time.
    pub stragglers: bool,
}

/// Takes a file's boundaries in order and remembers the cut.
#[derive(Debug)]
pub struct Seeker {
    search: Search,
    /// How many transactions of [`Search::Behind`] were not seen yet.
    wanted: u128,
    /// Those that began before the cut, of what was fed.
    before: GtidSet,
    /// Those that begin behind it.
    behind: GtidSet,
    found: Option<Found>,
    /// The transaction that began at the last boundary.
    running: Option<Mark>,
    /// The one before it.
    last: Option<Mark>,
    stragglers: bool,
    decided: bool,
}

#[derive(Debug)]
struct Found {
    offset: u64,
    last: Option<Mark>,
    next: Option<Mark>,
}

impl Seeker {
    /// A search that was fed with nothing yet.
    pub fn new(search: Search) -> Self {
        let wanted = match &search {
            Search::Behind(wanted) => wanted.count(),
            _ => 0,
        };
        Self {
            search,
            wanted,
            before: GtidSet::new(),
            behind: GtidSet::new(),
            found: None,
            running: None,
            last: None,
            stragglers: false,
            decided: false,
        }
    }

    /// Whether the rest of the file cannot move the cut.
    pub fn is_decided(&self) -> bool {
        self.decided
    }

    /// Takes the next boundary.
    pub fn push(&mut self, boundary: &Boundary) {
        let ended = self.running.take();
        if let Some(ended) = &ended {
            self.last = Some(ended.clone());
        }
        let begins = mark(boundary);
        if self.cuts_here(boundary, ended.as_ref()) {
            self.take(boundary.offset, begins.clone());
        }
        if let Some(Mark { gtid, commit }) = &begins {
            let side = if self.found.is_some() {
                &mut self.behind
            } else {
                &mut self.before
            };
            if let Some(gtid) = gtid {
                // The scanner gives valid numbers only.
                let _ = side.insert(gtid.clone());
            }
            if let (Search::After(time), Some(commit), true) =
                (&self.search, commit, self.found.is_some())
            {
                self.stragglers |= commit <= time;
            }
        }
        self.running = begins;
    }

    /// Whether the cut is at this boundary, as far as is known by now.
    fn cuts_here(&mut self, boundary: &Boundary, ended: Option<&Mark>) -> bool {
        if self.decided {
            return false;
        }
        let begins = mark(boundary).is_some();
        match &self.search {
            Search::After(time) => {
                self.decided = boundary.commit.is_some_and(|commit| commit > *time);
                self.decided
            }
            Search::Before(gtid) => {
                self.decided = boundary.gtid.as_ref() == Some(gtid);
                self.decided
            }
            Search::Outside(set) => {
                self.decided = begins && boundary.gtid.as_ref().is_none_or(|g| !set.contains(g));
                self.decided
            }
            Search::At(offset) => {
                self.decided = boundary.offset >= *offset;
                // A file's first boundary counts also when the offset points into the header before it.
                boundary.offset <= *offset || self.found.is_none()
            }
            Search::Behind(wanted) => {
                let gtid = ended.and_then(|ended| ended.gtid.as_ref());
                let hit = gtid.is_some_and(|gtid| wanted.contains(gtid));
                self.wanted = self.wanted.saturating_sub(u128::from(hit));
                self.decided = self.wanted == 0;
                hit
            }
            Search::Torn => begins,
            Search::End => false,
        }
    }

    /// The cut is here, until another is found.
    fn take(&mut self, offset: u64, next: Option<Mark>) {
        let passed = std::mem::take(&mut self.behind);
        self.before.union_with(&passed);
        self.found = Some(Found {
            offset,
            last: self.last.clone(),
            next,
        });
    }

    /// The cut, in a file that adds `added`; `whole` when the file was fed from its beginning.
    ///
    /// None when a suffix does not tell.
    pub fn finish(self, added: &GtidSet, whole: bool) -> Option<Cut> {
        if self.ends_wanted() {
            return self.reached_the_end(added, whole);
        }
        let Some(found) = self.found else {
            return self.reached_the_end(added, whole);
        };
        let executed = if whole {
            // The one that is cut off began, and was never added.
            self.before.intersect(added)
        } else {
            added.subtract(&self.behind)
        };
        let tells = match &self.search {
            Search::Outside(set) => whole || set.is_superset(&executed),
            Search::Behind(wanted) => executed.is_superset(wanted),
            _ => true,
        };
        tells.then_some(Cut {
            offset: Some(found.offset),
            executed,
            last: found.last,
            next: found.next,
            stragglers: self.stragglers,
        })
    }

    /// Whether the file's last transaction is one of those wanted: its end shows as a boundary only if
    /// an event follows it.
    fn ends_wanted(&self) -> bool {
        let last = self.running.as_ref().and_then(|mark| mark.gtid.as_ref());
        match &self.search {
            Search::Behind(wanted) => last.is_some_and(|gtid| wanted.contains(gtid)),
            _ => false,
        }
    }

    /// All of the file is before what was looked for, if what was fed tells so.
    fn reached_the_end(self, added: &GtidSet, whole: bool) -> Option<Cut> {
        let tells = match &self.search {
            // Blocks that were not fed are known to hold nothing later, by the index.
            Search::After(_) | Search::End => true,
            Search::Outside(set) => whole || set.is_superset(added),
            Search::Behind(wanted) => self.ends_wanted() && added.is_superset(wanted),
            // A file without any transaction.
            Search::At(_) => whole,
            Search::Before(_) | Search::Torn => false,
        };
        tells.then(|| Cut {
            offset: None,
            executed: added.clone(),
            last: self.running.or(self.last),
            next: None,
            stragglers: false,
        })
    }
}

/// The transaction that begins at a boundary. An anonymous one without a commit time (MySQL 5.7)
/// looks like the end of another and is taken for it: only its offset is of use.
fn mark(boundary: &Boundary) -> Option<Mark> {
    let Boundary { gtid, commit, .. } = boundary;
    (gtid.is_some() || commit.is_some()).then(|| Mark {
        gtid: gtid.clone(),
        commit: *commit,
    })
}
