//! `gtide purge`: which binary logs a server may forget, file by file, and on request makes it so.

use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use comfy_table::{Table, presets};
use jiff::SignedDuration;
use serde::Serialize;

use super::{Format, Global};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, SourceConfig};
use crate::exit::{Exit, Failure};
use crate::layout::SourceIdentity;
use crate::ledger::{DestinationId, Ledger};
use crate::mysql::Server;
use crate::purge::{Purge, Purged, Verdict};
use crate::{store, watch};

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// Only this source [default: all that have `mysql`]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Files that were closed later than this long ago stay [default: `[purge] keep`]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    keep: Option<Duration>,
    /// Make the server forget what may go; without this, only say what would
    #[arg(long)]
    execute: bool,
}

/// One source's files. The field names are a contract with scripts.
#[derive(Debug, Serialize)]
struct SourceReport {
    source: String,
    files: Vec<Verdict>,
    /// Null without `--execute`.
    purged: Option<Purged>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(parsed).map_err(|_| "is negative".to_owned())
}

impl PurgeArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let config = Config::load(&config::find(global.config.as_deref())?)?;
        let format = global.terminal.format;
        super::block_on(async move {
            let ledger = Ledger::open_read_only(&config.queue.database).await?;
            let mut reports = Vec::new();
            for source in self.sources(&config)? {
                let report = self.purge(&config, source, &ledger).await;
                let report = report.with_context(|| format!("source {}", source.name))?;
                if format == Format::Human {
                    super::print(&text(&report))?;
                }
                reports.push(report);
            }
            if format == Format::Json {
                super::print_json(&reports)?;
            }
            Ok(Exit::Ok)
        })
    }

    fn sources<'a>(&self, config: &'a Config) -> Result<Vec<&'a SourceConfig>, Failure> {
        let is_meant = |source: &&SourceConfig| match &self.source {
            Some(name) => *name == source.name,
            None => source.server.is_some(),
        };
        let sources: Vec<_> = config.sources.iter().filter(is_meant).collect();
        if !sources.is_empty() {
            return Ok(sources);
        }
        let message = match &self.source {
            Some(name) => format!("no source is called {name:?}"),
            None => "no source names its server".to_owned(),
        };
        Err(Failure {
            message,
            exit: Exit::Usage,
            hint: Some("purging needs `mysql` in the [[source]]".to_owned()),
        })
    }

    async fn purge(
        &self,
        config: &Config,
        source: &SourceConfig,
        ledger: &Ledger,
    ) -> anyhow::Result<SourceReport> {
        let server = source.server.as_ref().ok_or_else(|| Failure {
            message: "its server is not named".to_owned(),
            exit: Exit::Usage,
            hint: Some("set `mysql` in the [[source]]".to_owned()),
        })?;
        let identity = SourceIdentity {
            cluster: config.cluster.clone(),
            server_uuid: watch::server_uuid(source)?,
            incarnation: source.incarnation,
        };
        let known = ledger.sources().await?;
        let known = known.into_iter().find(|known| known.identity == identity);
        let id = known.map(|known| known.id).ok_or_else(|| Failure {
            message: format!("nothing of {identity} is archived"),
            exit: Exit::Usage,
            hint: Some("`gtide run` archives it first".to_owned()),
        })?;
        let required = required(config, ledger).await?;
        let purge = Purge {
            source,
            server,
            identity: &identity,
            id,
            required: &required,
            ledger,
            keep: self.keep.unwrap_or(config.purge.keep),
        };
        let mut session = Server::new(server);
        let files = purge.look(&mut session, SystemClock.now()).await?;
        let purged = if self.execute {
            let told = |batch: &crate::purge::Batch| {
                tracing::info!(
                    files = batch.files,
                    bytes = batch.bytes,
                    up_to = batch.up_to,
                    "purged"
                );
            };
            Some(purge.execute(&mut session, &files, told).await?)
        } else {
            None
        };
        Ok(SourceReport {
            source: source.name.clone(),
            files,
            purged,
        })
    }
}

/// The required destinations, all of which the ledger must know: nothing is archived at one that it never heard of.
async fn required(config: &Config, ledger: &Ledger) -> anyhow::Result<Vec<DestinationId>> {
    let known = ledger.destinations().await?;
    let mut required = Vec::new();
    for destination in config.destinations.iter().filter(|d| d.required) {
        let url = store::connect(&destination.store)?.url().to_owned();
        let found = known.iter().find(|known| known.url == url);
        required.push(found.map(|known| known.id).ok_or_else(|| Failure {
            message: format!("nothing was ever archived at {url}"),
            exit: Exit::Usage,
            hint: Some("`gtide run` archives there first".to_owned()),
        })?);
    }
    Ok(required)
}

/// Files that share a verdict share a line.
fn text(report: &SourceReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["SOURCE", "FILES", "FROM", "TO", "SIZE", ""]);
    for run in report.files.chunk_by(|a, b| a.kept == b.kept) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        table.add_row([
            report.source.clone(),
            run.len().to_string(),
            first.file_name.clone(),
            last.file_name.clone(),
            ByteSize(run.iter().map(|verdict| verdict.size).sum()).to_string(),
            first
                .kept
                .as_ref()
                .map_or("may go".to_owned(), |reason| format!("stays: {reason}")),
        ]);
    }
    let lines = table.to_string();
    let lines = lines.lines().map(|line| format!("{}\n", line.trim_end()));
    let mut text: String = lines.collect();
    if let Some(purged) = report.purged {
        let (files, bytes) = (purged.files, ByteSize(purged.bytes));
        text = format!("{text}purged: {files} files, {bytes}\n");
    }
    text
}
