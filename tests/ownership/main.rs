//! One owner per source, kept by a PostgreSQL server that restarts, cuts connections and falls silent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test panics when it fails, and prints how long things took"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod claims;
mod killed;
mod lost;
mod outage;
mod refused;

use std::time::Duration;

use engine::layout::SourceIdentity;
use engine::queue::{Claim, Claims, Ownership};
use tokio::time::{Instant, sleep, timeout};

/// Nothing in this suite takes longer.
const PATIENCE: Duration = Duration::from_mins(4);

/// Longer than it takes to miss a session that was cut off and to get it back while nothing is in the way.
const SOON: Duration = Duration::from_secs(30);

fn source(incarnation: u32) -> SourceIdentity {
    SourceIdentity {
        cluster: "orders".parse().unwrap(),
        server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        incarnation,
    }
}

async fn open(url: &str) -> Claims {
    Claims::open(url).await.unwrap()
}

async fn own(claims: &Claims, incarnation: u32) -> Ownership {
    match claims.try_claim(&source(incarnation)).await.unwrap() {
        Claim::Owned(ownership) => ownership,
        Claim::Held { by } => panic!("held by {by}"),
    }
}

async fn holder(claims: &Claims, incarnation: u32) -> Option<String> {
    match claims.try_claim(&source(incarnation)).await.unwrap() {
        Claim::Owned(_) => None,
        Claim::Held { by } => Some(by),
    }
}

/// Claims until it succeeds, as a standby does, and says how long that took.
async fn succeed(claims: &Claims, incarnation: u32) -> (Ownership, Duration) {
    let since = Instant::now();
    let attempts = async {
        loop {
            if let Ok(Claim::Owned(ownership)) = claims.try_claim(&source(incarnation)).await {
                return ownership;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let ownership = timeout(PATIENCE, attempts).await.unwrap();
    (ownership, since.elapsed())
}

async fn is_certain_within(ownership: &Ownership, limit: Duration) -> bool {
    timeout(limit, ownership.certain()).await.is_ok()
}

async fn is_lost_within(ownership: &Ownership, limit: Duration) -> bool {
    timeout(limit, ownership.lost().cancelled()).await.is_ok()
}
