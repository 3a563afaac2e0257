//! `gtide status --watch`: the same again and again; on a terminal in place of what stood there.
//!
//! Every look opens the database anew: it may have been rebuilt in between, or have gone and come back. What could be read
//! once is looked for until somebody interrupts.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use tokio::signal::unix::{SignalKind, signal};

use super::Report;
use crate::cli::{self, Format};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::exit::{self, Exit};

/// When `--watch` names none.
pub(super) const DEFAULT: &str = "2s";

/// A look costs a connection.
const LEAST: Duration = Duration::from_secs(1);

/// The first cell, and nothing from there on (ECMA-48, CUP and ED).
const AFRESH: &[u8] = b"\x1b[H\x1b[J";

/// Understands `2s`, `1m 30s`.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    let interval = Duration::try_from(interval).ok();
    let interval = interval.filter(|interval| *interval >= LEAST);
    interval.ok_or_else(|| "is less than 1s".to_owned())
}

/// Shows it until SIGINT or SIGTERM.
pub(super) async fn watch(
    config: &Config,
    format: Format,
    interval: Duration,
) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut was_read = false;
    loop {
        match Report::read(config).await {
            Ok(report) => {
                begin(format)?;
                report.show(format)?;
                was_read = true;
            }
            Err(error) if !was_read => return Err(error),
            Err(error) => {
                exit::report(&error);
            }
        }
        tokio::select! {
            _ = terminate.recv() => return Ok(Exit::Interrupted),
            _ = interrupt.recv() => return Ok(Exit::Interrupted),
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// What stands before each: people want to know of when it is. JSON documents follow one another as they are.
fn begin(format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return Ok(());
    }
    let now = SystemClock.now();
    let mut stdout = io::stdout();
    if stdout.is_terminal() {
        stdout.write_all(AFRESH).context("write to stdout")?;
    }
    cli::print(&format!("\n{now:.0}\n\n"))
}
