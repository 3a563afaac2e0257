//! A binlog that was damaged before it was archived: refused by name, and passed where the GTIDs allow it.

use std::fs;

use crate::harness::Mysqld;
use crate::place::{SERVER, archive, plan, planned, run, workspace_of};
use crate::workload::executed;
use crate::workspace::{Workspace, code, stderr};

/// Three transactions in two files each, and a file whose last event but one byte is as it was: no transaction is in it.
/// The server goes on in another file.
fn archived() -> (Mysqld, Workspace) {
    let mysqld = Mysqld::start(SERVER);
    mysqld.sql("CREATE DATABASE d; CREATE TABLE d.t (n INT PRIMARY KEY)");
    for n in 0..4 {
        mysqld.sql(&format!("INSERT INTO d.t VALUES ({n}); FLUSH BINARY LOGS"));
    }
    let damaged = mysqld.datadir().join("binlog.000003");
    let mut bytes = fs::read(&damaged).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let workspace = workspace_of(&mysqld);
    archive(&workspace);
    (mysqld, workspace)
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn damage_in_the_way_is_refused_by_name_and_passed_when_accepted_and_no_transaction_is_lost() {
    let (mysqld, workspace) = archived();
    let to_latest = ["--to-latest", "--from-gtid-set", ""];
    let refused = plan(&workspace, &to_latest);
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    let told = stderr(&refused);
    assert!(
        told.contains("binlog.000003") && told.contains("--accept-damage"),
        "{told}"
    );

    let saved = workspace.path().join("plan.json");
    let accept = ["--accept-damage", "--save", saved.to_str().unwrap()];
    let accepted = planned(&workspace, &[&to_latest[..], &accept].concat());
    assert_eq!(accepted["executed"], executed(&mysqld).as_str());
    assert!(
        accepted["warnings"].to_string().contains("binlog.000003"),
        "{accepted:#}"
    );

    let target = Mysqld::start(SERVER);
    target.sql("RESET BINARY LOGS AND GTIDS");
    run(
        &workspace,
        &target,
        accepted["commands"]["stream"].as_str().unwrap(),
    );
    assert_eq!(executed(&target), executed(&mysqld));
    assert_eq!(target.sql("SELECT COUNT(*) FROM d.t"), "4");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn damage_that_took_a_transaction_is_refused_whatever_is_accepted() {
    let mysqld = Mysqld::start(SERVER);
    mysqld.sql("CREATE DATABASE d; CREATE TABLE d.t (n INT PRIMARY KEY)");
    for n in 0..4 {
        mysqld.sql(&format!("INSERT INTO d.t VALUES ({n}); FLUSH BINARY LOGS"));
    }
    let lost = executed(&mysqld);
    let lost = lost.split(':').next().unwrap();
    let damaged = mysqld.datadir().join("binlog.000003");
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let workspace = workspace_of(&mysqld);
    archive(&workspace);
    let refused = plan(
        &workspace,
        &["--to-latest", "--from-gtid-set", "", "--accept-damage"],
    );
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    let told = stderr(&refused);
    assert!(told.contains(&format!("{lost}:5")), "{told}");
    // What is before it is not held up by it.
    planned(
        &workspace,
        &["--to-gtid", &format!("{lost}:1-4"), "--from-gtid-set", ""],
    );
}
