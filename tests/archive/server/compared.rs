//! What the server says, against what is archived.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::{ask, start, wait_for, workspace_of};
use crate::harness::{Mysqld, wait_until};
use crate::running::Daemon;
use crate::workspace::Workspace;

/// A server looks for expired files when it rotates.
const BETWEEN_FLUSHES: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn transactions_that_are_not_archived_are_counted_until_they_are() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    let daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "all archived", |row, exit| {
        row["waiting_transactions"] == 0 && exit == 0
    });
    server.sql("INSERT INTO d.t VALUES (1); INSERT INTO d.t VALUES (2)");
    wait_for(&workspace, &daemon, "two wait", |row, exit| {
        row["waiting_transactions"] == 2 && exit == 0
    });
    server.sql("FLUSH BINARY LOGS");
    wait_for(&workspace, &daemon, "none waits", |row, _| {
        row["waiting_transactions"] == 0
    });
}

/// Over TCP with TLS, and away in the middle: files are archived all the same.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_server_that_is_away_holds_up_nothing_and_is_asked_again() {
    let (mut server, port) = start(&[]);
    let at = format!("--port={port}");
    let args = [
        "--performance-schema=ON",
        "--skip-networking=OFF",
        "--mysqlx=OFF",
        &at,
    ];
    let workspace = Workspace::empty();
    workspace.init(&server.index(), &[]);
    ask(
        &workspace,
        &format!("mysql://gtide@127.0.0.1:{port}?ssl-mode=REQUIRED"),
    );
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "asked", |row, _| {
        row["answered"].is_string()
    });
    server.sql("INSERT INTO d.t VALUES (1)");
    server.kill9();
    wait_for(&workspace, &daemon, "away", |row, exit| {
        row["silence"].is_object() && exit == 0
    });
    // Another file is closed by the next start, and one more while nobody is asked.
    server.start_again(&args);
    server.sql("FLUSH BINARY LOGS");
    wait_for(&workspace, &daemon, "answers again", |row, _| {
        row["silence"].is_null() && row["waiting_transactions"] == 0
    });
    daemon.stop();
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_password_that_is_wrong_is_a_persons_affair_and_holds_up_nothing() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    fs::write(workspace.path().join("password"), "another\n").unwrap();
    let daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "refused", |row, exit| {
        let error = row["silence"]["error"].as_str().unwrap_or_default();
        error.contains("Access denied") && exit == 2
    });
    // Read anew for each session.
    fs::write(workspace.path().join("password"), "a secret\n").unwrap();
    wait_for(&workspace, &daemon, "let in", |row, exit| {
        row["silence"].is_null() && row["answered"].is_string() && exit == 0
    });
    assert!(!daemon.log().contains("a secret"));
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_reset_is_told_within_seconds() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "archived", |row, _| {
        row["waiting_transactions"] == 0
    });
    server.sql("RESET BINARY LOGS AND GTIDS");
    wait_for(&workspace, &daemon, "reset", |row, exit| {
        row["unknown_to_server"]
            .as_str()
            .is_some_and(|gtids| !gtids.is_empty())
            && exit == 5
    });
    // As the hint says: then it is archived under a numbering of its own.
    server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS");
    daemon.stop();
    workspace.edit("#incarnation = 1", "incarnation = 2");
    let daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "a new incarnation", |row, _| {
        row["unknown_to_server"] == "" && row["waiting_transactions"] == 0
    });
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn another_server_behind_the_address_is_not_compared() {
    let (server, _) = start(&[]);
    let (other, _) = start(&[]);
    let workspace = Workspace::empty();
    workspace.init(&server.index(), &[]);
    let socket = other.socket();
    ask(
        &workspace,
        &format!("mysql://gtide@localhost?socket={}", socket.display()),
    );
    let daemon = Daemon::start(&workspace, "daemon.log");
    let uuid = other.sql("SELECT @@server_uuid");
    wait_for(&workspace, &daemon, "another", |row, exit| {
        let error = row["silence"]["error"].as_str().unwrap_or_default();
        error.contains(&uuid) && exit == 2
    });
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn gtid_mode_switched_online_is_shown_and_anonymous_transactions_are_archived() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "on", |row, _| row["gtid_mode"] == "ON");
    for mode in ["ON_PERMISSIVE", "OFF_PERMISSIVE"] {
        server.sql(&format!("SET GLOBAL gtid_mode = {mode}"));
    }
    server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS");
    wait_for(&workspace, &daemon, "off", |row, exit| {
        row["gtid_mode"] == "OFF_PERMISSIVE" && exit == 0
    });
    for mode in ["ON_PERMISSIVE", "ON"] {
        server.sql(&format!("SET GLOBAL gtid_mode = {mode}"));
    }
    server.sql("INSERT INTO d.t VALUES (2); FLUSH BINARY LOGS");
    wait_for(&workspace, &daemon, "on again", |row, exit| {
        row["gtid_mode"] == "ON" && row["waiting_transactions"] == 0 && exit == 0
    });
    daemon.stop();
    let verify = workspace.verify();
    assert!(verify.status.success(), "{verify:?}");
}

/// The destination is a file: nothing can be archived, and the server's clock runs.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_file_that_expires_before_it_is_archived_is_told_in_time() {
    let (server, _) = start(&["--binlog-expire-logs-seconds=30"]);
    let workspace = workspace_of(&server);
    fs::write(workspace.archive(), "in the way").unwrap();
    let daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "seen", |row, _| {
        row["expiry"]["file_name"] == "binlog.000001"
    });
    wait_for(&workspace, &daemon, "in danger", |row, _| {
        row["expiry"]["in_danger"] == true && row["expiry"]["is_pinned"] == true
    });
    // It does expire, and is archived from its pin.
    let expired = wait_until(super::SHOWN_WITHIN, || {
        sleep(BETWEEN_FLUSHES);
        server.sql("FLUSH BINARY LOGS");
        !super::files_of(&server).contains(&"binlog.000001".to_owned())
    });
    assert!(expired);
    fs::remove_file(workspace.archive()).unwrap();
    wait_for(&workspace, &daemon, "archived", |row, exit| {
        row["expiry"].is_null() && row["never_archived"] == "" && exit == 0
    });
    assert_eq!(workspace.archived("log")[0], "0000000001.gtb");
}

/// Without a pin and without an archiver at work, it is lost: that is told.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn transactions_that_were_purged_before_they_were_archived_are_named() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "archived", |row, _| {
        row["waiting_transactions"] == 0
    });
    daemon.stop();
    server.sql("INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    let active = super::files_of(&server).pop().unwrap();
    server.sql(&format!("PURGE BINARY LOGS TO '{active}'"));
    let daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "lost", |row, exit| {
        let lost = row["never_archived"].as_str().unwrap_or_default();
        lost.contains(':') && exit == 3
    });
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn an_active_file_with_old_transactions_is_closed() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    workspace.edit("#max-rpo = \"60s\"", "max-rpo = \"10s\"");
    let daemon = Daemon::start(&workspace, "daemon.log");
    wait_for(&workspace, &daemon, "archived", |row, _| {
        row["waiting_transactions"] == 0
    });
    let before = super::files_of(&server).len();
    server.sql("INSERT INTO d.t VALUES (1)");
    wait_for(&workspace, &daemon, "waits", |row, _| {
        row["waiting_transactions"] == 1
    });
    wait_for(&workspace, &daemon, "closed", |row, _| {
        row["waiting_transactions"] == 0
    });
    // The one behind it is empty, and stays open.
    assert_eq!(super::files_of(&server).len(), before + 1);
}

/// A replica and its source, both archived with one database.
struct Pair {
    source: Mysqld,
    replica: Mysqld,
    workspace: Workspace,
    daemon: Daemon,
}

impl Pair {
    fn start() -> Self {
        let (source, port) = start(&[]);
        let (replica, _) = start(&["--server-id=2"]);
        source.sql("CREATE USER r IDENTIFIED BY 'r'; GRANT REPLICATION SLAVE ON *.* TO r");
        replica.sql(&format!(
            "RESET BINARY LOGS AND GTIDS; DROP USER gtide; DROP DATABASE d; RESET BINARY LOGS AND GTIDS;
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'r',
               SOURCE_PASSWORD = 'r', SOURCE_SSL = 1, SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1;
             SET GLOBAL read_only = ON; START REPLICA"
        ));
        let workspace = workspace_of(&source);
        let second = format!(
            "[[source]]\nname = \"db2\"\nindex = \"{}\"\nmysql = \"mysql://gtide@localhost?socket={}\"\npassword-file = \"password\"\n\n[queue]",
            replica.index().display(),
            replica.socket().display(),
        );
        workspace.edit("[queue]", &second);
        let daemon = Daemon::start(&workspace, "daemon.log");
        Self {
            source,
            replica,
            workspace,
            daemon,
        }
    }

    fn row(&self, name: &str) -> serde_json::Value {
        let (status, _) = super::status(&self.workspace);
        let rows = status["servers"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["source"] == name);
        row.unwrap_or_default()
    }

    #[track_caller]
    fn wait_for_replica(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        let shown = wait_until(super::SHOWN_WITHIN, || is_so(&self.row("db2")));
        assert!(
            shown,
            "{what}: {:#}\n{}",
            self.row("db2"),
            self.daemon.log()
        );
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_write_on_a_replica_is_errant_and_a_promotion_is_seen() {
    let pair = Pair::start();
    let uuid = pair.source.sql("SELECT @@server_uuid");
    pair.wait_for_replica("replicates", |row| {
        let channel = &row["channels"][0];
        channel["source_uuid"] == uuid.as_str()
            && channel["receiver"] == "ON"
            && channel["applier"] == "ON"
            && row["is_writable"] == false
    });
    assert_eq!(pair.row("db1")["readers"], 1);
    assert_eq!(pair.row("db1")["errant"], json!([]));

    pair.replica
        .sql("SET GLOBAL read_only = OFF; CREATE DATABASE stray; SET GLOBAL read_only = ON");
    let stray = pair.replica.sql("SELECT @@server_uuid") + ":1";
    wait_for(&pair.workspace, &pair.daemon, "errant", |row, exit| {
        row["errant"] == json!([{ "replica": "db2", "gtids": stray }]) && exit == 5
    });

    pair.replica
        .sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only = OFF");
    pair.wait_for_replica("promoted", |row| {
        row["is_writable"] == true && row["channels"] == json!([])
    });
    // Nobody's replica any more: it is not errant either.
    wait_for(&pair.workspace, &pair.daemon, "two servers", |row, exit| {
        row["errant"] == json!([]) && exit == 0
    });
}
