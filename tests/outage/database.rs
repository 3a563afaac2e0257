//! The database goes away under load: locked by another process, restarted, crashed, cut off, silent. What is on its
//! way to the store arrives once, and the lanes go on by themselves.

use std::thread::sleep;
use std::time::Duration;

use engine::ledger::LOCK_TIMEOUT;
use sqlx::{Connection, Executor, SqliteConnection};

use crate::archiver::{Bucket, Daemon, Database, Destination, Site, files_below};
use crate::harness::{Act, Line, Postgres, Rule, TcpProxy, wait_until};
use crate::{DRAINED_WITHIN, FILES, Server};

/// Each part of 8 MiB takes two seconds: the large file is under way while the database is not there.
const SLOW: Act = Act::Slow(4 << 20);

/// A daemon in the middle of the large file.
fn at_work(server: &Server, bucket: &Bucket, database: Database) -> (Site, Daemon) {
    bucket.proxy.add(Rule::on("partNumber=", SLOW));
    let destination = Destination::Bucket(bucket);
    let site = Site::of("it", server.datadir(), database, destination);
    site.close_up_to(FILES);
    let daemon = site.start();
    let began = wait_until(DRAINED_WITHIN, || bucket.proxy.count("partNumber=1&") > 0);
    assert!(began, "{}", site.log());
    (site, daemon)
}

/// Everything comes to its end by itself, and nothing was sent twice.
fn drains(server: &Server, bucket: &Bucket, site: &Site, daemon: Daemon) {
    site.wait_for_watermark(FILES, DRAINED_WITHIN);
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    assert!(!site.log().contains("panic"), "{}", site.log());
    for part in 1..=3 {
        let sent = bucket.proxy.count(&format!("partNumber={part}&"));
        assert_eq!(sent, 1, "part {part}: {}", site.log());
    }
    site.assert_whole(&server.originals, FILES);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_sqlite_file_that_another_process_locks_for_a_while() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let (site, daemon) = at_work(&server, &bucket, Database::Sqlite);
    bucket.block_on(async {
        let mut other = SqliteConnection::connect(&site.database).await.unwrap();
        other.execute("BEGIN EXCLUSIVE").await.unwrap();
        // So long that those who wait for it give up.
        tokio::time::sleep(LOCK_TIMEOUT + Duration::from_secs(5)).await;
        other.execute("ROLLBACK").await.unwrap();
    });
    assert_ne!(site.status()["watermark"], FILES, "it was not locked");
    drains(&server, &bucket, &site, daemon);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_postgres_restart_under_load() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let mut postgres = Postgres::start();
    let (site, daemon) = at_work(&server, &bucket, Database::Postgres(&postgres));
    for _ in 0..2 {
        postgres.restart();
        sleep(Duration::from_secs(1));
    }
    drains(&server, &bucket, &site, daemon);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_postgres_crash_under_load() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let mut postgres = Postgres::start();
    let (site, daemon) = at_work(&server, &bucket, Database::Postgres(&postgres));
    postgres.crash();
    sleep(Duration::from_secs(5));
    postgres.start_again();
    drains(&server, &bucket, &site, daemon);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn postgres_sessions_that_are_cut_again_and_again() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let postgres = Postgres::start();
    let (site, daemon) = at_work(&server, &bucket, Database::Postgres(&postgres));
    for _ in 0..10 {
        sleep(Duration::from_millis(300));
        postgres.cut_connections();
    }
    drains(&server, &bucket, &site, daemon);
}

/// A database on this server, over a line that can be frozen; and its URL.
fn behind_a_line(bucket: &Bucket, postgres: &Postgres) -> (TcpProxy, String) {
    postgres.create_database("it");
    let upstream = format!("127.0.0.1:{}", postgres.port());
    let line = bucket.block_on(TcpProxy::start(&upstream));
    let url = format!("postgres://postgres@127.0.0.1:{}/it", line.port());
    (line, url)
}

/// Connections stay, and nothing comes back; then they are dead.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_line_to_postgres_that_is_frozen_for_a_while() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let postgres = Postgres::start();
    let (line, url) = behind_a_line(&bucket, &postgres);
    let (site, daemon) = at_work(&server, &bucket, Database::Shared(&url));
    line.set(Line::Frozen);
    sleep(Duration::from_secs(8));
    line.set(Line::Open);
    line.cut();
    drains(&server, &bucket, &site, daemon);
}

/// A scan waits for it and holds what is closed meanwhile, files among it that are archived and let go of already.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn nothing_archived_is_held_after_a_postgres_that_was_silent_for_a_while() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let postgres = Postgres::start();
    let (line, url) = behind_a_line(&bucket, &postgres);
    let destination = Destination::Bucket(&bucket);
    let site = Site::of("it", server.datadir(), Database::Shared(&url), destination);
    site.close_up_to(FILES - 1);
    let daemon = site.start();
    site.wait_for_watermark(FILES - 1, DRAINED_WITHIN);
    let pins = || files_below(&site.spool().join("pin")).len() as u64;
    assert!(wait_until(DRAINED_WITHIN, || pins() == 0), "{}", site.log());
    line.set(Line::Frozen);
    site.close_up_to(FILES);
    assert!(wait_until(DRAINED_WITHIN, || pins() > 0), "{}", site.log());
    line.set(Line::Open);
    site.wait_for_watermark(FILES, DRAINED_WITHIN);
    assert!(wait_until(DRAINED_WITHIN, || pins() == 0), "{}", site.log());
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    site.assert_whole(&server.originals, FILES);
}

/// Not there when the daemon starts: what the server closes meanwhile is held.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_postgres_that_comes_later() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let mut postgres = Postgres::start();
    let destination = Destination::Bucket(&bucket);
    let database = Database::Postgres(&postgres);
    let site = Site::of("it", server.datadir(), database, destination);
    site.close_up_to(FILES);
    postgres.stop();
    let mut daemon = site.start();
    sleep(Duration::from_secs(3));
    assert_eq!(daemon.ended(), None, "{}", site.log());
    // The server purges them: their pins are all that is left.
    for name in server.originals.keys() {
        std::fs::remove_file(site.workspace.datadir().join(name)).unwrap();
    }
    postgres.start_again();
    drains(&server, &bucket, &site, daemon);
}
