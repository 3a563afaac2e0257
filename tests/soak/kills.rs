//! `kill -9` at random moments of a daemon beside a MySQL server that writes and rotates all the time.
//!
//! `GTIDE_SEED` repeats the moments (what the server does meanwhile is its own affair), `GTIDE_ROUNDS` says how many.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::archiver::{Bucket, Database, Destination, Site, originals, seed};
use crate::harness::{Mysqld, Postgres, wait_until};

/// Few enough for the gate.
const ROUNDS: u32 = 6;

/// The daemon lives so long at most.
const LIFE: Duration = Duration::from_secs(2);

/// Between two rotations at most.
const ROTATION: Duration = Duration::from_millis(400);

/// One binlog in so many is of several parts.
const LARGE_ONE_IN: u32 = 12;

/// For everything that the kills left behind, and what the server wrote meanwhile.
const CATCH_UP: Duration = Duration::from_mins(8);

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn kills_at_random_moments_on_sqlite() {
    kill_again_and_again(Database::Sqlite);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn kills_at_random_moments_on_postgres() {
    let postgres = Postgres::start();
    kill_again_and_again(Database::Postgres(&postgres));
}

fn kill_again_and_again(database: Database) {
    let seed = seed();
    let rounds = std::env::var("GTIDE_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mysqld = Mysqld::start(&[]);
    prepare(&mysqld);
    let bucket = Bucket::start();
    let destination = Destination::Bucket(&bucket);
    let site = Site::new("soak", &mysqld.index(), database, destination);

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&mysqld, seed, &stop));
        let mut dice = StdRng::seed_from_u64(seed);
        for round in 1..=rounds {
            let daemon = site.start();
            // Often early, while it starts; seldom late.
            let life = LIFE.mul_f64(dice.random::<f64>().powi(2));
            sleep(life);
            daemon.kill9();
            println!("round {round}: killed after {life:?}");
            assert!(!writer.is_finished(), "the writer has ended");
        }
        let rotated = || originals(&mysqld.datadir()).len() as u64 > u64::from(rounds);
        assert!(wait_until(CATCH_UP, rotated), "the server hardly rotates");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });

    mysqld.sql("FLUSH BINARY LOGS");
    let originals = originals(&mysqld.datadir());
    let files = originals.len() as u64;
    println!("{files} files");
    let daemon = site.start();
    site.wait_for_watermark(files, CATCH_UP);
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    site.assert_whole_after(rounds as usize, &originals, files);
    assert!(!site.log().contains("panic"), "{}", site.log());
}

fn prepare(mysqld: &Mysqld) {
    mysqld.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB); \
         CREATE TABLE d.n (n INT); SET SESSION cte_max_recursion_depth = 20000; \
         INSERT INTO d.n WITH RECURSIVE n AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM n WHERE n < 18000) \
           SELECT n FROM n",
    );
}

/// Small transactions and now and then one of 18 MB, until told to stop.
fn write(mysqld: &Mysqld, seed: u64, stop: &AtomicBool) {
    let mut dice = StdRng::seed_from_u64(!seed);
    while !stop.load(Ordering::Relaxed) {
        let insert = if dice.random_ratio(1, LARGE_ONE_IN) {
            "INSERT INTO d.t (v) SELECT RANDOM_BYTES(1024) FROM d.n; TRUNCATE d.t"
        } else {
            "INSERT INTO d.t (v) VALUES (REPEAT(UUID(), 2000)); INSERT INTO d.t (v) VALUES (UUID())"
        };
        mysqld.sql(&format!("{insert}; FLUSH BINARY LOGS"));
        sleep(ROTATION.mul_f64(dice.random()));
    }
}
