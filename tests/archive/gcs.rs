//! The programs themselves over `gs://`: archived, read back, byte for byte.

use std::fs;
use std::path::Path;

use crate::harness::{Gcs, GcsEmulator};
use crate::workspace::{Workspace, code, json, stderr};

/// Puts the server into a configuration whose destination is a `gs://` URL.
fn point_at(workspace: &Workspace, endpoint: &str, server: &Gcs) {
    workspace.edit(
        "#endpoint = \"https://s3.example.net\"",
        &format!("endpoint = \"{endpoint}\""),
    );
    workspace.edit(
        "#credentials = \"file:/etc/gtide/credentials\"",
        &format!(
            "credentials = \"file:{}\"",
            server.credentials_file().display()
        ),
    );
}

/// A datadir of the fixture's binlogs, archived to `gs://BUCKET/it`.
fn workspace(server: &Gcs, bucket: &str) -> Workspace {
    workspace_at(&server.endpoint(), server, bucket)
}

/// The same where the bucket is at one server, and the tokens are another's.
fn workspace_at(endpoint: &str, tokens: &Gcs, bucket: &str) -> Workspace {
    let workspace = Workspace::empty();
    for entry in fs::read_dir(crate::workspace::fixture("binlog/mysql-9.7")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), workspace.datadir().join(entry.file_name())).unwrap();
    }
    let index = workspace.datadir().join("binlog.index");
    workspace.init(&index, &["--destination", &format!("gs://{bucket}/it")]);
    point_at(&workspace, endpoint, tokens);
    workspace
}

fn originals(datadir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 1..=14 {
        let file = fs::read(datadir.join(format!("binlog.{number:06}"))).unwrap();
        let skip = if number == 1 { 0 } else { 4 };
        all.extend_from_slice(&file[skip..]);
    }
    all
}

#[test]
fn binlogs_go_to_google_and_come_back_as_they_were() {
    let server = Gcs::start();
    go_and_come_back(&workspace(&server, Gcs::BUCKET));
}

/// A second opinion, by a server that others wrote.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn binlogs_go_to_gcp_storage_emulator_and_come_back_as_they_were() {
    let (tokens, server) = (Gcs::start(), GcsEmulator::start());
    go_and_come_back(&workspace_at(
        &server.endpoint(),
        &tokens,
        GcsEmulator::BUCKET,
    ));
}

fn go_and_come_back(workspace: &Workspace) {
    let first = workspace.run_all();
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    assert_eq!(json(&first)["sources"][0]["watermark"], 14);

    let again = workspace.run_all();
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert_eq!(json(&again)["sources"][0]["archived"], 0);

    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
    let cat = workspace.restore().arg("cat").output().unwrap();
    assert_eq!(code(&cat), 0, "{}", stderr(&cat));
    assert!(cat.stdout == originals(&workspace.datadir()));

    // The bucket is the truth: everything is found again without the ledger.
    for name in ["gtide.db", "gtide.db-wal", "gtide.db-shm"] {
        let _ = fs::remove_file(workspace.path().join(name));
    }
    let rebuilt = workspace.run_all();
    assert_eq!(code(&rebuilt), 0, "{}", stderr(&rebuilt));
    assert_eq!(json(&rebuilt)["sources"][0]["watermark"], 14);
}

/// Without `credentials`: Google's Application Default Credentials.
#[test]
fn credentials_may_come_from_the_environment() {
    let server = Gcs::start();
    let workspace = workspace(&server, Gcs::BUCKET);
    let file = server.credentials_file();
    workspace.edit(&format!("credentials = \"file:{}\"", file.display()), "");
    let run = || {
        let mut gtide = workspace.gtide();
        gtide.args(["run", "--once", "--format", "json"]);
        gtide
    };
    let output = run()
        .env("GOOGLE_APPLICATION_CREDENTIALS", &file)
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let output = run()
        .env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
        .output()
        .unwrap();
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("no credentials"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bucket_that_is_not_ours_is_for_a_person() {
    let server = Gcs::start();
    let workspace = workspace(&server, Gcs::DENIED);
    let output = workspace.run_all();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("403"), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("credentials"),
        "{}",
        stderr(&output)
    );
}
