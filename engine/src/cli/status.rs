//! `gtide status`: what is archived, what waits, what is in the way.

use std::collections::BTreeMap;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Format, Global};
use crate::config::{self, Config};
use crate::exit::{self, Exit};
use crate::ledger::{DestinationStatus, Ledger, SourceStatus, Trouble};

#[derive(Debug, Args)]
pub(super) struct Status {}

/// One source at one destination. Its field names are a contract with scripts.
#[derive(Debug, Default, Serialize)]
struct Row {
    source: String,
    /// These four are null for a source that was never opened.
    cluster: Option<String>,
    server_uuid: Option<String>,
    incarnation: Option<u32>,
    destination: Option<String>,
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

impl Status {
    pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
        let config = Config::load(&config::find(global.config.as_deref())?)?;
        let format = global.terminal.format;
        super::block_on(async move {
            let ledger = Ledger::open_read_only(&config.queue.database).await?;
            let sources = ledger.status().await?;
            let troubles = ledger.troubles().await?;
            let rows = all_rows(&config, &sources, &troubles);
            match format {
                Format::Json => super::print_json(&rows)?,
                Format::Human => show(&rows)?,
            }
            Ok(exit_code(&rows))
        })
    }
}

/// What the ledger knows, and each configured source that it knows nothing of.
fn all_rows(
    config: &Config,
    sources: &[SourceStatus],
    troubles: &BTreeMap<String, Trouble>,
) -> Vec<Row> {
    let mut all: Vec<Row> = sources.iter().flat_map(rows).collect();
    for source in &config.sources {
        if all.iter().all(|row| row.source != source.name) {
            all.push(Row {
                source: source.name.clone(),
                ..Row::default()
            });
        }
    }
    for row in &mut all {
        row.stopped = troubles.get(&row.source).map(|trouble| Stopped {
            error: trouble.error.clone(),
            hint: trouble.hint.clone(),
            exit: trouble.exit,
            since: trouble.since,
        });
    }
    all
}

fn rows(status: &SourceStatus) -> impl Iterator<Item = Row> {
    status
        .destinations
        .iter()
        .map(|destination| row(status, destination))
}

fn row(status: &SourceStatus, destination: &DestinationStatus) -> Row {
    let identity = &status.source.identity;
    let head = destination.head.as_ref();
    Row {
        source: status.source.name.clone(),
        cluster: Some(identity.cluster.to_string()),
        server_uuid: Some(identity.server_uuid.to_string()),
        incarnation: Some(identity.incarnation),
        destination: Some(destination.url.clone()),
        stopped: None,
        watermark: destination.watermark.map(|sequence| sequence.0),
        newest: status.newest.map(|sequence| sequence.0),
        gtid_executed: head.and_then(|head| head.gtids.clone()),
        last_commit: head.and_then(|head| head.last_commit),
        gaps: destination
            .gaps
            .iter()
            .map(|gap| (gap.start().0, gap.end().0))
            .collect(),
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

fn show(rows: &[Row]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
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
            row.source.clone(),
            row.destination.clone().unwrap_or_else(|| "-".to_owned()),
            or_dash(row.watermark),
            or_dash(row.newest),
            row.queued.to_string(),
            row.stalled.to_string(),
            row.last_commit
                .map_or("-".to_owned(), |time| format!("{time:.6}")),
        ]);
    }
    let lines: Vec<String> = table
        .to_string()
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    super::print(&lines.concat())?;
    for row in rows {
        if let Some(Stopped {
            error, hint, since, ..
        }) = &row.stopped
        {
            let error = format!("{}: stopped since {since}: {error}", row.source);
            exit::show(&error, hint.as_deref());
        }
        for (first, last) in &row.gaps {
            let gap = format!(
                "{}: gap: sequences {first} to {last} were never archived",
                row.source
            );
            exit::show(
                &gap,
                Some("take a base backup: no recovery can cross the gap"),
            );
        }
        if let Some(failing) = &row.failing {
            let next = failing.next_attempt;
            let (source, attempts) = (&row.source, failing.attempts);
            let error = format!(
                "{source}: {} (attempt {attempts}, next at {next})",
                failing.error
            );
            exit::show(&error, failing.hint.as_deref());
        }
    }
    Ok(())
}

fn or_dash(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// Ok while everything moves: a file that failed and is retried soon is no trouble yet.
fn exit_code(rows: &[Row]) -> Exit {
    let stalled = rows.iter().filter(|row| row.stalled > 0);
    let failing = stalled.filter_map(|row| Some(row.failing.as_ref()?.exit));
    let gaps = rows
        .iter()
        .filter(|row| !row.gaps.is_empty())
        .map(|_| Exit::Gap);
    let stopped = rows
        .iter()
        .filter_map(|row| Some(row.stopped.as_ref()?.exit));
    failing
        .chain(gaps)
        .chain(stopped)
        .fold(Exit::Ok, Exit::graver)
}
