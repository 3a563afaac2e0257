//! The whole program at work on made binlogs, with any database and any destination, and the proof that nothing
//! was lost, doubled or left lying about. Shared by the suites `crash`, `soak` and `outage`.
//!
//! A suite takes it in beside `harness` and `workspace`.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared by suites that each use a part of it"
)]

pub mod binlogs;
mod place;
mod seed;
mod site;
mod whole;

pub use place::{Bucket, Database, Destination, other_filesystem};
pub use seed::seed;
pub use site::{Daemon, Ended, Site};
pub use whole::{Originals, files_below, originals};
