//! 100,000 files: what it costs to queue them and to look at them afterwards.

use std::time::Instant;

use crate::bench::Bench;

const FILES: u64 = 100_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_hundred_thousand_files() {
    let bench = Bench::sqlite();
    let opened = bench.open().await;
    let before = Instant::now();
    opened.enqueue(1..=FILES).await;
    println!("enqueue: {:?}", before.elapsed());
    let before = Instant::now();
    opened.queue.ledger().status().await.unwrap();
    println!("status: {:?}", before.elapsed());
}
