//! 100,000 files: what it costs to queue them, to look at them, and to have archived them.

use std::time::{Duration, Instant};

use engine::layout::Sequence;
use engine::ledger::ImportedCommit;
use jiff::Timestamp;

use crate::bench::{Bench, Raw, committed};

const FILES: u64 = 100_000;
const PAGE: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute or more"]
async fn a_hundred_thousand_files_on_sqlite() {
    a_hundred_thousand_files(Bench::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_hundred_thousand_files_on_postgres() {
    a_hundred_thousand_files(Bench::postgres()).await;
}

/// Archived files leave a row each in two tables, and none in the queue.
async fn a_hundred_thousand_files(bench: Bench) {
    let opened = bench.open().await;
    let ledger = opened.queue.ledger();
    let raw = bench.raw().await;
    let empty = size(&raw).await;

    let before = Instant::now();
    opened.enqueue(1..=FILES).await;
    let enqueued = before.elapsed();
    let before = Instant::now();
    opened.enqueue(1..=FILES).await;
    let again = before.elapsed();
    let before = Instant::now();
    let status = ledger.status().await.unwrap();
    println!(
        "queued in {enqueued:?}, offered again in {again:?}, status in {:?}, {} bytes each",
        before.elapsed(),
        (size(&raw).await - empty) / FILES
    );
    assert_eq!(status[0].destinations[0].queued, FILES);

    let before = Instant::now();
    for first in (1..=FILES).step_by(usize::try_from(PAGE).unwrap()) {
        let page: Vec<_> = (first..first + PAGE).map(imported).collect();
        let to = opened.destination;
        ledger
            .import_commits(opened.source, to, &page)
            .await
            .unwrap();
    }
    println!("imported in {:?}", before.elapsed());
    // As if each had been acknowledged.
    raw.execute("DELETE FROM Jobs; VACUUM", "DELETE FROM jobs")
        .await;
    if let Raw::Postgres(pool) = &raw {
        sqlx::raw_sql("VACUUM FULL").execute(pool).await.unwrap();
    }
    let before = Instant::now();
    let status = ledger.status().await.unwrap();
    let took = before.elapsed();
    let each = (size(&raw).await - empty) / FILES;
    println!("archived: status in {took:?}, {each} bytes each");
    let here = &status[0].destinations[0];
    assert_eq!((here.watermark, here.queued), (Some(Sequence(FILES)), 0));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(each < 600, "{each} bytes for each archived file");
}

fn imported(sequence: u64) -> ImportedCommit {
    ImportedCommit {
        sequence: Sequence(sequence),
        name: format!("binlog.{sequence:06}"),
        committed: committed(sequence),
        committed_at: Timestamp::now(),
    }
}

/// The database's, in bytes.
async fn size(raw: &Raw) -> u64 {
    let size = match raw {
        Raw::Sqlite(_) => {
            raw.count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
                .await
        }
        Raw::Postgres(_) => {
            raw.count("SELECT pg_database_size(current_database())")
                .await
        }
    };
    u64::try_from(size).unwrap()
}
