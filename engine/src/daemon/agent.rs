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

/// While something is uploaded in parts, that is reported this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What was reported last.
struct Reported {
    /// None where the spool could not be counted.
    report: Option<AgentReport>,
    owned: BTreeSet<SourceId>,
    /// When the spool was counted.
    counted: Instant,
    /// When it was written.
    written: Instant,
}

/// Reports until `stop` fires, then takes the report back. An archiver that only stands by has nothing to report: its
/// spool may be that of the one that works.
pub(super) async fn keep_reporting(parts: Arc<Parts>, stop: CancellationToken) {
    let started = parts.clock.now();
    let every = Duration::try_from(REPORT_EVERY).unwrap_or_default();
    let mut reported: Option<Reported> = None;
    loop {
        let owned: BTreeSet<_> = parts.owned().keys().copied().collect();
        if owned.is_empty() {
            if let Some(last) = reported.take() {
                retire(&parts, last.report).await;
            }
        } else if let Some(last) = reported
            .as_mut()
            .filter(|last| last.owned == owned && last.counted.elapsed() < every)
        {
            progress(&parts, last).await;
        } else {
            let report = report(&parts, started).await;
            let now = Instant::now();
            reported = Some(Reported {
                report,
                owned,
                counted: now,
                written: now,
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    if let Some(last) = reported {
        retire(&parts, last.report).await;
    }
}

async fn retire(parts: &Parts, last: Option<AgentReport>) {
    if let Some(last) = last
        && let Err(error) = parts.ledger.retire_agent(&last).await
    {
        let error = exit::chain(&error);
        tracing::info!(error, "this agent is shown until it grows old");
    }
}

/// A whole report; none when the spool cannot be counted.
async fn report(parts: &Arc<Parts>, started: Timestamp) -> Option<AgentReport> {
    match compose(parts, started).await {
        Ok(report) => {
            write(parts, &report).await;
            Some(report)
        }
        Err(error) => {
            tracing::warn!(error = exit::chain(&error), "the spool cannot be counted");
            None
        }
    }
}

/// The last report with what the uploads have done since, when that is due: nothing is written while none is under way.
async fn progress(parts: &Parts, last: &mut Reported) {
    if last.written.elapsed() < PROGRESS_EVERY {
        return;
    }
    let Some(report) = &mut last.report else {
        return;
    };
    let uploads = parts.uploads.report();
    if uploads != report.uploads {
        report.uploads = uploads;
        write(parts, report).await;
        last.written = Instant::now();
    }
}

async fn write(parts: &Parts, report: &AgentReport) {
    if let Err(error) = parts.ledger.report_agent(report, parts.clock.now()).await {
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
        uploads: parts.uploads.report(),
    })
}
