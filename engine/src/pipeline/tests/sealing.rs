//! Files that do not stand still, spooled objects that are damaged, and a spool without room.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bench::{Bench, LARGE, Opened, SMALL, object};
use super::recording::{Act, Gate};
use crate::config::SpoolConfig;
use crate::digest::Digest;

fn append(path: &Path, bytes: &[u8]) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn digest_of(path: &Path) -> Digest {
    Digest::of(&std::fs::read(path).unwrap())
}

/// Runs until `call` is under way, and ends there as a kill would.
async fn run_until(opened: &Opened, call: &str) {
    let gate = Arc::new(Gate::default());
    opened.store.on(call, 1, Act::Hold(Arc::clone(&gate)));
    let running = opened.run().await;
    gate.reached.notified().await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_found_is_sealed_once_it_stands_still() {
    let bench = Bench::new();
    let opened = bench.open().await;
    let path = bench.binlog(1, SMALL);
    opened.find(1, &path).await;
    append(&path, b"one more");
    let begun = Instant::now();
    opened.settle().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "a short pause");
    assert_eq!(opened.archived(1).await, digest_of(&path));
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_sealed_is_sealed_again() {
    let bench = Bench::new();
    let first = bench.open_with(Duration::ZERO).await;
    let path = bench.binlog(1, SMALL);
    first.find(1, &path).await;
    run_until(&first, "put log").await;
    assert_eq!(first.sealed_files(), ["0000000001.gtb"]);
    drop(first);
    append(&path, b"one more");
    let second = bench.open().await;
    second.settle().await;
    assert_eq!(second.archived(1).await, digest_of(&path));
}

#[tokio::test]
async fn what_is_uploaded_stays_what_is_archived() {
    let bench = Bench::new();
    let first = bench.open_with(Duration::ZERO).await;
    let path = bench.binlog(1, LARGE);
    first.find(1, &path).await;
    run_until(&first, "put manifest").await;
    drop(first);
    let before = digest_of(&path);
    append(&path, b"one more");
    let second = bench.open().await;
    second.settle().await;
    assert_eq!(second.archived(1).await, before);
}

#[tokio::test]
async fn a_file_that_is_gone_after_it_was_sealed_is_archived_from_the_spool() {
    let bench = Bench::new();
    let first = bench.open_with(Duration::ZERO).await;
    let path = bench.binlog(1, SMALL);
    first.find(1, &path).await;
    run_until(&first, "put log").await;
    drop(first);
    let before = digest_of(&path);
    std::fs::remove_file(&path).unwrap();
    let second = bench.open().await;
    second.settle().await;
    assert_eq!(second.archived(1).await, before);
}

#[tokio::test]
async fn a_damaged_spooled_object_is_sealed_again_and_its_upload_begun_anew() {
    let bench = Bench::new();
    let first = bench.open_with(Duration::ZERO).await;
    let path = bench.binlog(1, LARGE);
    first.find(1, &path).await;
    run_until(&first, "part 3").await;
    let spooled = first.pipeline.spool.seal_path(&object(1));
    let file = File::options()
        .read(true)
        .write(true)
        .open(spooled)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 9_000).unwrap();
    file.write_all_at(&[!byte[0]], 9_000).unwrap();
    drop(first);

    let second = bench.open().await;
    second.settle().await;
    let calls = second.store.take_calls();
    assert_eq!(calls[..3], ["head", "begin", "part 1"]);
    assert_eq!(second.archived(1).await, digest_of(&path));
}

#[tokio::test]
async fn no_room_is_waited_for_without_an_attempt_and_a_stop_ends_the_wait() {
    let bench = Bench::new();
    let config = SpoolConfig {
        reserve: u64::MAX,
        ..bench.spool_config()
    };
    let opened = bench.open_on(config).await;
    opened.find(1, &bench.binlog(1, SMALL)).await;
    let running = opened.run().await;
    let spool = &opened.pipeline.spool;
    let paused = loop {
        if let Some(paused) = spool.usage().unwrap().paused {
            break paused;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(paused.needed, u64::MAX);
    let told = Instant::now();
    running.stop().await;
    assert!(told.elapsed() < Duration::from_secs(1), "{told:?}");
    let usage = spool.usage().unwrap();
    assert_eq!((usage.paused, usage.sealed_files), (None, 0));
    let job = &opened.jobs().await[0];
    assert_eq!((job.attempts, job.failure.as_ref()), (0, None));
}

#[tokio::test]
async fn usage_counts_pins_and_sealed_objects() {
    let bench = Bench::new();
    let opened = bench.open_with(Duration::ZERO).await;
    let path = bench.binlog(1, SMALL);
    let spool = &opened.pipeline.spool;
    spool.pin(&object(1), &path).unwrap();
    opened.find(1, &path).await;
    run_until(&opened, "put log").await;
    let usage = spool.usage().unwrap();
    let size = path.metadata().unwrap().len();
    assert_eq!((usage.pinned_files, usage.pinned_bytes), (1, size));
    let sealed = spool.seal_path(&object(1)).metadata().unwrap().len();
    assert_eq!((usage.sealed_files, usage.sealed_bytes), (1, sealed));
    assert!(usage.free > 0);
}
