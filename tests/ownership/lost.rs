//! An ownership that another has by now, or may have, is lost for good.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::Postgres;
use crate::{PATIENCE, SOON, is_certain_within, is_lost_within, open, own, succeed};

/// A server with a user of its own, who can be kept out.
fn server_with_archiver() -> (Postgres, String) {
    let server = Postgres::start();
    server.sql("postgres", "CREATE ROLE archiver LOGIN");
    let url = server.url_of("archiver", "postgres");
    (server, url)
}

fn shut_out(server: &Postgres) {
    server.sql("postgres", "ALTER ROLE archiver NOLOGIN");
    server.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'archiver'",
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn it_is_lost_as_soon_as_another_is_seen_to_have_it() {
    let (server, url) = server_with_archiver();
    let claims = open(&url).await;
    let (taken, kept) = (own(&claims, 1).await, own(&claims, 2).await);
    shut_out(&server);
    let other = open(&server.url("postgres")).await;
    let (theirs, _) = succeed(&other, 1).await;
    assert!(!taken.lost().is_cancelled(), "not known yet");
    server.sql("postgres", "ALTER ROLE archiver LOGIN");

    let since = Instant::now();
    assert!(is_lost_within(&taken, SOON).await);
    println!("lost after {:?}", since.elapsed());
    assert!(!is_certain_within(&taken, Duration::from_secs(1)).await);
    // One source's loss is not another's.
    assert!(is_certain_within(&kept, SOON).await && !kept.lost().is_cancelled());
    assert!(is_certain_within(&theirs, SOON).await);

    // Lost for good: when it is free again, it must be claimed again.
    drop(theirs);
    let (again, _) = succeed(&claims, 1).await;
    assert!(is_certain_within(&again, SOON).await);
    assert!(taken.lost().is_cancelled() && !is_certain_within(&taken, Duration::ZERO).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn it_is_lost_when_the_session_stays_away_while_others_may_come() {
    let (server, url) = server_with_archiver();
    let claims = open(&url).await;
    let ownership = own(&claims, 1).await;
    shut_out(&server);
    let since = Instant::now();
    assert!(is_lost_within(&ownership, PATIENCE).await);
    assert!(since.elapsed() > Duration::from_secs(9), "{since:?}");
    server.sql("postgres", "ALTER ROLE archiver LOGIN");
    let (again, _) = succeed(&claims, 1).await;
    assert!(is_certain_within(&again, SOON).await);
}
