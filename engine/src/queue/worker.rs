//! One lane's apalis worker, and the loop that builds it again whenever it ends.
//!
//! apalis's worker ends with the first error of its backend: a busy database, a full disk. Its own monitor
//! would restart it at once and for ever; here it comes back after [`RESTART_DELAY`], under a new name.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apalis::prelude::WorkerBuilderExt;
use apalis_core::error::WorkerError;
use apalis_core::task::attempt::Attempt;
use apalis_core::worker::builder::WorkerBuilder;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::ahead::Ahead;
use super::board::RESTARTS_UNTIL_DOWN;
use super::failure::{JobFailure, Reported};
use super::handler::JobRun;
use super::lane::{Lane, LaneBackend};
use crate::ledger::{ArchiveJob, Committed, JOB_VERSION};
use crate::retry::RetryClass;

/// Between the end of a lane's worker and the next one.
pub const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Runs a lane until it is told to stop and its job, if it has one, has ended.
pub(super) async fn supervise(lane: Arc<Lane>) {
    let mut incarnation: u64 = 0;
    while !lane.stop.is_cancelled() {
        incarnation += 1;
        let worker = tokio::spawn(run(Arc::clone(&lane), incarnation));
        // Not lost when this future is dropped, nor when the worker itself panics.
        let error = match AbortOnDropHandle::new(worker).await {
            Ok(Ok(())) => break,
            // apalis prints the backend's error without its causes.
            Ok(Err(WorkerError::BackendError(error))) => text(error.as_ref()),
            Ok(Err(error)) => text(&error),
            Err(error) => JobFailure::of_join(error).message,
        };
        tell(&lane, &error);
        tokio::select! {
            () = lane.stop.cancelled() => {}
            () = tokio::time::sleep(RESTART_DELAY) => {}
        }
    }
    lane.ahead.end(lane.shutdown_grace).await;
    // A job may have been taken and not delivered. The next start would release it as well.
    if let Err(error) = lane.release().await {
        tracing::debug!(lane = %lane.name, error = text(&error), "not released");
    }
}

/// A person hears of a trouble's beginning and of its lasting, not of every attempt.
fn tell(lane: &Lane, error: &str) {
    let (name, source) = (lane.name, &lane.labels.source);
    let mut restarts = 0;
    lane.board
        .send_modify(|board| restarts = board.down(name, error.to_owned()));
    match restarts {
        1 => {
            tracing::warn!(lane = %name, %source, error, "a lane's worker ended; it is built again");
        }
        RESTARTS_UNTIL_DOWN => {
            tracing::warn!(lane = %name, %source, error, "a lane is down; it is tried again and again");
        }
        _ => tracing::debug!(lane = %name, %source, error, restarts, "a lane's worker ended again"),
    }
}

async fn run(lane: Arc<Lane>, incarnation: u64) -> Result<(), WorkerError> {
    let name = format!("{}@{}.{incarnation}", lane.name, std::process::id());
    let stop = lane.stop.clone();
    let backend = LaneBackend::new(Arc::clone(&lane));
    WorkerBuilder::new(name)
        .backend(backend)
        // Not an option: with two jobs under way the lane would neither keep order nor acknowledge.
        .concurrency(1)
        .build(move |job: Vec<u8>, attempt: Attempt| deliver(Arc::clone(&lane), job, attempt))
        .run_until(async move {
            stop.cancelled().await;
            Ok::<(), WorkerError>(())
        })
        .await
}

/// Brings a job to the handler and its outcome back.
async fn deliver(
    lane: Arc<Lane>,
    stored: Vec<u8>,
    attempt: Attempt,
) -> Result<Committed, Reported> {
    let job = parse(&stored).map_err(Reported)?;
    let (halfway, heard) = oneshot::channel();
    Ahead::follow(&lane, job.sequence, heard);
    let run = JobRun {
        attempt: u32::try_from(attempt.current()).unwrap_or(u32::MAX),
        lane: lane.name,
        sequence: job.sequence,
        cancel: lane.stop.child_token(),
        board: Arc::clone(&lane.board),
        ownership: Arc::clone(&lane.ownership),
        halfway: Mutex::new(Some(halfway)),
    };
    let source = &lane.labels.source;
    // Who reads the file's row says its name.
    let file = tracing::field::Empty;
    let span =
        tracing::info_span!("archive", %source, file, lane = %lane.name, attempt = run.attempt);
    let handler = Arc::clone(&lane.handler);
    let work = async move { handler.archive(&job, &run).await }.instrument(span);
    let outcome = lane.shield.run(&stored, &lane.stop, work).await;
    outcome.map_err(Reported)
}

/// Reads a job. One that this program cannot read stalls: it needs a newer program, or a person.
pub(super) fn parse(stored: &[u8]) -> Result<ArchiveJob, JobFailure> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let never = |e: serde_json::Error| {
        JobFailure::new(format!("read the stored job: {e}"), RetryClass::Never)
    };
    let Versioned { version } = serde_json::from_slice(stored).map_err(never)?;
    if version != JOB_VERSION {
        let message = format!(
            "the job was stored in version {version}, this program reads version {JOB_VERSION}: \
             run the newer one"
        );
        return Err(JobFailure::new(message, RetryClass::Never));
    }
    serde_json::from_slice(stored).map_err(never)
}

fn text(error: &(dyn Error + 'static)) -> String {
    crate::exit::chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Sequence;
    use crate::ledger::{DestinationId, Route, SourceId};

    /// Stored in databases: version 1 must be read for ever.
    #[test]
    fn golden_job() {
        let stored = br#"{"version":1,"source":1,"destination":2,"sequence":123}"#;
        let route = Route {
            source: SourceId(1),
            destination: DestinationId(2),
        };
        let job = ArchiveJob::new(route, Sequence(123));
        assert_eq!(serde_json::to_vec(&job).unwrap(), stored);
        assert_eq!(parse(stored), Ok(job));
    }

    #[test]
    fn jobs_that_cannot_be_read_need_a_person() {
        let newer = parse(br#"{"version":2,"whatever":true}"#).unwrap_err();
        assert_eq!(newer.class, RetryClass::Never);
        assert!(newer.message.contains("version 2"), "{newer}");
        for stored in [&b"not json"[..], br#"{"version":1}"#, b""] {
            assert_eq!(parse(stored).unwrap_err().class, RetryClass::Never);
        }
    }
}
