//! Databases that cannot keep a lock, or cannot be reached.

use std::fs::File;
use std::time::Duration;

use engine::exit::{Diagnose, Exit};
use engine::queue::{Claims, OwnershipError};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use crate::harness::{PgBouncer, Postgres};
use crate::{PATIENCE, SOON, is_lost_within, open, own};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_pooler_in_transaction_mode_is_refused() {
    let server = Postgres::start();
    let pooler = PgBouncer::start(&server, "transaction");
    // Idle or busy: with other sessions of the server at hand, and without.
    for clients in [0, 3] {
        let mut busy = Vec::new();
        for _ in 0..clients {
            let mut client = PgConnection::connect(&pooler.url("postgres"))
                .await
                .unwrap();
            sqlx::raw_sql("BEGIN").execute(&mut client).await.unwrap();
            busy.push(client);
        }
        for client in &mut busy {
            sqlx::raw_sql("COMMIT").execute(client).await.unwrap();
        }
        let error = Claims::open(&pooler.url("postgres")).await.unwrap_err();
        assert!(matches!(error, OwnershipError::Pooled { .. }), "{error:?}");
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.hint().unwrap().contains("session mode"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_pooler_in_session_mode_will_do_until_it_is_told_otherwise() {
    let server = Postgres::start();
    let mut pooler = PgBouncer::start(&server, "session");
    let claims = open(&pooler.url("postgres")).await;
    let ownership = own(&claims, 1).await;
    assert!(!is_lost_within(&ownership, Duration::from_secs(2)).await);

    pooler.set_mode("transaction");
    let since = Instant::now();
    // Whoever comes gets our session, and we get another.
    while since.elapsed() < SOON && !ownership.lost().is_cancelled() {
        let mut client = PgConnection::connect(&pooler.url("postgres"))
            .await
            .unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut client).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    assert!(is_lost_within(&ownership, Duration::ZERO).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_standby_server_is_refused() {
    let mut server = Postgres::start();
    server.stop();
    File::create(server.dir().join("data/standby.signal")).unwrap();
    server.start_again();
    let error = Claims::open(&server.url("postgres")).await.unwrap_err();
    assert!(matches!(error, OwnershipError::Standby { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn what_the_server_refuses_is_a_matter_of_configuration_and_no_password_is_shown() {
    let mut server = Postgres::start();
    let url = format!(
        "postgres://nobody:secret@127.0.0.1:{}/postgres",
        server.port()
    );
    let error = Claims::open(&url).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    let named = format!("postgres://nobody@127.0.0.1:{}/postgres", server.port());
    assert!(error.to_string().contains(&named), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");

    server.stop();
    let error = Claims::open(&url).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Transient, "it may come back: {error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_server_that_says_nothing_is_given_up() {
    // Accepts, and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let error = tokio::time::timeout(PATIENCE, Claims::open(&url)).await;
    let error = error.unwrap().unwrap_err();
    let text = engine::exit::chain(&error);
    assert!(text.contains("no answer within 3 s"), "{text}");
}
