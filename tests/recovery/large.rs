//! Of a large file only the blocks between the cuts are read.

use crate::harness::Mysqld;
use crate::place::{SERVER, archive, plan, planned, workspace_of};
use crate::workload::{Workload, executed};
use crate::workspace::code;

/// Transactions of a little more than 1 MiB each: the file is as large as servers make them in
/// practice.
const TRANSACTIONS: usize = 400;

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_last_hundredth_of_a_large_file_takes_less_than_a_twentieth_of_its_bytes() {
    let mysqld = Mysqld::start(&[SERVER, &["--max-binlog-size=1G"]].concat());
    mysqld.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b BLOB); FLUSH BINARY LOGS",
    );
    let write = |count: usize| {
        let one = "INSERT INTO d.t (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                   SELECT RANDOM_BYTES(1024) FROM n;";
        mysqld.sql(&one.repeat(count));
    };
    write(TRANSACTIONS - 4);
    let before = executed(&mysqld);
    write(2);
    let moment = Workload::moment_of(&mysqld);
    write(2);
    mysqld.sql("FLUSH BINARY LOGS; INSERT INTO d.t (b) VALUES (''); FLUSH BINARY LOGS");
    let workspace = workspace_of(&mysqld);
    archive(&workspace);

    let args = ["--from-gtid-set", &before, "--to-time", &moment.time];
    let saved = workspace.path().join("plan.json");
    let args = [&args[..], &["--save", saved.to_str().unwrap()]].concat();
    let made = planned(&workspace, &args);
    assert_eq!(made["executed"], moment.executed.as_str());
    let file = &made["files"][0];
    let (stored, fetched) = (
        file["stored_bytes"].as_u64().unwrap(),
        made["fetch_bytes"].as_u64().unwrap(),
    );
    assert!(stored > TRANSACTIONS as u64 * 1_000_000, "{stored}");
    println!("{fetched} of {stored} bytes");
    assert!(fetched * 20 < stored, "{fetched} of {stored} bytes");
    let cat = workspace
        .restore()
        .args(["cat", "--plan"])
        .arg(&saved)
        .output()
        .unwrap();
    assert_eq!(code(&cat), 0);
    let replayed = made["replay_bytes"].as_u64().unwrap();
    assert!((cat.stdout.len() as u64).abs_diff(replayed) < 4096);
    // To before the same transactions, from the file's beginning.
    let early = plan(&workspace, &["--from-gtid-set", &before, "--to-latest"]);
    assert_eq!(code(&early), 0);
}
