//! The archivers at work with this database, on this host and on others.

use bytesize::ByteSize;
use comfy_table::Table;
use jiff::{Timestamp, Unit};
use serde::Serialize;

use super::{Finding, new_table};
use crate::exit::Exit;
use crate::ledger::{Agent, AgentReport, SourceStatus};

/// One archiver.
#[derive(Debug, Serialize)]
pub(super) struct AgentRow {
    /// When it reported last.
    seen: Timestamp,
    /// It was not heard of for so long that it must have died.
    silent: bool,
    /// Names of the sources that it owns.
    sources: Vec<String>,
    #[serde(flatten)]
    report: AgentReport,
}

pub(super) fn rows(agents: &[Agent], sources: &[SourceStatus], now: Timestamp) -> Vec<AgentRow> {
    let row = |agent: &Agent| {
        let owned = sources.iter().map(|status| &status.source);
        let owned = owned.filter(|source| agent.report.sources.contains(&source.id));
        AgentRow {
            seen: agent.seen,
            silent: agent.is_silent(now),
            sources: owned.map(|source| source.name.clone()).collect(),
            report: agent.report.clone(),
        }
    };
    agents.iter().map(row).collect()
}

impl AgentRow {
    /// The host, and where it has several agents the spool.
    fn label(&self, rows: &[AgentRow]) -> String {
        let AgentReport { host, spool, .. } = &self.report;
        if rows.iter().filter(|row| &row.report.host == host).count() > 1 {
            format!("{host}:{spool}")
        } else {
            host.clone()
        }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        let silent = self.silent.then(|| self.silence());
        silent.into_iter().chain(self.pause())
    }

    fn silence(&self) -> Finding {
        let AgentReport { host, pid, .. } = &self.report;
        Finding {
            error: format!(
                "the archiver on {host} (process {pid}) has not reported since {:.0}",
                self.seen
            ),
            hint: Some(format!(
                "look whether it runs: `systemctl status gtide` on {host}; what it pinned in {} is kept",
                self.report.spool
            )),
            exit: Exit::Transient,
        }
    }

    fn pause(&self) -> Option<Finding> {
        let AgentReport { host, spool, .. } = &self.report;
        let paused = self.report.paused.as_ref()?;
        let (free, needed) = (self.report.free_bytes, paused.needed_bytes);
        Some(Finding {
            error: format!(
                "{host}: sealing waits since {:.0}: {spool} has {free} bytes free, {needed} are needed",
                paused.since
            ),
            hint: Some(
                "free space there, or lower [spool] reserve; pins keep the files alive meanwhile"
                    .to_owned(),
            ),
            exit: Exit::Transient,
        })
    }
}

pub(super) fn table(rows: &[AgentRow], now: Timestamp) -> Table {
    let mut table = new_table();
    table.set_header([
        "AGENT", "PROCESS", "SOURCES", "PINNED", "SEALED", "FREE", "SEEN",
    ]);
    for row in rows {
        let report = &row.report;
        table.add_row([
            row.label(rows),
            report.pid.to_string(),
            row.sources.join(" "),
            files(report.pinned_files, report.pinned_bytes),
            files(report.sealed_files, report.sealed_bytes),
            ByteSize(report.free_bytes).to_string(),
            ago(row.seen, now),
        ]);
    }
    table
}

fn files(count: u64, bytes: u64) -> String {
    match count {
        0 => "-".to_owned(),
        count => format!("{count} ({})", ByteSize(bytes)),
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    // Clocks of two machines differ.
    let age = now.duration_since(then.min(now));
    let age = age.round(Unit::Second).unwrap_or(age);
    format!("{age:#} ago")
}
