//! `gtide init`: what it writes works, or nothing is written.

use std::fs;

use crate::workspace::{Workspace, code, stderr};

#[test]
fn odd_names_end_up_in_a_configuration_that_loads() {
    let workspace = Workspace::empty();
    let odd = [
        "--name",
        "d\"b'1",
        "--spool",
        "my \"spool\"",
        "--key",
        "k'e\"y",
    ];
    let output = workspace.try_init(&odd);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(workspace.path().join("k'e\"y").exists());
    let status = workspace.gtide().arg("status").output().unwrap();
    assert_eq!(code(&status), 2);
    assert!(
        stderr(&status).contains("there is no ledger"),
        "{}",
        stderr(&status)
    );
}

#[test]
fn a_destination_that_means_nothing_leaves_nothing_behind() {
    for url in [
        "./archive",
        "s3://",
        "file://relative/archive",
        "ftp://host/x",
        "gs://",
    ] {
        let workspace = Workspace::empty();
        let output = workspace.try_init(&["--destination", url]);
        assert_eq!(code(&output), 2, "{url}: {}", stderr(&output));
        assert!(!workspace.config().exists());
        assert!(!workspace.path().join("gtide.key").exists());
        assert!(stderr(&output).contains("hint:"), "{}", stderr(&output));
    }
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let workspace = Workspace::empty();
    assert_eq!(code(&workspace.try_init(&[])), 0);
    let before = fs::read(workspace.path().join("gtide.key")).unwrap();
    assert_eq!(code(&workspace.try_init(&[])), 5);
    fs::remove_file(workspace.config()).unwrap();
    assert_eq!(code(&workspace.try_init(&[])), 0, "an existing key is used");
    assert_eq!(
        fs::read(workspace.path().join("gtide.key")).unwrap(),
        before
    );
}
