//! Every point × both databases × each kind of store: `tests/run soak`. In the gate three of the pairs take turns, so
//! that each point comes once.
//!
//! One test for each database and store, so that servers start once; a failure names its point, and the points
//! behind it are tried all the same.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::archiver::{
    Bucket, Database, Destination, Originals, Site, binlogs, originals, other_filesystem,
};
use crate::harness::{Gcs, Postgres};
use crate::points::{LINKED, POINTS, Point};

/// The large file: of three parts, which are of 8 MiB.
const LARGE: usize = 18 << 20;

const PART: u64 = 8 << 20;

/// How many files the datadir has.
const FILES: u64 = 4;

/// Where an upload has begun whose id is in no database.
const BEGUN: &str = "begun";

const SIGKILL: i32 = 9;

const PAIRS_IN_THE_GATE: usize = 3;

#[test]
#[ignore = "needs a minute"]
fn sqlite_and_a_folder() {
    let mount = other_filesystem();
    kill_everywhere(Database::Sqlite, Destination::Mount(mount.path()), 0);
}

/// What is sealed becomes the object as it is.
#[test]
#[ignore = "needs a minute"]
fn sqlite_and_a_folder_beside_the_spool() {
    kill_everywhere(Database::Sqlite, Destination::Folder, 0);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn sqlite_and_s3() {
    let bucket = Bucket::start();
    kill_everywhere(Database::Sqlite, Destination::Bucket(&bucket), 0);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn postgres_and_a_folder() {
    let (postgres, mount) = (Postgres::start(), other_filesystem());
    let destination = Destination::Mount(mount.path());
    kill_everywhere(Database::Postgres(&postgres), destination, 0);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn postgres_and_s3() {
    let (postgres, bucket) = (Postgres::start(), Bucket::start());
    let destination = Destination::Bucket(&bucket);
    kill_everywhere(Database::Postgres(&postgres), destination, 1);
}

/// Parts go in order there, and none is listed: what was kept is not sent again.
#[test]
#[ignore = "needs a minute"]
fn sqlite_and_google() {
    let server = Gcs::start();
    kill_everywhere(Database::Sqlite, Destination::Google(&server), 2);
    for upload in server.uploads() {
        let twice = upload.received - upload.kept;
        assert!(twice <= PART, "more than a part was sent twice: {upload:?}");
    }
}

/// At all points, or at every third one in the gate, beginning with the `turn`th.
fn kill_everywhere(database: Database, destination: Destination, turn: usize) {
    let template = tempfile::tempdir().unwrap();
    binlogs::write_four(template.path(), LARGE);
    let originals = originals(template.path());
    let mut failed = Vec::new();
    let is_linked = matches!(destination, Destination::Folder);
    for point in chosen(turn) {
        if !point.is_passed(is_linked) {
            continue;
        }
        let case = Case {
            point,
            template: template.path(),
            originals: &originals,
            database,
            destination,
        };
        if catch_unwind(AssertUnwindSafe(|| case.run())).is_err() {
            failed.push(point);
        }
        if let Destination::Mount(mount) = destination {
            // It may be small.
            remove_all_in(mount);
        }
    }
    assert!(failed.is_empty(), "not whole after a kill at {failed:?}");
}

fn remove_all_in(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}

/// Those of one name (`GTIDE_POINT`), all (`GTIDE_ALL_POINTS`), or those whose turn it is.
fn chosen(turn: usize) -> Vec<Point> {
    let name = std::env::var("GTIDE_POINT").ok();
    let all = std::env::var_os("GTIDE_ALL_POINTS").is_some();
    let turns = POINTS.iter().enumerate();
    let wanted = turns.filter(|(n, point)| match &name {
        Some(name) => name == point.name,
        None => all || n % PAIRS_IN_THE_GATE == turn || point.name == LINKED,
    });
    let points: Vec<Point> = wanted.map(|(_, point)| *point).collect();
    assert!(!points.is_empty(), "no failpoint is named {name:?}");
    points
}

struct Case<'a> {
    point: Point,
    template: &'a Path,
    originals: &'a Originals,
    database: Database<'a>,
    destination: Destination<'a>,
}

impl Case<'_> {
    fn run(&self) {
        let Point { name, passing } = self.point;
        println!("== killed at {name}, passing {passing}");
        let prefix = format!("{name}-{passing}");
        let site = Site::of(&prefix, self.template, self.database, self.destination);
        let killed = site.run_into(name, passing);
        assert_eq!(killed.signal, Some(SIGKILL), "{name}: {killed:#?}");
        let received = self.received_parts();
        site.assert_no_entry_without_object();

        let again = site.run_all();
        assert_eq!(again.code, Some(0), "{name}: {}", again.stderr);
        let resent = self.received_parts();
        let twice: Vec<_> = received.intersection(&resent).collect();
        assert!(twice.is_empty(), "{name}: sent twice: {twice:?}");
        if name == BEGUN {
            // Nobody knows that upload: the start after the one that archived its file ends it.
            assert_eq!(site.run_all().code, Some(0), "{name}");
        }
        site.assert_whole(self.originals, FILES);
    }

    /// Which parts of which object the store has taken since it was last asked.
    fn received_parts(&self) -> BTreeSet<String> {
        let Destination::Bucket(bucket) = self.destination else {
            return BTreeSet::new();
        };
        bucket.block_on(bucket.proxy.quiet());
        let seen = bucket.proxy.seen();
        bucket.proxy.forget();
        let parts = seen
            .into_iter()
            .filter(|seen| seen.head.starts_with("PUT ") && seen.head.contains("partNumber="));
        let taken = parts.filter(|seen| seen.status == Some(200));
        taken.filter_map(|seen| part_of(&seen.head)).collect()
    }
}

/// `/archive/…/0000000002.gtb 3`, of a part's request.
fn part_of(head: &str) -> Option<String> {
    let (path, query) = head.split_whitespace().nth(1)?.split_once('?')?;
    let number = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("partNumber="))?;
    Some(format!("{path} {number}"))
}
