//! How running a plan ended.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use engine::exit::Exit;
use engine::gtid::{Gtid, GtidSet};
use serde::Serialize;

use super::check::{Check, Status};
use super::facts::Facts;
use super::{Stopped, Task, Via};
use crate::history::ArchivedFile;
use crate::output::{self, REPORT_VERSION, Report, gtids, printable};

/// How it ended. Part of `apply --format json`: additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A check has a problem: nothing was run.
    Refused,
    /// Only the checks were asked for, and none has a problem.
    Checked,
    /// `gtid_executed` contains the plan.
    Complete,
    /// An error ended it.
    Stopped,
    /// No error was reported, and `gtid_executed` does not contain the plan.
    Incomplete,
}

/// Where an error ended it. Part of `apply --format json`: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoppedAt {
    /// Who ended it, and what it says.
    pub message: String,
    /// What to check or run.
    pub hint: Option<String>,
    /// Whose file holds the first transaction that is not executed.
    pub source: Option<String>,
    /// The file's name.
    pub file_name: Option<String>,
    /// Where the transaction begins.
    pub position: Option<u64>,
    /// The transaction.
    pub gtid: Option<Gtid>,
}

impl StoppedAt {
    pub(super) fn new(stopped: Stopped) -> Self {
        Self {
            message: stopped.message,
            hint: stopped.hint,
            source: None,
            file_name: None,
            position: None,
            gtid: None,
        }
    }

    pub(super) fn in_file(&mut self, file: &ArchivedFile) {
        self.source = Some(file.identity.source.to_string());
        self.file_name = Some(file.file_name().to_owned());
    }

    /// The place in words.
    fn place(&self) -> String {
        let Some(file_name) = &self.file_name else {
            return "behind the last transaction".to_owned();
        };
        let mut place = format!("in {file_name}");
        if let Some(position) = self.position {
            let _ = write!(place, " at position {position}");
        }
        if let Some(gtid) = &self.gtid {
            let _ = write!(place, ", transaction {gtid}");
        }
        place
    }
}

/// What `apply` reports. `--format json` is this document: additive changes only.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// Where the server is.
    pub server: String,
    /// How the plan gets into it.
    pub via: Via,
    /// How it ended.
    pub outcome: Outcome,
    /// What was looked at before.
    pub checks: Vec<Check>,
    /// `gtid_executed` before.
    pub began_with: GtidSet,
    /// `gtid_executed` at the end.
    pub executed: GtidSet,
    /// How many transactions of the plan were executed by this run.
    pub transactions: u64,
    /// Of the plan's.
    pub planned_transactions: u64,
    /// Bytes of binlog that were to be replayed by this run.
    pub replay_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Transactions of the plan that are not executed.
    pub missing: GtidSet,
    /// Transactions that are executed and not the plan's.
    pub beyond: GtidSet,
    /// Where an error ended it.
    pub stopped: Option<StoppedAt>,
    /// What the program exits with.
    pub exit_code: u8,
}

impl Applied {
    pub(super) fn new(task: Task<'_>, via: Via, facts: &Facts, checks: Vec<Check>) -> Self {
        Self {
            report_version: REPORT_VERSION,
            server: task.server.address.to_string(),
            via,
            outcome: Outcome::Checked,
            checks,
            began_with: facts.executed.clone(),
            executed: facts.executed.clone(),
            transactions: 0,
            planned_transactions: task.plan.transactions,
            replay_bytes: 0,
            seconds: 0.0,
            missing: super::check::missing(task.plan, &facts.executed),
            beyond: facts.executed.subtract(&task.plan.executed),
            stopped: None,
            exit_code: Exit::Ok as u8,
        }
    }

    pub(super) fn end(mut self, outcome: Outcome, exit: Exit) -> Self {
        self.outcome = outcome;
        self.exit_code = exit as u8;
        self
    }

    /// What went wrong, for stderr, and what to do.
    pub fn complaint(&self) -> Option<(String, Option<String>)> {
        match self.outcome {
            Outcome::Complete | Outcome::Checked => None,
            Outcome::Refused => {
                let mut problems = self.checks.iter().filter(|check| check.status == Status::Problem);
                let first = problems.next()?;
                let more = problems.count();
                let mut message = format!("not applied: {}", first.message);
                if more > 0 {
                    let _ = write!(message, "; and {more} more problems");
                }
                Some((message, first.hint.map(str::to_owned)))
            }
            Outcome::Stopped => {
                let stopped = self.stopped.as_ref()?;
                let message = format!("stopped {}: {}", stopped.place(), stopped.message);
                Some((printable(&message).into_owned(), stopped.hint.clone()))
            }
            Outcome::Incomplete => Some((
                format!("the server has not executed {}", gtids(&self.missing)),
                Some("transactions that it had executed otherwise are skipped in silence: compare its gtid_executed with the plan's".to_owned()),
            )),
        }
    }
}

impl Report for Applied {
    fn human(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        for check in &self.checks {
            table.add_row([check.status.word(), check.name, &printable(&check.message)]);
        }
        let mut text = format!("{}\n", table.trim_fmt());
        for check in &self.checks {
            if let (Status::Warning | Status::Problem, Some(hint)) = (check.status, check.hint) {
                let _ = writeln!(text, "\n{}: {hint}", check.name);
            }
        }
        if matches!(self.outcome, Outcome::Refused | Outcome::Checked) {
            return text;
        }
        let _ = write!(
            text,
            "\n{} of {} transactions, {} in {:.1} s\ngtid_executed: {}\n",
            self.transactions,
            self.planned_transactions,
            output::bytes(self.replay_bytes),
            self.seconds,
            gtids(&self.executed)
        );
        if !self.beyond.is_empty() {
            let _ = writeln!(text, "beyond the plan: {}", gtids(&self.beyond));
        }
        if self.outcome == Outcome::Complete {
            text.push_str("complete: the server has executed all of the plan\n");
        }
        text
    }
}
