//! Lets go of pins and sealed objects once their files are committed everywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::archive::ObjectIdentity;
use crate::pipeline::{Pipeline, PipelineError};
use crate::queue::Queue;

/// The spool is cleared this often at most, and this soon after a commit.
const CLEAR_EVERY: Duration = Duration::from_secs(1);

/// Lets go of files soon after they are committed everywhere.
pub(super) async fn keep_spool_clear(
    queue: Arc<Queue>,
    pipeline: Arc<Pipeline>,
    stop: CancellationToken,
) {
    let mut seen = 0;
    loop {
        if let Err(error) = clear_spool(&pipeline).await {
            let error = anyhow::Error::from(error);
            tracing::warn!(
                error = format!("{error:#}"),
                "the spool could not be cleared"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            done = queue.committed_after(seen) => seen = done,
        }
        tokio::time::sleep(CLEAR_EVERY).await;
    }
}

/// Clears what can be cleared now.
pub(super) async fn clear_spool(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let destinations: Vec<_> = pipeline.stores.keys().copied().collect();
    for key in pipeline.ledger.sealed_files().await? {
        let Some(source) = pipeline.sources.get(&key.source) else {
            continue;
        };
        if !pipeline.ledger.is_committed_at(key, &destinations).await? {
            continue;
        }
        if let Some(file) = pipeline.ledger.file(key).await? {
            pipeline.spool.clear(&ObjectIdentity {
                source: source.identity.clone(),
                sequence: key.sequence,
                file_name: file.name,
            })?;
        }
        pipeline.ledger.clear_sealed(key).await?;
    }
    Ok(())
}
