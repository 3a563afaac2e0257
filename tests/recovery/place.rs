//! A server, its archive, and what it takes to restore from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Mysqld, lab_program};
use crate::workspace::{Workspace, code, json, stderr};

/// Options of every server here: what the binary log says must not depend on the build.
pub const SERVER: &[&str] = &["--mysqlx=OFF", "--event-scheduler=OFF"];

/// A configuration for one server's archive.
pub fn workspace_of(mysqld: &Mysqld) -> Workspace {
    let workspace = Workspace::empty();
    workspace.init(&mysqld.index(), &[]);
    workspace
}

/// Archives all files that are closed.
pub fn archive(workspace: &Workspace) {
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// Records a base backup with this GTID set; its id.
pub fn add_backup(workspace: &Workspace, gtids: &str) -> String {
    let output = workspace
        .gtide()
        .args([
            "backup",
            "add",
            "--location",
            "a cold copy",
            "--gtid",
            gtids,
        ])
        .args(["--format", "json"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    json(&output)["id"].as_str().unwrap().to_owned()
}

/// `gtide-restore plan` with these arguments.
pub fn plan(workspace: &Workspace, args: &[&str]) -> Output {
    workspace.restore().arg("plan").args(args).output().unwrap()
}

/// The plan as JSON; it must be one.
#[track_caller]
pub fn planned(workspace: &Workspace, args: &[&str]) -> Value {
    let args = [args, &["--format", "json"]].concat();
    let output = plan(workspace, &args);
    assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
    json(&output)
}

/// Runs a command line of a plan: with the lab's programs, `gtide-restore`, and a client that finds
/// `server` by itself, as the user root.
pub fn shell(workspace: &Workspace, server: &Mysqld, line: &str) -> Output {
    let lab = lab_program("mysql").parent().unwrap().to_owned();
    let programs = Path::new(env!("CARGO_BIN_EXE_gtide")).parent().unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", lab.display(), programs.display());
    Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .current_dir(workspace.path())
        .env("MYSQL_UNIX_PORT", server.socket())
        .env("USER", "root")
        .env("PATH", path)
        .output()
        .unwrap()
}

/// Asserts that a command line succeeds.
#[track_caller]
pub fn run(workspace: &Workspace, server: &Mysqld, line: &str) -> String {
    let output = shell(workspace, server, line);
    assert_eq!(code(&output), 0, "{line}\n{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A copy of the data directory of a server that was shut down.
pub fn cold_copy(mysqld: &Mysqld, workspace: &Workspace) -> PathBuf {
    let copy = workspace.path().join("cold");
    let copied = Command::new("cp")
        .args(["--archive", "--sparse=always"])
        .arg(mysqld.datadir())
        .arg(&copy)
        .status()
        .unwrap();
    assert!(copied.success());
    // The copy's binary logs are the source's: a restored server begins its own.
    for entry in fs::read_dir(&copy).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("binlog.") {
            fs::remove_file(path).unwrap();
        }
    }
    copy
}
