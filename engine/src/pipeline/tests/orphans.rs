//! Uploads that nobody goes on with are ended, and no others.

use std::time::Duration;

use jiff::Timestamp;

use super::bench::{Bench, LARGE, Opened, identity, object};
use crate::layout::ObjectKey;
use crate::pipeline::orphans::{ORPHAN_AGE, Swept, sweep};
use crate::store::{ObjectStore, UploadFacts, UploadId};

const FACTS: UploadFacts = UploadFacts {
    size: 100,
    crc32c: 0,
};

fn key(sequence: u64) -> ObjectKey {
    let file = object(sequence);
    file.source.log_key(file.sequence)
}

async fn begin(opened: &Opened, sequence: u64) -> UploadId {
    let begun = opened.store.begin_upload(&key(sequence), &FACTS).await;
    begun.unwrap()
}

/// Makes an upload as old as if it had been begun then.
fn age(bench: &Bench, id: &UploadId, age: Duration) {
    let folder = bench
        .path()
        .join("archive/.gtide-uploads")
        .join(id.as_str());
    let facts = std::fs::File::options()
        .write(true)
        .open(folder.join("upload.json"))
        .unwrap();
    let began = Timestamp::now().checked_sub(age).unwrap();
    facts.set_modified(began.into()).unwrap();
}

async fn swept(opened: &Opened) -> (Swept, Vec<UploadId>) {
    let ledger = &opened.pipeline.ledger;
    let store = opened.store.as_ref();
    let swept = sweep(store, ledger, opened.route, &identity()).await;
    let left = store.list_uploads("").await.unwrap();
    (
        swept.unwrap(),
        left.into_iter().map(|upload| upload.id).collect(),
    )
}

#[tokio::test]
async fn what_the_ledger_does_not_know_is_ended_after_a_day() {
    let bench = Bench::new();
    let opened = bench.open().await;
    let (old, young) = (begin(&opened, 7).await, begin(&opened, 8).await);
    age(&bench, &old, Duration::from_mins(24 * 60 + 1));
    age(&bench, &young, Duration::from_mins(24 * 60 - 1));
    let (aborted, left) = (1, 1);
    assert_eq!(swept(&opened).await, (Swept { aborted, left }, vec![young]));
}

#[tokio::test]
async fn what_the_ledger_knows_is_kept_however_old() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, LARGE)).await;
    let ours = begin(&opened, 1).await;
    age(&bench, &ours, ORPHAN_AGE * 30);
    let recorded = opened.pipeline.ledger.record_upload(
        opened.file(1),
        opened.route.destination,
        ours.as_str(),
    );
    recorded.await.unwrap();
    let (aborted, left) = (0, 1);
    assert_eq!(swept(&opened).await, (Swept { aborted, left }, vec![ours]));
}

#[tokio::test]
async fn what_can_never_become_an_object_is_ended_at_once() {
    let bench = Bench::new();
    let opened = bench.open().await;
    opened.find(1, &bench.binlog(1, LARGE)).await;
    opened.settle().await;
    begin(&opened, 1).await;
    let (aborted, left) = (1, 0);
    assert_eq!(swept(&opened).await, (Swept { aborted, left }, vec![]));
}

#[tokio::test]
async fn other_sources_and_foreign_keys_are_left_alone() {
    let bench = Bench::new();
    let opened = bench.open().await;
    let mut other = object(1);
    other.source.incarnation = 2;
    let foreign = format!("{}notes", identity().log_prefix());
    let mut kept = Vec::new();
    for key in [
        other.source.log_key(other.sequence),
        ObjectKey::from_listing(foreign),
    ] {
        let id = opened.store.begin_upload(&key, &FACTS).await.unwrap();
        age(&bench, &id, ORPHAN_AGE * 2);
        kept.push(id);
    }
    let (found, left) = swept(&opened).await;
    assert_eq!((found.aborted, left.len()), (0, 2));
}
