//! Several sources in one daemon: none holds up another.

use std::fs;
use std::path::PathBuf;

use crate::running::{Daemon, names, put, status, write_index};
use crate::workspace::{Workspace, code, fixture, json, stderr};

const OTHER_UUID: &str = "0d1a7e00-97a0-4000-8000-000000000002";

/// A second server, `db2`, whose datadir is not there yet.
fn two_sources() -> Workspace {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let index = second(&workspace).join("binlog.index");
    let index = index.display();
    let section = format!("[[source]]\nname = \"db2\"\nindex = \"{index}\"\n\n[queue]");
    workspace.edit("[queue]", &section);
    workspace
}

fn second(workspace: &Workspace) -> PathBuf {
    workspace.path().join("mysql2")
}

/// The second server's disk is mounted.
fn mount(workspace: &Workspace, last: u64) {
    let datadir = workspace.path().join("unmounted");
    fs::create_dir(&datadir).unwrap();
    for n in 1..=last {
        let name = format!("binlog.{n:06}");
        fs::copy(fixture("binlog/mysql-9.7").join(&name), datadir.join(name)).unwrap();
    }
    fs::write(
        datadir.join("auto.cnf"),
        format!("[auto]\nserver-uuid={OTHER_UUID}\n"),
    )
    .unwrap();
    write_index(&datadir, &names(1..=last));
    fs::rename(datadir, second(workspace)).unwrap();
}

fn entries(workspace: &Workspace, uuid: &str) -> usize {
    let folder = workspace
        .archive()
        .join("test")
        .join(uuid)
        .join("1/manifest");
    fs::read_dir(folder).map_or(0, Iterator::count)
}

const UUID: &str = "0d1a7e00-97a0-4000-8000-000000000001";

#[test]
fn a_source_that_can_be_read_later_is_archived_then() {
    let workspace = two_sources();
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || entries(&workspace, UUID) == 13);
    daemon.wait_for("mysql2/auto.cnf");
    let rows = status(&workspace);
    let row = rows.iter().find(|row| row["source"] == "db2").unwrap();
    assert!(
        row["stopped"]["error"]
            .as_str()
            .unwrap()
            .contains("auto.cnf"),
        "{row}"
    );
    mount(&workspace, 5);
    daemon.wait_until("archived", || entries(&workspace, OTHER_UUID) == 4);
    let over = || {
        status(&workspace)
            .iter()
            .all(|row| row["stopped"].is_null())
    };
    daemon.wait_until("over", over);
    daemon.stop();
}

/// A conflict in one of them, a file that cannot be archived in it, and the other goes on.
#[test]
fn a_source_in_conflict_holds_up_no_other() {
    let workspace = two_sources();
    mount(&workspace, 5);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || entries(&workspace, OTHER_UUID) == 4);
    fs::remove_file(second(&workspace).join("binlog.000001")).unwrap();
    write_index(&second(&workspace), &names([1]));
    daemon.wait_for("the numbering began anew");
    put(&workspace, 1, 15);
    write_index(&workspace.datadir(), &names(1..=15));
    daemon.wait_until("archived", || entries(&workspace, UUID) == 14);
    daemon.stop();
    let output = workspace.run_once();
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["sources"][0]["problems"], serde_json::json!([]));
    assert_eq!(report["sources"][1]["name"], "db2");
    assert_eq!(report["sources"][1]["problems"][0]["exit"], "conflict");
}

/// When no source can be read at all it is the configuration that is wrong: said at once.
#[test]
fn a_daemon_without_any_source_ends() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    fs::remove_file(workspace.datadir().join("binlog.index")).unwrap();
    let output = workspace.gtide().arg("run").output().unwrap();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("no source can be archived"),
        "{}",
        stderr(&output)
    );
    assert_eq!(status(&workspace)[0]["stopped"]["exit"], "usage");
}

/// The second name of a server is refused, and the first goes on.
#[test]
fn a_server_that_is_listed_twice_is_archived_once() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let index = workspace.datadir().join("binlog.index");
    let index = index.display();
    let section = format!("[[source]]\nname = \"db2\"\nindex = \"{index}\"\n\n[queue]");
    workspace.edit("[queue]", &section);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || entries(&workspace, UUID) == 13);
    daemon.wait_for("is archived as source \\\"db1\\\" already");
    daemon.stop();
}

/// While the database cannot be opened, what the server closes is held all the same.
#[test]
fn files_are_pinned_while_the_database_cannot_be_opened() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_once()), 0);
    put(&workspace, 1, 15);
    write_index(&workspace.datadir(), &names(1..=15));
    // Another program holds the database: for 30 s nothing can be written there.
    let database = workspace.path().join("gtide.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let locked = runtime.block_on(async {
        use sqlx::Connection;
        let url = format!("sqlite:{}", database.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("BEGIN EXCLUSIVE")
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    });
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    let pin = "0000000014-binlog.000014".to_owned();
    daemon.wait_until("pinned", || crate::running::pins(&workspace).contains(&pin));
    assert_eq!(entries(&workspace, UUID), 13, "the database was not locked");
    runtime.block_on(async {
        use sqlx::Connection;
        locked.close().await.unwrap();
    });
    daemon.wait_until("archived", || entries(&workspace, UUID) == 14);
    daemon.wait_until("let go", || crate::running::pins(&workspace).is_empty());
    daemon.stop();
}
