//! Makes a plan: reads the manifest and the base backups, finds the cuts that the plan asks for, and
//! looks whether its objects are there.
//!
//! # Limits
//! The timeline ([`crate::timeline`]), and at most [`MAX_ROUNDS`] rounds of questions.

use engine::base_backup::{MAX_RECORD_LEN, Record, RecordError};
use engine::clock::Clock;
use engine::exit::{Diagnose, Exit};
use engine::gtid::GtidSet;
use engine::layout::{ClusterName, KeyKind, ObjectKey, Sequence, SourceIdentity};
use engine::store::{self, ObjectStore, StoreError};
use futures::{StreamExt, TryStreamExt};

use crate::destination::Destination;
use crate::entries::{self, ENTRIES_IN_FLIGHT, EntryError};
use crate::history::{ArchivedFile, EntryFault, StoredEntry};
use crate::locate::{self, LocateError};
use crate::object::{Archive, ReadError};
use crate::part::{Part, Step};
use crate::plan::commands::Subject;
use crate::plan::estimate::pipe_seconds;
use crate::plan::{
    Commands, Inputs, Invocation, Outline, Plan, PlannedFile, Refusal, SavedPlanError, StartAt,
    Stop, StopPoint, VERSION, draw,
};
use crate::range::SequenceRange;
use crate::target::{Cuts, Probe, Target};
use crate::timeline::{FileAt, FileRecord, Timeline};

/// Rounds of questions after which a plan is given up: each finds a cut, or loses a file.
pub const MAX_ROUNDS: usize = 10_000;

/// Listings of objects at once: S3 tells a thousand keys per request, one request after the other.
pub const LISTINGS_IN_FLIGHT: usize = 4;

/// Files that one listing looks for: a hundred requests to S3.
pub const FILES_OF_ONE_LISTING: usize = 100_000;

/// The same where each listing reads the names of the whole folder: fewer and longer ones.
pub const FILES_OF_ONE_FOLDER_LISTING: usize = 250_000;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose history.
    pub cluster: ClusterName,
    /// The moment.
    pub target: Target,
    /// Where to begin.
    pub start: StartAt,
    /// The source to be led by, if one was named.
    pub lead: Option<SourceIdentity>,
    /// Transactions to be left out.
    pub skip: GtidSet,
    /// Flaws may be passed where the GTIDs allow.
    pub accept_damage: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// The archive does not lead there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A manifest entry could not be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A manifest entry contradicts itself.
    #[error(transparent)]
    Fault(#[from] EntryFault),
    /// A base backup's record is none.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A cut could not be found.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// A saved plan is of another archive.
    #[error(transparent)]
    Saved(#[from] SavedPlanError),
    /// The plan asks for more and more.
    #[error("no plan after {MAX_ROUNDS} rounds")]
    Endless,
}

impl Diagnose for PlanningError {
    fn exit(&self) -> Exit {
        match self {
            Self::Refused(error) => error.exit(),
            Self::Entry(error) => error.exit(),
            Self::Fault(error) => error.exit(),
            Self::Record(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Locate(error) => error.exit(),
            Self::Saved(error) => error.exit(),
            Self::Endless => Exit::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(error) => error.hint(),
            Self::Entry(error) => error.hint(),
            Self::Fault(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Locate(error) => error.hint(),
            Self::Saved(error) => error.hint(),
            Self::Endless => None,
        }
    }
}

/// What planning reads from.
#[derive(Debug)]
pub struct Planner<'a> {
    /// The destination.
    pub destination: &'a Destination,
    /// Its objects.
    pub archive: &'a Archive,
    /// Tells when the plan was made.
    pub clock: &'a dyn Clock,
}

impl Planner<'_> {
    /// Makes the plan.
    ///
    /// # Errors
    /// When the archive cannot be read, or does not lead to the target.
    pub async fn plan(
        &self,
        request: &Request,
        sources: &[SourceIdentity],
        invocation: &Invocation,
    ) -> Result<Plan, PlanningError> {
        let mut timeline = self.timeline(sources).await?;
        let backups = self.backups(&request.cluster).await?;
        timeline.settle(&evidence(&backups, &request.start));
        let mut cuts = Cuts::default();
        for _ in 0..MAX_ROUNDS {
            let drawn = draw(Inputs {
                timeline: &timeline,
                backups: &backups,
                target: &request.target,
                start: &request.start,
                lead: request.lead.as_ref(),
                skip: &request.skip,
                accept_damage: request.accept_damage,
                cuts: &cuts,
            });
            let outline = match drawn {
                Ok(outline) => outline,
                Err(Stop::Refused(refusal)) => return Err((*refusal).into()),
                Err(Stop::Probes(probes)) => {
                    self.locate_all(&mut timeline, &mut cuts, probes).await?;
                    continue;
                }
            };
            let lost = self.missing_objects(&timeline, &outline).await?;
            if lost.is_empty() {
                return self.finish(request, timeline, outline, invocation).await;
            }
            for (source, sequence) in lost {
                timeline.lose(&source, sequence);
            }
        }
        Err(PlanningError::Endless)
    }

    async fn timeline(&self, sources: &[SourceIdentity]) -> Result<Timeline, PlanningError> {
        let store = self.destination.store().as_ref();
        let mut timeline = Timeline::default();
        for source in sources {
            let mut stream = std::pin::pin!(entries::read(store, source, SequenceRange::default()));
            while let Some(stored) = stream.try_next().await? {
                stored.check()?;
                timeline.push(&stored);
            }
        }
        Ok(timeline)
    }

    /// The base backups that are recorded for a cluster, ordered by id.
    ///
    /// # Errors
    /// When the store does not answer, or an object among them is no record.
    pub async fn backups(&self, cluster: &ClusterName) -> Result<Vec<Record>, PlanningError> {
        let store = self.destination.store().as_ref();
        store
            .list(&ObjectKey::base_prefix(cluster), None)
            .map_err(PlanningError::from)
            .try_filter(|listed| {
                let ours = listed.key.parse_base_backup().is_some();
                futures::future::ready(ours)
            })
            .map(|listed| async move {
                let key = listed?.key;
                let bytes = store::read_all(store, &key, MAX_RECORD_LEN).await?;
                Ok(Record::parse(&key, &bytes)?)
            })
            .buffered(ENTRIES_IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn locate_all(
        &self,
        timeline: &mut Timeline,
        cuts: &mut Cuts,
        probes: Vec<Probe>,
    ) -> Result<(), PlanningError> {
        for probe in probes {
            let Some((line, record)) = timeline.file(probe.at) else {
                continue;
            };
            let (source, sequence) = (line.source.clone(), record.sequence);
            let added = line.added_set(probe.at.file);
            let file = self.archived(&source, sequence).await?;
            match locate::locate(self.archive, &file, &added, &probe.search).await {
                Ok(located) => cuts.insert(probe, located.cut),
                Err(LocateError::Read(ReadError::Missing { .. })) => {
                    // A target inside a lost file has no place; the plan is refused by what is lost.
                    if !timeline.is_lost(probe.at) {
                        timeline.lose(&source, sequence);
                        continue;
                    }
                    return Err(LocateError::Read(ReadError::Missing {
                        key: source.log_key(sequence),
                    })
                    .into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn archived(
        &self,
        source: &SourceIdentity,
        sequence: Sequence,
    ) -> Result<ArchivedFile, PlanningError> {
        let store = self.destination.store().as_ref();
        let stored = entries::read_one(store, source.manifest_key(sequence)).await?;
        Ok(ArchivedFile::of(&stored)?)
    }

    /// Files of the way whose objects are not there, or have another size than their entries say.
    async fn missing_objects(
        &self,
        timeline: &Timeline,
        outline: &Outline,
    ) -> Result<Vec<(SourceIdentity, Sequence)>, PlanningError> {
        let store = self.destination.store().as_ref();
        let at_once = if store.lists_from_the_middle() {
            FILES_OF_ONE_LISTING
        } else {
            FILES_OF_ONE_FOLDER_LISTING
        };
        let stretches = outline.way.stretches.iter();
        let ways = stretches.filter_map(|stretch| {
            let line = timeline.line(stretch.line)?;
            let files = line.files().get(stretch.first..=stretch.last)?;
            Some(files.chunks(at_once).map(move |files| (line, files)))
        });
        let missing: Vec<Vec<_>> = futures::stream::iter(ways.flatten())
            .map(|(line, files)| missing_among(store, &line.source, files))
            .buffered(LISTINGS_IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(missing.into_iter().flatten().collect())
    }

    async fn finish(
        &self,
        request: &Request,
        timeline: Timeline,
        outline: Outline,
        invocation: &Invocation,
    ) -> Result<Plan, PlanningError> {
        let (stop, lead) = stop_point(&timeline, &outline).ok_or(PlanningError::Endless)?;
        let mut files = planned_files(&timeline, &outline);
        // Half a million files are a hundred MiB, and their commands need as much.
        drop(timeline);
        for file in files.iter_mut().filter(|file| file.is_cut()) {
            let archived = self.archived(&file.source, file.sequence).await?;
            let ranged = self.archive.open_ranged(&archived).await;
            let ranged = ranged.map_err(LocateError::Read)?;
            let part = Part {
                file: archived,
                from: file.from,
                to: file.to,
            };
            let blocks = part.block_bytes(ranged.index());
            file.fetch_bytes = ranged.opened_bytes().saturating_add(blocks);
        }
        let executed = outline.goal.executed.subtract(&request.skip);
        let adds = executed.subtract(&outline.start);
        let subject = Subject {
            files: &files,
            skip: &request.skip,
            start: &outline.start,
            adds: &adds,
        };
        let commands = Commands::of(subject, invocation);
        let sum = |of: fn(&PlannedFile) -> u64| {
            files
                .iter()
                .fold(0_u64, |sum, file| sum.saturating_add(of(file)))
        };
        let transactions = u64::try_from(adds.count()).unwrap_or(u64::MAX);
        let replay_bytes = sum(PlannedFile::replay_bytes);
        Ok(Plan {
            plan_version: VERSION,
            destination: self.destination.url().to_owned(),
            created_at: self.clock.now(),
            target: request.target.clone(),
            lead,
            base: outline.base,
            executed: outline.start.union(&executed),
            start: outline.start,
            stop,
            skip: request.skip.clone(),
            transactions,
            adds,
            replay_bytes,
            fetch_bytes: sum(|file| file.fetch_bytes),
            replay_seconds: pipe_seconds(transactions, replay_bytes),
            files,
            left_out: outline.left_out,
            warnings: outline.warnings,
            commands,
        })
    }

    /// The parts that a saved plan names, after each was compared with its manifest entry.
    ///
    /// # Errors
    /// As [`steps`](Self::steps).
    pub async fn parts(&self, plan: &Plan) -> Result<Vec<Part>, PlanningError> {
        let steps = self.steps(plan).await?;
        Ok(steps.into_iter().map(|step| step.part).collect())
    }

    /// The same, with what the entries say that a replay needs to know.
    ///
    /// # Errors
    /// When an entry cannot be read, or is not of the file that was planned.
    pub async fn steps(&self, plan: &Plan) -> Result<Vec<Step>, PlanningError> {
        let store = self.destination.store().as_ref();
        futures::stream::iter(&plan.files)
            .map(|planned| async move {
                let key = planned.source.manifest_key(planned.sequence);
                let stored = entries::read_one(store, key.clone()).await?;
                let mut step = step(stored)?;
                if step.part.file.sha256 != planned.sha256 {
                    return Err(SavedPlanError::Changed { key }.into());
                }
                (step.part.from, step.part.to) = (planned.from, planned.to);
                Ok(step)
            })
            .buffered(ENTRIES_IN_FLIGHT)
            .try_collect()
            .await
    }

    /// The whole files of a range, in order, and what was executed before the first of them.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub async fn steps_of_files(
        &self,
        files: &[ArchivedFile],
    ) -> Result<(GtidSet, Vec<Step>), PlanningError> {
        let store = self.destination.store().as_ref();
        let read = |file: &ArchivedFile| {
            let identity = &file.identity;
            entries::read_one(store, identity.source.manifest_key(identity.sequence))
        };
        let before = match files.first() {
            Some(first) => read(first).await?.entry.binlog.previous_gtids,
            None => GtidSet::new(),
        };
        let steps = futures::stream::iter(files)
            .map(|file| async move { step(read(file).await?) })
            .buffered(ENTRIES_IN_FLIGHT)
            .try_collect();
        Ok((before, steps.await?))
    }
}

/// A whole file, as its entry describes it.
fn step(stored: StoredEntry) -> Result<Step, PlanningError> {
    let file = ArchivedFile::of(&stored)?;
    let binlog = stored.entry.binlog;
    Ok(Step {
        part: Part::whole(file),
        adds: binlog.added_gtids,
        anonymous: binlog.anonymous_transactions > 0,
        server_id: binlog.server_id,
        server_version: binlog.server_version,
    })
}

/// Of files of one source that follow each other, those whose objects are not there as their entries say.
async fn missing_among(
    store: &dyn ObjectStore,
    source: &SourceIdentity,
    files: &[FileRecord],
) -> Result<Vec<(SourceIdentity, Sequence)>, StoreError> {
    let (Some(first), Some(last)) = (files.first(), files.last()) else {
        return Ok(Vec::new());
    };
    // No file has sequence 0.
    let before = source.log_key(Sequence(first.sequence.0.saturating_sub(1)));
    let end = source.log_key(last.sequence);
    let mut missing = Vec::new();
    let mut wanted = files.iter().peekable();
    let mut listing = store.list(&source.log_prefix(), Some(&before));
    while let Some(listed) = listing.try_next().await? {
        if listed.key > end {
            break;
        }
        let Some(sequence) = sequence_of(&listed.key) else {
            continue;
        };
        while let Some(file) = wanted.next_if(|file| file.sequence <= sequence) {
            if file.sequence != sequence || file.object_size != listed.size {
                missing.push((source.clone(), file.sequence));
            }
        }
    }
    missing.extend(wanted.map(|file| (source.clone(), file.sequence)));
    Ok(missing)
}

/// The file that an object is of; none if it is something else.
fn sequence_of(key: &ObjectKey) -> Option<Sequence> {
    let parsed = key.parse().ok()?;
    (parsed.kind == KeyKind::Log).then_some(parsed.sequence)
}

/// Transactions that were executed somewhere, for all that is known apart from the files.
fn evidence(backups: &[Record], start: &StartAt) -> GtidSet {
    let mut evidence = match start {
        StartAt::Executed(executed) => executed.clone(),
        StartAt::Any | StartAt::Backup(_) => GtidSet::new(),
    };
    let sets = backups
        .iter()
        .filter_map(|b| b.coordinates.gtid_set.as_ref());
    sets.for_each(|set| evidence.union_with(set));
    evidence
}

/// The files of the way; of those that are cut, what is to be fetched is still unknown.
fn planned_files(timeline: &Timeline, outline: &Outline) -> Vec<PlannedFile> {
    let stretches = &outline.way.stretches;
    let files = stretches
        .iter()
        .map(|stretch| (stretch.first..=stretch.last).count());
    let mut planned = Vec::with_capacity(files.sum());
    for stretch in stretches {
        for number in stretch.first..=stretch.last {
            let at = FileAt {
                line: stretch.line,
                file: number,
            };
            let Some((line, file)) = timeline.file(at) else {
                continue;
            };
            planned.push(PlannedFile {
                source: line.source.clone(),
                sequence: file.sequence,
                file_name: file.file_name.clone(),
                sha256: file.sha256,
                size: file.size,
                stored_bytes: file.object_size,
                from: stretch.from.filter(|_| number == stretch.first),
                to: stretch.to.filter(|_| number == stretch.last),
                fetch_bytes: file.object_size,
            });
        }
    }
    planned
}

fn stop_point(timeline: &Timeline, outline: &Outline) -> Option<(StopPoint, SourceIdentity)> {
    let (line, file) = timeline.file(outline.goal.at)?;
    let stop = StopPoint {
        source: line.source.clone(),
        file_name: file.file_name.to_string(),
        position: outline.goal.offset.unwrap_or(file.last_position),
        last: outline.last.clone(),
        next: outline.next.clone(),
    };
    Some((stop, line.source.clone()))
}
