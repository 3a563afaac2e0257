//! Parts side by side.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, LARGE, Opened};
use super::recording::{Act, Gate};
use super::resuming::cut_off;
use crate::pipeline::PartPlaces;

/// Long enough for whatever would come to come.
const A_WHILE: Duration = Duration::from_millis(100);

/// One large file, and room for so many parts at once.
async fn with_places(bench: &Bench, places: u64) -> Opened {
    let mut opened = bench.open().await;
    let pipeline = Arc::get_mut(&mut opened.pipeline).unwrap();
    pipeline.places = PartPlaces::new(places);
    opened.find(1, &bench.binlog(1, LARGE)).await;
    opened
}

/// The parts that were sent while the first one was held `times` times, and how it went on.
async fn sent_beside_the_first(opened: &Opened) -> Vec<String> {
    let gate = Arc::new(Gate::default());
    let hold = Act::Hold(Arc::clone(&gate));
    opened.store.on("part 1", 1, hold);
    let running = opened.run().await;
    gate.reached.notified().await;
    tokio::time::sleep(A_WHILE).await;
    let calls = opened.store.take_calls();
    gate.open.notify_one();
    opened.queue.settled(&[opened.route]).await;
    running.stop().await;
    assert_eq!(opened.watermark().await, Some(1));
    let parts = calls.into_iter().filter(|call| call.starts_with("part "));
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    parts
}

#[tokio::test]
async fn a_large_file_that_is_alone_uses_the_room_of_lanes_that_rest() {
    let bench = Bench::new();
    let opened = with_places(&bench, 4).await;
    let parts = sent_beside_the_first(&opened).await;
    assert_eq!(parts, ["part 1", "part 2", "part 3", "part 4"]);
}

#[tokio::test]
async fn without_room_the_next_part_waits() {
    let bench = Bench::new();
    let opened = with_places(&bench, 1).await;
    assert_eq!(sent_beside_the_first(&opened).await, ["part 1"]);
}

#[tokio::test]
async fn a_store_that_failed_gets_one_part_at_a_time() {
    let bench = Bench::new();
    let opened = with_places(&bench, 4).await;
    opened.store.on("begin", 1, Act::Fail(cut_off));
    assert_eq!(sent_beside_the_first(&opened).await, ["part 1"]);
}
