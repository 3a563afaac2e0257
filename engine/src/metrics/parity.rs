//! How parallel runs stand, as gauges: absent for a source without one. Set whenever the daemon has looked at both sides,
//! not when it is asked: a look reads every file of a run.

use prometheus_client::registry::Registry;

use super::instruments::add;
use super::labels::{Counts, Judged, Standings};
use super::picture::count;
use crate::parity::verdict::{Verdict, Word};

/// Of parallel runs.
#[derive(Debug)]
pub(super) struct Parity {
    verdict: Counts<Judged>,
    files: Counts<Standings>,
}

impl Parity {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            verdict: add(
                r,
                "parity_verdict",
                "How a parallel run stands: 1 for the verdict that holds",
                Counts::default(),
            ),
            files: add(
                r,
                "parity_files",
                "Files of a parallel run, by how they stand",
                Counts::default(),
            ),
        }
    }

    /// Shows these runs, and none that was shown before.
    pub(super) fn show<'a>(&self, runs: impl Iterator<Item = (&'a str, &'a Verdict)>) {
        self.verdict.clear();
        self.files.clear();
        for (source, run) in runs {
            for (verdict, word) in [
                ("not-yet", Word::NotYet),
                ("parity", Word::Parity),
                ("no-parity", Word::NoParity),
            ] {
                let source = source.to_owned();
                let gauge = self.verdict.get_or_create(&Judged { source, verdict });
                gauge.set(i64::from(run.verdict == word));
            }
            for (standing, files) in [
                ("matched", run.matched),
                ("late", run.late),
                ("pending", run.pending),
                ("mismatched", run.mismatched),
                ("only-cron", run.only_cron),
                ("only-gtide", run.only_gtide),
            ] {
                let source = source.to_owned();
                let gauge = self.files.get_or_create(&Standings { source, standing });
                gauge.set(count(files as u64));
            }
        }
    }
}
