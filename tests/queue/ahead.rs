//! While a lane's job is halfway, the next one is prepared: only that one, and only where nothing is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use engine::ledger::{ArchiveJob, Committed, JobStatus, Pause};
use engine::queue::{Handler, JobFailure, JobRun, QueueConfig};
use engine::retry::RetryClass;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bench::{Act, Bench, CONFIG, Log, PATIENCE, committed, scripted};

on_both![
    only_the_job_that_comes_next_is_prepared_and_it_stays_pending,
    nothing_is_prepared_beside_a_job_that_failed_before,
    nothing_is_prepared_beside_a_job_that_ended_a_process,
    a_job_that_failed_before_is_not_prepared,
    a_lane_that_was_paused_prepares_nothing,
    a_stop_tells_what_is_prepared_and_waits_for_it,
];

const ONE_LANE: QueueConfig = QueueConfig { lanes: 1, ..CONFIG };

/// Long enough for a job to be prepared, if it were.
const A_WHILE: Duration = Duration::from_millis(300);

async fn nothing_prepared_in_a_while(log: &Log) {
    tokio::time::sleep(A_WHILE).await;
    assert!(log.prepared().is_empty(), "{:?}", log.prepared());
}

async fn only_the_job_that_comes_next_is_prepared_and_it_stays_pending(bench: Bench) {
    let opened = bench.open_with(ONE_LANE).await;
    opened.enqueue(1..=4).await;
    let (handler, log) = scripted(|_, _| Act::Hang);
    let running = opened.run(handler);
    log.wait_for_prepared(1).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(log.prepared(), [2]);
    let next = &opened.jobs().await[1];
    let (sequence, status) = (next.sequence.0, next.status);
    assert_eq!(
        (sequence, status, next.attempts),
        (2, JobStatus::Pending, 0)
    );
    running.stop().await;
    assert_eq!(log.attempts(), [(1, 1)]);
}

async fn nothing_is_prepared_beside_a_job_that_failed_before(bench: Bench) {
    let opened = bench.open_with(ONE_LANE).await;
    opened.enqueue(1..=2).await;
    let (handler, log) = scripted(|_, attempt| match attempt {
        1 => Act::Fail(RetryClass::Backoff),
        _ => Act::Hang,
    });
    let running = opened.run(handler);
    log.wait_for_attempts(2).await;
    nothing_prepared_in_a_while(&log).await;
    running.stop().await;
}

/// Were another file prepared beside it, nobody could tell which of the two ends the process.
async fn nothing_is_prepared_beside_a_job_that_ended_a_process(bench: Bench) {
    let opened = bench.open_with(ONE_LANE).await;
    opened.enqueue(1..=2).await;
    // What is left of a process that was killed.
    let running = "UPDATE Jobs SET status = 'Running' WHERE idempotency_key LIKE '%1'";
    bench.raw().await.execute(running, running).await;
    let (handler, log) = scripted(|_, _| Act::Hang);
    let running = opened.run(handler);
    log.wait_for_attempts(1).await;
    nothing_prepared_in_a_while(&log).await;
    running.stop().await;
}

async fn a_job_that_failed_before_is_not_prepared(bench: Bench) {
    let opened = bench.open_with(ONE_LANE).await;
    opened.enqueue([2]).await;
    let (handler, _) = scripted(|_, _| Act::Fail(RetryClass::Never));
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!(settled.stalled.len(), 1);
    opened.enqueue([1]).await;
    let (handler, log) = scripted(|_, _| Act::Hang);
    let running = opened.run(handler);
    log.wait_for_attempts(1).await;
    assert_eq!(log.attempts(), [(1, 1)]);
    nothing_prepared_in_a_while(&log).await;
    running.stop().await;
}

async fn a_lane_that_was_paused_prepares_nothing(bench: Bench) {
    let opened = bench.open_with(ONE_LANE).await;
    opened.enqueue(1..=2).await;
    let handler = Waiting::default();
    let (begun, go_on, log) = (
        Arc::clone(&handler.begun),
        Arc::clone(&handler.go_on),
        handler.log.clone(),
    );
    let running = opened.run(handler);
    begun.notified().await;
    let pause = Pause {
        scope: opened.source.into(),
        by: "dba@db1".to_owned(),
        reason: None,
        since: Timestamp::now(),
    };
    opened.queue.ledger().pause(&pause).await.unwrap();
    go_on.notify_one();
    nothing_prepared_in_a_while(&log).await;
    running.stop().await;
}

/// Is halfway when it is told, and then waits for the end.
#[derive(Debug, Default)]
struct Waiting {
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
    log: Log,
}

#[async_trait]
impl Handler for Waiting {
    async fn archive(&self, _: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        self.begun.notify_one();
        self.go_on.notified().await;
        run.halfway();
        run.cancel().cancelled().await;
        Err(JobFailure::cancelled())
    }

    async fn prepare(&self, job: &ArchiveJob, _: &CancellationToken) {
        self.log.prepare(job);
    }
}

async fn a_stop_tells_what_is_prepared_and_waits_for_it(bench: Bench) {
    let opened = bench.open_with(ONE_LANE).await;
    opened.enqueue(1..=2).await;
    let handler = Lasting::default();
    let (begun, ended) = (Arc::clone(&handler.begun), Arc::clone(&handler.ended));
    let running = opened.run(handler);
    let begun = tokio::time::timeout(PATIENCE, begun.notified());
    begun.await.unwrap();
    running.stop().await;
    assert!(ended.load(Ordering::SeqCst));
}

/// Prepares until it is told to stop, and a little longer. The job before is long done by then.
#[derive(Debug, Default)]
struct Lasting {
    prepared: Notify,
    begun: Arc<Notify>,
    ended: Arc<AtomicBool>,
}

#[async_trait]
impl Handler for Lasting {
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        if job.sequence.0 > 1 {
            run.cancel().cancelled().await;
            return Err(JobFailure::cancelled());
        }
        run.halfway();
        self.prepared.notified().await;
        self.begun.notify_one();
        Ok(committed(job.sequence.0))
    }

    async fn prepare(&self, _: &ArchiveJob, cancel: &CancellationToken) {
        self.prepared.notify_one();
        cancel.cancelled().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.ended.store(true, Ordering::SeqCst);
    }
}
