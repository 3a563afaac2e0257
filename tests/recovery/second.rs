//! A time in the middle of a second with many commits.

use crate::harness::Mysqld;
use crate::place::{SERVER, archive, planned, run, shell, workspace_of};
use crate::workspace::{code, stderr};

/// Transactions, as fast as they come.
const COMMITS: usize = 1500;

/// A transaction's GTID and its commit time, µs since the epoch.
type Commit = (String, i64);

/// What mysqlbinlog says of every transaction in a server's files.
fn commits(dump: &str) -> Vec<Commit> {
    let mut commits = Vec::new();
    let mut at = None;
    for line in dump.lines() {
        if let Some(rest) = line.strip_prefix("# immediate_commit_timestamp=") {
            at = rest.split(' ').next().unwrap().parse().ok();
        }
        if let Some(rest) = line.strip_prefix("SET @@SESSION.GTID_NEXT= '")
            && let (Some((gtid, _)), Some(at)) = (rest.split_once('\''), at)
            && gtid.contains(':')
        {
            commits.push((gtid.to_owned(), at));
        }
    }
    commits
}

/// The commit in the middle of the second that has the most, with others at other times around it.
fn middle(commits: &[Commit]) -> usize {
    let second = |commit: &Commit| commit.1 / 1_000_000;
    let of = |wanted: i64| {
        commits
            .iter()
            .filter(move |commit| second(commit) == wanted)
            .count()
    };
    let busiest = commits
        .iter()
        .map(second)
        .max_by_key(|&wanted| of(wanted))
        .unwrap();
    let first = commits
        .iter()
        .position(|commit| second(commit) == busiest)
        .unwrap();
    assert!(of(busiest) > 100, "{} commits in one second", of(busiest));
    let from = first + of(busiest) / 2;
    let apart = |&number: &usize| {
        commits[number - 1].1 < commits[number].1 && commits[number].1 < commits[number + 1].1
    };
    (from..commits.len() - 1).find(apart).unwrap()
}

fn rfc3339(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .unwrap()
        .to_string()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_time_in_the_middle_of_a_busy_second_is_between_the_right_two_transactions() {
    let mysqld = Mysqld::start(
        &[
            SERVER,
            &["--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0"],
        ]
        .concat(),
    );
    mysqld.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)");
    mysqld.sql(&"INSERT INTO d.t (v) VALUES (1);".repeat(COMMITS));
    mysqld.sql("FLUSH BINARY LOGS");
    let workspace = workspace_of(&mysqld);
    archive(&workspace);
    let dump = shell(
        &workspace,
        &mysqld,
        &format!(
            "mysqlbinlog --no-defaults {}/binlog.000001",
            mysqld.datadir().display()
        ),
    );
    assert_eq!(code(&dump), 0, "{}", stderr(&dump));
    let commits = commits(&String::from_utf8_lossy(&dump.stdout));
    assert_eq!(commits.len(), COMMITS + 2);
    let number = middle(&commits);
    let at = commits[number].1;
    let plan = |time: i64, name: &str| {
        let saved = workspace.path().join(name);
        let (time, saved) = (rfc3339(time), saved.to_str().unwrap().to_owned());
        planned(
            &workspace,
            &["--from-gtid-set", "", "--to-time", &time, "--save", &saved],
        )
    };
    // At the very microsecond it is in; a microsecond before, it is the first that is not.
    let with = plan(at, "with.json");
    let (last, next) = (&with["stop"]["last"], &with["stop"]["next"]);
    assert_eq!(with["transactions"], number as u64 + 1);
    assert_eq!(last["gtid"], commits[number].0.as_str());
    assert_eq!(last["commit"], rfc3339(at));
    assert_eq!(next["gtid"], commits[number + 1].0.as_str());
    let without = plan(at - 1, "without.json");
    assert_eq!(without["transactions"], number as u64);
    assert_eq!(without["stop"]["next"]["gtid"], commits[number].0.as_str());

    // Two of all are the schema and the table.
    let restored = Mysqld::start(SERVER);
    run(
        &workspace,
        &restored,
        with["commands"]["stream"].as_str().unwrap(),
    );
    let rows = restored.sql("SELECT COUNT(*) FROM d.t");
    assert_eq!(rows, (number - 1).to_string());
}
