//! Beside a real server that writes, to a real S3 store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{Mysqld, SeaweedFs};
use crate::workspace::{Workspace, code, json, stderr};

/// How long the server is written to while the archiver runs.
const LOAD: Duration = Duration::from_secs(20);

/// The archiver must have caught up this soon after the load has ended.
const CATCH_UP: Duration = Duration::from_mins(4);

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn every_closed_file_is_committed_in_order_while_the_server_writes() {
    let mysqld = Mysqld::start(&[]);
    let seaweed = SeaweedFs::start();
    mysqld
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT)");
    let workspace = workspace(&mysqld, &seaweed);

    let mut daemon = start(&workspace);
    let mut originals = BTreeMap::new();
    let end = Instant::now() + LOAD;
    while Instant::now() < end {
        mysqld.sql(
            "INSERT INTO d.t (v) VALUES (REPEAT(UUID(), 2000)); INSERT INTO d.t (v) VALUES (UUID()); \
             FLUSH BINARY LOGS",
        );
        remember(&mysqld.datadir(), &mut originals);
        sleep(Duration::from_millis(500));
    }
    let closed = closed_files(&mysqld);
    remember(&mysqld.datadir(), &mut originals);
    wait_for_watermark(&workspace, closed.len() as u64);
    interrupt(&mut daemon);

    assert_byte_identical(&workspace, &closed, &originals);
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
    assert_gtids_are_the_servers(&workspace, &mysqld);
}

/// The daemon is killed again and again while the server writes: nothing is lost, nothing is
/// archived twice or otherwise.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn kill_9_while_archiving_loses_nothing() {
    let mysqld = Mysqld::start(&[]);
    let seaweed = SeaweedFs::start();
    mysqld
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT)");
    let workspace = workspace(&mysqld, &seaweed);
    let mut originals = BTreeMap::new();
    for round in 0..8 {
        let mut daemon = start(&workspace);
        for _ in 0..3 {
            mysqld.sql("INSERT INTO d.t (v) VALUES (REPEAT(UUID(), 20000)); FLUSH BINARY LOGS");
        }
        remember(&mysqld.datadir(), &mut originals);
        sleep(Duration::from_millis(150 * round));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let closed = closed_files(&mysqld);
    remember(&mysqld.datadir(), &mut originals);
    assert_eq!(json(&output)["sources"][0]["watermark"], closed.len());
    assert_byte_identical(&workspace, &closed, &originals);
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
    assert_gtids_are_the_servers(&workspace, &mysqld);
}

fn workspace(mysqld: &Mysqld, seaweed: &SeaweedFs) -> Workspace {
    let workspace = Workspace::empty();
    let url = format!("s3://{}/it", SeaweedFs::BUCKET);
    workspace.init(&mysqld.index(), &["--destination", &url]);
    workspace.edit(
        "#endpoint = \"https://s3.example.net\"",
        &format!("endpoint = \"{}\"", seaweed.endpoint()),
    );
    workspace.edit(
        "#credentials = \"file:/etc/gtide/credentials\"",
        &format!(
            "credentials = \"file:{}\"",
            seaweed.credentials_file().display()
        ),
    );
    workspace
}

fn start(workspace: &Workspace) -> Child {
    let log = fs::File::create(workspace.path().join("daemon.log")).unwrap();
    workspace
        .gtide()
        .arg("run")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// SIGINT: the daemon finishes what it has in hand and exits 0.
fn interrupt(daemon: &mut Child) {
    let pid = rustix::process::Pid::from_child(daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(daemon.wait().unwrap().success());
}

/// All files that the server closed, by the index.
fn closed_files(mysqld: &Mysqld) -> Vec<String> {
    let index = fs::read_to_string(mysqld.index()).unwrap();
    let mut names: Vec<String> = index
        .lines()
        .map(|line| line.trim_start_matches("./").to_owned())
        .collect();
    names.pop();
    names
}

/// Keeps the bytes of files that are closed.
fn remember(datadir: &Path, originals: &mut BTreeMap<String, Vec<u8>>) {
    let index = fs::read_to_string(datadir.join("binlog.index")).unwrap();
    let mut names: Vec<&str> = index
        .lines()
        .map(|line| line.trim_start_matches("./"))
        .collect();
    names.pop();
    for name in names {
        if !originals.contains_key(name) {
            originals.insert(name.to_owned(), fs::read(datadir.join(name)).unwrap());
        }
    }
}

fn wait_for_watermark(workspace: &Workspace, watermark: u64) {
    let end = Instant::now() + CATCH_UP;
    loop {
        let output = workspace
            .gtide()
            .args(["status", "--format", "json"])
            .output()
            .unwrap();
        let reached = serde_json::from_slice::<serde_json::Value>(&output.stdout)
            .ok()
            .and_then(|status| status["sources"][0]["watermark"].as_u64());
        if reached >= Some(watermark) {
            return;
        }
        let log = fs::read_to_string(workspace.path().join("daemon.log")).unwrap_or_default();
        assert!(
            Instant::now() < end,
            "{reached:?} of {watermark}: {}\n{log}",
            stderr(&output)
        );
        sleep(Duration::from_millis(200));
    }
}

fn assert_byte_identical(
    workspace: &Workspace,
    closed: &[String],
    originals: &BTreeMap<String, Vec<u8>>,
) {
    let dir = workspace.path().join("fetched");
    let fetch = workspace
        .restore()
        .args(["fetch", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert_eq!(code(&fetch), 0, "{}", stderr(&fetch));
    assert!(closed.len() > 5, "{closed:?}");
    for name in closed {
        assert!(
            fs::read(dir.join(name)).unwrap() == originals[name],
            "{name} differs"
        );
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), closed.len());
}

/// The archive's GTIDs are the server's, less those of the active file.
fn assert_gtids_are_the_servers(workspace: &Workspace, mysqld: &Mysqld) {
    let output = workspace
        .gtide()
        .args(["status", "--format", "json"])
        .output()
        .unwrap();
    let archived = json(&output)["sources"][0]["gtid_executed"]
        .as_str()
        .unwrap()
        .to_owned();
    // What the active file adds is what the server executed since it began.
    let difference = mysqld.sql(&format!(
        "SELECT CONCAT('[', GTID_SUBTRACT(@@gtid_executed, '{archived}'), ']', \
                       '[', GTID_SUBTRACT('{archived}', @@gtid_executed), ']')"
    ));
    assert!(difference.contains("[][]"), "{difference}");
}
