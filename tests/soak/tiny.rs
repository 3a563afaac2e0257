//! Ten thousand tiny binlogs: what a file costs must not grow with the files before it.

use std::time::{Duration, Instant};

use crate::archiver::{Database, Destination, Site, binlogs};
use crate::harness::Postgres;

const FILES: u64 = 10_000;

/// Archived and measured together.
const STEP: u64 = 1_000;

#[test]
#[ignore = "by hand: tests/run soak"]
fn ten_thousand_tiny_binlogs_on_sqlite() {
    archive_ten_thousand(Database::Sqlite, Site::database_size);
}

#[test]
#[ignore = "by hand: tests/run soak"]
fn ten_thousand_tiny_binlogs_on_postgres() {
    let postgres = Postgres::start();
    archive_ten_thousand(Database::Postgres(&postgres), |_| {
        let size = postgres.sql("tiny", "SELECT pg_database_size(current_database())");
        size.parse().unwrap()
    });
}

fn archive_ten_thousand(database: Database, measure: impl Fn(&Site) -> u64) {
    let template = tempfile::tempdir().unwrap();
    let mut server = binlogs::Server::new(template.path(), 1);
    let here = Site::of("tiny", template.path(), database, Destination::Folder);
    println!(
        "{:>6} {:>12} {:>14} {:>12}",
        "files", "ms per file", "database KiB", "status ms"
    );
    for first in (1..=FILES).step_by(usize::try_from(STEP).unwrap()) {
        let last = first + STEP - 1;
        (first..=last).for_each(|_| server.rotate(&here.workspace.datadir(), 0));
        let took = time(|| {
            let ended = here.run_once();
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        });
        let status = time(|| assert_eq!(here.status()["watermark"], last));
        // A thousand files: milliseconds for one are seconds for all.
        let per = took.as_secs_f64();
        println!(
            "{last:>6} {per:>12.2} {:>14} {:>12}",
            measure(&here) / 1024,
            status.as_millis()
        );
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}
