//! Follows the older jobs of parallel runs: a manifest may be gone before a person asks for the report.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use crate::config::Config;
use crate::older_job::follow;

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

/// What fails is kept with the run, and shown by its report.
async fn look(parts: &Parts, config: &Config) {
    let runs = match parts.ledger.parity_runs().await {
        Ok(runs) => runs,
        Err(error) => {
            let error = crate::exit::chain(&error);
            tracing::info!(error, "parallel runs are not followed for a while");
            return;
        }
    };
    for run in runs.iter().filter(|run| run.finished_at.is_none()) {
        if !parts.owned().contains_key(&run.source) {
            continue;
        }
        let now = parts.clock.now();
        if let Err(error) = follow::look(&parts.ledger, config, run, now).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the older job's manifests cannot be read"
            );
        }
    }
}
