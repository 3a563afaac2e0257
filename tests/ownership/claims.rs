//! Who owns what while nothing fails.

use std::sync::atomic::{AtomicBool, Ordering};

use engine::queue::{Claim, Claims};
use futures::future::join_all;

use crate::harness::Postgres;
use crate::{PATIENCE, SOON, holder, is_certain_within, open, own, source, succeed};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_second_claimant_is_refused_and_told_by_whom() {
    let server = Postgres::start();
    let first = open(&server.url("postgres")).await;
    let second = open(&server.url("postgres")).await;
    let ownership = own(&first, 1).await;
    assert!(is_certain_within(&ownership, SOON).await);

    let by = holder(&second, 1).await.expect("refused");
    let ends = format!(":{} from 127.0.0.1", std::process::id());
    assert!(by.starts_with("gtide ") && by.ends_with(&ends), "{by}");
    assert_eq!(holder(&first, 1).await.as_deref(), Some("this process"));
    // Another source, and the same one in another database, are other rights.
    own(&second, 2).await;
    let elsewhere = open(&server.create_database("elsewhere")).await;
    own(&elsewhere, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn what_is_dropped_is_free_at_once() {
    let server = Postgres::start();
    let first = open(&server.url("postgres")).await;
    let second = open(&server.url("postgres")).await;
    let kept = own(&first, 2).await;
    let dropped = own(&first, 1).await;
    let lost = dropped.lost().clone();
    assert!(!lost.is_cancelled());
    drop(dropped);
    let (_taken, after) = succeed(&second, 1).await;
    assert!(after.as_millis() < 500, "{after:?}");
    assert!(lost.is_cancelled(), "nothing may go on with it");
    assert!(is_certain_within(&kept, SOON).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn the_session_ends_with_the_last_that_needs_it() {
    let server = Postgres::start();
    let sessions = || {
        server.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gtide %'",
        )
    };
    let claims = open(&server.url("postgres")).await;
    let ownership = own(&claims, 1).await;
    drop(claims);
    assert!(is_certain_within(&ownership, SOON).await);
    assert_eq!(sessions(), "1");
    drop(ownership);
    let ended = async {
        while sessions() != "0" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn of_many_that_claim_at_once_one_owns() {
    let server = Postgres::start();
    let url = server.url("postgres");
    let claims = join_all((0..8).map(|_| open(&url))).await;
    let source = source(1);
    let answers = join_all(claims.iter().map(|claims| claims.try_claim(&source))).await;
    let owned = answers.iter().filter(|a| matches!(a, Ok(Claim::Owned(_))));
    assert_eq!(owned.count(), 1, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn claimed_and_dropped_over_and_over_nothing_has_two_owners_and_nothing_stays_locked() {
    const SOURCES: u32 = 4;
    const ROUNDS: u32 = 60;
    let server = Postgres::start();
    let url = server.url("postgres");
    let owned: [AtomicBool; SOURCES as usize] = std::array::from_fn(|_| AtomicBool::new(false));
    let compete = async |claims: &Claims, incarnation: u32| {
        let mut wins = 0;
        for _ in 0..ROUNDS {
            let answer = claims.try_claim(&source(incarnation)).await.unwrap();
            if let Claim::Owned(ownership) = answer {
                let flag = &owned[incarnation as usize];
                assert!(!flag.swap(true, Ordering::SeqCst), "two owners");
                ownership.certain().await;
                wins += 1;
                flag.store(false, Ordering::SeqCst);
            }
        }
        wins
    };
    let claims = join_all((0..3).map(|_| open(&url))).await;
    let competitors = claims
        .iter()
        .flat_map(|claims| (0..SOURCES).map(|incarnation| compete(claims, incarnation)));
    let wins: u32 = join_all(competitors).await.into_iter().sum();
    println!("{wins} of {} claims won", 3 * SOURCES * ROUNDS);
    let last = open(&url).await;
    for incarnation in 0..SOURCES {
        let (_ownership, after) = succeed(&last, incarnation).await;
        assert!(after < SOON, "{after:?}");
    }
}
