//! How a rehearsal went.

use std::fmt::Write as _;

use engine::exit::Exit;
use engine::gtid::GtidSet;
use serde::Serialize;

use super::Task;
use crate::apply::report::Applied;
use crate::output::{REPORT_VERSION, Report, gtids, printable};
use crate::plan::Plan;
use crate::target::Target;

/// How it ended. Part of `rehearse --format json`: additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All is as the plan says, and every question was answered well.
    Complete,
    /// The plan could not be applied: `apply` has the reason.
    NotApplied,
    /// `gtid_executed` is another one than the plan says.
    Different,
    /// A question was answered with no, or not at all.
    Failed,
}

/// What was asked afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The question.
    pub question: String,
    /// The value, or the server's complaint.
    pub answer: String,
    /// The value is neither empty, NULL nor zero.
    pub passed: bool,
}

/// What `rehearse` reports. `--format json` is this document: additive changes only.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsed {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The data directory that it began with; null for an empty server.
    pub base: Option<String>,
    /// The moment.
    pub target: Target,
    /// What drew the moment; null where it was named.
    pub seed: Option<u64>,
    /// Files of the plan.
    pub files: u64,
    /// Bytes that were to be read from the destination.
    pub fetch_bytes: u64,
    /// `gtid_executed` as the plan says.
    pub expected: GtidSet,
    /// Of it, what was not executed.
    pub missing: GtidSet,
    /// Executed, and not of it.
    pub beyond: GtidSet,
    /// XA transactions that are prepared at that moment, and neither committed nor rolled back.
    pub prepared: u64,
    /// What was asked afterwards.
    pub answers: Vec<Answer>,
    /// The replay.
    pub apply: Applied,
    /// What the plan warns of.
    pub warnings: Vec<String>,
    /// What the program exits with.
    pub exit_code: u8,
}

impl Rehearsed {
    pub(super) fn new(task: &Task<'_>, plan: &Plan, apply: Applied) -> Self {
        let base = task.settings.base.as_ref();
        Self {
            report_version: REPORT_VERSION,
            outcome: Outcome::Complete,
            base: base.map(|base| base.display().to_string()),
            target: plan.target.clone(),
            seed: task.target.is_none().then_some(task.seed),
            files: plan.files.len() as u64,
            fetch_bytes: plan.fetch_bytes,
            expected: plan.executed.clone(),
            missing: plan.executed.subtract(&apply.executed),
            beyond: apply.executed.subtract(&plan.executed),
            prepared: 0,
            answers: Vec::new(),
            apply,
            warnings: plan.warnings.clone(),
            exit_code: Exit::Ok as u8,
        }
    }

    pub(super) fn is_same(&self) -> bool {
        self.missing.is_empty() && self.beyond.is_empty()
    }

    pub(super) fn end(mut self, outcome: Outcome, exit: Exit) -> Self {
        self.outcome = outcome;
        self.exit_code = exit as u8;
        self
    }

    /// What went wrong, for stderr, and what to do.
    pub fn complaint(&self) -> Option<(String, Option<String>)> {
        match self.outcome {
            Outcome::Complete => None,
            Outcome::NotApplied => self.apply.complaint(),
            Outcome::Different => Some((
                format!(
                    "gtid_executed is not what the plan says: missing {}, beyond it {}",
                    gtids(&self.missing),
                    gtids(&self.beyond)
                ),
                Some("look whether the base is one of this cluster's servers".to_owned()),
            )),
            Outcome::Failed => {
                let failed = self.answers.iter().find(|answer| !answer.passed)?;
                let message = format!("{}: {}", failed.question, failed.answer);
                let hint = "--check-sql passes with a value that is neither empty, NULL nor 0";
                Some((printable(&message).into_owned(), Some(hint.to_owned())))
            }
        }
    }
}

impl Report for Rehearsed {
    fn human(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "target: {}", self.target);
        if let Some(seed) = self.seed {
            let _ = writeln!(text, "drawn by --seed {seed}");
        }
        let base = self
            .base
            .as_deref()
            .unwrap_or("a server that was just initialised");
        let _ = writeln!(text, "base: {}\n", printable(base));
        text.push_str(&self.apply.human());
        for Answer {
            question,
            answer,
            passed,
        } in &self.answers
        {
            let word = if *passed { "ok" } else { "failed" };
            let _ = writeln!(
                text,
                "{word}: {}: {}",
                printable(question),
                printable(answer)
            );
        }
        if self.prepared > 0 {
            let _ = writeln!(
                text,
                "XA transactions that are prepared at that moment: {}",
                self.prepared
            );
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {}", printable(warning));
        }
        if self.outcome == Outcome::Complete {
            text.push_str("rehearsed: gtid_executed is what the plan says\n");
        }
        text
    }
}
