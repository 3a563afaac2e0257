//! A PostgreSQL server that restarts, cuts connections and goes away while the lanes work; and one that is set up
//! with care.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use engine::clock::SystemClock;
use engine::exit::{Diagnose, Exit, chain};
use engine::ledger::{ArchiveJob, Committed, Ledger};
use engine::queue::{Handler, JobFailure, JobRun, Queue, QueueError};

use crate::bench::{Bench, CONFIG, Opened, Running, committed, previous};
use crate::servers::Postgres;

const FILES: u64 = 400;

/// Takes a moment for each file, and keeps account of what it was asked for.
#[derive(Debug, Clone, Default)]
struct Careful(Arc<Mutex<Account>>);

#[derive(Debug, Default)]
struct Account {
    starts: Vec<u64>,
    under_way: BTreeSet<u64>,
    at_the_same_time: Vec<u64>,
    entries: Vec<u64>,
}

#[async_trait]
impl Handler for Careful {
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        let sequence = job.sequence.0;
        {
            let mut account = self.0.lock().unwrap();
            account.starts.push(sequence);
            if !account.under_way.insert(sequence) {
                account.at_the_same_time.push(sequence);
            }
        }
        tokio::time::sleep(Duration::from_millis(10 + sequence % 7 * 10)).await;
        run.turn(previous(job.sequence)).await?;
        let mut account = self.0.lock().unwrap();
        account.entries.push(sequence);
        account.under_way.remove(&sequence);
        Ok(committed(sequence))
    }
}

impl Careful {
    fn entries(&self) -> usize {
        self.0.lock().unwrap().entries.len()
    }

    async fn wait_for_entries(&self, count: usize) {
        while self.entries() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn begin(bench: &Bench) -> (Opened, Running, Careful) {
    let opened = bench.open().await;
    opened.enqueue(1..=FILES).await;
    let handler = Careful::default();
    let running = opened.run(handler.clone());
    handler.wait_for_entries(20).await;
    (opened, running, handler)
}

/// Nothing lost, nothing out of order, and no work done twice: what was under way went on.
async fn finish(opened: Opened, running: Running, handler: Careful) {
    let settled = running.settle_and_stop().await;
    assert!(settled.is_clean(), "{settled:?}");
    assert_eq!(opened.watermark().await, Some(FILES));
    assert_eq!(opened.jobs().await, []);
    let account = handler.0.lock().unwrap();
    assert_eq!(account.entries, (1..=FILES).collect::<Vec<_>>());
    assert!(account.at_the_same_time.is_empty(), "{account:?}");
    for lane in 0..4 {
        let of_lane = account.starts.iter().filter(|s| *s % 4 == lane);
        let expected: Vec<u64> = (1..=FILES).filter(|s| s % 4 == lane).collect();
        assert_eq!(of_lane.copied().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn lanes_outlive_restarts_of_the_server() {
    let mut bench = Bench::postgres();
    let (opened, running, handler) = begin(&bench).await;
    for files in [80, 160, 240] {
        handler.wait_for_entries(files).await;
        match files {
            160 => {
                bench.server().crash();
                bench.server().start_again();
            }
            _ => bench.server().restart(),
        }
    }
    finish(opened, running, handler).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn lanes_outlive_cut_connections() {
    let mut bench = Bench::postgres();
    let (opened, running, handler) = begin(&bench).await;
    for round in 1..=12 {
        handler.wait_for_entries(20 + 25 * round).await;
        assert!(bench.server().cut_connections() > 0);
    }
    finish(opened, running, handler).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn nothing_is_committed_while_the_server_is_away_and_no_work_is_lost() {
    let mut bench = Bench::postgres();
    let (opened, running, handler) = begin(&bench).await;
    bench.server().stop();
    // What had its turn before ends.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let entries = handler.entries();
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(handler.entries(), entries, "not certain that it is ours");
    assert!(!opened.ownership.lost().is_cancelled());
    bench.server().start_again();
    finish(opened, running, handler).await;
}

/// Estonian has Z before T, Czech CH after H: letters would be in another order there than lanes need.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn files_are_in_order_under_any_collation() {
    let mut bench = Bench::postgres();
    for (name, locale) in [("estonian", "et"), ("czech", "cs")] {
        let create = format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'
             LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE '{locale}'"
        );
        bench.server().sql("postgres", &create);
        bench.move_to(name);
        let order = "SELECT 'T' > 'Z' OR 'CH' > 'HZ'";
        assert_eq!(bench.server().sql(name, order), "t", "it sorts its own way");

        let one_lane = engine::queue::QueueConfig { lanes: 1, ..CONFIG };
        let opened = bench.open_with(one_lane).await;
        // An id is a number to base 32: these end in all its digits, and in CH.
        let sequences: Vec<u64> = (1..=450).collect();
        opened.enqueue(sequences.iter().copied().rev()).await;
        let listed: Vec<u64> = opened.jobs().await.iter().map(|j| j.sequence.0).collect();
        assert_eq!(listed, sequences);
        let (handler, log) = crate::bench::scripted(|_, _| crate::bench::Act::Succeed);
        assert!(opened.run(handler).settle_and_stop().await.is_clean());
        assert_eq!(log.entries(), sequences);
    }
}

async fn try_open(url: &str) -> Result<Queue, QueueError> {
    let ledger = Ledger::open(url).await?;
    Queue::open(ledger, CONFIG, Arc::new(SystemClock)).await
}

/// Least privilege: CREATE on the database, and none on its `public` schema.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_role_is_told_what_it_may_not() {
    let server = Postgres::start();
    server.create_database("ledger");
    server.sql("ledger", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    server.sql("ledger", "CREATE ROLE archiver LOGIN");
    let url = server.url_of("archiver", "ledger");
    let error = try_open(&url).await.unwrap_err();
    assert!(chain(&error).contains("permission denied"), "{error}");
    assert_eq!(error.exit(), Exit::Usage);
    let hint = error.hint().unwrap();
    assert!(hint.contains("GRANT CREATE ON DATABASE"), "{hint}");

    server.sql("ledger", "GRANT CREATE ON DATABASE ledger TO archiver");
    drop(try_open(&url).await.unwrap());
    let in_public = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
    assert_eq!(server.sql("ledger", in_public), "0");
    // What is there need not be made again.
    server.sql("ledger", "REVOKE CREATE ON DATABASE ledger FROM archiver");
    drop(try_open(&url).await.unwrap());

    // An administrator made the extensions, where extensions are kept.
    server.create_database("managed");
    server.sql(
        "managed",
        "CREATE SCHEMA extensions;
         CREATE EXTENSION hstore SCHEMA extensions; CREATE EXTENSION pgcrypto SCHEMA extensions;
         GRANT USAGE ON SCHEMA extensions TO PUBLIC;
         GRANT CREATE ON DATABASE managed TO archiver",
    );
    drop(
        try_open(&server.url_of("archiver", "managed"))
            .await
            .unwrap(),
    );

    // Who only looks needs to read.
    server.sql("ledger", "CREATE ROLE looker LOGIN");
    let looker = server.url_of("looker", "ledger");
    Ledger::open_read_only(&looker).await.unwrap_err();
    server.sql(
        "ledger",
        "GRANT USAGE ON SCHEMA gtide, apalis TO looker;
         GRANT SELECT ON ALL TABLES IN SCHEMA gtide, apalis TO looker",
    );
    let looker = Ledger::open_read_only(&looker).await.unwrap();
    assert_eq!(looker.status().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn what_cannot_be_reached_is_named_with_a_hint() {
    let mut server = Postgres::start();
    let nobody = server.url_of("nobody", "postgres");
    let nowhere = server.url("nowhere");
    for (url, word) in [(&nobody, "\"nobody\""), (&nowhere, "\"nowhere\"")] {
        let error = Ledger::open(url).await.unwrap_err();
        assert!(chain(&error).contains(word), "{}", chain(&error));
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.hint().is_some());
    }
    let url = server.url("postgres");
    server.stop();
    let error = Ledger::open(&url).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Transient);
    let words = chain(&error);
    assert!(
        words.to_lowercase().contains("connection refused"),
        "{words}"
    );
    assert!(error.hint().unwrap().contains("server runs"));
}
