//! Rollups: copies of manifest entries that are used, and never needed.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::Mysqld;
use crate::place::{SERVER, archive, plan, planned, workspace_of};
use crate::workspace::{Workspace, code, json, stderr};

/// The archive of a server whose files lie on both sides of a rollup's end: 996 to 1003.
fn archived() -> (Mysqld, Workspace) {
    let mysqld = Mysqld::start(SERVER);
    mysqld.sql("RESET BINARY LOGS AND GTIDS TO 996; CREATE DATABASE d; CREATE TABLE d.t (n INT PRIMARY KEY)");
    for n in 0..8 {
        mysqld.sql(&format!("INSERT INTO d.t VALUES ({n}); FLUSH BINARY LOGS"));
    }
    let workspace = workspace_of(&mysqld);
    archive(&workspace);
    (mysqld, workspace)
}

fn object(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.archived_folder().join(name)
}

/// What a plan to the end does, without when it was made.
fn files(workspace: &Workspace) -> Value {
    planned(workspace, &["--to-latest", "--from-gtid-set", ""])["files"].clone()
}

const ROLLUP: &str = "rollup/0000000000-0000000999.json.zst";

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_rollup_stands_for_the_entries_of_a_thousand_sequences_once_they_are_whole() {
    let (_mysqld, workspace) = archived();
    assert_eq!(
        workspace.archived("rollup"),
        [ROLLUP.split_once('/').unwrap().1]
    );
    let before = fs::read(object(&workspace, ROLLUP)).unwrap();
    let whole = files(&workspace);
    assert_eq!(whole.as_array().unwrap().len(), 8);
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));

    // Lost with the ledger, it is written again, the same.
    fs::remove_file(object(&workspace, ROLLUP)).unwrap();
    for name in ["gtide.db", "gtide.db-wal", "gtide.db-shm"] {
        let _ = fs::remove_file(workspace.path().join(name));
    }
    assert_eq!(files(&workspace), whole);
    archive(&workspace);
    assert_eq!(fs::read(object(&workspace, ROLLUP)).unwrap(), before);
    assert_eq!(files(&workspace), whole);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn an_entry_that_is_gone_is_still_in_its_rollup_and_verify_says_so() {
    let (_mysqld, workspace) = archived();
    let whole = files(&workspace);
    fs::remove_file(object(&workspace, "manifest/0000000998.json")).unwrap();
    assert_eq!(files(&workspace), whole);
    let verify = workspace.verify();
    assert_eq!(code(&verify), 3, "{}", stderr(&verify));
    let text =
        String::from_utf8(verify.stdout).unwrap() + &String::from_utf8(verify.stderr).unwrap();
    assert!(text.contains("manifest/0000000998.json"), "{text}");

    fs::remove_file(object(&workspace, ROLLUP)).unwrap();
    let refused = plan(&workspace, &["--to-latest", "--from-gtid-set", ""]);
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("0000000998"),
        "{}",
        stderr(&refused)
    );
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_rollup_that_is_damaged_or_of_other_entries_is_passed_over() {
    let (_mysqld, workspace) = archived();
    let whole = files(&workspace);
    let rollup = object(&workspace, ROLLUP);
    let bytes = fs::read(&rollup).unwrap();
    for damaged in [&bytes[..bytes.len() / 2], b"nothing of the kind", b""] {
        fs::write(&rollup, damaged).unwrap();
        let plan = plan(
            &workspace,
            &["--to-latest", "--from-gtid-set", "", "--format", "json"],
        );
        assert_eq!(code(&plan), 0, "{}", stderr(&plan));
        assert_eq!(json(&plan)["files"], whole);
        assert!(
            stderr(&plan).contains("its entries are read instead"),
            "{}",
            stderr(&plan)
        );
        let verify = workspace.verify();
        assert_eq!(code(&verify), 4, "{}", stderr(&verify));
    }
}
