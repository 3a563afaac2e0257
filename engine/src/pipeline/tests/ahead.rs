//! What is sealed while the file before it is sent.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::bench::{Bench, Opened, PATIENCE, Running, SMALL, object};
use super::recording::{Act, Gate};
use crate::digest::Digest;
use crate::store::ObjectStore;

/// Files of one of the two lanes.
const LANE: [u64; 3] = [1, 3, 5];

/// An archiver whose first file of a lane is being sent, while the next one is sealed already.
struct Halfway {
    opened: Opened,
    running: Running,
    gate: Arc<Gate>,
    paths: [PathBuf; 3],
}

impl Halfway {
    async fn reach(bench: &Bench) -> Self {
        let opened = bench.open().await;
        let paths = LANE.map(|sequence| bench.binlog(sequence, SMALL));
        for (sequence, path) in LANE.into_iter().zip(&paths) {
            opened.find(sequence, path).await;
        }
        let (running, gate) = run_until_sealed_ahead(&opened).await;
        Self {
            opened,
            running,
            gate,
            paths,
        }
    }

    /// Where the object that was sealed ahead lies.
    fn spooled(&self) -> PathBuf {
        self.opened.pipeline.spool.seal_path(&object(3))
    }

    /// Lets the first file go, and waits for the others.
    async fn go_on(self) -> Opened {
        self.gate.open.notify_one();
        self.opened.settle_and_stop(self.running).await;
        assert_eq!(self.opened.jobs().await.len(), 0);
        for (sequence, path) in LANE.into_iter().zip(&self.paths) {
            let archived = self.opened.archived(sequence).await;
            assert_eq!(archived, digest_of(path), "{sequence}");
        }
        self.opened
    }
}

/// Until one file is being sent and the next one is sealed.
async fn run_until_sealed_ahead(opened: &Opened) -> (Running, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let hold = Act::Hold(Arc::clone(&gate));
    opened.store.on("put log", 1, hold);
    let running = opened.run().await;
    gate.reached.notified().await;
    let ledger = &opened.pipeline.ledger;
    let sealed = async {
        loop {
            let file = ledger.file(opened.file(3)).await.unwrap();
            if file.unwrap().sealed.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sealed).await.unwrap();
    (running, gate)
}

fn digest_of(path: &Path) -> Digest {
    Digest::of(&std::fs::read(path).unwrap())
}

async fn object_in_the_store(opened: &Opened, sequence: u64) -> Vec<u8> {
    let object = object(sequence);
    let key = object.source.log_key(object.sequence);
    let body = opened.store.get(&key, None).await.unwrap();
    let pieces: Vec<Bytes> = body.try_collect().await.unwrap();
    pieces.concat()
}

#[tokio::test]
async fn the_next_file_of_a_lane_is_sealed_while_one_is_sent_and_not_once_more() {
    let bench = Bench::new();
    let halfway = Halfway::reach(&bench).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        halfway.opened.sealed_files(),
        ["0000000001.gtb", "0000000003.gtb"],
        "only the next one"
    );
    let ahead = std::fs::read(halfway.spooled()).unwrap();
    let opened = halfway.go_on().await;
    // Sealed again it would have another data key.
    assert!(object_in_the_store(&opened, 3).await == ahead);
}

#[tokio::test]
async fn an_object_sealed_ahead_that_was_damaged_is_not_sent_and_sealed_again() {
    let bench = Bench::new();
    let halfway = Halfway::reach(&bench).await;
    let mut options = File::options();
    let file = options.read(true).write(true).open(halfway.spooled());
    let (file, mut byte) = (file.unwrap(), [0]);
    let middle = file.metadata().unwrap().len() / 2;
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[!byte[0]], middle).unwrap();
    halfway.opened.store.take_calls();
    let opened = halfway.go_on().await;
    let calls = opened.store.take_calls();
    let puts = calls.iter().filter(|call| *call == "put log");
    assert_eq!(puts.count(), 2, "of 3 and 5: {calls:?}");
}

#[tokio::test]
async fn an_object_sealed_ahead_that_was_lost_is_sealed_again() {
    let bench = Bench::new();
    let halfway = Halfway::reach(&bench).await;
    std::fs::remove_file(halfway.spooled()).unwrap();
    halfway.go_on().await;
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_sealed_ahead_is_sealed_again() {
    let bench = Bench::new();
    let halfway = Halfway::reach(&bench).await;
    let file = File::options().append(true).open(&halfway.paths[1]);
    file.unwrap().write_all(b"one more").unwrap();
    halfway.go_on().await;
}

#[tokio::test]
async fn an_object_sealed_ahead_is_used_by_the_next_process() {
    let bench = Bench::new();
    let first = bench.open_with(Duration::ZERO).await;
    for sequence in LANE {
        first.find(sequence, &bench.binlog(sequence, SMALL)).await;
    }
    let (running, _) = run_until_sealed_ahead(&first).await;
    running.stop().await;
    let ahead = std::fs::read(first.pipeline.spool.seal_path(&object(3))).unwrap();
    drop(first);

    let second = bench.open().await;
    second.settle().await;
    assert_eq!(second.jobs().await.len(), 0);
    assert!(object_in_the_store(&second, 3).await == ahead);
}
