//! `[metrics]`: a monitoring system asks a daemon at work, one of whose destinations fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use engine::digest::Digest;

use crate::harness::{free_port, lab_program};
use crate::running::{Daemon, names, wait_until, watermark, write_index};
use crate::workspace::{Workspace, code, stderr};

/// Shown only of credentials that expire, which folders and key files do not have, of sources that name a server, and of
/// parallel runs.
const OF_OTHERS: [&str; 3] = ["credentials_", "server_", "parity_"];

/// Status and body.
pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: gtide\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// The samples of a scrape, by name and labels.
pub(crate) fn samples(port: u16) -> BTreeMap<String, f64> {
    let (status, body) = get(port, "/metrics").unwrap();
    assert_eq!(status, 200, "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

/// The value whose name and labels have all of these words in them.
pub(crate) fn value(samples: &BTreeMap<String, f64>, words: &[&str]) -> Option<f64> {
    let found = samples
        .iter()
        .filter(|(name, _)| words.iter().all(|word| name.contains(word)));
    let found: Vec<_> = found.collect();
    assert!(found.len() < 2, "{words:?}: {found:?}");
    found.first().map(|(_, value)| **value)
}

/// Names in the document's table, without their prefix.
pub(crate) fn documented() -> BTreeSet<String> {
    let text = include_str!("../../deploy/OPERATIONS.md");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `gtide_"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

/// A histogram has three names.
pub(crate) fn family(name: &str) -> String {
    let name = name
        .split('{')
        .next()
        .unwrap()
        .strip_prefix("gtide_")
        .unwrap();
    let is_histogram = name.contains("_seconds_");
    let ends = ["_bucket", "_count", "_sum"];
    let base = ends.iter().find_map(|end| name.strip_suffix(end));
    base.filter(|_| is_histogram).unwrap_or(name).to_owned()
}

/// A workspace, the second destination in whose place a file stands, and the port of its metrics.
fn with_a_destination_in_trouble() -> (Workspace, PathBuf, u16) {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let second = workspace.path().join("second");
    fs::write(&second, "in the way").unwrap();
    let section = format!(
        "[[destination]]\nurl = \"file://{}\"\n\n[encryption]",
        second.display()
    );
    workspace.edit("[encryption]", &section);
    let port = listen(&workspace);
    (workspace, second, port)
}

/// Lets the daemon of a workspace serve its metrics; where.
pub(crate) fn listen(workspace: &Workspace) -> u16 {
    let port = free_port();
    let table = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"");
    workspace.edit("#[metrics]\n#listen = \"127.0.0.1:9184\"", &table);
    port
}

fn assert_all_is_documented(port: u16) {
    let names: BTreeSet<String> = samples(port).keys().map(|name| family(name)).collect();
    let documented = documented();
    let unknown: Vec<_> = names.difference(&documented).collect();
    assert!(unknown.is_empty(), "not documented: {unknown:?}");
    let missing: Vec<_> = documented.difference(&names).collect();
    // Nothing was retried by a job, and nothing is in trouble any more.
    let may_miss = |name: &&&String| {
        OF_OTHERS.iter().any(|begin| name.starts_with(begin))
            || ["retries_total", "troubles"].contains(&name.as_str())
            || name.as_str() == "queue_jobs"
    };
    let missing: Vec<_> = missing.iter().filter(|name| !may_miss(name)).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
}

#[test]
fn a_scrape_of_a_daemon_at_work_tells_what_is_archived_and_what_fails() {
    let (workspace, second, port) = with_a_destination_in_trouble();
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived", || {
        watermark(&workspace, 1, "archive") == Some(13)
    });
    assert!(wait_until(
        || get(port, "/healthz").is_some_and(|(status, _)| status == 200)
    ));
    // A picture is a few seconds old, and the spool's is reported now and then.
    let mut shown = BTreeMap::new();
    daemon.wait_until("shown", || {
        shown = samples(port);
        let archived = value(&shown, &["gtide_watermark_sequence", "/archive\""]) == Some(13.0);
        let failing = value(&shown, &["gtide_troubles", "/second\""]) == Some(1.0);
        archived && failing && value(&shown, &["gtide_spool_free_bytes"]).is_some()
    });
    for (words, expected) in [
        (
            &["gtide_attempts_total", "/archive\"", "committed"][..],
            13.0,
        ),
        (&["gtide_upload_duration_seconds_count", "/archive\""], 13.0),
        (&["gtide_seal_duration_seconds_count", "db1"], 13.0),
        (&["gtide_data_keys_total", "made"], 13.0),
        (&["gtide_acknowledge_duration_seconds_count"], 13.0),
        (&["gtide_archive_lag_files", "/archive\""], 0.0),
        (&["gtide_archive_lag_files", "/second\""], 13.0),
        (&["gtide_source_owned", "db1"], 1.0),
        (&["gtide_newest_sequence", "db1"], 13.0),
        (&["gtide_ledger_up"], 1.0),
        (&["gtide_gaps", "/archive\""], 0.0),
        (&["gtide_spool_reserve_bytes"], 1_048_576.0),
    ] {
        assert_eq!(value(&shown, words), Some(expected), "{words:?}");
    }
    let waiting = shown
        .iter()
        .filter(|(name, _)| name.starts_with("gtide_queue_jobs") && name.contains("second"));
    let waiting: f64 = waiting.map(|(_, jobs)| jobs).sum();
    assert!((waiting - 13.0).abs() < 0.5, "{waiting}");
    let through = value(
        &shown,
        &["gtide_archived_through_timestamp_seconds", "/archive\""],
    );
    assert!(through.unwrap() > 1.7e9, "{through:?}");

    let (status, reasons) = get(port, "/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(
        reasons.contains("source db1 at file://") && reasons.contains("second"),
        "{reasons}"
    );
    fs::remove_file(&second).unwrap();
    daemon.wait_until("ready", || {
        get(port, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    daemon.wait_until("retried", || {
        value(&samples(port), &["gtide_watermark_sequence", "/second\""]) == Some(13.0)
    });

    assert_all_is_documented(port);
    assert_eq!(get(port, "/else").unwrap().0, 404);
    daemon.stop();
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_alert_rules_are_valid_and_fire_when_they_should() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
    for (what, file) in [
        ("check", "gtide.rules.yml"),
        ("test", "gtide.rules.test.yml"),
    ] {
        let output = std::process::Command::new(lab_program("promtool"))
            .args([what, "rules", file])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// The section that an alert names is there.
#[test]
fn every_alert_has_its_section_in_the_operations_document() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (rules, document) = (read("prometheus/gtide.rules.yml"), read("OPERATIONS.md"));
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(document.contains(&format!("\n### {alert}\n")), "{alert}");
        let anchor = format!("deploy/OPERATIONS.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert}");
    }
}

/// Followed by the daemon, and told without anybody asking for the report.
#[test]
fn a_parallel_run_is_among_the_metrics() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let port = listen(&workspace);
    write_index(&workspace.datadir(), &names(1..=4));
    assert_eq!(code(&workspace.run_once()), 0);
    let sums = workspace.path().join("SHA256SUMS");
    fs::write(&sums, "").unwrap();
    let mut start = workspace.gtide();
    start.args(["parity", "start", "--grace", "1h", "--manifest"]);
    let begun = start.arg(&sums).output().unwrap();
    assert_eq!(code(&begun), 0, "{}", stderr(&begun));
    write_index(&workspace.datadir(), &names(1..=7));
    assert_eq!(code(&workspace.run_once()), 0);
    let sum = |number: u64| {
        let name = format!("binlog.{number:06}");
        let digest = Digest::of(&fs::read(workspace.datadir().join(&name)).unwrap());
        format!("{digest}  {name}\n")
    };
    let wrong = format!("{}  binlog.000006\n", "0".repeat(64));
    fs::write(&sums, sum(4) + &sum(5) + &wrong).unwrap();

    let daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("no parity", || {
        get(port, "/metrics").is_some()
            && value(&samples(port), &["parity_verdict", "no-parity"]) == Some(1.0)
    });
    let shown = samples(port);
    for (words, expected) in [
        (["parity_verdict", "\"parity\""], 0.0),
        (["parity_verdict", "not-yet"], 0.0),
        (["parity_files", "\"matched\""], 2.0),
        (["parity_files", "mismatched"], 1.0),
        (["parity_files", "only-cron"], 0.0),
    ] {
        assert_eq!(
            value(&shown, &words),
            Some(expected),
            "{words:?}: {shown:?}"
        );
    }
}
