//! Failures: delays, stalling, panics, and acknowledgements that the database refuses.

use std::time::Duration;

use async_trait::async_trait;
use engine::ledger::{ArchiveJob, Committed, DestinationId, JobStatus};
use engine::queue::{Handler, JobFailure, JobRun, STALLED_RETRY};
use engine::retry::RetryClass;
use jiff::Timestamp;

use crate::harness::{Act, Bench, committed, scripted};

/// Refuses one file at one destination, as a store does that denies access.
#[derive(Debug)]
pub(crate) struct RefusedAt<H> {
    pub(crate) destination: DestinationId,
    pub(crate) sequence: u64,
    pub(crate) inner: H,
}

#[async_trait]
impl<H: Handler> Handler for RefusedAt<H> {
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        if job.route.destination == self.destination && job.sequence.0 == self.sequence {
            return Err(JobFailure::new("access denied", RetryClass::Never));
        }
        self.inner.archive(job, run).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_failures_are_retried_up_to_the_limit_and_then_stall() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue(1..=4).await;
    let (handler, log) = scripted(|sequence, _| match sequence {
        2 => Act::Fail(RetryClass::Backoff),
        _ => Act::Succeed,
    });
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!(settled.done, 1);
    assert_eq!(settled.stalled.len(), 1);
    let stalled = &settled.stalled[0];
    assert_eq!((stalled.sequence.0, stalled.attempts), (2, 3));
    assert_eq!(stalled.failure.message, "no luck with 2");
    let attempts: Vec<_> = log.attempts().into_iter().filter(|a| a.0 == 2).collect();
    assert_eq!(attempts, [(2, 1), (2, 2), (2, 3)]);

    let job = opened.jobs().await.into_iter().find(|j| j.sequence.0 == 2);
    let job = job.unwrap();
    assert_eq!(job.status, JobStatus::Failed);
    let wait = job.run_at.duration_since(Timestamp::now()).as_secs();
    let slow = STALLED_RETRY.as_secs().cast_signed();
    assert!((slow - 30..=slow + 1).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retrying_by_hand_forgives_and_finishes() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue(1..=6).await;
    let (handler, _) = scripted(|sequence, _| match sequence {
        1 => Act::Fail(RetryClass::Never),
        _ => Act::Succeed,
    });
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!((settled.done, settled.stalled.len()), (0, 1));
    drop(opened);

    // The user removed the cause and starts again: without the word, it would wait for minutes.
    let opened = bench.open().await;
    assert_eq!(opened.queue.retry_failed(opened.source).await.unwrap(), 1);
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    assert!(settled.is_clean(), "{settled:?}");
    assert_eq!(settled.done, 6);
    assert!(log.attempts().contains(&(1, 1)), "attempts begin anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_file_is_known_as_such_after_a_restart() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let (handler, _) = scripted(|_, _| Act::Fail(RetryClass::Never));
    opened.run(handler).settle_and_stop().await;
    drop(opened);
    let opened = bench.open().await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!(settled.stalled.len(), 1);
    assert_eq!(log.attempts(), [], "its slow retry is not due");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_goes_on_where_it_was_after_a_restart() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let wait = RetryClass::After(Duration::from_secs(3));
    let (handler, log) = scripted(move |_, _| Act::Fail(wait));
    let running = opened.run(handler);
    let due = loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        match opened.jobs().await.first() {
            Some(job) if job.status == JobStatus::Failed => break job.run_at,
            _ => {}
        }
    };
    running.stop().await;
    drop(opened);
    assert_eq!(log.attempts(), [(1, 1)]);

    let opened = bench.open().await;
    let job = opened.jobs().await.remove(0);
    assert_eq!((job.run_at, job.attempts), (due, 1));
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    assert!(Timestamp::now() >= due, "it ran before its time");
    assert!(settled.is_clean());
    assert_eq!(log.attempts(), [(1, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_handler_is_a_failed_attempt() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let (handler, log) = scripted(|_, attempt| match attempt {
        1 => Act::Panic,
        _ => Act::Fail(RetryClass::Never),
    });
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!(log.attempts(), [(1, 1), (1, 2)]);
    assert_eq!(settled.stalled[0].attempts, 2);
}

/// The job's row and the ledger's commit stand or fall together, and the work that was done is not done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_refuses_the_commit_keeps_the_job() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let raw = bench.raw().await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON commits
                  BEGIN SELECT raise(ABORT, 'disk full'); END";
    sqlx::query(refuse).execute(&raw).await.unwrap();
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let running = opened.run(handler);
    while log.entries().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(opened.watermark().await, None);
    assert_eq!(
        opened.jobs().await.len(),
        1,
        "the job must outlive a failed acknowledgement"
    );

    sqlx::query("DROP TRIGGER refuse")
        .execute(&raw)
        .await
        .unwrap();
    let settled = running.settle_and_stop().await;
    assert!(settled.is_clean(), "{settled:?}");
    assert_eq!(opened.watermark().await, Some(1));
    assert_eq!(opened.jobs().await, []);
    assert_eq!(
        log.attempts(),
        [(1, 1)],
        "the work was under way or done: joined, not repeated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_cannot_write_are_reported_down() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let raw = bench.raw().await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON commits
                  BEGIN SELECT raise(ABORT, 'disk full'); END";
    sqlx::query(refuse).execute(&raw).await.unwrap();
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!(settled.down.len(), 1, "{settled:?}");
    assert!(settled.down[0].1.contains("disk full"), "{settled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_contradicts_the_ledger_stalls_its_job() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    // Another program committed it meanwhile, with other content.
    let ledger = opened.queue.ledger();
    let mut tx = ledger.begin().await.unwrap();
    let key = opened.file(1).key;
    let now = Timestamp::now();
    tx.record_commit(key, opened.destination, &committed(99), now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    let message = &settled.stalled[0].failure.message;
    assert!(message.contains("file 1 is already committed"), "{message}");
    assert_eq!(opened.jobs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_newer_program_stalls_and_says_so() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let raw = bench.raw().await;
    let newer = r#"{"version":2,"source":1,"destination":1,"sequence":1,"priority":"high"}"#;
    sqlx::query("UPDATE Jobs SET job = $1")
        .bind(newer.as_bytes())
        .execute(&raw)
        .await
        .unwrap();
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    let message = &settled.stalled[0].failure.message;
    assert!(message.contains("stored in version 2"), "{message}");
    assert_eq!(log.attempts(), []);
}
