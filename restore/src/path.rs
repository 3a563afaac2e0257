//! The way through a timeline: which files, in which order, execute what is missing.
//!
//! # How
//! State is a GTID set. A run can be joined at its last file before which nothing was executed that the
//! state lacks. As soon as the lead's own run (the one that the target is in) can be joined, it is
//! taken to the target; until then the run that gains most. Whatever can be joined stays so while the
//! state grows, so a way is found if there is one.
//!
//! # Invariants
//! - A file is taken only when all that its server had executed before it is in the state (or is left
//!   out on request): nothing is replayed onto a state that it was not executed on.
//! - Nothing but what the goal has is taken: a file of another line is cut where that line departs.
//! - No flaw is passed, and no broken link of a chain, unless damage is accepted; then only where the
//!   GTIDs prove that nothing is missing behind it.

use std::collections::BTreeSet;

use engine::gtid::GtidSet;

use crate::cut::{Cut, Search};
use crate::history::FlawKind;
use crate::target::{Cuts, Probe};
use crate::timeline::{Break, FileAt, Line, Run, Timeline};

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// The file that the target is in, on the lead's line.
    pub at: FileAt,
    /// The cut in it; none for the file's end.
    pub offset: Option<u64>,
    /// What is executed there, on the lead.
    pub executed: GtidSet,
}

/// Files to be replayed one after the other, all of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Which line.
    pub line: usize,
    /// The first file.
    pub first: usize,
    /// The last file.
    pub last: usize,
    /// Where the first file's transactions begin to be wanted; none for its beginning.
    pub from: Option<u64>,
    /// Where the last file is cut; none for its end.
    pub to: Option<u64>,
}

/// What a search for a way may use.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// The files.
    pub timeline: &'a Timeline,
    /// Cuts that are known.
    pub cuts: &'a Cuts,
    /// Transactions that are left out on request.
    pub skip: &'a GtidSet,
    /// Flaws may be passed where the GTIDs allow.
    pub accept_damage: bool,
}

/// A way that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// In order; none when nothing is missing.
    pub stretches: Vec<Stretch>,
    /// Flaws and breaks that were passed, because that was asked for.
    pub passed: Vec<Break>,
}

/// Why there is no way yet, or none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstruction {
    /// Cuts that must be known first.
    Probes(Vec<Probe>),
    /// Nothing that is archived executes these.
    Missing {
        /// The transactions.
        gtids: GtidSet,
        /// What stands in the way, as far as it is known.
        breaks: Vec<Break>,
        /// Damage is in the way, and accepting it would open a way past it.
        acceptable: bool,
    },
}

impl Means<'_> {
    fn cut(&self, at: FileAt, search: Search) -> Result<&Cut, Obstruction> {
        self.cuts
            .get(at, &search)
            .ok_or_else(|| Obstruction::Probes(vec![Probe { at, search }]))
    }
}

/// The way from `start` to `goal`.
///
/// # Errors
/// When cuts must be found first, or transactions are missing.
pub fn find(means: Means<'_>, start: &GtidSet, goal: &Goal) -> Result<Way, Obstruction> {
    let mut walk = Walk {
        means,
        goal,
        state: start.union(means.skip),
        wanted: start.union(&goal.executed).union(means.skip),
        barred: BTreeSet::new(),
        way: Way {
            stretches: Vec::new(),
            passed: Vec::new(),
        },
    };
    loop {
        let missing = goal.executed.subtract(&walk.state);
        if missing.is_empty() {
            return walk.finish(start);
        }
        if walk.join_lead()? {
            continue;
        }
        match walk.best() {
            Some(reach) => walk.take(&reach)?,
            None => return Err(walk.obstruction(missing)),
        }
    }
}

struct Walk<'a> {
    means: Means<'a>,
    goal: &'a Goal,
    /// What is executed by now, and what is left out.
    state: GtidSet,
    /// What may be executed at all.
    wanted: GtidSet,
    /// Files that depart from the goal before they add anything to it.
    barred: BTreeSet<FileAt>,
    way: Way,
}

/// Files of a run that could be taken next.
struct Reach {
    line: usize,
    first: usize,
    last: usize,
    /// The last file departs from the goal within it.
    departs: bool,
    /// No flaw is in it.
    sound: bool,
    gain: u128,
}

impl Reach {
    fn is_better_than(&self, other: &Self) -> bool {
        (self.sound, self.gain) > (other.sound, other.gain)
    }
}

impl<'a> Walk<'a> {
    fn line(&self, number: usize) -> Option<&'a Line> {
        self.means.timeline.line(number)
    }

    /// Takes the lead's run to the target, if it can be joined.
    fn join_lead(&mut self) -> Result<bool, Obstruction> {
        let FileAt { line: number, file } = self.goal.at;
        let Some(line) = self.line(number) else {
            return Ok(false);
        };
        let run = line.run_of(file).and_then(|run| line.runs().get(run));
        let Some(run) = run.filter(|run| self.may_enter(run)) else {
            return Ok(false);
        };
        let Some(first) = self.joint(line, run, file) else {
            return Ok(false);
        };
        let to = match self.goal.offset {
            Some(offset) => Some(offset),
            None => self.end_of(number, file)?,
        };
        self.push(Stretch {
            line: number,
            first,
            last: file,
            from: None,
            to,
        });
        self.state.union_with(&self.goal.executed);
        Ok(true)
    }

    /// A flawed file is entered when the cut lies before its flaw, or flaws are accepted.
    fn may_enter(&self, run: &Run) -> bool {
        let before_the_flaw = |flaw: &Break| match (flaw, self.goal.offset) {
            (Break::Flaw(flaw), Some(offset)) => offset <= flaw.offset,
            _ => false,
        };
        let goal_is_here = *run.files.start() == self.goal.at.file;
        run.flaws.iter().all(|flaw| {
            (self.means.accept_damage && flaw.is_readable())
                || (goal_is_here && before_the_flaw(flaw))
        })
    }

    /// The last file of `run`, up to `limit`, before which nothing was executed that the state lacks.
    fn joint(&self, line: &Line, run: &Run, limit: usize) -> Option<usize> {
        if !self.state.is_superset(&run.before) {
            return None;
        }
        let mut file = *run.files.start();
        while file < limit && line.adds_only(file, &self.state) {
            file = file.saturating_add(1);
        }
        Some(file)
    }

    /// The run that gains most of what is missing.
    fn best(&self) -> Option<Reach> {
        let mut best: Option<Reach> = None;
        for (number, line) in self.means.timeline.lines().iter().enumerate() {
            for run in line.runs() {
                let reach = self.reach(number, line, run);
                if let Some(reach) = reach
                    && best.as_ref().is_none_or(|best| reach.is_better_than(best))
                {
                    best = Some(reach);
                }
            }
        }
        best
    }

    /// How far a run can be taken, and what that gains.
    fn reach(&self, number: usize, line: &Line, run: &Run) -> Option<Reach> {
        let readable = run.flaws.iter().all(Break::is_readable);
        let may_enter = run.flaws.is_empty() || (self.means.accept_damage && readable);
        if !may_enter {
            return None;
        }
        let end = *run.files.end();
        let first = self.joint(line, run, end)?;
        // Once the lead can be joined, nothing more is wanted of others.
        let mut lacking = self.lead_lacks();
        let (mut last, mut departs, mut gain) = (first, false, 0_u128);
        for file in first..=end {
            if self.barred.contains(&FileAt { line: number, file }) {
                break;
            }
            last = file;
            let added = line.added_set(file);
            departs = !self.wanted.is_superset(&added);
            let gained = added.intersect(&self.wanted).subtract(&self.state);
            gain = gain.saturating_add(gained.count());
            lacking = lacking.subtract(&added);
            if departs || lacking.is_empty() {
                break;
            }
        }
        (gain > 0).then_some(Reach {
            line: number,
            first,
            last,
            departs,
            sound: run.flaws.is_empty(),
            gain,
        })
    }

    /// What the lead had executed before the target's run, and is not in the state; all that is
    /// missing when the lead cannot be joined anyway.
    fn lead_lacks(&self) -> GtidSet {
        let line = self.line(self.goal.at.line);
        let run = line.and_then(|line| line.runs().get(line.run_of(self.goal.at.file)?));
        match run.filter(|run| self.may_enter(run)) {
            Some(run) => run.before.subtract(&self.state),
            None => self.goal.executed.subtract(&self.state),
        }
    }

    /// Takes files that were found; or bars the last of them, when it departs at once.
    fn take(&mut self, reach: &Reach) -> Result<(), Obstruction> {
        let Some(line) = self.line(reach.line) else {
            return Ok(());
        };
        let mut state = self.state.clone();
        for file in reach.first..reach.last {
            line.add_to(file, &mut state);
        }
        let at = FileAt {
            line: reach.line,
            file: reach.last,
        };
        let to = if reach.departs {
            let cut = self.means.cut(at, Search::Outside(self.wanted.clone()))?;
            state.union_with(&cut.executed);
            cut.offset
        } else {
            line.add_to(reach.last, &mut state);
            self.end_of(reach.line, reach.last)?
        };
        if state == self.state {
            self.barred.insert(at);
            return Ok(());
        }
        self.state = state;
        self.push(Stretch {
            line: reach.line,
            first: reach.first,
            last: reach.last,
            from: None,
            to,
        });
        Ok(())
    }

    /// Where a file that is taken whole must be cut all the same: before a transaction that was cut
    /// off, or where its bytes stop making sense.
    fn end_of(&self, line: usize, file: usize) -> Result<Option<u64>, Obstruction> {
        let at = FileAt { line, file };
        let Some((_, record)) = self.means.timeline.file(at) else {
            return Ok(None);
        };
        if record.open_transaction {
            return Ok(self.means.cut(at, Search::Torn)?.offset);
        }
        let damaged = record.flaws.iter().find(|f| f.kind == FlawKind::Damage);
        Ok(damaged.map(|flaw| flaw.offset))
    }

    /// Appends a stretch; one that goes on where the last one ended becomes part of it.
    fn push(&mut self, next: Stretch) {
        self.note_what_was_passed(&next);
        if let Some(last) = self.way.stretches.last_mut()
            && last.line == next.line
            && last.last.saturating_add(1) == next.first
            && last.to.is_none()
        {
            last.last = next.last;
            last.to = next.to;
            return;
        }
        self.way.stretches.push(next);
    }

    fn note_what_was_passed(&mut self, next: &Stretch) {
        let Some(line) = self.means.timeline.line(next.line) else {
            return;
        };
        let runs = |from: usize, to: usize| {
            let from = line.run_of(from).unwrap_or_default();
            let to = line.run_of(to).unwrap_or_default();
            line.runs().get(from..=to).unwrap_or_default()
        };
        for run in runs(next.first, next.last) {
            let goal = self.goal;
            let is_goal = goal.at
                == (FileAt {
                    line: next.line,
                    file: *run.files.start(),
                });
            let reached = |flaw: &&Break| match (flaw, goal.offset) {
                (Break::Flaw(flaw), Some(offset)) if is_goal => offset > flaw.offset,
                _ => true,
            };
            self.way
                .passed
                .extend(run.flaws.iter().filter(reached).cloned());
        }
        let before = self
            .way
            .stretches
            .last()
            .filter(|last| last.line == next.line);
        if let Some(before) = before {
            for run in runs(before.last, next.first).iter().skip(1) {
                let is_next = run.files.contains(&next.first);
                self.way.passed.extend(run.breaks.iter().cloned());
                if !is_next {
                    self.way.passed.extend(run.flaws.iter().cloned());
                }
            }
        }
    }

    /// Finds where the first file's wanted transactions begin, and refuses a way that passes what must
    /// not be passed unasked.
    fn finish(mut self, start: &GtidSet) -> Result<Way, Obstruction> {
        if !self.way.passed.is_empty() && !self.means.accept_damage {
            return Err(Obstruction::Missing {
                gtids: GtidSet::new(),
                breaks: self.way.passed,
                acceptable: true,
            });
        }
        if let Some(first) = self.way.stretches.first_mut() {
            let at = FileAt {
                line: first.line,
                file: first.first,
            };
            let line = self.means.timeline.line(first.line);
            let overlaps = line.is_some_and(|line| {
                let known = start.union(self.means.skip);
                line.added(first.first).any(|(tsid, a, b)| {
                    let mut one = GtidSet::new();
                    let _ = one.insert_range(tsid.clone(), a, b);
                    !known.is_disjoint(&one)
                })
            });
            if overlaps {
                let known = start.union(self.means.skip);
                first.from = self.means.cut(at, Search::Outside(known))?.offset;
            }
        }
        Ok(self.way)
    }

    /// What is in the way: the breaks of lines that hold some of what is missing, and of the lead.
    fn obstruction(&self, missing: GtidSet) -> Obstruction {
        let mut breaks = Vec::new();
        let mut acceptable = false;
        for (number, line) in self.means.timeline.lines().iter().enumerate() {
            let is_lead = number == self.goal.at.line;
            if !is_lead && line.known().is_disjoint(&missing) {
                continue;
            }
            for run in line.runs() {
                let blocks = !self.state.is_superset(&run.before) || !run.flaws.is_empty();
                let behind_goal = is_lead && *run.files.start() > self.goal.at.file;
                if !blocks || behind_goal {
                    continue;
                }
                let flaws = run.flaws.iter().filter(|_| !self.means.accept_damage);
                acceptable |= flaws.clone().any(Break::is_readable);
                let unreadable = run.flaws.iter().filter(|flaw| !flaw.is_readable());
                breaks.extend(run.breaks.iter().chain(flaws).cloned());
                if self.means.accept_damage {
                    breaks.extend(unreadable.cloned());
                }
            }
        }
        Obstruction::Missing {
            gtids: self.unreachable(missing),
            breaks,
            acceptable,
        }
    }

    /// Of what is missing, the part that no file supplies: what the lead's run needs before it can be
    /// joined; else all of it.
    fn unreachable(&self, missing: GtidSet) -> GtidSet {
        let before = self.lead_lacks().intersect(&missing);
        if before.is_empty() { missing } else { before }
    }
}
