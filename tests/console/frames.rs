//! Frames of the program beside a real archiver, and what `gtide queue` does to them.

use crate::bench::{Bench, eventually, said};

#[test]
fn without_a_ledger_there_is_a_reason_and_a_hint() {
    let bench = Bench::new();
    for output in [bench.console(&["--once"]), bench.gtide(&["queue", "ls"])] {
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("hint:"), "{}", said(&output));
    }
}

#[test]
fn every_screen_of_an_archive_that_is_current() {
    let bench = Bench::new();
    let archived = bench.gtide(&["run", "--once", "--include-last"]);
    assert!(archived.status.success(), "{}", said(&archived));
    let overview = bench.frame("overview");
    let row = overview.lines().find(|line| line.contains("db1")).unwrap();
    assert!(row.contains("✓ current"), "{overview}");
    assert!(overview.contains("nothing"), "{overview}");
    let watermarks = bench.frame("watermarks");
    let row = watermarks
        .lines()
        .find(|line| line.contains("db1"))
        .unwrap();
    assert!(
        row.split_whitespace().any(|cell| cell == "2"),
        "{watermarks}"
    );
    assert!(bench.frame("queue").contains("Nothing is queued"));
    assert!(bench.frame("retries").contains("Nothing has failed"));
}

#[test]
fn a_recorded_picture_is_shown_again_without_a_database() {
    let bench = Bench::new();
    assert!(bench.gtide(&["run", "--once"]).status.success());
    let recorded = bench.console(&["--once", "--record", "picture.json"]);
    assert!(recorded.status.success(), "{}", said(&recorded));
    std::fs::remove_file(bench.path("gtide.toml")).unwrap();
    let replayed = bench.console(&["--once", "--replay", "picture.json"]);
    assert!(replayed.status.success(), "{}", said(&replayed));
    let (recorded, replayed) = (recorded.stdout, replayed.stdout);
    let rows = |frame: Vec<u8>| {
        let frame = String::from_utf8(frame).unwrap();
        // All but the headline, which says that it is a recorded one.
        frame
            .lines()
            .skip(2)
            .take(20)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(rows(recorded), rows(replayed));
    let other = bench.console(&["--once", "--replay", "archive"]);
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn a_failing_store_is_seen_with_its_error_and_retried_by_hand() {
    let bench = Bench::new();
    bench.break_store();
    let failed = bench.gtide(&["run", "--once"]);
    assert!(!failed.status.success());
    let retries = bench.frame("retries");
    assert!(retries.contains("binlog.000001"), "{retries}");
    assert!(retries.contains("File exists"), "{retries}");
    let overview = bench.frame("overview");
    let row = overview.lines().find(|line| line.contains("db1")).unwrap();
    assert!(
        row.contains("stalled") || row.contains("failing"),
        "{overview}"
    );
    let listed = bench.gtide(&["queue", "ls", "--failed"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("File exists"), "{listed}");

    let _archiver = bench.archiver();
    bench.mend_store();
    let retried = bench.gtide(&["queue", "retry", "db1"]);
    assert!(retried.status.success(), "{}", said(&retried));
    eventually(
        || bench.frame("overview"),
        |frame| frame.contains("✓ current"),
    );
}

#[test]
fn a_pause_is_durable_shown_and_obeyed_until_it_is_taken_back() {
    let bench = Bench::new();
    assert!(bench.gtide(&["run", "--once"]).status.success());
    let paused = bench.gtide(&["queue", "pause", "db1", "--reason", "the bucket moves"]);
    assert!(paused.status.success(), "{}", said(&paused));
    let status = bench.gtide(&["status"]);
    assert_eq!(status.status.code(), Some(6));
    assert!(
        said(&status).contains("the bucket moves"),
        "{}",
        said(&status)
    );

    let run = bench.gtide(&["run", "--once", "--include-last"]);
    assert_eq!(run.status.code(), Some(6), "{}", said(&run));
    assert!(
        said(&run).contains("gtide queue resume db1"),
        "{}",
        said(&run)
    );
    let queue = bench.frame("queue");
    let row = queue.lines().find(|line| line.contains("binlog.000002"));
    assert!(row.is_some_and(|row| row.contains("paused")), "{queue}");
    assert!(bench.frame("overview").contains("the bucket moves"));

    let resumed = bench.gtide(&["queue", "resume", "db1"]);
    assert!(resumed.status.success(), "{}", said(&resumed));
    let run = bench.gtide(&["run", "--once", "--include-last"]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(bench.gtide(&["status"]).status.success());
}

#[test]
fn what_the_ledger_does_not_know_is_refused_with_a_hint() {
    let bench = Bench::new();
    assert!(bench.gtide(&["run", "--once"]).status.success());
    for arguments in [
        &["queue", "pause", "db2"][..],
        &["queue", "retry", "db1", "--destination", "s3://elsewhere"],
    ] {
        let output = bench.gtide(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains("hint:"), "{}", said(&output));
    }
}
