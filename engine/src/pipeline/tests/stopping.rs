//! Told to stop, the work comes to its next safe point, and the next process goes on from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::bench::{Bench, LARGE, SMALL, fixture, object};
use super::recording::{Act, Gate};
use crate::pipeline::seal::{SealError, Sealing};

fn parts(calls: &[String]) -> Vec<&str> {
    let parts = calls.iter().filter(|call| call.starts_with("part "));
    parts.map(String::as_str).collect()
}

#[tokio::test]
async fn a_stop_finishes_the_part_under_way_and_begins_none() {
    let bench = Bench::new();
    let first = bench.open().await;
    first.find(1, &bench.binlog(1, LARGE)).await;
    let gate = Arc::new(Gate::default());
    first.store.on("part 2", 1, Act::Hold(Arc::clone(&gate)));
    let running = first.run().await;
    gate.reached.notified().await;
    running.tell_to_stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open.notify_one();
    running.ended().await;
    let calls = first.store.take_calls();
    assert_eq!(parts(&calls), ["part 1", "part 2"]);
    assert!(!calls.contains(&"complete".to_owned()), "{calls:?}");
    let job = &first.jobs().await[0];
    assert_eq!(job.attempts, 0, "a stop is no failure");
    drop(first);

    let second = bench.open().await;
    second.settle().await;
    let calls = second.store.take_calls();
    let sent = parts(&calls);
    assert!(sent.len() > 3, "the fixture is too small: {calls:?}");
    assert_eq!(sent[0], "part 3", "what was sent is not sent again");
    assert!(!calls.contains(&"begin".to_owned()), "{calls:?}");
    assert_eq!(second.watermark().await, Some(1));
}

#[tokio::test]
async fn a_stop_lets_a_put_be_finished_and_the_next_start_sends_nothing() {
    let bench = Bench::new();
    let first = bench.open().await;
    first.find(1, &bench.binlog(1, SMALL)).await;
    let gate = Arc::new(Gate::default());
    first.store.on("put log", 1, Act::Hold(Arc::clone(&gate)));
    let running = first.run().await;
    gate.reached.notified().await;
    running.tell_to_stop();
    gate.open.notify_one();
    running.ended().await;
    assert_eq!(first.store.take_calls(), ["put log"]);
    drop(first);

    let second = bench.open().await;
    second.settle().await;
    let calls = second.store.take_calls();
    assert!(!calls.contains(&"put log".to_owned()), "{calls:?}");
    assert_eq!(second.watermark().await, Some(1));
}

#[tokio::test]
async fn a_stop_while_the_entry_is_written_still_commits_the_file() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, SMALL)).await;
    let gate = Arc::new(Gate::default());
    let hold = Act::Hold(Arc::clone(&gate));
    opened.store.on("put manifest", 1, hold);
    let running = opened.run().await;
    gate.reached.notified().await;
    running.tell_to_stop();
    gate.open.notify_one();
    running.ended().await;
    assert_eq!(opened.watermark().await, Some(1));
    assert_eq!(opened.jobs().await.len(), 0);
}

#[tokio::test]
async fn what_hangs_is_dropped_after_the_grace_and_taken_up_again() {
    let bench = Bench::new();
    let first = bench.open_with(Duration::from_millis(100)).await;
    first.find(1, &bench.binlog(1, LARGE)).await;
    let gate = Arc::new(Gate::default());
    first.store.on("part 3", 1, Act::Hold(Arc::clone(&gate)));
    let running = first.run().await;
    gate.reached.notified().await;
    let told = Instant::now();
    running.stop().await;
    assert!(told.elapsed() < Duration::from_secs(10), "{told:?}");
    assert_eq!(
        parts(&first.store.take_calls()),
        ["part 1", "part 2", "part 3"]
    );
    drop(first);

    let second = bench.open().await;
    second.settle().await;
    assert_eq!(parts(&second.store.take_calls())[0], "part 3");
    assert_eq!(second.watermark().await, Some(1));
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_a_turn_at_once() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, SMALL)).await;
    opened.find(2, &bench.binlog(2, SMALL)).await;
    let gate = Arc::new(Gate::default());
    let hold = Act::Hold(Arc::clone(&gate));
    opened.store.on("put manifest", 1, hold);
    let running = opened.run().await;
    gate.reached.notified().await;
    running.tell_to_stop();
    gate.open.notify_one();
    running.ended().await;
    assert_eq!(opened.watermark().await, Some(1), "the second one waited");
    let jobs = opened.jobs().await;
    assert_eq!((jobs.len(), jobs[0].attempts), (1, 0));
}

#[tokio::test]
async fn a_stop_ends_sealing_and_leaves_nothing() {
    let bench = Bench::new();
    let opened = bench.open().await;
    let identity = object(1);
    let stop = CancellationToken::new();
    stop.cancel();
    let key = opened.pipeline.keyring.new_data_key(&identity).await;
    let sealing = Sealing {
        path: fixture(LARGE),
        identity,
        found: None,
        level: 3,
        spool: opened.pipeline.spool.clone(),
        pace: None,
        stop,
    };
    let sealed = sealing.run(key.unwrap());
    assert!(
        matches!(sealed, Err(SealError::Stopped { .. })),
        "{sealed:?}"
    );
    assert_eq!(opened.sealed_files(), Vec::<String>::new());
}
