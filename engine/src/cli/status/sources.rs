//! The sources: one row for each of them and each of its destinations.

use std::collections::BTreeMap;

use comfy_table::Table;
use serde::Serialize;

use super::{Finding, new_table, or_dash};
use crate::config::Config;
use crate::exit::Exit;
use crate::ledger::{
    Agent, AgentReport, DestinationId, DestinationStatus, Pause, SourceId, SourceStatus, Trouble,
    TroubleScope,
};
use crate::store;

/// One source at one destination.
#[derive(Debug, Default, Serialize)]
pub(super) struct SourceRow {
    source: String,
    /// The archiver that owns it now, as host and spool.
    agent: Option<String>,
    /// These four are null for a source that was never opened.
    cluster: Option<String>,
    server_uuid: Option<String>,
    incarnation: Option<u32>,
    destination: Option<String>,
    /// Whether a file counts as archived without being there: this host's configuration says so.
    optional: bool,
    /// All is committed up to this sequence.
    watermark: Option<u64>,
    /// The newest file that was found.
    newest: Option<u64>,
    /// GTIDs up to the last committed file.
    gtid_executed: Option<String>,
    /// Commit time of the last archived transaction.
    last_commit: Option<jiff::Timestamp>,
    gaps: Vec<(u64, u64)>,
    queued: u64,
    stalled: u64,
    failing: Option<Failing>,
    /// Why the source as a whole stands still.
    stopped: Option<Stopped>,
    /// Why nothing of it goes to this destination.
    unserved: Option<Stopped>,
    /// What a person stopped of it: all of it, or one lane.
    paused: Vec<Paused>,
}

#[derive(Debug, Serialize)]
struct Paused {
    /// None for all lanes.
    lane: Option<u32>,
    by: String,
    reason: Option<String>,
    since: jiff::Timestamp,
}

#[derive(Debug, Serialize)]
struct Stopped {
    error: String,
    hint: Option<String>,
    exit: Exit,
    since: jiff::Timestamp,
}

#[derive(Debug, Serialize)]
struct Failing {
    sequence: u64,
    file_name: Option<String>,
    attempts: u32,
    next_attempt: jiff::Timestamp,
    error: String,
    hint: Option<String>,
    exit: Exit,
}

/// What the ledger knows, and each configured source that it knows nothing of.
pub(super) fn rows(
    config: &Config,
    sources: &[SourceStatus],
    agents: &[Agent],
    troubles: &BTreeMap<TroubleScope, Trouble>,
    pauses: &[Pause],
) -> Vec<SourceRow> {
    let mut all: Vec<SourceRow> = sources
        .iter()
        .flat_map(|status| rows_of(status, agents, pauses))
        .collect();
    let (of_destinations, of_sources): (Vec<_>, Vec<_>) = troubles
        .iter()
        .partition(|(scope, _)| scope.destination.is_some());
    for (scope, trouble) in of_destinations {
        let (agent, destination) = (Some(&*scope.agent), scope.destination.as_deref());
        row_of(&mut all, &scope.source_name, agent, destination).unserved =
            Some(Stopped::of(trouble));
    }
    let optional = optional_urls(config);
    for row in &mut all {
        let url = row.destination.as_deref();
        row.optional = url.is_some_and(|url| optional.iter().any(|optional| optional == url));
    }
    for source in &config.sources {
        row_of(&mut all, &source.name, None, None);
    }
    for (scope, trouble) in of_sources {
        row_of(&mut all, &scope.source_name, Some(&scope.agent), None).stopped =
            Some(Stopped::of(trouble));
    }
    all
}

/// The destinations that are not waited for, as their stores spell them.
fn optional_urls(config: &Config) -> Vec<String> {
    let optional = config.destinations.iter().filter(|d| !d.required);
    let stores = optional.filter_map(|d| store::connect(&d.store).ok());
    stores.map(|store| store.url().to_owned()).collect()
}

/// The row of an agent's source, or of one of its destinations; a new one if there is none. It is the present
/// incarnation's: the last one of its name.
fn row_of<'a>(
    all: &'a mut Vec<SourceRow>,
    name: &str,
    agent: Option<&str>,
    destination: Option<&str>,
) -> &'a mut SourceRow {
    let is_wanted = |row: &SourceRow| {
        row.source == name
            && (destination.is_none() || row.destination.as_deref() == destination)
            // A source that no archiver owns at present may be anyone's.
            && (agent.is_none() || row.agent.is_none() || row.agent.as_deref() == agent)
    };
    let at = all.iter().rposition(is_wanted).unwrap_or_else(|| {
        all.push(SourceRow {
            source: name.to_owned(),
            agent: agent.map(str::to_owned),
            destination: destination.map(str::to_owned),
            ..SourceRow::default()
        });
        all.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "it was found, or made just now")]
    &mut all[at]
}

fn rows_of(
    status: &SourceStatus,
    agents: &[Agent],
    pauses: &[Pause],
) -> impl Iterator<Item = SourceRow> {
    let reports = agents.iter().map(|agent| &agent.report);
    let mut owners = reports.filter(|report| report.sources.contains(&status.source.id));
    let owner = owners.next().map(AgentReport::key);
    let destinations = status.destinations.iter();
    destinations.map(move |destination| SourceRow {
        paused: Paused::of(status.source.id, destination.destination, pauses),
        ..SourceRow::new(status, owner.clone(), destination)
    })
}

impl SourceRow {
    fn new(status: &SourceStatus, agent: Option<String>, destination: &DestinationStatus) -> Self {
        let identity = &status.source.identity;
        let head = destination.head.as_ref();
        let gaps = destination.gaps.iter();
        Self {
            source: status.source.name.clone(),
            agent,
            cluster: Some(identity.cluster.to_string()),
            server_uuid: Some(identity.server_uuid.to_string()),
            incarnation: Some(identity.incarnation),
            destination: Some(destination.url.clone()),
            optional: false,
            stopped: None,
            unserved: None,
            paused: Vec::new(),
            watermark: destination.watermark.map(|sequence| sequence.0),
            newest: status.newest.map(|sequence| sequence.0),
            gtid_executed: head.and_then(|head| head.gtids.clone()),
            last_commit: head.and_then(|head| head.last_commit),
            gaps: gaps.map(|gap| (gap.start().0, gap.end().0)).collect(),
            queued: destination.queued,
            stalled: destination.stalled,
            failing: destination.failing.as_ref().map(|failing| Failing {
                sequence: failing.sequence.0,
                file_name: failing.file_name.clone(),
                attempts: failing.attempts,
                next_attempt: failing.next_attempt,
                error: failing.failure.message.clone(),
                hint: failing.failure.hint.clone(),
                exit: failing.failure.exit,
            }),
        }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        let unserved = self.unserved.iter().map(|stopped| stopped.finding(self));
        let gaps = self.gaps.iter().map(|gap| self.gap(*gap));
        let failing = self.failing.iter().map(|failing| failing.finding(self));
        let paused = self.paused.iter().map(|paused| paused.finding(self));
        let here = unserved
            .chain(paused)
            .chain(gaps)
            .chain(failing)
            .map(|finding| {
                // It is told, and keeps no file from counting as archived.
                let exit = if self.optional {
                    Exit::Ok
                } else {
                    finding.exit
                };
                Finding { exit, ..finding }
            });
        let stopped = self.stopped.iter().map(|stopped| stopped.finding(self));
        stopped.chain(here)
    }

    fn gap(&self, (first, last): (u64, u64)) -> Finding {
        let name = &self.source;
        Finding {
            error: format!("{name}: gap: sequences {first} to {last} were never archived"),
            hint: Some("take a base backup: no recovery can cross the gap".to_owned()),
            exit: Exit::Gap,
        }
    }
}

impl Paused {
    /// Those of one source at one destination.
    fn of(source: SourceId, destination: DestinationId, pauses: &[Pause]) -> Vec<Self> {
        let concerns = |pause: &&Pause| {
            let to = pause.scope.destination;
            pause.scope.source == source && to.is_none_or(|to| to == destination)
        };
        let paused = |pause: &Pause| Self {
            lane: pause.scope.lane,
            by: pause.by.clone(),
            reason: pause.reason.clone(),
            since: pause.since,
        };
        pauses.iter().filter(concerns).map(paused).collect()
    }

    /// Meant so, but what waits is not archived: whoever watches the exit code is to know.
    fn finding(&self, row: &SourceRow) -> Finding {
        let name = &row.source;
        let lane = self
            .lane
            .map_or(String::new(), |lane| format!(" lane {lane}"));
        let reason = self.reason.as_ref();
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        let (by, since) = (&self.by, self.since);
        Finding {
            error: format!("{name}:{lane} paused since {since:.0} by {by}{reason}"),
            hint: Some(format!("`gtide queue resume {name}` lets it go on")),
            exit: Exit::Transient,
        }
    }
}

impl Stopped {
    fn of(trouble: &Trouble) -> Self {
        Self {
            error: trouble.error.clone(),
            hint: trouble.hint.clone(),
            exit: trouble.exit,
            since: trouble.since,
        }
    }

    fn finding(&self, row: &SourceRow) -> Finding {
        Finding {
            error: format!(
                "{}: stopped since {}: {}",
                row.source, self.since, self.error
            ),
            hint: self.hint.clone(),
            exit: self.exit,
        }
    }
}

impl Failing {
    /// A file that failed and is retried soon is no trouble yet.
    fn finding(&self, row: &SourceRow) -> Finding {
        let (attempts, next) = (self.attempts, self.next_attempt);
        Finding {
            error: format!(
                "{}: {} (attempt {attempts}, next at {next})",
                row.source, self.error
            ),
            hint: self.hint.clone(),
            exit: if row.stalled > 0 { self.exit } else { Exit::Ok },
        }
    }
}

pub(super) fn table(rows: &[SourceRow]) -> Table {
    let mut table = new_table();
    table.set_header([
        "SOURCE",
        "DESTINATION",
        "WATERMARK",
        "NEWEST",
        "QUEUED",
        "STALLED",
        "LAST COMMIT",
    ]);
    for row in rows {
        table.add_row([
            row.label(rows),
            or_dash(row.destination.as_ref()),
            or_dash(row.watermark),
            or_dash(row.newest),
            row.queued.to_string(),
            row.stalled.to_string(),
            or_dash(row.last_commit.map(|time| format!("{time:.6}"))),
        ]);
    }
    table
}

impl SourceRow {
    /// The source's name, with as much of its identity as tells it from the other rows.
    fn label(&self, rows: &[SourceRow]) -> String {
        let alike = || rows.iter().filter(|row| row.source == self.source);
        let mut label = self.source.clone();
        if alike().any(|row| row.cluster != self.cluster) {
            label = format!("{}/{label}", or_dash(self.cluster.as_ref()));
        }
        if alike().any(|row| row.server_uuid != self.server_uuid) {
            label = format!("{label} {}", or_dash(self.server_uuid.as_ref()));
        }
        if alike().any(|row| row.incarnation != self.incarnation) {
            label = format!("{label}/{}", or_dash(self.incarnation));
        }
        label
    }
}
