//! `gtide queue …`: what waits to be archived, and a person's say in it.
//!
//! What is changed here is changed in the database; running archivers notice within seconds.

mod ls;
mod selection;

use clap::{Args, Subcommand};

use self::selection::Selection;
use super::{Format, Global};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::exit::Exit;
use crate::ledger::{Ledger, Pause};
use crate::terminal;

#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// Show the files that are not archived yet, by source, destination and sequence
    Ls(ls::Ls),
    /// Try failed files now, instead of when their delay is over
    Retry(Selection),
    /// Take no new files: what is under way is finished, and closed files stay pinned meanwhile
    Pause(Stop),
    /// Take back a pause
    Resume(Selection),
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    selection: Selection,
    /// Why, for whoever looks at it tonight
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Queue {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let config = Config::load(&config::find(global.config.as_deref())?)?;
        let format = global.terminal.format;
        super::block_on(async move {
            let database = &config.queue.database;
            let ledger = Ledger::open_existing(database);
            match self {
                Self::Ls(ls) => ls.run(database, format).await,
                Self::Retry(selection) => retry(&ledger.await?, &selection, format).await,
                Self::Pause(stop) => pause(&ledger.await?, stop, format).await,
                Self::Resume(selection) => resume(&ledger.await?, &selection, format).await,
            }
        })
    }
}

async fn retry(ledger: &Ledger, selection: &Selection, format: Format) -> anyhow::Result<Exit> {
    let now = SystemClock.now();
    let mut retried = 0;
    for scope in selection.scopes(ledger).await? {
        retried += ledger.retry_failed(Some(scope), now).await?;
    }
    match format {
        Format::Human => super::print(&format!("{}: {retried} due now\n", selection.source))?,
        Format::Json => super::print_json(&serde_json::json!({ "retried": retried }))?,
    }
    Ok(Exit::Ok)
}

async fn pause(ledger: &Ledger, stop: Stop, format: Format) -> anyhow::Result<Exit> {
    let now = SystemClock.now();
    let scopes = stop.selection.scopes(ledger).await?;
    for &scope in &scopes {
        let pause = Pause {
            scope,
            by: terminal::operator(),
            reason: stop.reason.clone(),
            since: now,
        };
        ledger.pause(&pause).await?;
    }
    match format {
        Format::Human => super::print(&format!(
            "{}: paused; `gtide queue resume {}` lets it go on\n",
            stop.selection.source,
            stop.selection.words()
        ))?,
        Format::Json => super::print_json(&serde_json::json!({ "paused": scopes }))?,
    }
    Ok(Exit::Ok)
}

async fn resume(ledger: &Ledger, selection: &Selection, format: Format) -> anyhow::Result<Exit> {
    let mut resumed = 0;
    for scope in selection.scopes(ledger).await? {
        resumed += ledger.resume(scope).await?;
    }
    match format {
        Format::Human => {
            let pauses = if resumed == 1 { "pause" } else { "pauses" };
            super::print(&format!(
                "{}: {resumed} {pauses} taken back\n",
                selection.source
            ))?;
        }
        Format::Json => super::print_json(&serde_json::json!({ "resumed": resumed }))?,
    }
    Ok(Exit::Ok)
}
