//! Beside a real server and the script that people run from cron: the report is right, and *parity* is never said when it
//! is not so. The window is seconds instead of three days.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::{start, workspace_of};
use crate::harness::{Mysqld, lab_program, wait_until};
use crate::running::Daemon;
use crate::workspace::{Workspace, code, fixture, json, stderr};

/// A server, the cron job and the archiver.
struct Beside {
    server: Mysqld,
    workspace: Workspace,
    backup: PathBuf,
    daemon: Daemon,
}

impl Beside {
    /// Both at work; the run has begun.
    fn begin(window: &str, grace: &str) -> Self {
        let (server, _) = start(&[]);
        let workspace = workspace_of(&server);
        let backup = workspace.path().join("cron");
        let daemon = Daemon::start(&workspace, "daemon.log");
        let beside = Self {
            server,
            workspace,
            backup,
            daemon,
        };
        // It has been running for long.
        beside.cron();
        beside.archived_up_to_now();
        let sums = beside.sums();
        let begun = beside.parity(&[
            "start",
            "--manifest",
            sums.to_str().unwrap(),
            "--window",
            window,
            "--grace",
            grace,
        ]);
        assert_eq!(code(&begun), 0, "{}", stderr(&begun));
        beside
    }

    /// What cron runs every few minutes.
    fn cron(&self) {
        self.server.sql("INSERT INTO d.t VALUES (UUID())");
        let client = format!(
            "{} --no-defaults --user=root --socket={}",
            lab_program("mysql").display(),
            self.server.socket().display()
        );
        let ran = Command::new(fixture("cron/archive-binlogs.sh"))
            .arg(self.server.datadir())
            .arg(&self.backup)
            .env("MYSQL", client)
            .status()
            .unwrap();
        assert!(ran.success());
    }

    fn sums(&self) -> PathBuf {
        self.backup.join("SHA256SUMS")
    }

    fn archived_up_to_now(&self) {
        let closed = super::files_of(&self.server).len() as u64 - 1;
        let done = wait_until(super::SHOWN_WITHIN, || {
            let (status, _) = super::status(&self.workspace);
            status["sources"][0]["watermark"].as_u64() >= Some(closed)
        });
        assert!(done, "{}", self.daemon.log());
    }

    fn parity(&self, args: &[&str]) -> Output {
        let mut command = self.workspace.gtide();
        command.arg("parity").args(args).output().unwrap()
    }

    fn report(&self) -> Value {
        json(&self.parity(&["report", "--format", "json"]))
    }

    /// Standing and cause of a file.
    fn standing(&self, file: &str) -> (String, String) {
        let report = self.report();
        let files = report["files"].as_array().unwrap();
        let found = files.iter().find(|row| row["file_name"] == file);
        let found = found.unwrap_or_else(|| panic!("{file}: {report:#}"));
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("standing"), text("cause"))
    }

    /// The last closed file.
    fn last(&self) -> String {
        let files = super::files_of(&self.server);
        files[files.len() - 2].clone()
    }

    /// The name of its copy, packed.
    fn packed(&self, file: &str) -> PathBuf {
        self.backup.join(format!("{file}.gz"))
    }
}

fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn sha256sum(path: &Path) -> String {
    engine::digest::Digest::of(&fs::read(path).unwrap()).to_string()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_job_that_does_the_same_is_retired_on_evidence() {
    let beside = Beside::begin("20s", "1h");
    let refused = beside.parity(&["finish"]);
    assert_eq!(code(&refused), 6, "{}", stderr(&refused));
    for _ in 0..3 {
        beside.cron();
        beside.archived_up_to_now();
    }
    // Listed twice, in both forms, and in another order: the same all the same.
    let file = beside.last();
    let digest = sha256sum(&beside.packed(&file));
    append(&beside.sums(), &format!("SHA256 ({file}.gz) = {digest}\n"));
    let sums = fs::read_to_string(beside.sums()).unwrap();
    let lines: Vec<_> = sums.lines().rev().map(|line| format!("{line}\n")).collect();
    fs::write(beside.sums(), lines.concat()).unwrap();

    let early = beside.report();
    if early["hours_left"].as_f64() > Some(0.0) {
        assert_eq!(early["verdict"], "not-yet", "{early:#}");
    }
    let reached = wait_until(super::SHOWN_WITHIN, || {
        beside.report()["verdict"] != "not-yet"
    });
    let report = beside.report();
    assert!(reached && report["verdict"] == "parity", "{report:#}");
    assert_eq!(report["matched"], 3);
    assert_eq!(report["reasons"], serde_json::json!([]));
    let report = beside.parity(&["report"]);
    assert_eq!(code(&report), 0);

    // It survives the daemon, and a new one goes on with it.
    let finished = beside.parity(&["finish"]);
    assert_eq!(code(&finished), 0, "{}", stderr(&finished));
    let runbook = String::from_utf8(finished.stdout).unwrap();
    assert!(
        runbook.contains("binlog_expire_logs_seconds = 259200"),
        "{runbook}"
    );
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn each_fault_of_the_job_is_named_for_what_it_is() {
    let beside = Beside::begin("1s", "1s");

    // The upload was cut, before the sum was made of it.
    beside.cron();
    let cut = beside.last();
    let path = beside.packed(&cut);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let before = fs::read_to_string(beside.sums()).unwrap();
    let kept: Vec<_> = before.lines().filter(|line| !line.contains(&cut)).collect();
    let listed = format!("{}\n{}  {cut}.gz\n", kept.join("\n"), sha256sum(&path));
    fs::write(beside.sums(), listed).unwrap();

    // The server had not closed the file yet when it was packed: a whole archive of half a file.
    beside.cron();
    let half = beside.last();
    let bytes = fs::read(beside.server.datadir().join(&half)).unwrap();
    let plain = beside.backup.join(&half);
    fs::write(&plain, &bytes[..bytes.len() - 40]).unwrap();
    append(&beside.sums(), &format!("{}  {half}\n", sha256sum(&plain)));

    // One was missed, and its copy with it.
    beside.cron();
    let missed = beside.last();
    fs::remove_file(beside.packed(&missed)).unwrap();
    let sums = fs::read_to_string(beside.sums()).unwrap();
    let kept: Vec<_> = sums
        .lines()
        .filter(|line| !line.contains(&missed))
        .collect();
    fs::write(beside.sums(), kept.join("\n") + "\n").unwrap();

    // And one is of another server, by its number.
    let (other, digest) = ("binlog.999000", "0".repeat(64));
    append(
        &beside.sums(),
        &format!("{digest}  {other}\nno sum at all\n"),
    );

    beside.archived_up_to_now();
    let told = wait_until(super::SHOWN_WITHIN, || {
        beside.report()["only_gtide"].as_u64() >= Some(1)
            && beside.report()["only_cron"].as_u64() >= Some(1)
    });
    let report = beside.report();
    assert!(told, "{report:#}");
    assert_eq!(report["verdict"], "no-parity");
    assert_eq!(code(&beside.parity(&["report"])), 5);
    let (standing, cause) = beside.standing(&half);
    assert_eq!(standing, "mismatched");
    assert!(
        cause.contains(&format!("of {} bytes", bytes.len())),
        "{cause}"
    );
    assert_eq!(beside.standing(&missed).0, "only-gtide");
    assert_eq!(beside.standing(other).0, "only-cron");
    let (standing, _) = beside.standing(&cut);
    assert!(
        matches!(standing.as_str(), "pending" | "mismatched"),
        "{standing}"
    );
    let reasons = report["reasons"].to_string();
    assert!(reasons.contains("is no sum"), "{reasons}");
    let markdown = beside.parity(&["report", "--markdown"]);
    let markdown = String::from_utf8(markdown.stdout).unwrap();
    assert!(
        markdown.contains(&format!("| `{missed}` | OnlyGtide |")),
        "{markdown}"
    );
    let refused = beside.parity(&["finish"]);
    assert_eq!(code(&refused), 5, "{}", stderr(&refused));
}

/// Manifests that cannot be read are never parity, whatever was seen before.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_run_whose_manifests_are_gone_or_that_never_began_says_so() {
    let (server, _) = start(&[]);
    let workspace = workspace_of(&server);
    let parity = |args: &[&str]| {
        let mut command = workspace.gtide();
        command.arg("parity").args(args).output().unwrap()
    };
    let archived = workspace.run_once();
    assert_eq!(code(&archived), 0, "{}", stderr(&archived));
    assert_eq!(code(&parity(&["report"])), 2);
    let nowhere = parity(&["start", "--manifest", "ftp://x/y"]);
    assert_eq!(code(&nowhere), 2, "{}", stderr(&nowhere));
    let sums = workspace.path().join("*.sha256");
    let sums = sums.to_str().unwrap();
    let begun = parity(&["start", "--manifest", sums, "--window", "0s"]);
    assert_eq!(code(&begun), 0, "{}", stderr(&begun));
    let again = parity(&["start", "--manifest", sums]);
    assert_eq!(code(&again), 2, "{}", stderr(&again));
    let report = parity(&["report", "--format", "json"]);
    assert_eq!(json(&report)["verdict"], "not-yet");
    assert_eq!(code(&report), 6);
}
