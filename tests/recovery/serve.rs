//! The archive as a source of replication: against stock `mysqlbinlog` and stock replicas.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cutting::Cutting;
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
    let mut serving = Serving::start(&place.workspace, &[]);
    let replica = Mysqld::start(&[SERVER, &["--server-id=2"]].concat());
    let heartbeats = "SOURCE_HEARTBEAT_PERIOD = 0.2, SOURCE_AUTO_POSITION = 1";
    let statements = all(&serving.statements());
    replica.sql(&statements.replace("SOURCE_AUTO_POSITION = 1", heartbeats));
    catches_up(&replica, &archived);
    assert_eq!(executed(&replica), archived);
    // Archived later, while heartbeats say that nothing happens.
    place
        .mysqld
        .sql("INSERT INTO c.t (v, s) VALUES (2, 'later'); FLUSH BINARY LOGS");
    archive(&place.workspace);
    catches_up(&replica, &executed(&place.mysqld));
    let status = replica.sql("SHOW REPLICA STATUS");
    assert!(status.contains("\tYes\tYes\t"), "{status}");
    place
        .mysqld
        .sql("INSERT INTO c.t (v, s) VALUES (3, 'not archived')");
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

/// What a replica of `serve` is told, but for the port.
fn replicate(serving: &Serving, port: u16) -> String {
    let named = format!("SOURCE_PORT = {},", serving.port());
    all(&serving.statements()).replace(&named, &format!("SOURCE_PORT = {port},"))
}

/// Stops the applier where no session has a temporary table open: a replica that is killed loses them (manual,
/// "Replication and Temporary Tables"), and then finds them missing, whoever its source is.
fn stop_without_temporary_tables(replica: &Mysqld) {
    let is_stopped = wait_until(PATIENCE, || {
        replica.sql("STOP REPLICA SQL_THREAD FOR CHANNEL 'gtide'");
        let open = replica.sql("SHOW STATUS LIKE 'Replica_open_temp_tables'");
        if open.ends_with("\t0") {
            return true;
        }
        replica.sql("START REPLICA SQL_THREAD FOR CHANNEL 'gtide'");
        false
    });
    assert!(is_stopped, "a temporary table stays open");
}

/// Connections that end in the middle, as often as this: where exactly, the seed says.
fn is_cut(times: usize) {
    let place = Place::new(35, &[]);
    let long = "INSERT INTO c.t (v, s) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
         SELECT i, REPEAT('x', 199) FROM n; FLUSH BINARY LOGS";
    place.mysqld.sql(long);
    archive(&place.workspace);
    let archived = executed(&place.mysqld);
    let password = place.workspace.path().join("password");
    fs::write(&password, "of some length\n").unwrap();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let args = ["--password-file", password.to_str().unwrap()];
    let mut serving = Serving::start_at(&place.workspace, &address, &args);
    let mut random = StdRng::seed_from_u64(35);
    // A handshake is some 3 KB. The longest transaction arrives when no connection is cut any more.
    let limits = (0..times).map(|_| random.random_range(1000..30_000));
    let proxy = Cutting::before(&address, limits.collect());
    let options = [SERVER, &["--server-id=2", "--relay-log-recovery=ON"]].concat();
    let mut replica = Mysqld::start(&options);
    let statements = replicate(&serving, proxy.port());
    let statements = statements.replace(
        "SOURCE_PASSWORD = '…'",
        "SOURCE_PASSWORD = 'of some length'",
    );
    replica.sql(&statements.replace("SOURCE_RETRY_COUNT = 60", "SOURCE_RETRY_COUNT = 10000"));
    let cut = |part: usize, replica: &Mysqld| {
        let reached = wait_until(PATIENCE, || proxy.cuts() >= part);
        let status = replica.sql("SHOW REPLICA STATUS");
        assert!(reached, "{} cuts: {status}", proxy.cuts());
    };
    cut(times / 3, &replica);
    drop(serving);
    serving = Serving::start_at(&place.workspace, &address, &args);
    cut(times * 2 / 3, &replica);
    stop_without_temporary_tables(&replica);
    replica.kill9();
    replica.start_again(&options);
    replica.try_sql("START REPLICA FOR CHANNEL 'gtide'").ok();
    catches_up(&replica, &archived);
    assert_eq!(executed(&replica), archived);
    assert_eq!(checksums(&replica), checksums(&place.mysqld));
    assert!(serving.runs());
}

#[test]
#[ignore = "needs mysqld"]
fn a_replica_catches_up_over_a_line_that_is_cut_and_over_kills_of_either_side() {
    is_cut(9);
}

#[test]
#[ignore = "takes many minutes: tests/run soak"]
fn a_hundred_cuts_later_a_replica_is_equal() {
    is_cut(100);
}

#[test]
#[ignore = "needs mysqld"]
fn no_bytes_take_a_source_down() {
    let place = Place::new(36, &[]);
    let mut serving = Serving::start(&place.workspace, &[]);
    let mut random = StdRng::seed_from_u64(36);
    for _ in 0..300 {
        let mut stream = TcpStream::connect(serving.address()).unwrap();
        let mut bytes = vec![0; random.random_range(0..400)];
        random.fill(&mut bytes[..]);
        if random.random_bool(0.7) {
            // Framed as a packet, so that it is read.
            let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            bytes.splice(..0, [length[0], length[1], length[2], 1]);
        }
        let _ = stream.write_all(&bytes);
        if random.random_bool(0.5) {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    let crowd: Vec<_> = (0..80)
        .map(|_| TcpStream::connect(serving.address()).unwrap())
        .collect();
    let refused = serving.client("mysql", &["-e", "SELECT 1"], place.workspace.path());
    assert!(
        stderr(&refused).contains("Too many connections"),
        "{}",
        stderr(&refused)
    );
    drop(crowd);
    let is_back =
        || code(&serving.client("mysql", &["-e", "SELECT 1"], place.workspace.path())) == 0;
    assert!(wait_until(PATIENCE, is_back));
    assert!(serving.runs());
}

#[test]
#[ignore = "needs mysqld"]
fn a_source_answers_what_a_person_asks_and_nothing_else() {
    let place = Place::new(37, &[]);
    let serving = Serving::start(&place.workspace, &[]);
    let ask = |sql: &str| serving.client("mysql", &["-Ne", sql], place.workspace.path());
    let answer = |sql: &str| {
        let output = ask(sql);
        assert_eq!(code(&output), 0, "{sql}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let files = place.mysqld.sql("SHOW BINARY LOGS");
    // All but the one that is written to.
    let (archived, _) = files.rsplit_once('\n').unwrap();
    assert_eq!(answer("SHOW BINARY LOGS").trim_end(), archived);
    let last = archived.lines().last().unwrap().split('\t').next().unwrap();
    assert!(answer("SHOW BINARY LOG STATUS").starts_with(last));
    let gtids = answer("SELECT @@GLOBAL.gtid_executed");
    assert_eq!(gtids.trim_end(), executed(&place.mysqld));
    for sql in [
        "DROP TABLE c.t",
        "SELECT * FROM c.t",
        "SET GLOBAL read_only = 0",
    ] {
        let refused = stderr(&ask(sql));
        assert!(refused.contains("ERROR 1235"), "{sql}: {refused}");
    }
    let other = Command::new(lab_program("mysql"))
        .args([
            "--no-defaults",
            "--host=127.0.0.1",
            "--user=gtide",
            "-e",
            "SELECT 1",
        ])
        .arg(format!("--port={}", serving.port()))
        .env("MYSQL_PWD", "a guess")
        .output()
        .unwrap();
    assert!(stderr(&other).contains("ERROR 1045"), "{}", stderr(&other));
}
