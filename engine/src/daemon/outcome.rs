//! What `run --once` did, and what is in the way.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::exit::{self, Exit};
use crate::layout::SourceIdentity;
use crate::ledger::{DestinationId, Route, SourceId, Trouble};
use crate::queue::Settled;

/// What became of all sources.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// In the order of the configuration.
    pub sources: Vec<SourceOutcome>,
}

/// What became of one source.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SourceOutcome {
    /// The source's name.
    pub name: String,
    /// Files committed in this run, at every required destination.
    pub archived: u64,
    /// The highest sequence up to which everything is committed at every required destination.
    pub watermark: Option<u64>,
    /// The file that the server writes to, left alone.
    pub active: Option<String>,
    /// Sequences missing between committed files: first and last of each run.
    pub gaps: Vec<(u64, u64)>,
    /// What is in the way.
    pub problems: Vec<Problem>,
}

/// Something that keeps files from being archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The error, whole.
    pub error: String,
    /// What to check or run.
    pub hint: Option<String>,
    /// The exit code that it calls for.
    pub exit: Exit,
}

impl Problem {
    /// An error as a problem.
    pub fn of(error: &anyhow::Error) -> Self {
        let (exit, hint) = exit::diagnose(error);
        Self {
            error: format!("{error:#}"),
            hint,
            exit,
        }
    }

    /// The same where it keeps no file from being archived: it is told, and calls for no exit code.
    pub(super) fn harmless(self) -> Self {
        Self {
            exit: Exit::Ok,
            ..self
        }
    }

    /// As the ledger keeps it.
    pub(super) fn trouble(&self, since: Timestamp) -> Trouble {
        let (error, hint, exit) = (self.error.clone(), self.hint.clone(), self.exit);
        Trouble {
            error,
            hint,
            exit,
            since,
        }
    }

    /// A file that left the index before it was archived.
    pub(super) fn lost(file: &str) -> Self {
        Self {
            error: format!("{file} left the server's index before it could be archived"),
            hint: Some(
                "take a base backup: no recovery can cross this gap. Let binlog_expire_logs_seconds leave \
                 gtide more time, and keep [spool] on the binlogs' filesystem"
                    .to_owned(),
            ),
            exit: Exit::Gap,
        }
    }
}

impl Problem {
    /// A source that another archiver has.
    pub(super) fn held(identity: &SourceIdentity, by: &str) -> Self {
        Self {
            error: format!("{identity} is archived by {by} already"),
            hint: Some(
                "let that one do it, or stop it first; `gtide run` without --once stands by and takes over"
                    .to_owned(),
            ),
            exit: Exit::Conflict,
        }
    }

    /// A lane that a person stopped.
    fn paused(source: &str) -> Self {
        Self {
            error: "files wait: the queue, or a part of it, is paused".to_owned(),
            hint: Some(format!(
                "`gtide status` says by whom; `gtide queue resume {source}` lets it go on"
            )),
            exit: Exit::Transient,
        }
    }

    /// A file below the archive's head that the archive does not have.
    pub(super) fn late(file: &str) -> Self {
        Self {
            error: format!("{file} is not in the archive, and later files are: the chain cannot take it in any more"),
            hint: Some(
                "if its manifest entry was deleted from the bucket, restore that from the bucket's older versions \
                 or another destination: the entry behind it proves which one it was"
                    .to_owned(),
            ),
            exit: Exit::Gap,
        }
    }
}

impl SourceOutcome {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Adds the files that are stalled.
    pub(super) fn add_settled(
        &mut self,
        source: SourceId,
        settled: &Settled,
        required: &[DestinationId],
    ) {
        let of_route = |problem: Problem, route: Route| {
            if required.contains(&route.destination) {
                problem
            } else {
                problem.harmless()
            }
        };
        let stalled = settled
            .stalled
            .iter()
            .filter(|file| file.route.source == source);
        let mut stalled: Vec<_> = stalled.collect();
        stalled.sort_by_key(|file| file.sequence);
        self.problems.extend(stalled.into_iter().map(|file| {
            let problem = Problem {
                error: file.failure.message.clone(),
                hint: file.failure.hint.clone(),
                exit: file.failure.exit,
            };
            of_route(problem, file.route)
        }));
        let paused = settled.paused.iter().map(|lane| lane.route);
        let paused: BTreeSet<Route> = paused.filter(|route| route.source == source).collect();
        for route in paused {
            let problem = Problem::paused(&self.name);
            self.problems.push(of_route(problem, route));
        }
        let down = settled
            .down
            .iter()
            .filter(|(lane, _)| lane.route.source == source);
        self.problems.extend(down.map(|(lane, error)| {
            let problem = Problem {
                error: format!("lane {lane}: {error}"),
                hint: Some("check the queue's database and its disk".to_owned()),
                exit: Exit::Transient,
            };
            of_route(problem, lane.route)
        }));
    }

    /// Adds the first gap.
    pub(super) fn add_gap(&mut self) {
        if let Some((first, last)) = self.gaps.first() {
            self.problems.push(Problem {
                error: format!("gap: sequences {first} to {last} were never archived"),
                hint: Some("take a base backup: no recovery can cross the gap".to_owned()),
                exit: Exit::Gap,
            });
        }
    }
}

impl Outcome {
    /// The gravest of all problems' exit codes.
    pub fn exit(&self) -> Exit {
        self.sources
            .iter()
            .flat_map(|source| &source.problems)
            .map(|problem| problem.exit)
            .fold(Exit::Ok, Exit::graver)
    }
}
