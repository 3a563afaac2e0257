//! Whose files they are, and in which order: numbers, holes, servers that become others, numberings that begin anew.

use std::fs;

use serde_json::json;

use crate::harness::Mysqld;
use crate::running::{Daemon, names, pins, put, status, wait_until, watermark, write_index};
use crate::workspace::{Workspace, code, fixture, json, stderr};

const UUID: &str = "0d1a7e00-97a0-4000-8000-000000000001";

fn manifest(workspace: &Workspace, source: &str) -> Vec<String> {
    let folder = workspace
        .archive()
        .join("test")
        .join(source)
        .join("manifest");
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn verify(workspace: &Workspace, source: &str) {
    let output = workspace
        .restore()
        .args(["verify", "--source", source])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn an_index_with_a_hole_is_archived_with_a_gap() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    write_index(&workspace.datadir(), &names([1, 2, 4, 5]));
    let output = workspace.run_once();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let source = &json(&output)["sources"][0];
    assert_eq!(source["gaps"], json!([[3, 3]]));
    assert_eq!(source["watermark"], 2, "the watermark passed a gap");
    assert_eq!(workspace.archived("manifest").len(), 3);
    assert!(
        stderr(&output).contains("sequences 3 to 3"),
        "{}",
        stderr(&output)
    );
    let verify = workspace.verify();
    assert_eq!(code(&verify), 3, "{}", stderr(&verify));
    assert_eq!(pins(&workspace), [""; 0]);
}

/// TRAPS 11: seven digits come after six, everywhere.
#[test]
fn a_millionth_file_comes_after_its_predecessors() {
    let workspace = Workspace::empty();
    fs::copy(
        fixture("binlog/mysql-9.7/auto.cnf"),
        workspace.datadir().join("auto.cnf"),
    )
    .unwrap();
    let sequences = 999_997..=1_000_002;
    for (from, to) in (1..).zip(sequences.clone()) {
        put(&workspace, from, to);
    }
    write_index(&workspace.datadir(), &names(sequences));
    workspace.init(&workspace.datadir().join("binlog.index"), &[]);
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["watermark"], 1_000_001);
    assert_eq!(json(&output)["sources"][0]["gaps"], json!([]));
    assert_eq!(watermark(&workspace, 1, "archive"), Some(1_000_001));
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
    let ls = workspace
        .restore()
        .args(["ls", "--format", "json"])
        .output();
    let runs = &json(&ls.unwrap())["sources"][0]["contiguous"];
    assert_eq!(*runs, json!([[999_997, 1_000_001]]));
    let cat = workspace.restore().arg("cat").output().unwrap();
    let whole: Vec<u8> = (1..=5)
        .flat_map(|n| {
            let bytes = fs::read(fixture(&format!("binlog/mysql-9.7/binlog.{n:06}"))).unwrap();
            bytes[if n == 1 { 0 } else { 4 }..].to_vec()
        })
        .collect();
    assert!(cat.stdout == whole, "out of order");
}

/// TRAPS 14: what the server closes after a reset is held until someone raises `incarnation`, even when the server
/// purges it meanwhile; what waited of the old numbering is archived too.
#[test]
fn a_numbering_that_begins_anew_is_held_until_the_incarnation_is_raised() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let datadir = workspace.datadir();
    write_index(&datadir, &names(1..=6));
    assert_eq!(code(&workspace.run_once()), 0);

    // Files 6 to 8 are closed while nothing can be stored, so they wait when the numbering begins anew.
    let log = workspace.archive().join(format!("test/{UUID}/1/log"));
    let aside = workspace.path().join("aside");
    fs::rename(&log, &aside).unwrap();
    fs::write(&log, "in the way").unwrap();
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    write_index(&datadir, &names(1..=9));
    daemon.wait_until("queued", || status(&workspace)[0]["queued"] == 3);
    for n in 1..=14 {
        fs::remove_file(datadir.join(format!("binlog.{n:06}"))).unwrap();
    }
    put(&workspace, 10, 1);
    write_index(&datadir, &names([1]));
    daemon.wait_for("the numbering began anew");
    for (from, to) in [(11, 2), (12, 3)] {
        put(&workspace, from, to);
    }
    write_index(&datadir, &names(1..=3));
    let held = workspace.path().join(format!("spool/pin/{UUID}-2"));
    daemon.wait_until("held", || held.join("0000000002-binlog.000002").exists());
    assert_eq!(daemon.log().matches("the numbering began anew").count(), 1);
    let now = status(&workspace);
    assert_eq!(now[0]["stopped"]["exit"], "conflict", "{now:?}");
    assert!(
        now[0]["stopped"]["hint"]
            .as_str()
            .unwrap()
            .contains("raise `incarnation`")
    );
    // The server purges the first of the new files before anybody has acted.
    fs::remove_file(datadir.join("binlog.000001")).unwrap();
    write_index(&datadir, &names(2..=3));
    daemon.stop();
    let output = workspace.run_once();
    assert_eq!(code(&output), 5, "{}", stderr(&output));

    fs::remove_file(&log).unwrap();
    fs::rename(&aside, &log).unwrap();
    workspace.edit("#incarnation = 1", "incarnation = 2");
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["watermark"], 2);
    assert_eq!(json(&output)["sources"][0]["archived"], 3 + 2);
    assert_eq!(pins(&workspace), [""; 0]);
    assert_eq!(manifest(&workspace, &format!("{UUID}/1")).len(), 8);
    assert_eq!(manifest(&workspace, &format!("{UUID}/2")).len(), 2);
    verify(&workspace, &format!("{UUID}/1"));
    verify(&workspace, &format!("{UUID}/2"));
}

/// The same while no archiver runs: what it pins first is not what the old numbering says.
#[test]
fn a_reset_while_no_archiver_runs_confuses_nothing() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let datadir = workspace.datadir();
    write_index(&datadir, &names(1..=4));
    assert_eq!(code(&workspace.run_once()), 0);
    // The new numbering has passed the old one.
    for n in 1..=6 {
        fs::remove_file(datadir.join(format!("binlog.{n:06}"))).unwrap();
        put(&workspace, n + 7, n);
    }
    write_index(&datadir, &names(1..=6));
    for _ in 0..2 {
        let output = workspace.run_once();
        assert_eq!(code(&output), 5, "{}", stderr(&output));
    }
    let of = |incarnation: u32| {
        workspace
            .path()
            .join(format!("spool/pin/{UUID}-{incarnation}"))
    };
    assert_eq!(fs::read_dir(of(2)).unwrap().count(), 5);
    assert_eq!(
        fs::read_dir(of(1)).unwrap().count(),
        0,
        "they are none of its own"
    );
    assert_eq!(manifest(&workspace, &format!("{UUID}/1")).len(), 3);

    workspace.edit("#incarnation = 1", "incarnation = 2");
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(manifest(&workspace, &format!("{UUID}/1")).len(), 3);
    assert_eq!(manifest(&workspace, &format!("{UUID}/2")).len(), 5);
    assert_eq!(pins(&workspace), [""; 0]);
    verify(&workspace, &format!("{UUID}/2"));
}

/// A false alarm leaves nothing behind.
#[test]
fn a_conflict_that_is_mended_holds_nothing_for_an_incarnation_that_never_comes() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_once()), 0);
    write_index(&workspace.datadir(), &names(1..=5));
    assert_eq!(code(&workspace.run_once()), 5);
    write_index(&workspace.datadir(), &names(1..=14));
    assert_eq!(code(&workspace.run_once()), 0);
    assert_eq!(pins(&workspace), [""; 0]);
}

/// TRAPS 15, without a server: the file changes under the running archiver.
#[test]
fn a_server_that_becomes_another_is_archived_as_another() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let datadir = workspace.datadir();
    write_index(&datadir, &names(1..=4));
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || {
        manifest(&workspace, &format!("{UUID}/1")).len() == 3
    });
    let other = "0d1a7e00-97a0-4000-8000-00000000beef";
    fs::remove_file(datadir.join("auto.cnf")).unwrap();
    fs::write(
        datadir.join("auto.cnf"),
        format!("[auto]\nserver-uuid={other}\n"),
    )
    .unwrap();
    write_index(&datadir, &names(1..=6));
    daemon.wait_until("archived", || {
        manifest(&workspace, &format!("{other}/1")).len() == 5
    });
    daemon.wait_until("let go", || pins(&workspace).is_empty());
    daemon.stop();
    assert!(daemon.log().contains("the server has another server_uuid"));
    assert_eq!(manifest(&workspace, &format!("{UUID}/1")).len(), 3);
    verify(&workspace, &format!("{UUID}/1"));
    verify(&workspace, &format!("{other}/1"));
}

fn beside(mysqld: &Mysqld) -> Workspace {
    let workspace = Workspace::empty();
    workspace.init(&mysqld.index(), &[]);
    mysqld
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT)");
    workspace
}

fn write_files(mysqld: &Mysqld, count: usize) {
    for _ in 0..count {
        mysqld.sql("INSERT INTO d.t (v) VALUES (REPEAT(UUID(), 200)); FLUSH BINARY LOGS");
    }
}

fn listed(mysqld: &Mysqld) -> usize {
    fs::read_to_string(mysqld.index()).unwrap().lines().count()
}

fn server_uuid(mysqld: &Mysqld) -> String {
    mysqld.sql("SELECT @@server_uuid")
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn reset_binary_logs_and_gtids_under_a_running_archiver() {
    let mysqld = Mysqld::start(&[]);
    let workspace = beside(&mysqld);
    let uuid = server_uuid(&mysqld);
    let first = format!("{uuid}/1");
    write_files(&mysqld, 5);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    let closed = listed(&mysqld) - 1;
    daemon.wait_until("archived", || manifest(&workspace, &first).len() == closed);

    mysqld.sql("RESET BINARY LOGS AND GTIDS");
    write_files(&mysqld, 3);
    daemon.wait_for("the numbering began anew");
    let held = workspace.path().join(format!("spool/pin/{uuid}-2"));
    daemon.wait_until("held", || {
        fs::read_dir(&held).is_ok_and(|pins| pins.count() == 3)
    });
    // The server purges them before anybody acts.
    mysqld.sql("PURGE BINARY LOGS TO 'binlog.000004'");
    write_files(&mysqld, 2);
    daemon.stop();
    assert_eq!(
        manifest(&workspace, &first).len(),
        closed,
        "nothing was added to the old numbering"
    );

    workspace.edit("#incarnation = 1", "incarnation = 2");
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    let second = format!("{uuid}/2");
    daemon.wait_until("archived", || manifest(&workspace, &second).len() == 5);
    daemon.wait_until("let go", || pins(&workspace).is_empty());
    daemon.stop();
    verify(&workspace, &first);
    verify(&workspace, &second);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_new_server_uuid_under_a_running_archiver() {
    let mut mysqld = Mysqld::start(&[]);
    let workspace = beside(&mysqld);
    let before = server_uuid(&mysqld);
    write_files(&mysqld, 3);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    let closed = listed(&mysqld) - 1;
    let old = format!("{before}/1");
    daemon.wait_until("archived", || manifest(&workspace, &old).len() == closed);

    mysqld.shutdown();
    fs::remove_file(mysqld.datadir().join("auto.cnf")).unwrap();
    mysqld.start_again(&[]);
    let after = server_uuid(&mysqld);
    assert_ne!(before, after);
    write_files(&mysqld, 2);
    let all = listed(&mysqld) - 1;
    let new = format!("{after}/1");
    daemon.wait_until("archived", || manifest(&workspace, &new).len() == all);
    daemon.stop();
    assert!(wait_until(|| pins(&workspace).is_empty()));
    verify(&workspace, &old);
    verify(&workspace, &new);
}
