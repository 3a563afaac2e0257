//! The server goes and comes back: what nobody else took is still ours, and meanwhile nothing is certain.

use std::time::Duration;

use engine::queue::OwnershipError;
use tokio::time::{Instant, sleep};

use crate::harness::Postgres;
use crate::{SOON, holder, is_certain_within, is_lost_within, open, own, source};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_restart_of_the_server_keeps_the_ownership() {
    let mut server = Postgres::start();
    let claims = open(&server.url("postgres")).await;
    let (one, two) = (own(&claims, 1).await, own(&claims, 2).await);
    server.restart();
    let since = Instant::now();
    assert!(is_certain_within(&one, SOON).await && is_certain_within(&two, SOON).await);
    println!("certain again after {:?}", since.elapsed());
    assert!(!one.lost().is_cancelled() && !two.lost().is_cancelled());
    let other = open(&server.url("postgres")).await;
    assert!(holder(&other, 1).await.is_some() && holder(&other, 2).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn nothing_is_certain_while_the_server_is_down_and_nothing_lost() {
    let mut server = Postgres::start();
    let claims = open(&server.url("postgres")).await;
    let ownership = own(&claims, 1).await;
    server.crash();
    // Longer than a session may stay away while the server is up.
    assert!(!is_certain_within(&ownership, Duration::from_secs(12)).await);
    assert!(!ownership.lost().is_cancelled());
    let error = claims.try_claim(&source(2)).await.unwrap_err();
    assert!(matches!(error, OwnershipError::Away { .. }), "{error}");

    server.start_again();
    assert!(is_certain_within(&ownership, SOON).await);
    assert!(!ownership.lost().is_cancelled());
    own(&claims, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_cut_connection_is_back_at_once_with_its_locks() {
    let server = Postgres::start();
    let claims = open(&server.url("postgres")).await;
    let ownership = own(&claims, 1).await;
    for _ in 0..20 {
        assert!(server.cut_connections() >= 1);
        let since = Instant::now();
        assert!(is_certain_within(&ownership, SOON).await);
        println!("back after {:?}", since.elapsed());
        let other = open(&server.url("postgres")).await;
        assert!(holder(&other, 1).await.is_some());
    }
    assert!(!is_lost_within(&ownership, Duration::from_secs(1)).await);
}

/// A connection that is half open: the server has not missed the session whose client is long gone.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_session_that_hangs_is_replaced_and_not_taken_for_another_owner() {
    let server = Postgres::start();
    let claims = open(&server.url("postgres")).await;
    let ownership = own(&claims, 1).await;
    let pid = server.sql(
        "postgres",
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory'",
    );
    signal("STOP", &pid);
    let asked = Instant::now();
    assert!(!is_certain_within(&ownership, Duration::from_secs(6)).await);
    assert!(!ownership.lost().is_cancelled());
    // It ends as it was told to meanwhile.
    signal("CONT", &pid);
    assert!(is_certain_within(&ownership, SOON).await);
    println!("certain {:?} after it hung", asked.elapsed());
    let now = server.sql(
        "postgres",
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory'",
    );
    assert_ne!(now, pid, "another session has the lock");
    sleep(Duration::from_secs(1)).await;
    assert!(!ownership.lost().is_cancelled());
}

fn signal(name: &str, pid: &str) {
    let status = std::process::Command::new("sh")
        .args(["-c", "kill -$0 $1", name, pid])
        .status();
    assert!(status.unwrap().success());
}
