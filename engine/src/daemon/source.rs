//! Supervises one configured source.
//!
//! # Owns
//! Finding out whose files they are, the claim, standing by while another archiver has them, and the order in which
//! the parts of the work begin and end. Nothing of one source waits for another one, and nothing of one destination for
//! another one.
//!
//! # Invariants
//! - Nothing is pinned, queued or archived before the source is claimed, with one exception: while the database cannot
//!   answer, closed files are pinned under the spool's lock alone.
//! - An end is orderly: lanes come to a safe point, then the spool is cleared, then the claim is dropped.
//!
//! # After a crash
//! The next supervisor begins at the beginning.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::beside::Beside;
use super::destination::{Opened, serve};
use super::outcome::Problem;
use super::parts::{Claimed, Parts};
use super::predecessor::drain_all;
use super::tenure::Tenure;
use super::trouble::Troubles;
use super::watching::Watching;
use crate::config::SourceConfig;
use crate::layout::SourceIdentity;
use crate::queue::backoff_within;

/// How often an archiver that stands by asks for the source.
pub(super) const STANDBY_POLL: Duration = Duration::from_millis(500);

/// Bound of the first delay before a source that cannot be taken up is tried again; it doubles with each failure.
const RETRY_BASE: Duration = Duration::from_secs(1);

/// The bound grows no further.
const RETRY_CAP: Duration = Duration::from_secs(10);

/// What came of a wish to take up a source.
#[derive(Debug)]
pub(super) enum Begun {
    Ours(Tenure),
    /// Another archiver has it.
    Held {
        identity: SourceIdentity,
        by: String,
    },
}

/// Why the work on a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    Lost,
    OtherServer,
}

/// Archives a source for as long as the archiver runs.
pub(super) async fn supervise(parts: Arc<Parts>, config: SourceConfig, stop: CancellationToken) {
    let mut trouble = Troubles::of_source(&parts, &config.name);
    let mut stands_by = None;
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        let begun = tokio::select! {
            () = stop.cancelled() => return,
            begun = begin(&parts, &config) => begun,
        };
        let pause = match begun {
            Ok(Begun::Ours(tenure)) => {
                failures = 0;
                let (source, identity) = (&config.name, tenure.identity.clone());
                if stands_by.take().is_some() {
                    tracing::info!(source, %identity, "taken over");
                }
                match archive(tenure, &config, &mut trouble, &stop).await {
                    Ended::Stopped => return,
                    Ended::OtherServer => {
                        tracing::warn!(source, was = %identity, "the server has another server_uuid");
                    }
                    Ended::Lost => tracing::error!(source, %identity, "no longer the owner"),
                }
                STANDBY_POLL
            }
            Ok(Begun::Held { identity, by }) => {
                if stands_by.as_ref() != Some(&identity) {
                    tell_held(&config.name, &identity, &by);
                }
                stands_by = Some(identity);
                STANDBY_POLL
            }
            Err(error) => {
                trouble.set(Problem::of(&error)).await;
                parts.pin_unclaimed(&config).await;
                failures = failures.saturating_add(1);
                backoff_within(RETRY_BASE, RETRY_CAP, failures)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn tell_held(source: &str, identity: &SourceIdentity, by: &str) {
    tracing::warn!(
        source,
        %identity,
        by,
        hint = "nothing, if this archiver is to take over when that one ends; otherwise stop one of them",
        "archived by another archiver: standing by"
    );
}

/// Takes up a source if it is free.
///
/// # Errors
/// When whose files they are cannot be told, and what database and spool say.
pub(super) async fn begin(parts: &Arc<Parts>, config: &SourceConfig) -> anyhow::Result<Begun> {
    let identity = parts.identify(config)?;
    let right = match parts.try_claim(&identity).await? {
        Claimed::Ours(right) => right,
        Claimed::Held { by } => return Ok(Begun::Held { identity, by }),
    };
    let tenure = Tenure::begin(Arc::clone(parts), &config.name, identity, right).await?;
    Ok(Begun::Ours(tenure))
}

/// Archives a source until it is told to stop, the source is lost, or the server is another one.
async fn archive(
    tenure: Tenure,
    config: &SourceConfig,
    trouble: &mut Troubles,
    stop: &CancellationToken,
) -> Ended {
    // Before anything can fail that is far away. Why something is not pinned is told by the scans.
    let _ = tenure.pin_closed(config).await;
    let asked_to_stop = stop;
    let stop = stop.child_token();
    let tenure = Arc::new(tenure);
    let opened = watch::Sender::new(Opened::new());
    let openings = opened.subscribe();
    let mut tasks = JoinSet::new();
    tasks.spawn(drain_all(Arc::clone(&tenure), config.clone(), stop.clone()));
    for destination in tenure.parts.destinations.clone() {
        let url = destination.store.url();
        let trouble = Troubles::of_destination(&tenure.parts, &tenure.name, url);
        let (tenure, opened, stop) = (Arc::clone(&tenure), opened.clone(), stop.clone());
        tasks.spawn(serve(tenure, destination, trouble, opened, stop));
    }
    match Beside::new(Arc::clone(&tenure), config) {
        Some(beside) => {
            tasks.spawn(beside.run(stop.clone()));
        }
        None => tenure.forget_server().await,
    }
    let ended = tokio::select! {
        () = asked_to_stop.cancelled() => Ended::Stopped,
        () = tenure.lost().cancelled() => Ended::Lost,
        () = Watching::new(&tenure, config, trouble).run(openings) => Ended::OtherServer,
        ended = panicked(&mut tasks) => ended,
    };
    stop.cancel();
    end(&mut tasks).await;
    if ended != Ended::Lost {
        tenure.clear_spool().await;
    }
    ended
}

/// Goes on with the panic of one of the tasks; they do not end otherwise before they are told to.
async fn panicked(tasks: &mut JoinSet<()>) -> Ended {
    while let Some(joined) = tasks.join_next().await {
        pass_panic_on(joined);
    }
    std::future::pending().await
}

/// Waits for tasks that were told to stop.
pub(super) async fn end(tasks: &mut JoinSet<()>) {
    while let Some(joined) = tasks.join_next().await {
        pass_panic_on(joined);
    }
}

fn pass_panic_on(joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
