//! `kill -9`, again and again, at any moment: nothing lost, nothing out of order, each file committed once.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::clock::SystemClock;
use engine::ledger::{ArchiveJob, Committed, Ledger};
use engine::queue::{Handler, JobFailure, JobRun};
use engine::retry::RetryClass;

use crate::bench::{Bench, CONFIG, PATIENCE, committed, open, previous};

on_both![killed_again_and_again_it_loses_nothing_and_keeps_order];

const FILES: u64 = 150;
const KILLS: u32 = 8;

/// Tells the child where to write its notes.
const DIRECTORY: &str = "GTIDE_TORTURE_DIRECTORY";

/// Tells the child its database.
const DATABASE: &str = "GTIDE_TORTURE_DATABASE";

/// Notes in a file what it does: the file survives the kill.
#[derive(Debug)]
struct Noting {
    notes: PathBuf,
}

impl Noting {
    fn note(&self, what: &str, sequence: u64) {
        let notes = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.notes);
        notes
            .unwrap()
            .write_all(format!("{what} {sequence}\n").as_bytes())
            .unwrap();
    }
}

#[async_trait]
impl Handler for Noting {
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        let sequence = job.sequence.0;
        self.note("start", sequence);
        tokio::time::sleep(Duration::from_millis(sequence % 7 * 3)).await;
        if sequence.is_multiple_of(41) && run.attempt() == 1 {
            return Err(JobFailure::new("flaky", RetryClass::After(Duration::ZERO)));
        }
        assert!(
            !sequence.is_multiple_of(67) || run.attempt() != 1,
            "a bug with {sequence}"
        );
        run.turn(previous(job.sequence)).await?;
        self.note("entry", sequence);
        Ok(committed(sequence))
    }
}

/// Not a test: the body of the process that the torture kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the torture test, as a child process"]
async fn child() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("run by the torture test"));
    let url = std::env::var(DATABASE).unwrap();
    let ledger = Ledger::open(&url).await.unwrap();
    let opened = open(&url, ledger, CONFIG, Arc::new(SystemClock)).await;
    let notes = directory.join("notes");
    let settled = opened.run(Noting { notes }).settle_and_stop().await;
    assert!(settled.is_clean(), "{settled:?}");
}

fn spawn_child(bench: &Bench) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "torture::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, bench.dir())
        .env(DATABASE, bench.url())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn notes(directory: &Path, what: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(directory.join("notes")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix(what)?.trim().parse().ok())
        .collect()
}

async fn killed_again_and_again_it_loses_nothing_and_keeps_order(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue(1..=FILES).await;
    drop(opened);

    let mut kills_at_work = 0;
    for round in 0..KILLS {
        let seen = notes(bench.dir(), "start").len();
        let mut child = spawn_child(&bench);
        // Not before it works; then at some moment or other.
        while notes(bench.dir(), "start").len() == seen && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(u64::from(round * 37 % 90))).await;
        kills_at_work += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        kills_at_work >= KILLS / 2,
        "it was done before it was killed: {kills_at_work}"
    );
    let mut last = spawn_child(&bench);
    let ended = tokio::task::spawn_blocking(move || last.wait().unwrap());
    let ended = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert!(ended.unwrap().success(), "the last one runs to the end");

    let mut entries = notes(bench.dir(), "entry");
    // A kill between entry and acknowledgement repeats the last one, and nothing else.
    entries.dedup();
    assert_eq!(entries, (1..=FILES).collect::<Vec<_>>());
    let starts = notes(bench.dir(), "start");
    for lane in 0..4 {
        let lane: Vec<u64> = starts.iter().copied().filter(|s| s % 4 == lane).collect();
        assert!(lane.is_sorted(), "overtaken in its lane: {lane:?}");
    }
    let opened = bench.open().await;
    assert_eq!(opened.watermark().await, Some(FILES));
    assert_eq!(opened.jobs().await, []);
    let ledger = opened.queue.ledger();
    assert_eq!(
        ledger
            .gaps(opened.source, opened.destination)
            .await
            .unwrap(),
        []
    );
    let raw = bench.raw().await;
    let commits = raw.count("SELECT count(*) FROM commits").await;
    assert_eq!(commits.cast_unsigned(), FILES);
}
