//! Where a plan begins, and the way from there.

use std::collections::BTreeSet;

use engine::base_backup::{Position, Record};
use engine::gtid::GtidSet;

use super::Stop;
use crate::cut::Search;
use crate::path::{self, Goal, Means, Obstruction, Stretch, Way};
use crate::plan::refusal::texts;
use crate::plan::{Base, Inputs, Refusal, StartAt};
use crate::target::Probe;
use crate::timeline::{FileAt, Line};

pub(super) type Begun = (Base, GtidSet, Way, Vec<String>);

/// Finds where to begin, and the way from there.
pub(super) fn begin(inputs: Inputs<'_>, goal: &Goal) -> Result<Begun, Stop> {
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
pub(super) fn by_position_if_need_be(
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
