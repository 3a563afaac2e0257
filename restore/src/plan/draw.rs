//! Draws the outline of a plan: lead, base, way.

use std::collections::BTreeSet;

use engine::base_backup::{Position, Record};
use engine::gtid::GtidSet;
use engine::layout::SourceIdentity;
use jiff::Timestamp;

use super::refusal::texts;
use super::{Base, Inputs, LeftOut, Refusal, StartAt};
use crate::cut::{Cut, Mark, Search};
use crate::path::{self, Goal, Means, Obstruction, Stretch, Way};
use crate::target::{Elsewhere, Probe, Spot, Target};
use crate::timeline::{FileAt, Line};

/// What a plan is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The target on the lead.
    pub goal: Goal,
    /// The transaction before the target, where it is known.
    pub last: Option<Mark>,
    /// The transaction behind it, where it is known.
    pub next: Option<Mark>,
    /// Where to begin.
    pub base: Base,
    /// What is executed there.
    pub start: GtidSet,
    /// The way.
    pub way: Way,
    /// What other lines have.
    pub left_out: Vec<LeftOut>,
    /// What to think of.
    pub warnings: Vec<String>,
}

/// Why there is no outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Find these cuts, and ask again.
    Probes(Vec<Probe>),
    /// There is none.
    Refused(Box<Refusal>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// The target on one line.
#[derive(Debug, Clone)]
struct Candidate {
    goal: Goal,
    cut: Option<Cut>,
    /// The last transaction before the target.
    last: Option<Mark>,
}

/// Draws the outline.
///
/// # Errors
/// When cuts must be found first, or there is no plan.
pub fn draw(inputs: Inputs<'_>) -> Result<Outline, Stop> {
    let candidates = candidates(inputs)?;
    let lead = choose(inputs, &candidates)?;
    let executed = &lead.goal.executed;
    let unknown = inputs.skip.subtract(executed);
    if !unknown.is_empty() {
        return Err(Refusal::NothingToSkip(unknown).into());
    }
    let (base, start, way, mut warnings) = begin(inputs, &lead.goal)?;
    let way = by_position_if_need_be(inputs, &lead.goal, (&base, &start), way, &mut warnings)?;
    let left_out = left_out(inputs, &candidates, lead.goal.at.line);
    warn(inputs, lead, &left_out, &way, &mut warnings);
    Ok(Outline {
        goal: lead.goal.clone(),
        last: lead.last.clone(),
        next: lead.cut.as_ref().and_then(|cut| cut.next.clone()),
        base,
        start,
        way,
        left_out,
        warnings,
    })
}

/// The target on every line that has it.
fn candidates(inputs: Inputs<'_>) -> Result<Vec<Candidate>, Stop> {
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
fn choose<'a>(inputs: Inputs<'_>, candidates: &'a [Candidate]) -> Result<&'a Candidate, Stop> {
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

type Begun = (Base, GtidSet, Way, Vec<String>);

/// Finds where to begin, and the way from there.
fn begin(inputs: Inputs<'_>, goal: &Goal) -> Result<Begun, Stop> {
    match inputs.start {
        StartAt::Executed(start) => {
            let way = way_from(inputs, goal, start, "the GTID set given")?;
            Ok((Base::Stated, start.clone(), way, Vec::new()))
        }
        StartAt::Backup(id) => {
            let record = inputs.backups.iter().find(|record| record.id == *id);
            let record = record.ok_or_else(|| Refusal::UnknownBackup(id.clone()))?;
            let start = executed_in(inputs, record)?;
            let start = start.ok_or_else(|| Refusal::UnplacedBackup(id.clone()))?;
            let way = way_from(inputs, goal, &start, &name_of(record))?;
            Ok((base_of(record), start, way, Vec::new()))
        }
        StartAt::Any => begin_anywhere(inputs, goal),
    }
}

fn begin_anywhere(inputs: Inputs<'_>, goal: &Goal) -> Result<Begun, Stop> {
    let mut warnings = Vec::new();
    let mut starts = Vec::new();
    for record in inputs.backups {
        match executed_in(inputs, record)? {
            Some(start) => starts.push((record, start)),
            None => warnings.push(Refusal::UnplacedBackup(record.id.clone()).to_string()),
        }
    }
    // From the one that has most of the target.
    starts.sort_by_key(|(record, start)| {
        let shared = start.intersect(&goal.executed).count();
        std::cmp::Reverse((shared, record.coordinates.taken_at, record.recorded_at))
    });
    let mut refused: Option<Box<Refusal>> = None;
    for (record, start) in starts {
        match way_from(inputs, goal, &start, &name_of(record)) {
            Ok(way) => return Ok((base_of(record), start, way, warnings)),
            Err(Stop::Refused(refusal)) => {
                // That a backup is too late says less than that files are missing.
                let says_less = |known: &Refusal| matches!(known, Refusal::BeyondTarget { .. });
                if refused.as_deref().is_none_or(says_less) {
                    refused = Some(refusal);
                }
            }
            Err(probes @ Stop::Probes(_)) => return Err(probes),
        }
    }
    let empty = GtidSet::new();
    match way_from(inputs, goal, &empty, "an empty server") {
        Ok(way) => {
            let holes = holes(inputs, &way);
            if !holes.is_empty() {
                return Err(no_base(inputs, goal, holes).into());
            }
            warnings.push(
                "no base backup is used: the plan begins with a server that was just initialised, without any transaction"
                    .to_owned(),
            );
            Ok((Base::Empty, empty, way, warnings))
        }
        Err(probes @ Stop::Probes(_)) => Err(probes),
        Err(Stop::Refused(refusal)) => Err(match (refused, *refusal) {
            (Some(refused), _) => Stop::Refused(refused),
            // An archive that begins with an empty server has no need of a backup, but of its files.
            (None, Refusal::Gap { missing, .. }) if !begins_empty(inputs, goal) => {
                no_base(inputs, goal, missing).into()
            }
            (None, other) => other.into(),
        }),
    }
}

/// What servers on the way seem to have executed before their first file. A server that was just
/// initialised is no match for one that was set up from a backup, and nobody has said that it was not.
fn holes(inputs: Inputs<'_>, way: &Way) -> GtidSet {
    let mut holes = GtidSet::new();
    for stretch in &way.stretches {
        let line = inputs.timeline.line(stretch.line);
        holes.union_with(&line.map(Line::holes).unwrap_or_default());
    }
    holes
}

/// Whether the lead's archive reaches back to before its server's first transaction.
fn begins_empty(inputs: Inputs<'_>, goal: &Goal) -> bool {
    let line = inputs.timeline.line(goal.at.line);
    let first = line.and_then(|line| line.runs().first());
    first.is_some_and(|run| run.before.is_empty())
}

fn no_base(inputs: Inputs<'_>, goal: &Goal, missing: GtidSet) -> Refusal {
    let line = inputs.timeline.line(goal.at.line);
    let run = line.and_then(|line| line.runs().get(line.run_of(goal.at.file)?));
    let before = run.map(|run| run.before.clone()).unwrap_or_default();
    let needs = before.union(&missing);
    Refusal::NoBase {
        needs: crate::output::gtids(&needs),
        missing,
    }
}

fn name_of(record: &Record) -> String {
    format!("base backup {}", record.id)
}

fn base_of(record: &Record) -> Base {
    Base::Backup {
        id: record.id.clone(),
        location: record.location.clone(),
        taken_at: record.coordinates.taken_at,
    }
}

/// What a backup has executed: as it states, or at its position in an archived file.
fn executed_in(inputs: Inputs<'_>, record: &Record) -> Result<Option<GtidSet>, Stop> {
    if let Some(stated) = &record.coordinates.gtid_set {
        return Ok(Some(stated.clone()));
    }
    let Some((at, line, position)) = place_of(inputs, record) else {
        return Ok(None);
    };
    let Some(file) = line.file(at.file) else {
        return Ok(None);
    };
    if position.offset >= file.last_position {
        let mut executed = line.before(at.file);
        line.add_to(at.file, &mut executed);
        return Ok(Some(executed));
    }
    let search = Search::At(position.offset);
    match inputs.cuts.get(at, &search) {
        Some(cut) => Ok(Some(line.before(at.file).union(&cut.executed))),
        None => Err(Stop::Probes(vec![Probe { at, search }])),
    }
}

/// The archived file that a backup's position is in, if only one can be meant.
fn place_of<'a>(
    inputs: Inputs<'a>,
    record: &'a Record,
) -> Option<(FileAt, &'a Line, &'a Position)> {
    let position = record.coordinates.position.as_ref()?;
    let server = record.coordinates.server_uuid;
    let lines = inputs.timeline.lines().iter().enumerate();
    let mut found = lines.filter_map(|(number, line)| {
        let is_server = server.is_none_or(|server| server == line.source.server_uuid);
        let file = line.file_named(&position.file).filter(|_| is_server)?;
        Some((FileAt { line: number, file }, line, position))
    });
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// What `start` has and the target has not. GTIDs that no archived server knows are the start's own, and
/// in nobody's way. Nor are those of a TSID that the lead never logged, if all of them were committed
/// before its first file: it was set up with them, or they were errant already.
fn beyond(inputs: Inputs<'_>, goal: &Goal, start: &GtidSet) -> GtidSet {
    let timeline = inputs.timeline;
    let beyond = start.subtract(&goal.executed).intersect(&timeline.known());
    let Some(lead) = timeline.line(goal.at.line).filter(|_| !beyond.is_empty()) else {
        return beyond;
    };
    let logged: BTreeSet<_> = lead.known().tsids().collect();
    let mut of_others = GtidSet::new();
    for (tsid, first, last) in beyond.intervals() {
        if !logged.contains(tsid) {
            let fits = of_others.insert_range(tsid.clone(), first, last);
            debug_assert!(fits.is_ok(), "{fits:?}");
        }
    }
    let lines = timeline.lines().iter();
    let latest = lines.filter_map(|line| line.latest_of(&of_others)).max();
    if latest < lead.earliest() {
        beyond.subtract(&of_others)
    } else {
        beyond
    }
}

fn way_from(inputs: Inputs<'_>, goal: &Goal, start: &GtidSet, base: &str) -> Result<Way, Stop> {
    let beyond = beyond(inputs, goal, start);
    if !beyond.is_empty() {
        let base = base.to_owned();
        return Err(Refusal::BeyondTarget { base, beyond }.into());
    }
    let executed = inputs.skip.intersect(start);
    if !executed.is_empty() {
        return Err(Refusal::NothingToSkip(executed).into());
    }
    let means = Means {
        timeline: inputs.timeline,
        cuts: inputs.cuts,
        skip: inputs.skip,
        accept_damage: inputs.accept_damage,
    };
    path::find(means, start, goal).map_err(|obstruction| match obstruction {
        Obstruction::Probes(probes) => Stop::Probes(probes),
        Obstruction::Missing {
            gtids,
            breaks,
            acceptable,
        } => Stop::from(Refusal::Gap {
            missing: gtids,
            breaks: texts(&breaks),
            acceptable,
            base: base.to_owned(),
        }),
    })
}

/// Anonymous transactions are in no GTID set: where there are any, the way is the lead's files from the
/// base backup's position on, and nothing else.
fn by_position_if_need_be(
    inputs: Inputs<'_>,
    goal: &Goal,
    (base, start): (&Base, &GtidSet),
    way: Way,
    warnings: &mut Vec<String>,
) -> Result<Way, Stop> {
    let timeline = inputs.timeline;
    let anonymous = |line: usize, first: usize, last: usize| {
        let files = timeline.line(line).map(Line::files).unwrap_or_default();
        let files = files.get(first..=last).unwrap_or_default();
        files.iter().any(|file| file.anonymous > 0)
    };
    let Some(line) = timeline.line(goal.at.line) else {
        return Ok(way);
    };
    let run = line
        .run_of(goal.at.file)
        .and_then(|run| line.runs().get(run));
    let on_the_way = way
        .stretches
        .iter()
        .any(|stretch| anonymous(stretch.line, stretch.first, stretch.last));
    let nothing_else = way.stretches.is_empty()
        && run.is_some_and(|run| anonymous(goal.at.line, *run.files.start(), goal.at.file));
    if !on_the_way && !nothing_else {
        return Ok(way);
    }
    let record = match base {
        Base::Backup { id, .. } => inputs.backups.iter().find(|record| record.id == *id),
        Base::Stated | Base::Empty => None,
    };
    let place = record.and_then(|record| place_of(inputs, record));
    let place = place.filter(|(at, _, _)| {
        at.line == goal.at.line
            && at.file <= goal.at.file
            && run.is_some_and(|run| run.files.contains(&at.file))
    });
    let from_the_beginning = start.is_empty() && run.is_some_and(|run| *run.files.start() == 0);
    let (first, from) = match place {
        Some((at, _, position)) => (at.file, Some(position.offset)),
        None if from_the_beginning => (0, None),
        None => {
            let base = record.map_or_else(|| "the start".to_owned(), name_of);
            return Err(Refusal::Anonymous {
                source_identity: line.source.clone(),
                base,
            }
            .into());
        }
    };
    warnings.push(
        "anonymous transactions are replayed: the plan goes by position, and running it twice executes them twice"
            .to_owned(),
    );
    Ok(Way {
        stretches: vec![Stretch {
            line: goal.at.line,
            first,
            last: goal.at.file,
            from,
            to: goal.offset,
        }],
        passed: way.passed,
    })
}

/// What other lines had executed by the target and the lead never learns of.
fn left_out(inputs: Inputs<'_>, candidates: &[Candidate], lead: usize) -> Vec<LeftOut> {
    let Some(lead_line) = inputs.timeline.line(lead) else {
        return Vec::new();
    };
    let mut left_out = Vec::new();
    for (number, line) in inputs.timeline.lines().iter().enumerate() {
        let found = candidates.iter().find(|c| c.goal.at.line == number);
        let ended = matches!(
            inputs.target.on(line),
            Spot::Nowhere(Elsewhere::Behind) | Spot::EndOf { .. }
        );
        let executed = match found {
            _ if number == lead => continue,
            Some(candidate) => &candidate.goal.executed,
            None if ended => line.known(),
            None => continue,
        };
        let gtids = executed.subtract(lead_line.known());
        if !gtids.is_empty() {
            left_out.push(LeftOut {
                source: line.source.clone(),
                gtids,
            });
        }
    }
    left_out
}

fn warn(
    inputs: Inputs<'_>,
    lead: &Candidate,
    left_out: &[LeftOut],
    way: &Way,
    warnings: &mut Vec<String>,
) {
    for LeftOut { source, gtids } in left_out {
        warnings.push(format!(
            "left out: {gtids}, which only {source} has: errant, or of a history that parted"
        ));
    }
    if !inputs.skip.is_empty() {
        warnings.push(format!(
            "left out on request: {}; what follows may depend on it, and gtid_executed will lack it",
            inputs.skip
        ));
    }
    if let (Target::Time { time }, Some(line)) =
        (inputs.target, inputs.timeline.line(lead.goal.at.line))
    {
        let behind = line
            .files()
            .iter()
            .skip(lead.goal.at.file.saturating_add(1));
        let stragglers = lead.cut.as_ref().is_some_and(|cut| cut.stragglers)
            || behind
                .clone()
                .any(|file| file.commits.is_some_and(|(earliest, _)| earliest <= *time));
        if stragglers {
            warnings.push(
                "commit times do not ascend: transactions committed before the target stand behind the first one committed after it, and are left out"
                    .to_owned(),
            );
        }
    }
    if let (Target::Position { position }, Some(offset)) =
        (inputs.target, lead.cut.as_ref().and_then(|cut| cut.offset))
        && offset != position.offset
    {
        warnings.push(format!(
            "{position} is not between two transactions: the plan stops at {offset}"
        ));
    }
    for passed in texts(&way.passed) {
        warnings.push(format!("passed, as was asked for: {passed}"));
    }
}
