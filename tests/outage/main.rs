//! The program when something around it fails: the store, the disk, the database, the machine that stops it.
//! Nothing is lost, nothing stands still for ever, and what comes back drains by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test ends with a panic when its ground gives way"
)]

#[path = "../archiver/mod.rs"]
mod archiver;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../archive/workspace.rs"]
#[allow(dead_code, reason = "another suite's")]
mod workspace;

mod clouds;
mod database;
mod fast;
mod fleet;
mod google;
mod half_hour;
mod stop;
mod store;

use std::path::Path;
use std::time::Duration;

use archiver::{Originals, binlogs, originals};
use tempfile::TempDir;

/// The second file: of three parts, which are of 8 MiB.
const LARGE: usize = 18 << 20;

/// How many files a server has closed in all.
const FILES: u64 = 4;

/// What is possible again is done this soon: the longest delay between quick attempts, and time to work.
const DRAINED_WITHIN: Duration = Duration::from_mins(4);

/// The binlogs of a server, to be copied for each site.
struct Server {
    dir: TempDir,
    originals: Originals,
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        binlogs::write_four(dir.path(), LARGE);
        let originals = originals(dir.path());
        Self { dir, originals }
    }

    fn datadir(&self) -> &Path {
        self.dir.path()
    }
}
