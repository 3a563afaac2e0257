//! The database beneath: its settings, its two histories, its owner, and those who look on.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use engine::clock::SystemClock;
use engine::exit::{Diagnose, Exit};
use engine::ledger::{Ledger, LedgerError};
use engine::queue::{Queue, QueueConfig};

use crate::bench::{Act, Bench, CONFIG, Raw, open, scripted};

on_both![
    two_histories_of_migrations_live_side_by_side,
    a_looker_on_reads_beside_a_running_archiver,
    impossible_settings_are_refused,
    archivers_that_open_a_fresh_database_together_migrate_it_once,
];

async fn two_histories_of_migrations_live_side_by_side(bench: Bench) {
    for _ in 0..3 {
        let opened = bench.open().await;
        opened.enqueue([1]).await;
        drop(opened);
    }
    match bench.raw().await {
        Raw::Sqlite(pool) => {
            let tables: Vec<String> = sqlx::query_scalar(
                "SELECT name FROM sqlite_master WHERE name LIKE '%migrations' ORDER BY name",
            )
            .fetch_all(&pool)
            .await
            .unwrap();
            assert_eq!(tables, ["_apalis_migrations", "_gtide_migrations"]);
            let clean: String = sqlx::query_scalar("PRAGMA integrity_check")
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(clean, "ok");
        }
        Raw::Postgres(pool) => {
            let tables: Vec<(String, String)> = sqlx::query_as(
                "SELECT schemaname, tablename FROM pg_tables
                 WHERE tablename LIKE '%migrations' ORDER BY schemaname",
            )
            .fetch_all(&pool)
            .await
            .unwrap();
            let expected = [
                ("apalis", "_sqlx_migrations"),
                ("gtide", "_gtide_migrations"),
            ];
            assert_eq!(tables, expected.map(|(s, t)| (s.to_owned(), t.to_owned())));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_and_its_companions_are_private() {
    let bench = Bench::sqlite();
    let opened = bench.open().await;
    opened.enqueue([1]).await;
    let mut files = 0;
    for file in std::fs::read_dir(bench.dir()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.path().display());
        files += 1;
    }
    assert_eq!(
        files, 5,
        "the database, -wal, -shm, .lock, and the source's lock"
    );
}

async fn a_looker_on_reads_beside_a_running_archiver(bench: Bench) {
    let missing = Ledger::open_read_only(bench.url()).await.unwrap_err();
    assert!(matches!(missing, LedgerError::Missing { .. }), "{missing}");
    assert!(!bench.dir().join("gtide.db").exists());

    let opened = bench.open().await;
    opened.enqueue(1..=40).await;
    let looker = Ledger::open_read_only(bench.url()).await.unwrap();
    // A write transaction is open all the while.
    let tx = opened.queue.ledger().begin().await.unwrap();
    let status = looker.status().await.unwrap();
    assert_eq!(status[0].destinations[0].queued, 40);
    assert_eq!(status[0].newest.unwrap().0, 40);
    drop(tx);
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let running = opened.run(handler);
    while looker.status().await.unwrap()[0].destinations[0].queued > 0 {}
    assert!(running.settle_and_stop().await.is_clean());
    let status = looker.status().await.unwrap();
    assert_eq!(status[0].destinations[0].watermark.unwrap().0, 40);
    let written = looker.destination("file:///other").await;
    assert!(written.is_err(), "a looker-on cannot write");
}

async fn impossible_settings_are_refused(bench: Bench) {
    drop(bench.open_with(CONFIG).await);
    for (lanes, max_attempts) in [(0, 5), (65, 5), (4, 0)] {
        let config = QueueConfig {
            lanes,
            max_attempts,
            ..CONFIG
        };
        let ledger = Ledger::open(bench.url()).await.unwrap();
        let clock = Arc::new(SystemClock);
        let error = Queue::open(ledger, config, clock).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.hint().is_some());
    }
}

/// A backup tool, say, that locks the file for longer than anybody waits.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_outlive_a_locked_file() {
    let bench = Bench::sqlite();
    let impatient = Ledger::open_with(bench.url(), Duration::from_millis(100));
    let clock = Arc::new(SystemClock);
    let opened = open(bench.url(), impatient.await.unwrap(), CONFIG, clock).await;
    opened.enqueue(1..=40).await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let raw = bench.raw().await;
    let mut other = raw.sqlite().acquire().await.unwrap();
    let mut lock = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&mut *other).await.unwrap();
    };
    lock("BEGIN IMMEDIATE").await;
    let running = opened.run(handler);
    // Nothing can be taken; then something is under way when it is locked again.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(log.attempts(), []);
    lock("COMMIT").await;
    log.wait_for_attempts(8).await;
    lock("BEGIN IMMEDIATE").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    lock("COMMIT").await;
    let settled = running.settle_and_stop().await;
    assert!(settled.is_clean(), "{settled:?}");
    assert_eq!(opened.watermark().await, Some(40));
    assert_eq!(log.entries(), (1..=40).collect::<Vec<_>>(), "once each");
    assert_eq!(log.attempts().len(), 40, "no work was done twice");
}

/// Archivers of several hosts, started in the same moment after an upgrade.
async fn archivers_that_open_a_fresh_database_together_migrate_it_once(bench: Bench) {
    let mut archivers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = bench.url().to_owned();
        archivers.spawn(async move {
            let ledger = Ledger::open(&url).await.unwrap();
            let clock = Arc::new(SystemClock);
            Queue::open(ledger, CONFIG, clock).await.unwrap();
        });
    }
    while let Some(opened) = archivers.join_next().await {
        opened.unwrap();
    }
    bench.open().await.enqueue([1]).await;
}
