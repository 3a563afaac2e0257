//! `gtide check`: what works is shown by doing it, what does not is said with a hint, and nothing is left behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::archiver::{Bucket, Database, Destination, Site};
use crate::harness::{Act, Postgres};
use crate::running::{self, Daemon};
use crate::workspace::{Workspace, code, fixture, json, stderr};

fn check(workspace: &Workspace) -> Output {
    let mut command = workspace.gtide();
    command.args(["check", "--format", "json"]);
    command.output().unwrap()
}

/// The findings of one check.
fn of(output: &Output, name: &str) -> Vec<Value> {
    let findings = json(output)["findings"].as_array().unwrap().clone();
    let of = findings.into_iter().filter(|found| found["check"] == name);
    of.collect()
}

/// The only finding of a check.
fn the(output: &Output, name: &str) -> Value {
    let found = of(output, name);
    assert_eq!(found.len(), 1, "{name}: {found:?} in {}", json(output));
    found[0].clone()
}

fn failed(output: &Output) -> Vec<String> {
    let findings = json(output)["findings"].as_array().unwrap().clone();
    let failed = findings.iter().filter(|found| found["verdict"] == "fail");
    failed
        .map(|f| f["check"].as_str().unwrap().to_owned())
        .collect()
}

/// No probe, no link, no file on trial.
fn assert_nothing_is_left(workspace: &Workspace) {
    let spool = fs::read_dir(workspace.path().join("spool")).unwrap();
    let names: Vec<_> = spool.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().starts_with(".check")),
        "{names:?}"
    );
    let probes = fs::read_dir(workspace.archive().join("test/check"));
    assert_eq!(probes.map_or(0, Iterator::count), 0);
}

#[test]
fn a_healthy_installation_is_shown_line_by_line() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let output = workspace.gtide().arg("check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 0, "{text}{}", stderr(&output));
    let place = regex_free(&workspace.path().display().to_string());
    insta::with_settings!({ filters => vec![
        (place.as_str(), "[PLACE]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12} was", "[PROBE] was"),
        (r"file:[0-9a-f]{16}", "file:[KEY]"),
        (r"[0-9.]+ [KMGT]iB(/s)?", "[BYTES]$1"),
        (r"[0-9.]+ to 1", "[RATIO] to 1"),
        (r"zstd level 3: [^\n]*", "zstd level 3: [SPEED]"),
        (r"archive: \[BYTES\]/s[^\n]*", "archive: [SPEED]"),
        (r"mode 0[0-7]{3}", "mode [MODE]"),
    ]}, {
        insta::assert_snapshot!(text);
    });
    assert_nothing_is_left(&workspace);
    assert_eq!(
        code(&workspace.run_all()),
        0,
        "and it is as well as was said"
    );
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}

/// A path as a filter reads it.
fn regex_free(path: &str) -> String {
    path.replace('.', r"\.")
}

#[test]
fn whatever_is_wrong_the_rest_is_checked_as_well() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let key = workspace.path().join("gtide.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(workspace.datadir().join("binlog.000014")).unwrap();
    workspace.edit("reserve = \"1MiB\"", "reserve = \"100000TiB\"");
    let output = check(&workspace);
    assert_eq!(
        failed(&output),
        ["secret", "source-file", "spool-room", "key"],
        "{}",
        json(&output)
    );
    // A configuration comes before what may pass.
    assert_eq!(code(&output), 2);
    assert_eq!(json(&output)["exit"], "usage");
    let hint = the(&output, "secret")["hint"].clone();
    assert!(hint.as_str().unwrap().starts_with("chmod 600"), "{hint}");
    assert_eq!(the(&output, "spool-room")["exit"], "transient");
    assert_eq!(the(&output, "destination-parts")["verdict"], "ok");
    assert_eq!(the(&output, "database-write")["verdict"], "ok");
    assert_nothing_is_left(&workspace);

    workspace.edit("cluster =", "clutter =");
    let output = check(&workspace);
    assert_eq!((code(&output), failed(&output).len()), (2, 1));
    assert_eq!(the(&output, "config")["verdict"], "fail");
}

#[test]
fn a_file_that_cannot_be_archived_is_found_before_it_is() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let encrypted = fixture("binlog/refused/encrypted.000001");
    fs::copy(encrypted, workspace.datadir().join("binlog.000001")).unwrap();
    let output = check(&workspace);
    assert_eq!(failed(&output), ["source-file"]);
    let reason = of(&output, "source-file")[0]["reason"].clone();
    assert!(
        reason.as_str().unwrap().contains("binlog.000001"),
        "{reason}"
    );
}

#[test]
fn beside_a_daemon_it_says_who_owns_the_source_and_disturbs_nobody() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || {
        running::watermark(&workspace, 1, "archive") == Some(13)
    });
    let owner = format!("process {}", daemon.id());
    let mut output = check(&workspace);
    // It reports once it owns the source, a moment after it has begun to work.
    daemon.wait_until("reported", || {
        output = check(&workspace);
        the(&output, "database-owner")["reason"]
            .to_string()
            .contains(&owner)
    });
    assert_eq!(code(&output), 0, "{}", json(&output));
    assert_nothing_is_left(&workspace);
    daemon.stop();
    let log = daemon.log();
    assert!(
        !log.contains("\"WARN\"") && !log.contains("\"ERROR\""),
        "{log}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_be_so() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    fs::write(workspace.archive(), "in the way").unwrap();
    let output = check(&workspace);
    assert!(failed(&output).contains(&"destination-put".to_owned()));
    assert!(of(&output, "destination-parts").is_empty(), "left out");
    assert_eq!(
        the(&output, "seal-speed")["verdict"],
        "ok",
        "the rest goes on"
    );
    assert_eq!(code(&output), json_code(&output));
}

/// The exit code that the report names.
fn json_code(output: &Output) -> i32 {
    match json(output)["exit"].as_str().unwrap() {
        "ok" => 0,
        "usage" => 2,
        "transient" => 6,
        other => panic!("{other}"),
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_bucket_and_a_server_are_proved_and_each_refusal_is_told_apart() {
    let (bucket, server) = (Bucket::start(), Postgres::start());
    let datadir = fixture("binlog/mysql-9.7");
    let (database, destination) = (Database::Postgres(&server), Destination::Bucket(&bucket));
    let site = Site::of("checked", &datadir, database, destination);
    let workspace = &site.workspace;
    let output = check(workspace);
    assert_eq!(code(&output), 0, "{}", json(&output));
    assert_eq!(the(&output, "clock")["verdict"], "ok");
    assert_eq!(
        the(&output, "destination-credentials")["reason"],
        "they do not expire"
    );
    assert_eq!(
        the(&output, "destination-remove")["facts"],
        Value::Null,
        "removed"
    );
    let schema = the(&output, "database-schema")["reason"].clone();
    assert!(schema.as_str().unwrap().contains("were made"), "{schema}");
    let again = check(workspace);
    assert_eq!(
        the(&again, "database-schema")["reason"],
        "a ledger of this version"
    );

    // A reader.
    let mine = bucket.server.credentials_file().display().to_string();
    let readers = bucket
        .server
        .readers_credentials_file()
        .display()
        .to_string();
    workspace.edit(&mine, &readers);
    let output = check(workspace);
    assert_eq!(failed(&output), ["destination-put"]);
    assert_eq!(the(&output, "destination-list")["verdict"], "ok");
    assert_eq!(code(&output), 2);

    // Nobody.
    let stranger = workspace.path().join("stranger");
    let text = "[default]\naws_access_key_id = tester\naws_secret_access_key = wrong\n";
    private(&stranger, text);
    workspace.edit(&readers, &stranger.display().to_string());
    let output = check(workspace);
    assert_eq!(failed(&output), ["destination-put", "destination-list"]);
    let hint = the(&output, "destination-put")["hint"].to_string();
    assert!(hint.contains("credentials"), "{hint}");

    // Another region's bucket, as AWS says it.
    workspace.edit(&stranger.display().to_string(), &mine);
    let elsewhere = "HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-3\r\n\
         Content-Type: application/xml\r\nContent-Length: 98\r\n\r\n\
         <Error><Code>PermanentRedirect</Code><Message>The bucket is at another endpoint.</Message></Error>";
    bucket.proxy.outage(Some(Act::Respond(elsewhere)));
    let output = check(workspace);
    let hint = the(&output, "destination-put")["hint"].to_string();
    assert!(hint.contains("eu-west-3"), "{hint}");
    assert_eq!(code(&output), 2);
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}
