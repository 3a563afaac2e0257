//! Reports this archiver to the ledger for as long as it runs: who it is, what it owns, what its spool holds.
//!
//! A report that cannot be written is not missed by anyone but `gtide status`, which then shows the agent as silent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use crate::exit;
use crate::ledger::{AgentReport, Paused, REPORT_EVERY, SourceId};
use crate::spool::SpoolError;

/// A source that was taken or lost is reported this soon.
const LOOK: Duration = Duration::from_secs(1);

/// Reports until `stop` fires, then takes the report back. An archiver that only stands by has nothing to report: its
/// spool may be that of the one that works.
pub(super) async fn keep_reporting(parts: Arc<Parts>, stop: CancellationToken) {
    let started = parts.clock.now();
    let every = Duration::try_from(REPORT_EVERY).unwrap_or_default();
    // What was reported last, and when.
    let mut reported: Option<(BTreeSet<SourceId>, Instant)> = None;
    loop {
        let owned: BTreeSet<_> = parts.owned().keys().copied().collect();
        if owned.is_empty() {
            if reported.take().is_some() {
                retire(&parts, started).await;
            }
        } else if reported
            .as_ref()
            .is_none_or(|(last, at)| last != &owned || at.elapsed() >= every)
        {
            report(&parts, started).await;
            reported = Some((owned, Instant::now()));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    if reported.is_some() {
        retire(&parts, started).await;
    }
}

async fn retire(parts: &Arc<Parts>, started: Timestamp) {
    if let Ok(last) = compose(parts, started).await
        && let Err(error) = parts.ledger.retire_agent(&last).await
    {
        let error = exit::chain(&error);
        tracing::info!(error, "this agent is shown until it grows old");
    }
}

async fn report(parts: &Arc<Parts>, started: Timestamp) {
    let report = match compose(parts, started).await {
        Ok(report) => report,
        Err(error) => {
            tracing::warn!(error = exit::chain(&error), "the spool cannot be counted");
            return;
        }
    };
    if let Err(error) = parts.ledger.report_agent(&report, parts.clock.now()).await {
        tracing::info!(error = exit::chain(&error), "not reported");
    }
}

async fn compose(parts: &Arc<Parts>, started: Timestamp) -> Result<AgentReport, SpoolError> {
    let spool = parts.spool.clone();
    let counted = tokio::task::spawn_blocking(move || spool.usage()).await;
    let usage = match counted {
        Ok(usage) => usage?,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and drops this task at its next await.
            Err(_) => std::future::pending().await,
        },
    };
    Ok(AgentReport {
        host: parts.host.clone(),
        spool: parts.spool_dir.display().to_string(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        sources: parts.owned().keys().copied().collect(),
        pinned_files: usage.pinned_files,
        pinned_bytes: usage.pinned_bytes,
        sealed_files: usage.sealed_files,
        sealed_bytes: usage.sealed_bytes,
        free_bytes: usage.free,
        paused: usage.paused.map(|paused| Paused {
            since: paused.since,
            needed_bytes: paused.needed,
        }),
    })
}
