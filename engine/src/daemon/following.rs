//! Follows the older jobs of parallel runs: a manifest may be gone before a person asks for the report.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use crate::config::Config;
use crate::ledger::LedgerError;
use crate::older_job::follow;
use crate::parity::report;
use crate::parity::verdict::Verdict;

/// Manifests are looked at this often.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Looks at the manifests of every run of a source that this process owns, until `stop` fires.
pub(super) async fn keep_following(parts: Arc<Parts>, config: Config, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = look(&parts, &config) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What fails is kept with the run, and shown by its report. How the runs stand is shown among the metrics.
async fn look(parts: &Parts, config: &Config) {
    match follow_all(parts, config).await {
        Ok(judged) => parts.meter.parity(&judged),
        Err(error) => {
            let error = crate::exit::chain(&error);
            tracing::info!(error, "parallel runs are not followed for a while");
        }
    }
}

/// How the runs stand that are under way, by the names of their sources.
async fn follow_all(parts: &Parts, config: &Config) -> Result<Vec<(String, Verdict)>, LedgerError> {
    let mut judged = Vec::new();
    let sources = parts.ledger.sources().await?;
    for run in parts.ledger.parity_runs().await? {
        if run.finished_at.is_some() || !parts.owned().contains_key(&run.source) {
            continue;
        }
        let now = parts.clock.now();
        if let Err(error) = follow::look(&parts.ledger, config, &run, now).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the older job's manifests cannot be read"
            );
        }
        // As it was looked at just now.
        let runs = parts.ledger.parity_runs().await?;
        let looked = runs.into_iter().find(|looked| looked.source == run.source);
        let named = sources.iter().find(|source| source.id == run.source);
        if let Some((run, source)) = looked.zip(named) {
            let (_, verdict) = report::of(&parts.ledger, &run, now).await?;
            judged.push((source.name.clone(), verdict));
        }
    }
    Ok(judged)
}
