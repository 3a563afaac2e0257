//! Ten thousand tiny binlogs: what a file costs must not grow with the files before it.

use std::time::{Duration, Instant};

use crate::archiver::{Database, Destination, Site, binlogs};
use crate::harness::Postgres;

const FILES: u64 = 10_000;

/// Archived and measured together.
const STEP: u64 = 1_000;

/// The last thousand may take so much longer than the second: the first also starts from nothing.
const SLOWER_AT_MOST: f64 = 1.5;

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

fn archive_ten_thousand(database: Database, size: impl Fn(&Site) -> u64) {
    let template = tempfile::tempdir().unwrap();
    let mut server = binlogs::Server::new(template.path(), 1);
    let site = Site::of("tiny", template.path(), database, Destination::Folder);
    let mut per_file = Vec::new();
    println!(
        "{:>6} {:>12} {:>14} {:>12}",
        "files", "ms per file", "database KiB", "status ms"
    );
    for first in (1..=FILES).step_by(usize::try_from(STEP).unwrap()) {
        let last = first + STEP - 1;
        (first..=last).for_each(|_| server.rotate(&site.workspace.datadir(), 0));
        let took = time(|| {
            let ended = site.run_once();
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        });
        let status = time(|| assert_eq!(site.status()["watermark"], last));
        let per = took.as_secs_f64() * 1_000.0 / STEP as f64;
        println!(
            "{last:>6} {per:>12.2} {:>14} {:>12}",
            size(&site) / 1024,
            status.as_millis()
        );
        per_file.push(per);
    }
    assert!(
        per_file[9] < per_file[1] * SLOWER_AT_MOST,
        "files take longer and longer: {per_file:?}"
    );
}

fn time(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}
