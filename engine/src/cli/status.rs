//! `gtide status`: what is archived, what waits, what is in the way.

mod agents;
mod servers;
mod sources;
mod watch;

use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;

use self::agents::AgentRow;
use self::servers::ServerRow;
use self::sources::SourceRow;
use super::{Format, Global};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::exit::{self, Exit};
use crate::ledger::Ledger;

/// Version of the JSON report: additive changes keep it.
const REPORT_VERSION: u32 = 1;

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Show it again and again, two seconds apart or as named, until it is interrupted
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        default_missing_value = watch::DEFAULT,
        value_parser = watch::interval
    )]
    watch: Option<Duration>,
}

/// Everything that the database knows, of this host and of others that archive with it. The field names are a contract
/// with scripts, and deploy/status.schema.json is its text.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    sources: Vec<SourceRow>,
    agents: Vec<AgentRow>,
    servers: Vec<ServerRow>,
    /// When it was read.
    #[serde(skip)]
    now: jiff::Timestamp,
}

/// Something that a person should know of.
#[derive(Debug)]
struct Finding {
    error: String,
    hint: Option<String>,
    /// The exit code that it calls for; `Ok` for what goes away by itself.
    exit: Exit,
}

impl Status {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<Exit> {
        let config = Config::load(&config::find(global.config.as_deref())?)?;
        let format = global.terminal.format;
        let watch = self.watch;
        super::block_on(async move {
            match watch {
                Some(interval) => watch::watch(&config, format, interval).await,
                None => Report::read(&config).await?.show(format),
            }
        })
    }
}

impl Report {
    async fn read(config: &Config) -> anyhow::Result<Self> {
        let ledger = Ledger::open_read_only(&config.queue.database).await?;
        let statuses = ledger.status().await?;
        let troubles = ledger.troubles().await?;
        let agents = ledger.agents().await?;
        let pauses = ledger.pauses().await?;
        let servers = ledger.servers().await?;
        let now = SystemClock.now();
        Ok(Self {
            version: REPORT_VERSION,
            sources: sources::rows(config, &statuses, &agents, &troubles, &pauses),
            agents: agents::rows(&agents, &statuses, now),
            servers: servers::rows(servers, &statuses),
            now,
        })
    }

    /// Says what it calls for.
    fn show(&self, format: Format) -> anyhow::Result<Exit> {
        match format {
            Format::Json => super::print_json(self)?,
            Format::Human => show(self)?,
        }
        Ok(self.exit())
    }

    fn findings(&self) -> impl Iterator<Item = Finding> {
        let sources = self.sources.iter().flat_map(SourceRow::findings);
        sources
            .chain(self.agents.iter().flat_map(AgentRow::findings))
            .chain(self.servers.iter().flat_map(ServerRow::findings))
    }

    fn exit(&self) -> Exit {
        let exits = self.findings().map(|finding| finding.exit);
        exits.fold(Exit::Ok, Exit::graver)
    }
}

fn show(report: &Report) -> anyhow::Result<()> {
    super::print(&lines(&sources::table(&report.sources)))?;
    if !report.agents.is_empty() {
        let table = agents::table(&report.agents, report.now);
        super::print(&format!("\n{}", lines(&table)))?;
    }
    if !report.servers.is_empty() {
        super::print(&format!("\n{}", lines(&servers::table(&report.servers))))?;
    }
    for finding in report.findings() {
        exit::show(&finding.error, finding.hint.as_deref());
    }
    Ok(())
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The table without the blanks that fill its last column.
fn lines(table: &Table) -> String {
    let lines = table.to_string();
    let lines = lines.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}
