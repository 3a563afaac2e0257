//! Failures: delays, stalling, panics, and acknowledgements that the database refuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use engine::clock::{Clock, SystemClock};
use engine::ledger::{
    ArchiveJob, Committed, DestinationId, JobFilter, JobStatus, Ledger, MAX_JOBS_LISTED,
};
use engine::queue::{Handler, JobFailure, JobRun, MAX_LANES, QueueConfig, STALLED_RETRY};
use engine::retry::RetryClass;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

use crate::bench::{Act, Bench, CONFIG, PATIENCE, claim, committed, numbered, open, scripted};

on_both![
    transient_failures_are_retried_up_to_the_limit_and_then_stall,
    retrying_by_hand_forgives_and_finishes,
    a_stalled_file_is_known_as_such_after_a_restart,
    a_delay_goes_on_where_it_was_after_a_restart,
    a_panic_in_the_handler_is_a_failed_attempt,
    a_ledger_that_refuses_the_commit_keeps_the_job,
    lanes_that_cannot_write_are_reported_down,
    a_commit_that_contradicts_the_ledger_stalls_its_job,
    a_job_of_a_newer_program_stalls_and_says_so,
    a_file_that_ends_the_archiver_every_time_stalls,
    a_clock_that_jumps_keeps_no_file,
    an_error_that_quotes_a_damaged_file_can_be_stored,
];

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

async fn transient_failures_are_retried_up_to_the_limit_and_then_stall(bench: Bench) {
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

async fn retrying_by_hand_forgives_and_finishes(bench: Bench) {
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

async fn a_stalled_file_is_known_as_such_after_a_restart(bench: Bench) {
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

async fn a_delay_goes_on_where_it_was_after_a_restart(bench: Bench) {
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

async fn a_panic_in_the_handler_is_a_failed_attempt(bench: Bench) {
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
async fn a_ledger_that_refuses_the_commit_keeps_the_job(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let raw = bench.raw().await;
    raw.refuse_commits().await;
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

    raw.execute("DROP TRIGGER refuse", "DROP TRIGGER refuse ON commits")
        .await;
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

async fn lanes_that_cannot_write_are_reported_down(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let raw = bench.raw().await;
    raw.refuse_commits().await;
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!(settled.down.len(), 1, "{settled:?}");
    assert!(settled.down[0].1.contains("disk full"), "{settled:?}");
}

async fn a_commit_that_contradicts_the_ledger_stalls_its_job(bench: Bench) {
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

async fn a_job_of_a_newer_program_stalls_and_says_so(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let raw = bench.raw().await;
    raw.execute(
        r#"UPDATE Jobs SET job = CAST('{"version":2,"sequence":"one"}' AS BLOB)"#,
        r#"UPDATE Jobs SET job = convert_to('{"version":2,"sequence":"one"}', 'UTF8')"#,
    )
    .await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    let message = &settled.stalled[0].failure.message;
    assert!(message.contains("stored in version 2"), "{message}");
    assert_eq!(log.attempts(), []);
}

/// A kill -9 while it works on a file is nobody's failure, but one that comes every time is the file's.
async fn a_file_that_ends_the_archiver_every_time_stalls(bench: Bench) {
    drop(bench.open().await);
    let raw = bench.raw().await;
    for _ in 1..=2 * CONFIG.max_attempts {
        let opened = bench.open().await;
        opened.enqueue([1]).await;
        let (handler, log) = scripted(|_, _| Act::Hang);
        let running = opened.run(handler);
        log.wait_for_attempts(1).await;
        assert_eq!(opened.jobs().await[0].attempts, 0);
        running.stop().await;
        // As a killed archiver leaves it.
        let killed = "UPDATE Jobs SET status = 'Running'";
        raw.execute(killed, killed).await;
    }
    let opened = bench.open().await;
    let (handler, log) = scripted(|_, _| Act::Hang);
    let running = opened.run(handler);
    let settled = running.settled().await;
    assert_eq!(log.attempts(), [], "it waits now");
    let message = &settled.stalled[0].failure.message;
    assert!(message.contains("6 times in a row"), "{message}");
    running.stop().await;
    let status = opened.queue.ledger().status().await.unwrap();
    assert_eq!(status[0].destinations[0].stalled, 1);

    opened.queue.retry_failed(opened.source).await.unwrap();
    let (handler, _) = scripted(|_, _| Act::Succeed);
    assert!(opened.run(handler).settle_and_stop().await.is_clean());
}

/// A clock that is set shifted by some seconds, any time.
#[derive(Debug, Default)]
struct Shifted(AtomicI64);

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// A day forward, a day back: the longest delay that a head may have to wait for by mistake is none.
async fn a_clock_that_jumps_keeps_no_file(bench: Bench) {
    let clock = Arc::new(Shifted::default());
    let ledger = Ledger::open(bench.url()).await.unwrap();
    let opened = open(bench.url(), ledger, CONFIG, clock.clone()).await;
    let long = RetryClass::After(Duration::from_mins(30));
    for (sequence, jump) in [(1, 86_400), (2, -86_400), (3, -86_400)] {
        opened.enqueue([sequence]).await;
        let (handler, log) = scripted(move |_, attempt| match attempt {
            1 => Act::Fail(long),
            _ => Act::Succeed,
        });
        let running = opened.run(handler);
        log.wait_for_attempts(1).await;
        while opened.jobs().await[0].status != JobStatus::Failed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        clock.0.fetch_add(jump, Ordering::SeqCst);
        let settled = running.settle_and_stop().await;
        assert!(settled.is_clean(), "{settled:?}");
        assert_eq!(log.attempts(), [(sequence, 1), (sequence, 2)]);
    }
}

/// PostgreSQL stores no NUL; an error may quote one.
async fn an_error_that_quotes_a_damaged_file_can_be_stored(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let running = opened.run(Quoting);
    let settled = running.settle_and_stop().await;
    let message = &settled.stalled[0].failure.message;
    assert_eq!(message, "unexpected \u{fffd} in 'x'");
    assert_eq!(settled.down, []);
}

#[derive(Debug)]
struct Quoting;

#[async_trait]
impl Handler for Quoting {
    async fn archive(&self, _: &ArchiveJob, _: &JobRun) -> Result<Committed, JobFailure> {
        Err(JobFailure::new("unexpected \0 in 'x'", RetryClass::Never))
    }
}

/// A store that fails hits every lane of every source in the same moment. They must not come back together.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_heads_that_fail_together_come_back_spread_out() {
    const SOURCES: u32 = 16;
    let bench = Bench::sqlite();
    let wide = QueueConfig {
        lanes: MAX_LANES,
        max_attempts: 20,
        ..CONFIG
    };
    let opened = bench.open_with(wide).await;
    let ledger = opened.queue.ledger();
    let to = [opened.destination];
    let mut sources = Vec::new();
    for number in 1..=SOURCES {
        let identity = numbered(number);
        let source = ledger.source(&identity, "primary").await.unwrap();
        let files = (1..=u64::from(MAX_LANES)).map(|sequence| {
            let mut file = opened.file(sequence);
            file.key.source = source;
            file
        });
        let files: Vec<_> = files.collect();
        opened.queue.enqueue(&files, &to).await.unwrap();
        let ownership = match number {
            1 => Arc::clone(&opened.ownership),
            _ => Arc::new(claim(bench.url(), &identity).await),
        };
        sources.push((source, ownership));
    }
    // The ninth failure in a row, whose delay is up to 256 s.
    let eight = "UPDATE Jobs SET attempts = 8";
    bench.raw().await.execute(eight, eight).await;

    let everyone = Arc::new(Barrier::new((SOURCES * MAX_LANES) as usize));
    let stop = CancellationToken::new();
    let mut lanes = tokio::task::JoinSet::new();
    for (source, ownership) in sources {
        let (queue, stop) = (Arc::clone(&opened.queue), stop.clone());
        let handler = Arc::new(Together(Arc::clone(&everyone)));
        lanes.spawn(async move { queue.run(&ownership, source, &to, handler, stop).await });
    }
    let failed = async {
        loop {
            let filter = JobFilter {
                status: Some(JobStatus::Failed),
                limit: MAX_JOBS_LISTED,
                ..JobFilter::default()
            };
            let failed = ledger.jobs(&filter).await.unwrap();
            // All that can be listed of 1,024.
            if failed.len() == MAX_JOBS_LISTED as usize {
                return failed;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let failed = tokio::time::timeout(3 * PATIENCE, failed).await.unwrap();
    stop.cancel();
    while let Some(ended) = lanes.join_next().await {
        ended.unwrap().unwrap();
    }

    let mut per_second: BTreeMap<i64, u32> = BTreeMap::new();
    for job in &failed {
        *per_second.entry(job.run_at.as_second()).or_default() += 1;
    }
    let most = per_second.values().max().unwrap();
    println!("{} seconds, at most {most} in one", per_second.len());
    // Four in a second on average.
    assert!(per_second.len() > 200, "{per_second:?}");
    assert!(*most < 20, "{per_second:?}");
}

/// Fails when all others are about to fail.
#[derive(Debug)]
struct Together(Arc<Barrier>);

#[async_trait]
impl Handler for Together {
    async fn archive(&self, _: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        tokio::select! {
            _ = self.0.wait() => Err(JobFailure::new("503 Slow Down", RetryClass::Backoff)),
            () = run.cancel().cancelled() => Err(JobFailure::cancelled()),
        }
    }
}
