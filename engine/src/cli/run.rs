//! `gtide run`: the archiver, as a daemon or once.
//!
//! To the daemon SIGHUP means: read `[encryption]` again. All else of the configuration stays as it was at the start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Format, Global};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::daemon::{Archiver, Outcome, Problem};
use crate::exit::{self, Exit};
use crate::keyring::Keyring;
use crate::metrics::{Endpoint, Meter};

/// Between two attempts to start while the database cannot be reached.
const START_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Archive everything that is closed, then exit
    #[arg(long)]
    once: bool,
    /// Take the last file too, when it ends in ROTATE or STOP: for a directory that no server uses
    #[arg(long, requires = "once")]
    include_last: bool,
}

impl Run {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let path = config::find(global.config.as_deref())?;
        let config = Config::load(&path)?;
        let format = global.terminal.format;
        super::block_on(async move {
            let stop = CancellationToken::new();
            stop_on_signals(stop.clone())?;
            if !self.once {
                tracing::info!(config = %path.display(), "archiving");
                // From now on it does not end the program.
                let hangup = signal(SignalKind::hangup())?;
                run_daemon(&config, &path, hangup, stop).await?;
                tracing::info!("stopped");
                return Ok(Exit::Ok);
            }
            let archiver = Archiver::open(&config, Arc::new(SystemClock), self.include_last);
            match archiver.await?.run_once(stop).await {
                Some(outcome) => show(&outcome, format),
                None => Ok(Exit::Interrupted),
            }
        })
    }
}

/// While the database cannot be reached, opening is tried again: each time pins what the servers have closed in the
/// meantime.
async fn run_daemon(
    config: &Config,
    path: &Path,
    hangup: Signal,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut told = None;
    let endpoint = config.metrics.map(|metrics| {
        let endpoint = Arc::new(Endpoint::default());
        let serving = tokio::spawn(Arc::clone(&endpoint).serve(metrics.listen));
        (endpoint, AbortOnDropHandle::new(serving))
    });
    let endpoint = endpoint.as_ref().map(|(endpoint, _)| endpoint);
    loop {
        let meter = endpoint.map_or_else(Meter::default, |endpoint| endpoint.meter());
        let opened = tokio::select! {
            opened = Archiver::open_metered(config, Arc::new(SystemClock), false, meter) => opened,
            () = stop.cancelled() => return Ok(()),
        };
        let error = match opened {
            Ok(archiver) => {
                if let Some(endpoint) = endpoint {
                    endpoint.opened(archiver.subject());
                }
                let keyring = Arc::clone(archiver.keyring());
                tokio::select! {
                    ended = archiver.run(&stop) => return ended,
                    () = reload_keys(path, &keyring, hangup) => return Ok(()),
                }
            }
            Err(error) => error,
        };
        let problem = Problem::of(&error);
        if problem.exit != Exit::Transient {
            return Err(error);
        }
        if let Some(endpoint) = endpoint {
            endpoint.not_yet(problem.error.clone());
        }
        if told.as_ref() != Some(&problem) {
            let (error, hint) = (&problem.error, &problem.hint);
            tracing::error!(error, hint, "cannot start yet");
            told = Some(problem);
        }
        tokio::select! {
            () = tokio::time::sleep(START_AGAIN) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// At every SIGHUP. A configuration that cannot be used changes nothing. Ends when no signal can come any more.
async fn reload_keys(path: &Path, keyring: &Keyring, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let read = config::ReaderConfig::load(path).map_err(anyhow::Error::from);
        let reloaded = read.and_then(|config| Ok(keyring.reload(&config.encryption)?));
        match reloaded {
            Ok(()) => tracing::info!(key = keyring.current(), "read [encryption] again"),
            Err(error) => {
                let (_, hint) = exit::diagnose(&error);
                let error = format!("{error:#}");
                tracing::error!(error, hint, "[encryption] stays as it was");
            }
        }
    }
}

/// The first SIGTERM or SIGINT asks to stop; a second one ends the program at once.
pub(super) fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                #[expect(
                    clippy::exit,
                    reason = "asked for twice; starting again is the recovery"
                )]
                std::process::exit(Exit::Interrupted as i32);
            }
            tracing::info!("stopping; once more ends at once");
            stop.cancel();
        }
    });
    Ok(())
}

fn show(outcome: &Outcome, format: Format) -> anyhow::Result<Exit> {
    match format {
        Format::Json => super::print_json(outcome)?,
        Format::Human => {
            for source in &outcome.sources {
                let watermark = source
                    .watermark
                    .map_or("none".to_owned(), |w| w.to_string());
                let (name, archived) = (&source.name, source.archived);
                let active = source.active.as_ref();
                let active = active.map_or(String::new(), |file| {
                    format!(", {file} is still being written")
                });
                super::print(&format!(
                    "{name}: {archived} archived, watermark {watermark}{active}\n"
                ))?;
            }
        }
    }
    for problem in outcome.sources.iter().flat_map(|source| &source.problems) {
        exit::show(&problem.error, problem.hint.as_deref());
    }
    Ok(outcome.exit())
}
