//! `gtide queue ls`: the jobs, page by page.

use std::collections::BTreeMap;

use clap::Args;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::super::Format;
use super::selection;
use crate::exit::Exit;
use crate::ledger::{
    DestinationId, JobFilter, JobRow, JobStatus, Ledger, MAX_JOBS_LISTED, SourceId,
};
use crate::retry::RetryClass;

/// Version of the JSON report: additive changes keep it.
const REPORT_VERSION: u32 = 1;

/// Jobs that are listed unless another number is asked for.
const LIMIT: u32 = 100;

#[derive(Debug, Args)]
pub(in crate::cli) struct Ls {
    /// Only this source: its configured name or its server's uuid
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
    /// Only files whose last attempt failed
    #[arg(long)]
    failed: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    jobs: Vec<Row>,
    /// There are more than were asked for.
    more: bool,
}

/// One job. The field names are a contract with scripts.
#[derive(Debug, Serialize)]
struct Row {
    source: String,
    destination: String,
    lane: u32,
    sequence: u64,
    file_name: Option<String>,
    status: JobStatus,
    paused: bool,
    attempts: u32,
    next_attempt: Timestamp,
    stalled: bool,
    class: Option<RetryClass>,
    error: Option<String>,
    hint: Option<String>,
}

impl Ls {
    pub(super) async fn run(&self, database: &str, format: Format) -> anyhow::Result<Exit> {
        let ledger = Ledger::open_read_only(database).await?;
        let report = self.report(&ledger).await?;
        match format {
            Format::Json => super::super::print_json(&report)?,
            Format::Human => show(&report)?,
        }
        Ok(Exit::Ok)
    }

    async fn report(&self, ledger: &Ledger) -> anyhow::Result<Report> {
        let sources = ledger.sources().await?;
        let wanted: Option<Vec<SourceId>> = match &self.source {
            None => None,
            Some(name) => {
                let named = selection::named(&sources, name)?;
                Some(named.into_iter().map(|source| source.id).collect())
            }
        };
        let names: BTreeMap<SourceId, String> =
            sources.into_iter().map(|s| (s.id, s.name)).collect();
        let destinations = ledger.destinations().await?;
        let urls: BTreeMap<DestinationId, String> =
            destinations.into_iter().map(|d| (d.id, d.url)).collect();
        let pauses = ledger.pauses().await?;
        let mut filter = JobFilter {
            status: self.failed.then_some(JobStatus::Failed),
            after: None,
            limit: MAX_JOBS_LISTED,
        };
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut jobs = Vec::new();
        loop {
            let page = ledger.jobs(&filter).await?;
            let is_last = page.len() < MAX_JOBS_LISTED as usize;
            filter.after = page.last().map(|job| job.id.clone());
            let is_wanted = |job: &JobRow| {
                let source = job.lane.route.source;
                wanted.as_ref().is_none_or(|ids| ids.contains(&source))
            };
            for job in page.into_iter().filter(is_wanted) {
                let paused = pauses.iter().any(|pause| pause.scope.contains(job.lane));
                let route = job.lane.route;
                let source = names.get(&route.source).cloned();
                let destination = urls.get(&route.destination).cloned();
                jobs.push(Row::new(job, source, destination, paused));
            }
            if is_last || jobs.len() > limit {
                break;
            }
        }
        let more = jobs.len() > limit;
        jobs.truncate(limit);
        Ok(Report {
            version: REPORT_VERSION,
            jobs,
            more,
        })
    }
}

impl Row {
    fn new(job: JobRow, source: Option<String>, destination: Option<String>, paused: bool) -> Self {
        let failure = job.failure;
        Self {
            source: source.unwrap_or_else(|| job.lane.route.source.to_string()),
            destination: destination.unwrap_or_else(|| job.lane.route.destination.to_string()),
            lane: job.lane.lane,
            sequence: job.sequence.0,
            file_name: job.file_name,
            status: job.status,
            paused,
            attempts: job.attempts,
            next_attempt: job.run_at,
            stalled: failure.as_ref().is_some_and(|failure| failure.stalled),
            class: failure.as_ref().map(|failure| failure.class),
            hint: failure.as_ref().and_then(|failure| failure.hint.clone()),
            error: failure.map(|failure| failure.message),
        }
    }

    /// What it is doing, for people.
    fn state(&self) -> &'static str {
        match self.status {
            JobStatus::Running => "running",
            _ if self.stalled => "stalled",
            JobStatus::Failed => "failed",
            _ if self.paused => "paused",
            _ => "waiting",
        }
    }
}

fn show(report: &Report) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "SOURCE",
        "DESTINATION",
        "LANE",
        "FILE",
        "STATE",
        "ATTEMPTS",
        "NEXT",
        "ERROR",
    ]);
    for row in &report.jobs {
        let is_failed = row.status == JobStatus::Failed;
        let next = is_failed.then(|| format!("{:.0}", row.next_attempt));
        let error = row.error.as_deref().filter(|_| row.attempts > 0);
        let name = row.file_name.clone();
        table.add_row([
            row.source.clone(),
            row.destination.clone(),
            row.lane.to_string(),
            name.unwrap_or_else(|| row.sequence.to_string()),
            row.state().to_owned(),
            row.attempts.to_string(),
            next.unwrap_or_else(|| "-".to_owned()),
            error.map_or("-".to_owned(), first_line),
        ]);
    }
    let lines = table.to_string();
    let lines = lines.lines().map(|line| format!("{}\n", line.trim_end()));
    super::super::print(&lines.collect::<String>())?;
    if report.more {
        anstream::eprintln!("There are more: --limit N shows them.");
    }
    Ok(())
}

/// An error's text stays on one line, and moves no cursor.
fn first_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(clean).collect()
}
