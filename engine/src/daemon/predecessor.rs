//! Earlier identities of a configured source: the server has another `server_uuid` now, or `incarnation` was raised.
//! Nobody watches them any more; what is queued or pinned of them is archived all the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::destination::{Opened, serve};
use super::parts::{Claimed, Parts};
use super::source::STANDBY_POLL;
use super::tenure::Tenure;
use super::trouble::Troubles;
use crate::config::SourceConfig;
use crate::layout::SourceIdentity;
use crate::queue::backoff_within;
use crate::watch::{Inode, present_inodes};

/// Between two looks at what is left of a source that is not watched any more.
const DRAIN_POLL: Duration = Duration::from_secs(5);

/// Bound of the first delay after a failure; it doubles with each.
const RETRY_BASE: Duration = Duration::from_secs(1);

/// The bound grows no further.
const RETRY_CAP: Duration = Duration::from_mins(1);

/// The earlier identities of a source of which files are queued or pinned.
///
/// # Errors
/// What database and spool say.
async fn predecessors(tenure: &Tenure) -> anyhow::Result<Vec<SourceIdentity>> {
    let parts = &tenure.parts;
    let mut found = Vec::new();
    for source in parts.ledger.sources().await? {
        let identity = source.identity;
        let is_of_this_name = source.name == tenure.name
            && identity.cluster == tenure.identity.cluster
            && !parts.is_configured(&identity);
        if is_of_this_name
            && (parts.queued(source.id).await? > 0 || !parts.spool.pinned(&identity)?.is_empty())
        {
            found.push(identity);
        }
    }
    Ok(found)
}

/// Archives what is left of the predecessors of a source, until nothing is queued of them or `stop` fires.
pub(super) async fn drain_all(tenure: Arc<Tenure>, config: SourceConfig, stop: CancellationToken) {
    let mut failures = 0u32;
    let (found, present) = loop {
        match look(&tenure, &config).await {
            Ok(found) => break found,
            Err(error) => {
                tracing::info!(
                    source = config.name,
                    error = format!("{error:#}"),
                    "to be looked at again"
                );
                failures = failures.saturating_add(1);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff_within(RETRY_BASE, RETRY_CAP, failures)) => {}
        }
    };
    let drains = found
        .into_iter()
        .map(|identity| drain(&tenure, identity, &present, &stop));
    futures::future::join_all(drains).await;
}

/// The predecessors that are to be drained, and the files of the source that is watched instead.
pub(super) async fn look(
    tenure: &Tenure,
    config: &SourceConfig,
) -> anyhow::Result<(Vec<SourceIdentity>, HashSet<Inode>)> {
    let found = predecessors(tenure).await?;
    if found.is_empty() {
        return Ok((found, HashSet::new()));
    }
    let present = present_inodes(config, &tenure.identity, &tenure.parts.spool)?;
    Ok((found, present))
}

async fn drain(
    successor: &Tenure,
    identity: SourceIdentity,
    present: &HashSet<Inode>,
    stop: &CancellationToken,
) {
    let name = &successor.name;
    let mut failures = 0u32;
    loop {
        let tenure = tokio::select! {
            () = stop.cancelled() => return,
            taken = take(&successor.parts, name, &identity, present) => taken,
        };
        let pause = match tenure {
            Ok(Some(tenure)) => return archive_rest(tenure, stop).await,
            Ok(None) => STANDBY_POLL,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(source = name, %identity, error, "what is left of it cannot be archived yet");
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

/// Takes up a predecessor and queues what is pinned of it; none when another archiver has it.
///
/// # Errors
/// What database and spool say.
pub(super) async fn take(
    parts: &Arc<Parts>,
    name: &str,
    identity: &SourceIdentity,
    present: &HashSet<Inode>,
) -> anyhow::Result<Option<Tenure>> {
    let Claimed::Ours(right) = parts.try_claim(identity).await? else {
        return Ok(None);
    };
    let tenure = Tenure::begin(Arc::clone(parts), name, identity.clone(), right).await?;
    let pins = tenure.pins();
    pins.adopt(present).await?;
    pins.give_up_lost(name, &[]).await?;
    Ok(Some(tenure))
}

async fn archive_rest(tenure: Tenure, stop: &CancellationToken) {
    let (source, identity) = (&tenure.name, &tenure.identity);
    tracing::info!(source, %identity, "archiving what is left of it");
    let stop = stop.child_token();
    let tenure = Arc::new(tenure);
    let mut routes = JoinSet::new();
    for destination in tenure.parts.destinations.clone() {
        let (url, opened) = (destination.store.url(), watch::Sender::new(Opened::new()));
        let trouble = Troubles::of_destination(&tenure.parts, &tenure.name, url).unrecorded();
        let tenure = Arc::clone(&tenure);
        routes.spawn(serve(tenure, destination, trouble, opened, stop.clone()));
    }
    tokio::select! {
        () = drained(&tenure) => {}
        () = stop.cancelled() => {}
        () = tenure.lost().cancelled() => {}
    }
    stop.cancel();
    super::source::end(&mut routes).await;
    tenure.clear_spool().await;
}

/// Waits until nothing is queued and what was pinned is let go.
async fn drained(tenure: &Tenure) {
    loop {
        tokio::time::sleep(DRAIN_POLL).await;
        match tenure.is_drained().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::info!(error = format!("{error:#}"), "to be looked at again"),
        }
    }
}
