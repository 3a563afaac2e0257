//! Wires the parts together, and stops them in order.
//!
//! # Owns
//! Start and stop. Each configured source has a supervisor (`source`) that claims it, opens its destinations
//! (`destination`) and watches it (`watching`); one source's trouble stops that source alone, and one destination's
//! that destination of that source.
//!
//! # Cancellation
//! Told to stop, watches end, lanes come to a safe point within the grace, the spool is cleared, claims are dropped.
//!
//! # After a crash
//! Starting again is the recovery: see [`crate::reconcile`] and [`crate::queue`].

mod agent;
mod beside;
mod clearing;
mod destination;
mod following;
mod once;
mod outcome;
mod parts;
mod predecessor;
mod source;
mod spool_lock;
mod tenure;
mod trouble;
mod watching;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::agent::keep_reporting;
use self::clearing::keep_spool_clear;
use self::following::keep_following;
pub use self::outcome::{Outcome, Problem, SourceOutcome};
use self::parts::{Parts, pin_all_unclaimed};
use self::trouble::Troubles;
use crate::clock::Clock;
use crate::config::{Config, SourceConfig};
use crate::exit::{Exit, Failure};
use crate::keyring::Keyring;
use crate::metrics::{Meter, Subject};
use crate::watch;

/// A database that has not been opened by then is not waited for with the pins.
const PIN_AFTER: Duration = Duration::from_secs(2);

/// Before a supervisor that panicked is started anew.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// The archiver, opened, not yet working.
#[derive(Debug)]
pub struct Archiver {
    parts: Arc<Parts>,
    config: Config,
}

impl Archiver {
    /// Opens keys, spool and database. No server's files are needed yet, and no destination is reached for; but while
    /// the database cannot be opened, what the servers have closed is pinned.
    ///
    /// # Errors
    /// Whatever keeps all sources from working.
    pub async fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        include_last: bool,
    ) -> anyhow::Result<Self> {
        Self::open_metered(config, clock, include_last, Meter::default()).await
    }

    /// As [`Archiver::open`], and what happens is counted.
    ///
    /// # Errors
    /// As there.
    pub async fn open_metered(
        config: &Config,
        clock: Arc<dyn Clock>,
        include_last: bool,
        meter: Meter,
    ) -> anyhow::Result<Self> {
        let parts = open_parts(config, clock, include_last, meter).await?;
        // In the order of the configuration, so that of two with the same files it is always the second one that is
        // refused. What is wrong with one is its supervisor's to tell.
        for source in &config.sources {
            let _ = parts.identify(source);
        }
        Ok(Self {
            parts: Arc::new(parts),
            config: config.clone(),
        })
    }

    /// The keys that it seals with, which may be changed while it works.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.parts.keyring
    }

    /// For a monitoring system.
    pub fn subject(&self) -> Arc<dyn Subject> {
        Arc::clone(&self.parts) as Arc<dyn Subject>
    }

    /// Archives everything that is closed and comes to rest, all sources side by side. None when `stop` fired before.
    pub async fn run_once(self, stop: CancellationToken) -> Option<Outcome> {
        let sources = self.config.sources.into_iter();
        let runs =
            sources.map(|source| once::archive_once(Arc::clone(&self.parts), source, stop.clone()));
        let sources = tokio::select! {
            sources = futures::future::join_all(runs) => sources,
            never = self.parts.pace.keep() => match never {},
        };
        let sources = sources.into_iter().collect::<Option<_>>()?;
        Some(Outcome { sources })
    }

    /// Archives files as the servers close them, until `stop` fires and the work in hand has come to
    /// a safe point.
    ///
    /// # Errors
    /// When no source can be read at the start: then it is the configuration that is wrong.
    pub async fn run(self, stop: &CancellationToken) -> anyhow::Result<()> {
        self.check_sources().await?;
        let mut tasks = JoinSet::new();
        for source in self.config.sources.clone() {
            tasks.spawn(keep_supervising(
                Arc::clone(&self.parts),
                source,
                stop.clone(),
            ));
        }
        tasks.spawn(keep_reporting(Arc::clone(&self.parts), stop.clone()));
        tasks.spawn(keep_following(
            Arc::clone(&self.parts),
            self.config,
            stop.clone(),
        ));
        tasks.spawn(keep_spool_clear(Arc::clone(&self.parts), stop.clone()));
        tokio::select! {
            () = source::end(&mut tasks) => {}
            never = self.parts.pace.keep() => match never {},
        }
        Ok(())
    }

    async fn check_sources(&self) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        for source in &self.config.sources {
            let looked = self.parts.identify(source);
            let looked = looked.and_then(|_| Ok(watch::read_index(source)?));
            match looked.map_err(|error| Problem::of(&error)) {
                Err(problem) if problem.exit == Exit::Usage => problems.push((source, problem)),
                _ => return Ok(()),
            }
        }
        for (source, problem) in problems {
            let mut trouble = Troubles::of_source(&self.parts, &source.name);
            trouble.set(problem).await;
        }
        Err(Failure {
            message: "no source can be archived".to_owned(),
            exit: Exit::Usage,
            hint: Some("the reasons are above, one for each source".to_owned()),
        }
        .into())
    }
}

/// Opens the parts. When that fails, or takes long, what the servers have closed is pinned.
async fn open_parts(
    config: &Config,
    clock: Arc<dyn Clock>,
    include_last: bool,
    meter: Meter,
) -> anyhow::Result<Parts> {
    let mut opening = pin!(Parts::open(config, clock, include_last, meter));
    let opened = tokio::select! {
        opened = &mut opening => Some(opened),
        () = tokio::time::sleep(PIN_AFTER) => None,
    };
    if let Some(Ok(parts)) = opened {
        return Ok(parts);
    }
    let config = config.clone();
    tokio::task::spawn_blocking(move || pin_all_unclaimed(&config)).await?;
    match opened {
        Some(opened) => opened,
        None => opening.await,
    }
}

/// A panic is a bug, and a bug in the work on one source must not end the work on the others.
async fn keep_supervising(parts: Arc<Parts>, source: SourceConfig, stop: CancellationToken) {
    loop {
        let work = source::supervise(Arc::clone(&parts), source.clone(), stop.clone());
        let Err(error) = AbortOnDropHandle::new(tokio::spawn(work)).await else {
            return;
        };
        tracing::error!(source = source.name, %error, "its supervisor ended: please report this");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AFTER_PANIC) => {}
        }
    }
}
