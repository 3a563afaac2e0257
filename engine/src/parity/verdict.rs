//! What a parallel run amounts to. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::compare::{Compared, Standing};
use crate::ledger::ParityRun;

/// The words that scripts wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The window is not over, or something could not be looked at.
    NotYet,
    /// All that either side has is the same.
    Parity,
    /// Something is not.
    NoParity,
}

/// A run, judged. The field names are a contract with scripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which.
    pub verdict: Word,
    /// Why it is not parity; empty when it is.
    pub reasons: Vec<String>,
    /// Hours of the window that are left.
    pub hours_left: f64,
    /// Files of each standing.
    pub matched: usize,
    /// See [`Standing::Late`].
    pub late: usize,
    /// See [`Standing::Pending`].
    pub pending: usize,
    /// See [`Standing::Mismatched`].
    pub mismatched: usize,
    /// See [`Standing::OnlyCron`].
    pub only_cron: usize,
    /// See [`Standing::OnlyGtide`].
    pub only_gtide: usize,
}

/// Judges a run.
#[must_use]
pub fn judge(run: &ParityRun, files: &[Compared], now: Timestamp) -> Verdict {
    let count = |standing| {
        files
            .iter()
            .filter(|file| file.standing == standing)
            .count()
    };
    let left = run
        .window
        .saturating_sub(now.duration_since(run.started_at));
    let left = left.max(SignedDuration::ZERO);
    let (matched, late) = (count(Standing::Matched), count(Standing::Late));
    let mut against: Vec<String> = run.unread.clone();
    against.extend(files.iter().filter_map(|file| {
        let is_against = matches!(
            file.standing,
            Standing::Mismatched | Standing::OnlyCron | Standing::OnlyGtide
        );
        let cause = file.cause.as_deref().unwrap_or("differs");
        is_against.then(|| format!("{}: {cause}", file.file_name))
    }));
    let mut waits = Vec::new();
    if left > SignedDuration::ZERO {
        let left = SignedDuration::from_secs(left.as_secs());
        waits.push(format!("the window is over in {left:#}"));
    }
    if let Some(error) = &run.scan_error {
        waits.push(format!("the manifests cannot be read: {error}"));
    } else if run
        .scanned_at
        .is_none_or(|at| at < run.started_at + run.window)
        && left.is_zero()
    {
        waits.push("the manifests were not read since the window was over".to_owned());
    }
    if count(Standing::Pending) > 0 {
        waits.push(format!(
            "{} files are on one side only, and still in time",
            count(Standing::Pending)
        ));
    }
    if matched + late == 0 {
        waits.push("no file was on both sides yet".to_owned());
    }
    let (verdict, reasons) = match (against.is_empty(), waits.is_empty()) {
        (false, _) => (Word::NoParity, against),
        (true, false) => (Word::NotYet, waits),
        (true, true) => (Word::Parity, Vec::new()),
    };
    Verdict {
        verdict,
        reasons,
        hours_left: left.as_secs_f64() / 3600.0,
        matched,
        late,
        pending: count(Standing::Pending),
        mismatched: count(Standing::Mismatched),
        only_cron: count(Standing::OnlyCron),
        only_gtide: count(Standing::OnlyGtide),
    }
}
