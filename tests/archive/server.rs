//! Beside a real server that may be asked: compared with the archive, watched, purged, rotated.

mod compared;
mod metered;
mod parity;
mod purged;

use std::time::Duration;

use serde_json::Value;

use crate::contracts;
use crate::harness::{Mysqld, free_port, wait_until};
use crate::running::Daemon;
use crate::workspace::{Workspace, code, json, stderr};

/// What a look at a server shows is there this soon: looks are seconds apart, machines are slow.
const SHOWN_WITHIN: Duration = Duration::from_mins(4);

/// As users run it: replicas connect, readers of binary logs can be seen.
fn start(args: &[&str]) -> (Mysqld, u16) {
    let port = free_port();
    let at = format!("--port={port}");
    let all = [
        &[
            "--performance-schema=ON",
            "--skip-networking=OFF",
            "--bind-address=127.0.0.1",
            "--mysqlx=OFF",
            &at,
        ],
        args,
    ];
    let server = Mysqld::start(&all.concat());
    // With the least rights: the ones that `gtide check` names.
    server.sql(
        "CREATE USER gtide IDENTIFIED BY 'a secret';
         GRANT RELOAD, BINLOG_ADMIN ON *.* TO gtide;
         GRANT SELECT ON performance_schema.* TO gtide;
         CREATE DATABASE d; CREATE TABLE d.t (v LONGTEXT);
         FLUSH BINARY LOGS",
    );
    (server, port)
}

/// A configuration that names the server by its socket.
fn workspace_of(server: &Mysqld) -> Workspace {
    let workspace = Workspace::empty();
    workspace.init(&server.index(), &[]);
    let socket = server.socket();
    ask(
        &workspace,
        &format!("mysql://gtide@localhost?socket={}", socket.display()),
    );
    workspace
}

/// Puts the server's address and a password file into a configuration.
fn ask(workspace: &Workspace, address: &str) {
    let password = workspace.path().join("password");
    std::fs::write(&password, "a secret\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, mode).unwrap();
    workspace.edit(
        "#mysql = \"mysql://gtide@localhost?socket=/run/mysqld/mysqld.sock\"",
        &format!("mysql = \"{address}\""),
    );
    workspace.edit(
        "#password-file = \"/etc/gtide/mysql.password\"",
        &format!("password-file = \"{}\"", password.display()),
    );
}

/// `gtide status`, and how it exits.
fn status(workspace: &Workspace) -> (Value, i32) {
    let output = workspace
        .gtide()
        .args(["status", "--format", "json"])
        .output()
        .unwrap();
    let status = serde_json::from_slice(&output.stdout);
    (status.unwrap_or_default(), code(&output))
}

/// Waits until the server of the source `db1` is shown so.
#[track_caller]
fn wait_for(
    workspace: &Workspace,
    daemon: &Daemon,
    what: &str,
    is_so: impl Fn(&Value, i32) -> bool,
) {
    let mut last = Value::Null;
    let shown = wait_until(SHOWN_WITHIN, || {
        let (status, exit) = status(workspace);
        let servers = status["servers"].as_array().cloned().unwrap_or_default();
        last = status;
        servers
            .iter()
            .any(|row| row["source"] == "db1" && is_so(row, exit))
    });
    assert!(shown, "{what}: {last:#}\n{}", daemon.log());
    contracts::assert_valid(workspace);
}

/// `gtide purge` with these arguments: the names that may go, and why the others stay.
fn purge(workspace: &Workspace, args: &[&str]) -> (Vec<String>, Vec<(String, Value)>) {
    let output = workspace
        .gtide()
        .args(["purge", "--format", "json"])
        .args(args)
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let files = json(&output)[0]["files"].as_array().cloned().unwrap();
    let name = |file: &Value| file["file_name"].as_str().unwrap().to_owned();
    let (gone, kept): (Vec<_>, Vec<_>) = files.iter().partition(|file| file["kept"].is_null());
    (
        gone.into_iter().map(name).collect(),
        kept.into_iter()
            .map(|file| (name(file), file["kept"].clone()))
            .collect(),
    )
}

/// The files that the server has.
fn files_of(server: &Mysqld) -> Vec<String> {
    let index = std::fs::read_to_string(server.index()).unwrap();
    let names = index
        .lines()
        .map(|line| line.trim_start_matches("./").to_owned());
    names.collect()
}
