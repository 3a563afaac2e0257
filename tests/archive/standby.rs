//! Two archivers for one source: one works, the other stands by, or the store decides.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Postgres, SeaweedFs};
use crate::running::{Daemon, inodes, names, pins, watermark, write_index};
use crate::workspace::{Workspace, code, json, stderr};

/// Files 1 to 13 of the fixture are there; the index names the first ones only.
fn first_files(last: u64) -> Workspace {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    write_index(&workspace.datadir(), &names(1..=last));
    workspace
}

/// A configuration of the same source and destination with another database, and another spool if wanted.
fn other_config(workspace: &Workspace, spool: Option<&str>) -> PathBuf {
    let text = fs::read_to_string(workspace.config()).unwrap();
    let mut other = text.replace("\"sqlite:gtide.db\"", "\"sqlite:other.db\"");
    if let Some(spool) = spool {
        other = other.replace("dir = \"spool\"", &format!("dir = \"{spool}\""));
        assert!(other.contains(spool));
    }
    assert_ne!(other, text);
    let path = workspace.path().join("other.toml");
    fs::write(&path, other).unwrap();
    path
}

fn verify(workspace: &Workspace) {
    let output = workspace.verify();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn a_second_archiver_takes_over_at_once_when_the_first_is_killed() {
    let workspace = first_files(5);
    let mut first = Daemon::start(&workspace, "first.log");
    first.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(4)
    });
    let mut second = Daemon::start(&workspace, "second.log");
    second.wait_for("standing by");
    let held = format!("process {}", first.id());
    assert!(second.log().contains(&held), "{}", second.log());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(second.log().matches("standing by").count(), 1, "said once");

    first.kill9();
    let begin = Instant::now();
    second.wait_for("taken over");
    println!("taken over after {:?}", begin.elapsed());
    write_index(&workspace.datadir(), &names(1..=14));
    second.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(13)
    });
    second.wait_until("let go", || pins(&workspace).is_empty());
    second.stop();
    verify(&workspace);
}

#[test]
fn run_once_of_a_source_that_another_has_is_a_conflict() {
    let workspace = first_files(5);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(4)
    });
    let output = workspace.run_once();
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    let by = format!("process {}", daemon.id());
    assert!(stderr(&output).contains(&by), "{}", stderr(&output));
    daemon.stop();
    assert_eq!(code(&workspace.run_once()), 0);
}

/// By mistake, but on one host: the spool's lock keeps them apart.
#[test]
fn with_two_databases_and_one_spool_they_take_turns() {
    let workspace = first_files(5);
    let other = other_config(&workspace, None);
    let mut first = Daemon::start(&workspace, "first.log");
    first.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(4)
    });
    let log = workspace.path().join("second.log");
    let mut second = Daemon::start_with(Workspace::gtide_with(&other), &log);
    second.wait_for("with this spool");
    let before = inodes(&workspace.archive());
    first.stop();
    second.wait_for("taken over");
    write_index(&workspace.datadir(), &names(1..=6));
    second.wait_until("archived", || workspace.archived("manifest").len() == 5);
    second.stop();
    let after = inodes(&workspace.archive());
    assert!(
        before.iter().all(|file| after.contains(file)),
        "something was written again"
    );
    verify(&workspace);
}

/// By mistake, on two hosts that share nothing but the bucket: conditional create decides (TRAPS 32).
#[test]
fn with_nothing_in_common_but_the_bucket_they_write_one_manifest() {
    let workspace = first_files(2);
    let archived = race(&workspace);
    assert_eq!(archived, 13);
    assert_eq!(workspace.archived("manifest").len(), 13);
    assert_eq!(workspace.archived("log").len(), 13);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn with_nothing_in_common_but_a_bucket_at_s3_they_write_one_manifest() {
    let seaweed = SeaweedFs::start();
    let workspace = first_files(2);
    to_s3(&workspace, &seaweed);
    assert_eq!(race(&workspace), 13);
}

/// Its archive goes to the store, and not to a folder.
pub(crate) fn to_s3(workspace: &Workspace, seaweed: &SeaweedFs) {
    let archive = url::Url::from_file_path(workspace.archive()).unwrap();
    let (bucket, endpoint) = (SeaweedFs::BUCKET, seaweed.endpoint());
    let credentials = seaweed.credentials_file();
    let settings = format!(
        "\"s3://{bucket}/it\"\nendpoint = \"{endpoint}\"\ncredentials = \"file:{}\"",
        credentials.display()
    );
    workspace.edit(&format!("\"{archive}\""), &settings);
}

/// Two archivers with a database and a spool each, while files are closed; both see all of them committed. Returns the
/// files in the archive.
fn race(workspace: &Workspace) -> u64 {
    let other = other_config(workspace, Some("other-spool"));
    let mut first = Daemon::start(workspace, "first.log");
    let log = workspace.path().join("second.log");
    let mut second = Daemon::start_with(Workspace::gtide_with(&other), &log);
    let watermark = |config: &Path| {
        let output = Workspace::gtide_with(config)
            .args(["status", "--format", "json"])
            .output();
        let report: serde_json::Value =
            serde_json::from_slice(&output.unwrap().stdout).unwrap_or_default();
        report["sources"][0]["watermark"].as_u64()
    };
    // What the other archived before one began is found in the bucket: only what both see being closed is raced for.
    write_index(&workspace.datadir(), &names(1..=3));
    first.wait_until("at work", || watermark(&workspace.config()) == Some(2));
    second.wait_until("at work", || watermark(&other) == Some(2));
    for last in 4..=14 {
        write_index(&workspace.datadir(), &names(1..=last));
        std::thread::sleep(Duration::from_millis(150));
    }
    first.wait_until("archived", || watermark(&workspace.config()) == Some(13));
    second.wait_until("archived", || watermark(&other) == Some(13));
    first.stop();
    second.stop();
    let told = "another archiver writes to this destination";
    let logs = format!("{}{}", first.log(), second.log());
    assert!(logs.contains(told), "nobody was told:\n{logs}");
    verify(workspace);
    let ls = workspace
        .restore()
        .args(["ls", "--format", "json"])
        .output();
    json(&ls.unwrap())["sources"][0]["files"].as_u64().unwrap()
}

/// As on two hosts: one database server, a spool each.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn on_postgres_a_standby_takes_over_at_once() {
    let postgres = Postgres::start();
    let url = postgres.create_database("gtide");
    let workspace = first_files(5);
    workspace.edit("\"sqlite:gtide.db\"", &format!("\"{url}\""));
    let text = fs::read_to_string(workspace.config()).unwrap();
    let other = workspace.path().join("other.toml");
    fs::write(
        &other,
        text.replace("dir = \"spool\"", "dir = \"other-spool\""),
    )
    .unwrap();

    let mut first = Daemon::start(&workspace, "first.log");
    first.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(4)
    });
    let log = workspace.path().join("second.log");
    let mut second = Daemon::start_with(Workspace::gtide_with(&other), &log);
    second.wait_for("standing by");
    assert!(
        second.log().contains(&format!(":{}", first.id())),
        "{}",
        second.log()
    );
    assert!(
        !workspace.path().join("other-spool/pin").exists(),
        "a standby pins nothing"
    );
    first.kill9();
    let begin = Instant::now();
    second.wait_for("taken over");
    println!("taken over after {:?}", begin.elapsed());
    write_index(&workspace.datadir(), &names(1..=14));
    second.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(13)
    });
    second.stop();
    verify(&workspace);
}

/// The database server is away for a while: what is closed and purged meanwhile is held, and archived afterwards.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn files_purged_while_the_database_is_away_are_archived_afterwards() {
    let mut postgres = Postgres::start();
    let url = postgres.create_database("gtide");
    let workspace = first_files(5);
    let datadir = workspace.datadir();
    workspace.edit("\"sqlite:gtide.db\"", &format!("\"{url}\""));
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(4)
    });
    postgres.stop();
    write_index(&datadir, &names(1..=10));
    let newest = "0000000009-binlog.000009".to_owned();
    daemon.wait_until("held", || pins(&workspace).contains(&newest));
    write_index(&datadir, &names([10]));
    for n in 1..10 {
        fs::remove_file(datadir.join(format!("binlog.{n:06}"))).unwrap();
    }
    postgres.start_again();
    daemon.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(9)
    });
    daemon.wait_until("let go", || pins(&workspace).is_empty());
    daemon.stop();
    verify(&workspace);
}
