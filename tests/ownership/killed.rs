//! `kill -9` of an owner: its successor need not wait.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::Postgres;
use crate::{PATIENCE, holder, open, succeed};

/// Tells the child which database to claim with.
const DATABASE: &str = "GTIDE_OWNERSHIP_DATABASE";

/// Not a test: the body of the process that is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test below, as a child process"]
async fn child() {
    let url = std::env::var(DATABASE).expect("run by the test below");
    let claims = open(&url).await;
    // The standby has it for a moment whenever it looks who has it.
    let _ownership = succeed(&claims, 1).await;
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_killed_owner_is_succeeded_within_two_seconds() {
    let server = Postgres::start();
    let url = server.url("postgres");
    let standby = open(&url).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--ignored", "--nocapture"])
        .env(DATABASE, &url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let owns = async {
        loop {
            if let Some(by) = holder(&standby, 1).await {
                return by;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let by = tokio::time::timeout(PATIENCE, owns).await.unwrap();
    assert!(by.contains(&format!(":{} from", child.id())), "{by}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (_ownership, after) = succeed(&standby, 1).await;
    println!("succeeded after {after:?}");
}
