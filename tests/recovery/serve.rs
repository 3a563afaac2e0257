//! The archive as a source of replication: against stock `mysqlbinlog` and stock replicas.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::{Mysqld, free_port, lab_program, wait_until};
use crate::place::{SERVER, archive, workspace_of};
use crate::serving::Serving;
use crate::workload::{Workload, checksums, executed};
use crate::workspace::{Workspace, code, stderr};

/// For what must happen, however slow the machine is.
const PATIENCE: Duration = Duration::from_mins(4);

/// A server with some files, all archived but the last.
struct Place {
    mysqld: Mysqld,
    workspace: Workspace,
}

impl Place {
    fn new(seed: u64, options: &[&str]) -> Self {
        let mysqld = Mysqld::start(&[SERVER, options].concat());
        let mut workload = Workload::begin(&mysqld, seed);
        for _ in 0..4 {
            for _ in 0..3 {
                workload.work(&mysqld);
            }
            mysqld.sql("INSERT INTO c.t (v, s) VALUES (1, 'a mark'); FLUSH BINARY LOGS");
        }
        let workspace = workspace_of(&mysqld);
        archive(&workspace);
        Self { mysqld, workspace }
    }

    /// `mysqlbinlog` on the server itself.
    fn read_from_server(&self, args: &[&str], dir: &Path) -> Output {
        Command::new(lab_program("mysqlbinlog"))
            .args(["--no-defaults", "--user=root"])
            .arg(format!("--socket={}", self.mysqld.socket().display()))
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap()
    }

    /// Asserts that `mysqlbinlog` prints the same, and writes the same files, wherever it reads from.
    #[track_caller]
    fn reads_the_same(&self, serving: &Serving, args: &[&str]) {
        let [of_server, of_serve] = ["of-server", "of-serve"].map(|name| {
            let dir = self.workspace.path().join(name);
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).unwrap();
            dir
        });
        let expected = self.read_from_server(args, &of_server);
        let found = serving.client("mysqlbinlog", args, &of_serve);
        assert_eq!(code(&expected), 0, "{args:?}: {}", stderr(&expected));
        assert_eq!(code(&found), 0, "{args:?}: {}", stderr(&found));
        same_text(&expected.stdout, &found.stdout, args);
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&of_server), names(&of_serve), "{args:?}");
        for name in names(&of_server) {
            let [expected, found] =
                [&of_server, &of_serve].map(|dir| fs::read(dir.join(&name)).unwrap());
            assert!(expected == found, "{args:?}: {} differs", name.display());
        }
    }
}

#[track_caller]
fn same_text(expected: &[u8], found: &[u8], args: &[&str]) {
    let [expected, found] = [expected, found].map(String::from_utf8_lossy);
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(expected, found, "{args:?}, line {number}");
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{args:?}");
}

#[test]
#[ignore = "needs mysqld"]
fn mysqlbinlog_reads_the_same_from_the_archive_as_from_the_server() {
    let place = Place::new(31, &[]);
    // Its number stands in the events that it makes.
    let serving = Serving::start(&place.workspace, &["--server-id", "1"]);
    let remote = "--read-from-remote-server";
    let (first, second) = ("binlog.000001", "binlog.000002");
    place.reads_the_same(&serving, &[remote, "--hexdump", "-vv", first, second]);
    place.reads_the_same(&serving, &[remote, "--raw", first, second]);
    place.reads_the_same(&serving, &[remote, "--verify-binlog-checksum", second]);
    let position = place
        .mysqld
        .sql("SHOW BINLOG EVENTS IN 'binlog.000002' LIMIT 2, 1");
    let position = position.split('\t').nth(1).unwrap();
    let from = format!("--start-position={position}");
    place.reads_the_same(&serving, &[remote, "--hexdump", &from, second]);
    let since = "--start-datetime=2020-01-01 00:00:00";
    place.reads_the_same(&serving, &[remote, since, second]);
}

#[test]
#[ignore = "needs mysqld"]
fn mysqlbinlog_reads_the_same_by_gtid() {
    let place = Place::new(34, &[]);
    let serving = Serving::start(&place.workspace, &["--server-id", "1"]);
    let by_gtid = "--read-from-remote-source=BINLOG-DUMP-GTIDS";
    let uuid = place.mysqld.sql("SELECT @@server_uuid");
    for had in ["1-3", "2-4:6:9-11", "1-12:14-1000"] {
        let had = format!("--exclude-gtids={uuid}:{had}");
        let files = ["binlog.000001", "binlog.000002", "binlog.000003"];
        let args = [&[by_gtid, &had, "--hexdump"], files.as_slice()].concat();
        place.reads_the_same(&serving, &args);
    }
}

/// Statements for a client, one after the other.
fn all(statements: &[&str]) -> String {
    statements.join("; ")
}

/// Waits until `server` has executed this, and nothing is wrong.
#[track_caller]
fn catches_up(server: &Mysqld, executed: &str) {
    let question = format!("SELECT GTID_SUBSET('{executed}', @@GLOBAL.gtid_executed)");
    let caught_up = wait_until(PATIENCE, || server.sql(&question) == "1");
    assert!(caught_up, "{}", server.sql("SHOW REPLICA STATUS"));
}

#[test]
#[ignore = "needs mysqld"]
fn a_replica_catches_up_from_the_archive_and_goes_on_at_the_primary() {
    let port = free_port().to_string();
    let place = Place::new(
        32,
        &[
            "--skip-networking=OFF",
            "--bind-address=127.0.0.1",
            "--port",
            &port,
        ],
    );
    let archived = executed(&place.mysqld);
    place
        .mysqld
        .sql("INSERT INTO c.t (v, s) VALUES (2, 'not archived')");
    let mut serving = Serving::start(&place.workspace, &[]);
    let replica = Mysqld::start(&[SERVER, &["--server-id=2"]].concat());
    replica.sql(&all(&serving.statements()));
    catches_up(&replica, &archived);
    assert_eq!(executed(&replica), archived);
    assert!(serving.runs());
    replica.sql(&format!(
        "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, \
         SOURCE_USER = 'root', SOURCE_PASSWORD = '', SOURCE_SSL = 1 FOR CHANNEL 'gtide'; START REPLICA"
    ));
    catches_up(&replica, &executed(&place.mysqld));
    assert_eq!(checksums(&replica), checksums(&place.mysqld));
}

#[test]
#[ignore = "needs mysqld"]
fn a_replica_that_lacks_what_is_not_served_is_told_what() {
    let place = Place::new(33, &[]);
    let serving = Serving::start(&place.workspace, &["--from-seq", "3"]);
    let before = serving.report["executed_before"].as_str().unwrap();
    let replica = Mysqld::start(&[SERVER, &["--server-id=2"]].concat());
    replica.sql(&all(&serving.statements()));
    let mut status = String::new();
    let is_told = wait_until(PATIENCE, || {
        status = replica.sql("SHOW REPLICA STATUS");
        status.contains("purged required binary logs")
    });
    assert!(is_told && status.contains(before), "{status}");
    assert!(executed(&replica).is_empty());
}
