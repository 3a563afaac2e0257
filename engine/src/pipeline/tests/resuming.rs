//! What an earlier attempt did is found, and never done twice.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, LARGE, Opened, SMALL, object};
use super::recording::{Act, Gate};
use crate::store::{ObjectStore, Operation, ServiceFailure, StoreError};

pub(super) fn cut_off() -> StoreError {
    StoreError::Transport {
        operation: Operation::Put,
        object: "file:///archive/object".to_owned(),
        source: "connection reset".into(),
    }
}

/// Kills the lanes while `call` is under way, and forgets them as a kill would.
async fn killed_at(bench: &Bench, content: &str, call: &str) {
    let opened = bench.open_with(Duration::ZERO).await;
    opened.find(1, &bench.binlog(1, content)).await;
    let gate = Arc::new(Gate::default());
    opened.store.on(call, 1, Act::Hold(Arc::clone(&gate)));
    let running = opened.run().await;
    gate.reached.notified().await;
    running.stop().await;
}

async fn settled_calls(opened: &Opened) -> Vec<String> {
    opened.settle().await;
    assert_eq!(opened.watermark().await, Some(1));
    opened.store.take_calls()
}

#[tokio::test]
async fn a_small_file_costs_one_put_one_look_and_one_entry() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, SMALL)).await;
    let calls = settled_calls(&opened).await;
    assert_eq!(calls, ["put log", "head", "put manifest"]);
}

#[tokio::test]
async fn a_kill_between_parts_sends_no_part_twice() {
    let bench = Bench::new();
    killed_at(&bench, LARGE, "part 4").await;
    let opened = bench.open().await;
    let calls = settled_calls(&opened).await;
    assert_eq!(calls[..3], ["head", "parts", "part 4"]);
    assert_eq!(
        calls[calls.len() - 3..],
        ["complete", "head", "put manifest"]
    );
}

#[tokio::test]
async fn a_completed_upload_that_was_not_recorded_is_recognised_without_sending() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, LARGE)).await;
    let lost = Act::LoseReply(cut_off);
    opened.store.on("complete", 1, lost);
    let calls = settled_calls(&opened).await;
    let completed = calls.iter().position(|call| call == "complete").unwrap();
    assert_eq!(calls[completed + 1..], ["head", "get log", "put manifest"]);
}

#[tokio::test]
async fn a_put_whose_reply_was_lost_is_recognised_without_sending() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, SMALL)).await;
    opened.store.on("put log", 1, Act::LoseReply(cut_off));
    let calls = settled_calls(&opened).await;
    assert_eq!(calls, ["put log", "head", "get log", "put manifest"]);
}

#[tokio::test]
async fn an_entry_whose_reply_was_lost_is_compared_and_not_written_again() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, SMALL)).await;
    opened.store.on("put manifest", 1, Act::LoseReply(cut_off));
    let calls = settled_calls(&opened).await;
    let expected = ["head", "get log", "put manifest", "get manifest"];
    assert_eq!(calls[calls.len() - 4..], expected);
}

#[tokio::test]
async fn a_lost_spool_costs_one_reading_back_and_no_second_object() {
    let bench = Bench::new();
    killed_at(&bench, LARGE, "put manifest").await;
    let opened = bench.open().await;
    std::fs::remove_file(opened.pipeline.spool.seal_path(&object(1))).unwrap();
    let calls = settled_calls(&opened).await;
    assert_eq!(calls, ["head", "get log", "put manifest"]);
}

#[tokio::test]
async fn an_upload_that_the_store_forgot_is_begun_again() {
    let bench = Bench::new();
    killed_at(&bench, LARGE, "part 2").await;
    let opened = bench.open().await;
    for upload in opened.store.list_uploads("").await.unwrap() {
        let aborted = opened.store.abort_upload(&upload.key, &upload.id);
        aborted.await.unwrap();
    }
    opened.store.take_calls();
    let calls = settled_calls(&opened).await;
    assert_eq!(calls[..4], ["head", "parts", "begin", "part 1"]);
}

#[tokio::test]
async fn a_store_that_says_when_to_come_back_is_obeyed() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, SMALL)).await;
    let busy = || StoreError::Service {
        operation: Operation::Put,
        object: "s3://bucket/object".to_owned(),
        failure: Box::new(ServiceFailure {
            status: 503,
            code: Some("SlowDown".to_owned()),
            message: None,
            retry_after: Some(Duration::from_secs(40)),
            bucket_region: None,
        }),
    };
    opened.store.on("put log", 1, Act::Fail(busy));
    let before = jiff::Timestamp::now();
    let running = opened.run().await;
    let job = loop {
        let job = opened.jobs().await.remove(0);
        if job.attempts == 1 {
            break job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    running.stop().await;
    let delay = job.run_at.duration_since(before).as_secs();
    assert!((39..=45).contains(&delay), "{delay} s");
}
