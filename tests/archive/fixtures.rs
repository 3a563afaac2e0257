//! A directory of binlogs that no server uses any more: archived once, read back whole.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness;
use crate::workspace::{Workspace, code, json, stderr};

#[test]
fn once_archives_every_file_and_a_second_run_uploads_nothing() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");

    let first = workspace.run_all();
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    assert_eq!(json(&first)["sources"][0]["archived"], 14);
    assert_eq!(json(&first)["sources"][0]["watermark"], 14);
    let objects = workspace.archived("log");
    assert_eq!(objects.len(), 14);
    let before = modified(&workspace);

    let second = workspace.run_all();
    assert_eq!(code(&second), 0, "{}", stderr(&second));
    assert_eq!(json(&second)["sources"][0]["archived"], 0);
    assert_eq!(modified(&workspace), before, "an object was written again");

    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}

#[test]
fn without_include_last_the_last_file_is_left_alone() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["watermark"], 13);
    assert_eq!(json(&output)["sources"][0]["active"], "binlog.000014");
}

/// TRAPS 1 and 2: a crashed file with a successor is closed; the last one may still be in use.
#[test]
fn a_crashed_last_file_is_left_even_with_include_last() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7-crashed");
    let output = workspace.run_all();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["watermark"], 1);
    assert_eq!(json(&output)["sources"][0]["active"], "binlog.000002");
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}

/// TRAPS 26: anonymous transactions are archived like any others.
#[test]
fn anonymous_transactions_are_archived() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7-anonymous");
    assert_eq!(code(&workspace.run_all()), 0);
    assert_eq!(code(&workspace.verify()), 0);
}

/// TRAPS 18: concatenated files work on stdin when only the first has its magic.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn cat_through_mysqlbinlog_shows_the_same_transactions() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_all()), 0);
    let files: Vec<_> = (1..=14)
        .map(|n| workspace.datadir().join(format!("binlog.{n:06}")))
        .collect();
    let direct = mysqlbinlog().args(&files).output().unwrap();
    assert!(direct.status.success(), "{}", stderr(&direct));

    let mut cat = workspace
        .restore()
        .arg("cat")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let piped = mysqlbinlog()
        .arg("-")
        .stdin(cat.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(cat.wait().unwrap().success());
    assert!(piped.status.success(), "{}", stderr(&piped));

    assert_eq!(transactions(&piped.stdout), transactions(&direct.stdout));
    assert!(!transactions(&direct.stdout).is_empty());
}

fn mysqlbinlog() -> Command {
    let mut command = Command::new(harness::lab_program("mysqlbinlog"));
    command
        .args(["--verify-binlog-checksum", "--verbose"])
        .env("TZ", "UTC");
    command
}

/// What mysqlbinlog prints, without positions and names of temporary files, which differ when it
/// reads a pipe.
fn transactions(output: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(output)
        .lines()
        .filter(|line| {
            !line.starts_with("# at ")
                && !line.contains("end_log_pos")
                && !line.contains("SQL_LOAD")
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn fetched_files_are_byte_identical() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_all()), 0);
    let dir = workspace.path().join("fetched");
    let output = workspace
        .restore()
        .args(["fetch", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for n in 1..=14 {
        let name = format!("binlog.{n:06}");
        assert_eq!(
            fs::read(dir.join(&name)).unwrap(),
            fs::read(workspace.datadir().join(&name)).unwrap()
        );
    }
}

/// Every object of the archive with the time of its last change.
fn modified(workspace: &Workspace) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    fn walk(dir: &std::path::Path, found: &mut Vec<(std::path::PathBuf, std::time::SystemTime)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            } else {
                found.push((entry.path(), entry.metadata().unwrap().modified().unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&workspace.archive(), &mut found);
    found.sort();
    found
}
