//! Several destinations: none holds up another, and each gets every file in the end.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clock::Running;
use crate::running::{Daemon, inodes, names, pins, status, wait_until, watermark, write_index};
use crate::workspace::{Workspace, code, json, stderr};

const SOURCE: &str = "test/0d1a7e00-97a0-4000-8000-000000000001/1";

/// Archives to `archive` and to `second`.
fn two_destinations() -> Workspace {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    add_second(&workspace);
    workspace
}

fn add_second(workspace: &Workspace) {
    let url = url::Url::from_file_path(second(workspace)).unwrap();
    let section = format!("[[destination]]\nurl = \"{url}\"\n\n[encryption]");
    workspace.edit("[encryption]", &section);
}

fn second(workspace: &Workspace) -> PathBuf {
    workspace.path().join("second")
}

/// A file stands where the destination's folder would be.
fn block(destination: &Path) {
    fs::write(destination, "in the way").unwrap();
}

fn entries(destination: &Path) -> usize {
    fs::read_dir(destination.join(SOURCE).join("manifest")).map_or(0, Iterator::count)
}

fn verify(workspace: &Workspace, destination: &str) {
    let url = url::Url::from_file_path(workspace.path().join(destination)).unwrap();
    let mut command = workspace.restore();
    command.args(["verify", "--destination", url.as_str()]);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn one_that_cannot_be_reached_keeps_nothing_from_the_other() {
    let workspace = two_destinations();
    block(&second(&workspace));
    let output = workspace.run_once();
    assert_ne!(code(&output), 0);
    let problems = json(&output)["sources"][0]["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
    let error = problems[0]["error"].as_str().unwrap();
    assert!(error.contains("second"), "{error}");
    assert_eq!(entries(&workspace.archive()), 13);
    assert_eq!(pins(&workspace).len(), 13, "what one of them lacks is held");

    let rows = status(&workspace);
    let row = |name: &str| {
        let ends = |url: &str| url.ends_with(name);
        let found = rows
            .iter()
            .find(|row| row["destination"].as_str().is_some_and(ends));
        found.unwrap().clone()
    };
    assert_eq!(row("archive")["watermark"], 13);
    assert_eq!(row("archive")["unserved"], serde_json::Value::Null);
    assert_eq!(row("second")["queued"], 13);
    assert!(row("second")["unserved"]["error"].is_string(), "{rows:?}");

    fs::remove_file(second(&workspace)).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["archived"], 13);
    assert_eq!(entries(&second(&workspace)), 13);
    assert_eq!(pins(&workspace), [""; 0]);
    assert!(
        status(&workspace)
            .iter()
            .all(|row| row["unserved"].is_null())
    );
    verify(&workspace, "archive");
    verify(&workspace, "second");
}

/// The daemon serves the one from the start, and the other as soon as it is there.
#[test]
fn a_daemon_opens_each_by_itself() {
    let workspace = two_destinations();
    block(&second(&workspace));
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || entries(&workspace.archive()) == 13);
    assert_eq!(daemon.log().matches("in the way").count(), 0);
    fs::remove_file(second(&workspace)).unwrap();
    daemon.wait_until("opened", || entries(&second(&workspace)) == 13);
    daemon.wait_until("let go", || pins(&workspace).is_empty());
    daemon.stop();
    let told = daemon.log();
    let stopped = told.matches("destination stopped").count();
    assert_eq!(stopped, 1, "said once, not at every attempt: {told}");
    verify(&workspace, "second");
}

/// TRAPS 28, the whole way: the destination is away, the server closes and purges files, the archiver is restarted in
/// between, and everything comes from the pins.
#[test]
fn files_purged_during_an_outage_are_archived_afterwards() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let datadir = workspace.datadir();
    write_index(&datadir, &names(1..=4));
    assert_eq!(code(&workspace.run_once()), 0);
    // It was reached before, and is away now: objects cannot be written, entries could.
    let log = workspace.archive().join(SOURCE).join("log");
    let aside = workspace.path().join("aside");
    fs::rename(&log, &aside).unwrap();
    fs::write(&log, "in the way").unwrap();
    for last in [7, 11] {
        let mut daemon = Daemon::start(&workspace, "daemon.log");
        write_index(&datadir, &names(1..=last));
        let newest = format!("{:010}-binlog.{:06}", last - 1, last - 1);
        daemon.wait_until("pinned", || pins(&workspace).contains(&newest));
        write_index(&datadir, &names([last]));
        for n in 1..last {
            let _ = fs::remove_file(datadir.join(format!("binlog.{n:06}")));
        }
        daemon.kill9();
    }
    fs::remove_file(&log).unwrap();
    fs::rename(&aside, &log).unwrap();
    // What has stalled meanwhile is tried at once.
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["watermark"], 10);
    assert_eq!(pins(&workspace), [""; 0]);
    verify(&workspace, "archive");
}

/// A destination that is added later gets everything, also what the server has purged long ago: the same objects.
#[test]
fn a_new_destination_is_filled() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_once()), 0);
    purge_up_to(&workspace, 9);
    add_second(&workspace);
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["archived"], 13);
    assert_eq!(entries(&second(&workspace)), 13);
    assert_eq!(pins(&workspace), [""; 0]);
    verify(&workspace, "second");
    for sequence in 1..=13 {
        let object = format!("{SOURCE}/log/{sequence:010}.gtb");
        let first = fs::read(workspace.archive().join(&object)).unwrap();
        assert!(
            fs::read(second(&workspace).join(&object)).unwrap() == first,
            "{object} was sealed a second time"
        );
    }
}

/// The server forgets the files up to this one.
fn purge_up_to(workspace: &Workspace, last: u64) {
    let datadir = workspace.datadir();
    write_index(&datadir, &names(last + 1..=14));
    for n in 1..=last {
        fs::remove_file(datadir.join(format!("binlog.{n:06}"))).unwrap();
    }
}

/// What rots at one destination does not spread to another: the file stalls there, and it is said which it is.
#[test]
fn a_damaged_object_is_not_copied() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_once()), 0);
    purge_up_to(&workspace, 9);
    let object = format!("{SOURCE}/log/0000000004.gtb");
    let damaged = workspace.archive().join(&object);
    let sound = fs::read(&damaged).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, bytes).unwrap();
    add_second(&workspace);
    let output = workspace.run_once();
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    let problems = json(&output)["sources"][0]["problems"].to_string();
    assert!(
        problems.contains("0000000004.gtb does not have the size and the CRC32C"),
        "{problems}"
    );
    assert_eq!(entries(&second(&workspace)), 3);
    assert!(!second(&workspace).join(&object).exists());

    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, sound).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(entries(&second(&workspace)), 13);
    verify(&workspace, "second");
}

/// One that is not required keeps no file from counting as archived, and no exit code from being 0.
#[test]
fn one_that_is_not_required_is_not_waited_for() {
    let workspace = with_optional_second();
    block(&second(&workspace));
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let outcome = json(&output)["sources"][0].clone();
    assert_eq!(outcome["watermark"], 13);
    assert_eq!(outcome["archived"], 13);
    let problems = outcome["problems"].as_array().unwrap();
    assert!(problems[0]["error"].as_str().unwrap().contains("second"));
    assert_eq!(pins(&workspace).len(), 13, "held for an hour");
    let optional: Vec<_> = status(&workspace)
        .iter()
        .map(|row| row["optional"].as_bool().unwrap())
        .collect();
    assert_eq!(optional, [false, true]);
    let report = workspace.gtide().arg("status").output().unwrap();
    assert_eq!(code(&report), 0);
    assert!(stderr(&report).contains("second"), "{}", stderr(&report));
}

fn with_optional_second() -> Workspace {
    let workspace = two_destinations();
    workspace.edit("\n[encryption]", "required = false\n\n[encryption]");
    workspace
}

/// What it lacks is held for an hour; after that the disk comes first, and it reads from the other one what the server
/// has forgotten.
#[test]
fn after_an_hour_it_is_served_from_another_destination() {
    let workspace = with_optional_second();
    write_index(&workspace.datadir(), &names(1..=10));
    block(&second(&workspace));
    let running = Running::start(&workspace);
    assert!(wait_until(|| watermark(&workspace, 1, "archive") == Some(9)));
    assert_eq!(pins(&workspace).len(), 9);
    running.set_clock(2 * 60 * 60);
    // A commit is when the spool is looked through.
    write_index(&workspace.datadir(), &names(1..=14));
    assert!(wait_until(
        || watermark(&workspace, 1, "archive") == Some(13)
    ));
    assert!(
        wait_until(|| pins(&workspace).len() <= 4),
        "{:?}",
        pins(&workspace)
    );
    purge_up_to(&workspace, 9);
    fs::remove_file(second(&workspace)).unwrap();
    assert!(
        wait_until(|| entries(&second(&workspace)) == 13),
        "{:?}",
        status(&workspace)
    );
    running.stop();
    assert_eq!(pins(&workspace), [""; 0]);
    verify(&workspace, "second");
}

/// The ledger is lost while one destination lags behind: what it lacks is found by the index and queued for it alone.
#[test]
fn a_lost_ledger_does_not_hide_that_a_destination_lags_behind() {
    let workspace = two_destinations();
    write_index(&workspace.datadir(), &names(1..=10));
    assert_eq!(code(&workspace.run_once()), 0);
    let second = second(&workspace);
    let aside = workspace.path().join("aside");
    fs::rename(&second, &aside).unwrap();
    block(&second);
    write_index(&workspace.datadir(), &names(1..=14));
    assert_ne!(code(&workspace.run_once()), 0);
    fs::remove_file(&second).unwrap();
    fs::rename(&aside, &second).unwrap();
    for name in ["gtide.db", "gtide.db-wal", "gtide.db-shm"] {
        let _ = fs::remove_file(workspace.path().join(name));
    }
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(entries(&workspace.archive()), 13);
    assert_eq!(entries(&second), 13);
    assert_eq!(pins(&workspace), [""; 0]);
    verify(&workspace, "archive");
    verify(&workspace, "second");
}

/// Jobs of a destination that was away while another archiver, with a database of its own, served it: what it has by
/// now is neither sealed nor sent again.
#[test]
fn what_another_archived_meanwhile_is_not_archived_again() {
    let workspace = two_destinations();
    block(&second(&workspace));
    assert_ne!(code(&workspace.run_once()), 0);
    let other = Workspace::of_fixture("binlog/mysql-9.7");
    fs::copy(
        workspace.path().join("gtide.key"),
        other.path().join("gtide.key"),
    )
    .unwrap();
    assert_eq!(code(&other.run_once()), 0);
    fs::remove_file(second(&workspace)).unwrap();
    fs::rename(other.archive(), second(&workspace)).unwrap();
    let before = inodes(&second(&workspace));
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(inodes(&second(&workspace)), before);
    assert_eq!(pins(&workspace), [""; 0]);
}
