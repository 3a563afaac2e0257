//! `gtide status --watch`.

use std::io::{BufReader, Read};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Deserializer, Value};

use crate::workspace::{Workspace, code, stderr};

#[test]
fn a_pipe_gets_one_report_after_the_other_until_somebody_interrupts() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_once()), 0);
    let mut child = workspace
        .gtide()
        .args(["status", "--format", "json", "--watch", "1s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut reports = Deserializer::from_reader(stdout).into_iter::<Value>();
    for _ in 0..2 {
        let report = reports.next().unwrap().unwrap();
        assert_eq!(report["sources"][0]["watermark"], 13, "{report:#}");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn each_look_has_its_time_and_what_stands_there_is_erased_on_a_terminal_alone() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    assert_eq!(code(&workspace.run_once()), 0);
    let mut child = workspace
        .gtide()
        .args(["status", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = String::new();
    while text.matches("WATERMARK").count() < 2 {
        let mut piece = [0; 4096];
        let read = stdout.read(&mut piece).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.starts_with("\n20"), "{text:?}");
}

#[test]
fn what_cannot_be_watched_ends_at_once() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let watch = |interval| {
        let mut command = workspace.gtide();
        command
            .args(["status", "--watch", interval])
            .output()
            .unwrap()
    };
    let none = watch("5s");
    assert_eq!(code(&none), 2);
    assert!(stderr(&none).contains("there is no ledger"), "{none:?}");
    for interval in ["10ms", "-3s", "soon"] {
        assert_eq!(code(&watch(interval)), 2, "{interval}");
    }
}
