//! Reports this archiver to the ledger for as long as it runs: who it is, what it owns, what its spool holds.
//!
//! A report that cannot be written is not missed by anyone but `gtide status`, which then shows the agent as silent.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use crate::exit;
use crate::ledger::{AgentReport, Paused, REPORT_EVERY};
use crate::spool::SpoolError;

/// Reports until `stop` fires, then takes the report back. An archiver that only stands by has nothing to report: its
/// spool may be that of the one that works.
pub(super) async fn keep_reporting(parts: Arc<Parts>, stop: CancellationToken) {
    let started = parts.clock.now();
    let every = Duration::try_from(REPORT_EVERY).unwrap_or_default();
    let mut is_reported = false;
    loop {
        if !parts.owned().is_empty() {
            report(&parts, started).await;
            is_reported = true;
        } else if is_reported {
            retire(&parts, started).await;
            is_reported = false;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(every) => {}
        }
    }
    if is_reported {
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
