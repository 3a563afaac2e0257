//! What the server is made to forget, and what never.

use std::process::{Child, Command, Stdio};

use super::{files_of, purge, start, wait_for, workspace_of};
use crate::harness::{Mysqld, lab_program, wait_until};
use crate::running::Daemon;
use crate::workspace::{Workspace, code, stderr};

/// Archives all that is closed.
fn archive(workspace: &Workspace) {
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// Closes so many files, each with a transaction.
fn close(server: &Mysqld, files: usize) {
    server.sql(&"INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS;".repeat(files));
}

fn why<'a>(kept: &'a [(String, serde_json::Value)], file: &str) -> &'a serde_json::Value {
    let found = kept.iter().find(|(name, _)| name == file);
    &found.unwrap_or_else(|| panic!("{file} may go: {kept:?}")).1["why"]
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn what_is_archived_everywhere_goes_in_batches_and_nothing_else() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    close(&server, 210);
    archive(&workspace);
    let archived = files_of(&server).len() - 1;
    close(&server, 2);
    let before = files_of(&server);

    // Nothing without being told to, nothing that is young.
    let (gone, kept) = purge(&workspace, &[]);
    assert_eq!(gone, Vec::<String>::new());
    assert_eq!(why(&kept, "binlog.000001"), "young");
    let (gone, kept) = purge(&workspace, &["--keep", "0s"]);
    assert_eq!(gone, before[..archived]);
    assert_eq!(why(&kept, &before[archived]), "not_archived");
    assert_eq!(why(&kept, before.last().unwrap()), "active");
    assert_eq!(files_of(&server), before);

    let output = workspace
        .gtide()
        .args(["purge", "--keep", "0s", "--execute"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(files_of(&server), before[archived..]);
    let statements = stderr(&output).matches("purged").count();
    assert_eq!(statements, 2, "211 files at once: {}", stderr(&output));

    // One destination lacks what the other one has.
    let other = workspace.path().join("other");
    std::fs::write(&other, "in the way").unwrap();
    let second = format!(
        "[[destination]]\nurl = \"file://{}\"\n\n[encryption]",
        other.display()
    );
    workspace.edit("[encryption]", &second);
    let failed = workspace.run_once();
    assert_ne!(code(&failed), 0);
    let (gone, kept) = purge(&workspace, &["--keep", "0s"]);
    assert_eq!(gone, Vec::<String>::new(), "{kept:?}");
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}

/// A client that reads binary logs and takes nothing: its dump thread stands in the middle of a file.
struct Stuck {
    client: Child,
}

impl Stuck {
    fn read(server: &Mysqld, file: &str) -> Self {
        let mut client = Command::new(lab_program("mysqlbinlog"))
            .args(["--no-defaults", "--user=root", "--read-from-remote-server"])
            .arg(format!("--socket={}", server.socket().display()))
            .args(["--to-last-log", file])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let reads = "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_COMMAND LIKE 'Binlog Dump%'";
        let begun = wait_until(super::SHOWN_WITHIN, || server.sql(reads) == "1");
        assert!(begun, "{:?}", client.try_wait());
        Self { client }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn what_a_client_still_reads_stays() {
    let (server, _) = start(&["--max-allowed-packet=64M"]);
    let workspace = workspace_of(&server);
    // More than pipes and sockets hold, and more than one event, which a client takes whole.
    let large = "INSERT INTO d.t VALUES (REPEAT(UUID(), 100000));".repeat(8);
    let large = large.as_str();
    server.sql(&format!(
        "{large} FLUSH BINARY LOGS; {large} FLUSH BINARY LOGS"
    ));
    archive(&workspace);
    let stuck = Stuck::read(&server, "binlog.000002");
    let (gone, kept) = purge(&workspace, &["--keep", "0s", "--execute"]);
    assert_eq!(gone, ["binlog.000001"]);
    assert_eq!(why(&kept, "binlog.000002"), "read");
    assert_eq!(files_of(&server)[0], "binlog.000002");
    drop(stuck);
    let freed = wait_until(super::SHOWN_WITHIN, || {
        let (gone, _) = purge(&workspace, &["--keep", "0s"]);
        gone.first().is_some_and(|file| file == "binlog.000002")
    });
    assert!(freed);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn what_a_replica_lacks_stays_and_so_does_all_while_it_cannot_be_asked() {
    let (server, _) = start(&[]);
    let (mut replica, port) = start(&["--server-id=2"]);
    let workspace = workspace_of(&server);
    workspace.edit(
        "#replicas = [\"mysql://gtide@db2:3306\"]",
        &format!("replicas = [\"mysql://gtide@127.0.0.1:{port}\"]"),
    );
    close(&server, 3);
    archive(&workspace);
    // It has received the first file, and part of what the second one holds.
    let uuid = server.sql("SELECT @@server_uuid");
    let previous = "SELECT GTID_SUBTRACT(@@gtid_executed, '')";
    let executed = server.sql(previous);
    let last: u64 = executed.rsplit('-').next().unwrap().parse().unwrap();
    replica.sql(&format!(
        "SET GLOBAL gtid_purged = '+{uuid}:1-{}'",
        last - 2
    ));
    let (gone, kept) = purge(&workspace, &["--keep", "0s"]);
    assert_eq!(gone, ["binlog.000001", "binlog.000002"]);
    assert_eq!(why(&kept, "binlog.000003"), "lacking");
    replica.shutdown();
    let (gone, kept) = purge(&workspace, &["--keep", "0s"]);
    assert_eq!(gone, Vec::<String>::new());
    assert_eq!(why(&kept, "binlog.000001"), "unknown");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_file_that_is_not_the_archived_one_stays() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    close(&server, 1);
    archive(&workspace);
    let first = server.datadir().join("binlog.000001");
    let mut bytes = std::fs::read(&first).unwrap();
    bytes.push(0);
    std::fs::write(&first, bytes).unwrap();
    let (gone, kept) = purge(&workspace, &["--keep", "0s"]);
    assert_eq!(gone, Vec::<String>::new());
    assert_eq!(why(&kept, "binlog.000001"), "changed");
    assert_eq!(why(&kept, "binlog.000002"), "behind");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_daemon_that_is_told_to_purges_by_itself() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    close(&server, 3);
    archive(&workspace);
    workspace.edit("#auto = false", "auto = true");
    workspace.edit("#keep = \"72h\"", "keep = \"0s\"");
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    let purged = wait_until(super::SHOWN_WITHIN, || files_of(&server).len() == 1);
    assert!(purged, "{:?}\n{}", files_of(&server), daemon.log());
    wait_for(&workspace, &daemon, "all is well", |row, exit| {
        row["waiting_transactions"] == 0 && row["never_archived"] == "" && exit == 0
    });
    daemon.stop();
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}
