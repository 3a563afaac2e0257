//! `gtide run` on a fresh machine against an archive that exists.

use std::fs;

use crate::running::{inodes, names, pins, write_index};
use crate::workspace::{Workspace, code, json, stderr};

/// Nothing is left but the server's files, the configuration and the key: new database, new spool. Not a byte is
/// written to the archive again, and the next file follows.
#[test]
fn a_fresh_machine_adopts_an_archive_and_uploads_nothing() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    write_index(&workspace.datadir(), &names(1..=13));
    assert_eq!(code(&workspace.run_once()), 0);
    let before = inodes(&workspace.archive());
    assert_eq!(
        before.len(),
        2 * 12 + 1,
        "objects, entries and the layout version"
    );

    workspace.edit("\"sqlite:gtide.db\"", "\"sqlite:fresh.db\"");
    fs::rename(
        workspace.path().join("spool"),
        workspace.path().join("old-spool"),
    )
    .unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["archived"], 0);
    assert_eq!(json(&output)["sources"][0]["watermark"], 12);
    assert_eq!(
        inodes(&workspace.archive()),
        before,
        "something was written again"
    );
    assert_eq!(pins(&workspace), [""; 0]);

    write_index(&workspace.datadir(), &names(1..=14));
    let output = workspace.run_once();
    assert_eq!(json(&output)["sources"][0]["archived"], 1);
    let after = inodes(&workspace.archive());
    assert!(
        before.iter().all(|file| after.contains(file)),
        "something was written again"
    );
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}
