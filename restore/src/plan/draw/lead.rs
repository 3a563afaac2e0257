//! Which line leads, and where the target lies on it.

use engine::gtid::GtidSet;
use engine::layout::SourceIdentity;
use jiff::Timestamp;

use super::Stop;
use crate::cut::{Cut, Mark, Search};
use crate::path::Goal;
use crate::plan::{Inputs, Refusal};
use crate::target::{Elsewhere, Probe, Spot, Target};
use crate::timeline::{FileAt, Line};

/// The target on one line.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) goal: Goal,
    pub(super) cut: Option<Cut>,
    /// The last transaction before the target.
    pub(super) last: Option<Mark>,
}

/// The target on every line that has it.
pub(super) fn candidates(inputs: Inputs<'_>) -> Result<Vec<Candidate>, Stop> {
    let lines = inputs.timeline.lines().iter().enumerate();
    let spots: Vec<(usize, &Line, Spot)> = lines
        .map(|(number, line)| (number, line, inputs.target.on(line)))
        .collect();
    let named = |line: &Line| inputs.lead.is_none_or(|lead| *lead == line.source);
    let mut elsewhere = Vec::new();
    let (mut probes, mut candidates) = (Vec::new(), Vec::new());
    let several = spots
        .iter()
        .filter(|(_, _, spot)| !matches!(spot, Spot::Nowhere(_)));
    let several = several.count() > 1;
    for (number, line, spot) in &spots {
        match candidate(inputs, (*number, line), spot, several) {
            Ok(Ok(found)) => candidates.push(found),
            Ok(Err(why)) if named(line) => elsewhere.push((*line, why)),
            Ok(Err(_)) => {}
            Err(Stop::Probes(more)) => probes.extend(more),
            Err(refused) => return Err(refused),
        }
    }
    if !probes.is_empty() {
        return Err(Stop::Probes(probes));
    }
    let leads = candidates.iter().filter(|candidate| {
        inputs
            .timeline
            .line(candidate.goal.at.line)
            .is_some_and(named)
    });
    if leads.count() == 0 {
        return Err(nowhere(inputs.target, &elsewhere).into());
    }
    Ok(candidates)
}

fn candidate(
    inputs: Inputs<'_>,
    (number, line): (usize, &Line),
    spot: &Spot,
    several: bool,
) -> Result<Result<Candidate, Elsewhere>, Stop> {
    let known = |at: FileAt, search: &Search| {
        inputs.cuts.get(at, search).cloned().ok_or_else(|| {
            let search = search.clone();
            Stop::Probes(vec![Probe { at, search }])
        })
    };
    match spot {
        Spot::Nowhere(why) => Ok(Err(why.clone())),
        Spot::In { file, search } => {
            let at = FileAt {
                line: number,
                file: *file,
            };
            let cut = known(at, search)?;
            if let (Search::After(_), Some(why)) = (search, uncertain(line, at, &cut)) {
                return Ok(Err(why));
            }
            let executed = line.before(*file).union(&cut.executed);
            let goal = settle(line, at, &cut, executed);
            let last = cut.last.clone();
            Ok(Ok(Candidate {
                goal,
                cut: Some(cut),
                last,
            }))
        }
        Spot::EndOf { file } => {
            let at = FileAt {
                line: number,
                file: *file,
            };
            let mut executed = line.before(*file);
            line.add_to(*file, &mut executed);
            // Only where lines are compared is it worth reading who wrote last.
            let last = if several {
                known(at, &Search::End)?.last
            } else {
                None
            };
            let goal = Goal {
                at,
                offset: None,
                executed,
            };
            Ok(Ok(Candidate {
                goal,
                cut: None,
                last,
            }))
        }
    }
}

/// A time before the first transaction of a run: what was executed before it is known, and not when.
/// Unless the file before has it all, the target lies among those.
fn uncertain(line: &Line, at: FileAt, cut: &Cut) -> Option<Elsewhere> {
    let run = line.run_of(at.file).and_then(|run| line.runs().get(run))?;
    if !cut.executed.is_empty() || cut.offset.is_none() || *run.files.start() != at.file {
        return None;
    }
    let Some(before) = at.file.checked_sub(1) else {
        return Some(Elsewhere::Before);
    };
    let mut executed = line.before(before);
    line.add_to(before, &mut executed);
    let unheld = run.before.subtract(&executed);
    (!unheld.is_empty()).then_some(Elsewhere::InGap(unheld))
}

/// A cut before a file's first transaction is the end of the file before, if that is there.
fn settle(line: &Line, at: FileAt, cut: &Cut, executed: GtidSet) -> Goal {
    let anonymous = line.file(at.file).is_some_and(|file| file.anonymous > 0);
    let first_of_its_run = line
        .run_of(at.file)
        .and_then(|run| line.runs().get(run))
        .is_none_or(|run| *run.files.start() == at.file);
    if cut.executed.is_empty() && !anonymous && !first_of_its_run {
        return Goal {
            at: FileAt {
                line: at.line,
                file: at.file.saturating_sub(1),
            },
            offset: None,
            executed,
        };
    }
    Goal {
        at,
        offset: cut.offset,
        executed,
    }
}

fn nowhere(target: &Target, elsewhere: &[(&Line, Elsewhere)]) -> Refusal {
    let unknown: Vec<(SourceIdentity, GtidSet)> = elsewhere
        .iter()
        .filter_map(|(line, why)| match why {
            Elsewhere::Unknown(gtids) | Elsewhere::InGap(gtids) => {
                Some((line.source.clone(), gtids.clone()))
            }
            _ => None,
        })
        .collect();
    // Each transaction is on some line, and no line has them all.
    let nobody = unknown
        .iter()
        .map(|(_, gtids)| gtids.clone())
        .reduce(|all, gtids| all.intersect(&gtids))
        .unwrap_or_default();
    if let Target::ToGtid { gtids } = target
        && unknown.len() > 1
        && nobody.is_empty()
    {
        return Refusal::Fork {
            target: gtids.clone(),
            parts: unknown,
        };
    }
    let reasons: Vec<String> = elsewhere
        .iter()
        .map(|(line, why)| format!("{} {}", line.source, reason(line, why)))
        .collect();
    let reason = if reasons.is_empty() {
        "it holds no files".to_owned()
    } else {
        reasons.join("; ")
    };
    Refusal::Unreachable {
        target: target.clone(),
        reason,
        missing: nobody,
    }
}

fn reason(line: &Line, why: &Elsewhere) -> String {
    let times = || line.files().iter().filter_map(|file| file.commits);
    let time = |time: Option<Timestamp>| crate::output::time(time);
    match why {
        Elsewhere::Empty => "has no files".to_owned(),
        Elsewhere::Before => {
            let first = times().map(|(earliest, _)| earliest).min();
            format!("begins later, with what was committed at {}", time(first))
        }
        Elsewhere::Behind => {
            let last = times().map(|(_, latest)| latest).max();
            format!("ends with what was committed at {}", time(last))
        }
        Elsewhere::Unknown(gtids) => format!("has no file with {gtids}"),
        Elsewhere::InGap(gtids) => format!("has no file with {gtids}, among which it lies"),
        Elsewhere::NoSuchPlace => "has no such file, or it is shorter".to_owned(),
    }
}

/// The candidate that leads.
pub(super) fn choose<'a>(
    inputs: Inputs<'_>,
    candidates: &'a [Candidate],
) -> Result<&'a Candidate, Stop> {
    let line = |candidate: &Candidate| inputs.timeline.line(candidate.goal.at.line);
    let eligible: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| {
            let source = line(candidate).map(|line| &line.source);
            inputs.lead.is_none() || source == inputs.lead
        })
        .collect();
    if let (Target::Position { .. }, [_, _, ..]) = (inputs.target, eligible.as_slice()) {
        let sources = eligible.iter().filter_map(|candidate| line(candidate));
        let sources = sources.map(|line| line.source.clone()).collect();
        return Err(Refusal::AmbiguousPosition(sources).into());
    }
    let rank = |candidate: &Candidate| {
        let last = candidate.last.as_ref();
        let gtid = last.and_then(|mark| mark.gtid.as_ref());
        let own = gtid.is_some_and(|gtid| line(candidate).is_some_and(|l| l.is_own(&gtid.tsid)));
        let commit = last.and_then(|mark| mark.commit);
        (own, candidate.goal.executed.count(), commit)
    };
    let mut eligible = eligible.into_iter();
    let first = eligible.next();
    let best = eligible.fold(first, |best, candidate| match best {
        Some(best) if rank(candidate) <= rank(best) => Some(best),
        _ => Some(candidate),
    });
    best.ok_or_else(|| nowhere(inputs.target, &[]).into())
}
