//! Order, turns, waking and stopping.

use std::time::{Duration, Instant};

use engine::clock::SystemClock;
use engine::layout::Sequence;
use engine::ledger::{ArchiveJob, ImportedCommit, JobStatus, Ledger, Route};
use engine::queue::{Enqueued, QueueConfig, QueueError, SAFETY_POLL};
use engine::retry::RetryClass;
use jiff::Timestamp;

use crate::bench::{Act, Bench, CONFIG, Raw, claim, committed, identity, open, scripted};

on_both![
    files_are_committed_in_sequence_whatever_fails_on_the_way,
    queuing_a_file_twice_is_harmless,
    a_job_is_stored_as_it_is_read,
    a_resting_lane_wakes_when_a_file_is_queued,
    a_stalled_file_holds_up_its_route_and_no_other,
    a_file_queued_late_goes_before_one_that_waits_for_it,
    jobs_move_when_the_number_of_lanes_changes,
    a_file_goes_on_when_the_one_before_is_found_committed_in_the_bucket,
    stopping_cancels_the_work_and_counts_no_attempt,
    lanes_may_join_later_and_run_again,
];

const SOON: RetryClass = RetryClass::After(Duration::ZERO);

async fn files_are_committed_in_sequence_whatever_fails_on_the_way(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue(1..=60).await;
    let (handler, log) = scripted(|sequence, attempt| match (sequence * 7 + 3) % 10 {
        0 if attempt == 1 => Act::Fail(SOON),
        1 if attempt <= 2 && sequence < 30 => Act::Panic,
        _ => Act::Succeed,
    });
    let settled = opened.run(handler).settle_and_stop().await;
    assert!(settled.is_clean(), "{settled:?}");
    assert_eq!(settled.done, 60);
    assert_eq!(log.entries(), (1..=60).collect::<Vec<_>>());
    assert_eq!(opened.watermark().await, Some(60));
    assert_eq!(opened.jobs().await, [], "done jobs leave no row");
    for lane in 0..4 {
        let starts: Vec<u64> = log.attempts().into_iter().map(|(s, _)| s).collect();
        let lane: Vec<u64> = starts.into_iter().filter(|s| s % 4 == lane).collect();
        assert!(
            lane.is_sorted(),
            "a lane began a file before the one ahead of it: {lane:?}"
        );
    }
}

async fn queuing_a_file_twice_is_harmless(bench: Bench) {
    let opened = bench.open().await;
    let files: Vec<_> = (1..=9).map(|s| opened.file(s)).collect();
    let to = [opened.destination];
    let first = opened.queue.enqueue(&files, &to).await.unwrap();
    assert_eq!(first, Enqueued { files: 9, jobs: 9 });
    let again = opened.queue.enqueue(&files, &to).await.unwrap();
    assert_eq!(again, Enqueued::default());
    let (handler, log) = scripted(|_, _| Act::Succeed);
    opened.run(handler).settle_and_stop().await;
    let done = opened.queue.enqueue(&files, &to).await.unwrap();
    assert_eq!(
        done,
        Enqueued::default(),
        "committed files are not queued again"
    );
    assert_eq!(log.entries().len(), 9);
}

/// What SQL writes is what the program would write.
async fn a_job_is_stored_as_it_is_read(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue([123]).await;
    let stored: Vec<u8> = match bench.raw().await {
        Raw::Sqlite(pool) => sqlx::query_scalar("SELECT job FROM Jobs")
            .fetch_one(&pool)
            .await
            .unwrap(),
        Raw::Postgres(pool) => sqlx::query_scalar("SELECT job FROM jobs")
            .fetch_one(&pool)
            .await
            .unwrap(),
    };
    let job = ArchiveJob::new(opened.route(), Sequence(123));
    assert_eq!(stored, serde_json::to_vec(&job).unwrap());
    let listed = opened.jobs().await.remove(0);
    assert_eq!(listed.lane, job.lane(CONFIG.lanes));
    assert_eq!(listed.sequence, job.sequence);
    assert_eq!(listed.file_name.as_deref(), Some("binlog.000123"));
}

async fn a_resting_lane_wakes_when_a_file_is_queued(bench: Bench) {
    let opened = bench.open().await;
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let running = opened.run(handler);
    assert!(running.settled().await.is_clean());
    let before = Instant::now();
    opened.enqueue([1]).await;
    let settled = running.settle_and_stop().await;
    assert_eq!(settled.done, 1);
    let took = before.elapsed();
    assert!(took < SAFETY_POLL, "woken by the poll only: {took:?}");
}

async fn a_stalled_file_holds_up_its_route_and_no_other(bench: Bench) {
    let opened = bench.open().await;
    let other = opened
        .queue
        .ledger()
        .destination("s3://elsewhere")
        .await
        .unwrap();
    let files: Vec<_> = (1..=8).map(|s| opened.file(s)).collect();
    let to = [opened.destination, other];
    opened.queue.enqueue(&files, &to).await.unwrap();
    let stalls_at = opened.destination;
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let handler = crate::retries::RefusedAt {
        destination: stalls_at,
        sequence: 3,
        inner: handler,
    };
    let routes = [opened.destination, other].map(|destination| Route {
        source: opened.source,
        destination,
    });
    let settled = opened
        .run_routes(routes.to_vec(), handler)
        .settle_and_stop()
        .await;
    assert_eq!(opened.watermark().await, Some(2));
    let elsewhere = opened.queue.ledger().watermark(opened.source, other).await;
    assert_eq!(elsewhere.unwrap().unwrap().0, 8);
    assert_eq!(settled.stalled.len(), 1);
    assert_eq!(settled.stalled[0].sequence.0, 3);
    let mut waiting: Vec<u64> = settled.waiting.iter().map(|(_, s)| s.0).collect();
    waiting.sort_unstable();
    assert_eq!(
        waiting,
        [4, 5, 6],
        "the lanes behind it are done with all but their turn"
    );

    let status = opened.queue.ledger().status().await.unwrap();
    let here = &status[0].destinations;
    let here = here.iter().find(|d| d.destination == stalls_at).unwrap();
    assert_eq!((here.queued, here.stalled), (6, 1));
    let failing = here.failing.as_ref().unwrap();
    assert_eq!(failing.file_name.as_deref(), Some("binlog.000003"));
    assert_eq!(failing.failure.class, RetryClass::Never);
}

/// With one lane, the later file holds the lane while it waits for the earlier one: it must let go.
async fn a_file_queued_late_goes_before_one_that_waits_for_it(bench: Bench) {
    let one_lane = QueueConfig { lanes: 1, ..CONFIG };
    let opened = bench.open_with(one_lane).await;
    opened.enqueue([2]).await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let running = opened.run(handler);
    let settled = running.settled().await;
    assert_eq!(
        settled.waiting.len(),
        1,
        "2 waits for 1, which is not queued"
    );
    opened.enqueue([1]).await;
    let settled = running.settle_and_stop().await;
    assert!(settled.is_clean(), "{settled:?}");
    assert_eq!(log.entries(), [1, 2]);
    assert_eq!(
        log.attempts(),
        [(2, 1), (1, 1), (2, 1)],
        "letting go is no failed attempt"
    );
}

async fn jobs_move_when_the_number_of_lanes_changes(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue(1..=20).await;
    drop(opened);
    for lanes in [7, 2] {
        let opened = bench.open_with(QueueConfig { lanes, ..CONFIG }).await;
        let (handler, log) = scripted(|_, _| Act::Hang);
        let running = opened.run(handler);
        log.wait_for_attempts(1).await;
        for job in opened.jobs().await {
            assert_eq!(u64::from(job.lane.lane), job.sequence.0 % u64::from(lanes));
        }
        running.stop().await;
        opened.enqueue(1..=20).await;
        assert_eq!(opened.jobs().await.len(), 20, "and none is doubled");
    }
    let opened = bench.open().await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    assert!(opened.run(handler).settle_and_stop().await.is_clean());
    assert_eq!(log.entries(), (1..=20).collect::<Vec<_>>());
}

async fn a_file_goes_on_when_the_one_before_is_found_committed_in_the_bucket(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue([2]).await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let running = opened.run(handler);
    assert_eq!(running.settled().await.waiting.len(), 1);
    let found = ImportedCommit {
        sequence: Sequence(1),
        name: "binlog.000001".to_owned(),
        committed: committed(1),
        committed_at: Timestamp::now(),
    };
    let ledger = opened.queue.ledger();
    ledger
        .import_commits(opened.source, opened.destination, &[found])
        .await
        .unwrap();
    opened.queue.catch_up(opened.route()).await.unwrap();
    assert!(running.settle_and_stop().await.is_clean());
    assert_eq!(log.entries(), [2]);
    assert_eq!(opened.watermark().await, Some(2));
}

/// An idle archiver must neither wear out a disk nor keep it from sleeping.
#[tokio::test(flavor = "multi_thread")]
async fn resting_lanes_write_nothing() {
    let bench = Bench::sqlite();
    let opened = bench.open().await;
    opened.enqueue([1, 2]).await;
    let (handler, _) = scripted(|sequence, _| match sequence {
        2 => Act::Fail(RetryClass::Never),
        _ => Act::Succeed,
    });
    let running = opened.run(handler);
    running.settled().await;
    let mut raw = bench.raw().await.sqlite().acquire().await.unwrap();
    let version = || sqlx::query_scalar::<_, i64>("PRAGMA data_version");
    let before = version().fetch_one(&mut *raw).await.unwrap();
    tokio::time::sleep(SAFETY_POLL + Duration::from_millis(200)).await;
    let after = version().fetch_one(&mut *raw).await.unwrap();
    assert_eq!(before, after);
    running.stop().await;
}

async fn stopping_cancels_the_work_and_counts_no_attempt(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue([1, 2]).await;
    let (handler, log) = scripted(|sequence, _| match sequence {
        1 => Act::Hang,
        _ => Act::Succeed,
    });
    let running = opened.run(handler);
    log.wait_for_attempts(2).await;
    running.stop().await;
    let jobs = opened.jobs().await;
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
    }
    assert_eq!(opened.watermark().await, None);
}

/// A destination that can be reached later joins later; and one source's lanes may end and begin again.
async fn lanes_may_join_later_and_run_again(bench: Bench) {
    let opened = bench.open().await;
    let ledger = opened.queue.ledger();
    let later = ledger.destination("s3://later").await.unwrap();
    let files: Vec<_> = (1..=12).map(|s| opened.file(s)).collect();
    let to = [opened.destination, later];
    opened.queue.enqueue(&files, &to).await.unwrap();

    let (handler, log) = scripted(|_, _| Act::Succeed);
    let here = opened.run(handler);
    let settled = here.settled().await;
    assert_eq!((settled.done, settled.is_clean()), (12, true));
    let route = Route {
        source: opened.source,
        destination: later,
    };
    let (handler, other) = scripted(|_, _| Act::Succeed);
    let there = opened.run_routes(vec![route], handler);
    assert_eq!(there.settled().await.done, 12);
    assert_eq!((log.entries().len(), other.entries().len()), (12, 12));

    // What runs cannot run twice.
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let (ownership, handler) = (&opened.ownership, std::sync::Arc::new(handler));
    let stop = tokio_util::sync::CancellationToken::new();
    let queue = &opened.queue;
    let again = queue
        .run(ownership, opened.source, &to, handler, stop)
        .await;
    assert!(
        matches!(again, Err(QueueError::Running { .. })),
        "{again:?}"
    );
    assert_eq!(here.settled().await.done, 12, "and went on running");

    here.stop().await;
    opened.enqueue([13]).await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    assert_eq!(opened.run(handler).settle_and_stop().await.done, 13);
    assert_eq!(log.entries(), [13]);
    there.stop().await;
}

/// Its lanes stop, and write nothing but what is committed already.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn lanes_stop_when_the_ownership_is_lost() {
    let mut bench = Bench::postgres();
    bench
        .server()
        .sql("postgres", "CREATE ROLE archiver LOGIN SUPERUSER");
    let url = bench.server().url_of("archiver", "ledger");
    let ledger = Ledger::open(bench.url()).await.unwrap();
    let clock = std::sync::Arc::new(SystemClock);
    let opened = open(&url, ledger, CONFIG, clock).await;
    opened.enqueue(1..=8).await;
    // Each waits for the one before, the first for ever.
    let (handler, log) = scripted(|sequence, _| match sequence {
        1 => Act::Hang,
        _ => Act::Succeed,
    });
    let mut running = opened.run(handler);
    log.wait_for_attempts(4).await;
    bench
        .server()
        .sql("postgres", "ALTER ROLE archiver NOLOGIN");
    bench.server().cut_connections();
    let other = claim(bench.url(), &identity()).await;
    bench.server().sql("postgres", "ALTER ROLE archiver LOGIN");
    running.ended().await;
    assert!(opened.ownership.lost().is_cancelled());
    assert!(log.entries().is_empty());
    for job in opened.jobs().await {
        assert_eq!(job.attempts, 0, "nobody's failure");
    }
    drop(opened);

    // The new owner finds the jobs as a crash would have left them.
    drop(other);
    let opened = bench.open().await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    assert!(opened.run(handler).settle_and_stop().await.is_clean());
    assert_eq!(log.entries(), (1..=8).collect::<Vec<_>>());
}
