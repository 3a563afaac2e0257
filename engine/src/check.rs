//! `gtide check`: everything between an installation and its first archived file, proved by doing it.
//!
//! # Owns
//! The order of the checks, the time that each may take, and their lines ([`Finding`]). What is tried is tried by the
//! parts themselves, in the way in which the archiver would do it.
//!
//! # Invariants
//! - A running archiver is not disturbed: no lock of its is taken, no job touched, no schema migrated that is there.
//! - All checks run, whatever another one found; what cannot be tried without another thing is left out.
//! - Nothing is left behind, but probes at a destination that does not allow to delete, and a database where there was
//!   none, as `gtide run` would make it.
//! - Each step ends within [`PATIENCE`].

mod capacity;
mod database;
mod destination;
mod files;
mod keys;
mod lifetime;
mod server;
mod sources;
mod spool;
mod upload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::finding::Finding;

/// For one step of a check: longer than a part takes at the slowest speed that an upload may have.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Takes findings as they are made.
#[derive(Debug)]
pub struct Findings<F>(F);

impl<F: FnMut(Finding)> Findings<F> {
    fn add(&mut self, found: impl IntoIterator<Item = Finding>) {
        for finding in found {
            (self.0)(finding);
        }
    }
}

/// Checks everything that the configuration at `path` names, and tells each finding as it comes.
pub async fn run(path: &Path, clock: Arc<dyn Clock>, tell: impl FnMut(Finding)) {
    let mut findings = Findings(tell);
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let subject = path.display().to_string();
            return findings.add([Finding::error("config", subject, &error.into())]);
        }
    };
    findings.add(files::check(path, &config));
    let (found, observed) = blocking(&config, sources::check).await.unwrap_or_default();
    findings.add(found);
    findings.add(server::check(&config).await);
    let closed = observed.closed();
    findings.add(
        blocking_within("spool", &config, move |config| {
            spool::check(config, &closed)
        })
        .await,
    );
    findings.add(database::check(&config, clock.as_ref()).await);
    findings.add(keys::check(&config, clock.as_ref()).await);
    let mut speeds = Vec::new();
    for destination in &config.destinations {
        let (found, speed) = destination::check(&config, destination, clock.as_ref()).await;
        findings.add(found);
        speeds.extend(speed);
    }
    let check = move |config: &Config| capacity::check(config, &observed, &speeds);
    findings.add(blocking_within("capacity", &config, check).await);
}

/// Runs a check where it may block. None when it panicked, or did not end in time.
async fn blocking<T: Send + 'static>(
    config: &Config,
    check: impl FnOnce(&Config) -> T + Send + 'static,
) -> Option<T> {
    let config = config.clone();
    let checked = tokio::task::spawn_blocking(move || check(&config));
    tokio::time::timeout(PATIENCE, checked).await.ok()?.ok()
}

/// The same; when it does not end, that is the finding.
async fn blocking_within(
    name: &'static str,
    config: &Config,
    check: impl FnOnce(&Config) -> Vec<Finding> + Send + 'static,
) -> Vec<Finding> {
    let found = blocking(config, check).await;
    found.unwrap_or_else(|| vec![Finding::error(name, name, &silent())])
}

/// One step, within [`PATIENCE`].
async fn within<T, E: Into<anyhow::Error>>(
    step: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(silent()),
    }
}

fn silent() -> anyhow::Error {
    Failure {
        message: format!("no answer in {} seconds", PATIENCE.as_secs()),
        exit: Exit::Transient,
        hint: Some("check the network, and the disk where it is a mounted one".to_owned()),
    }
    .into()
}
