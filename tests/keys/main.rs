//! Keys: from files and from key services, through real programs, rotated and re-wrapped.

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
mod place;
#[path = "../archive/workspace.rs"]
#[allow(dead_code, reason = "another suite's")]
mod workspace;

mod aws;
mod canned;
mod check;
mod google;
mod renewal;
mod rewrap;
mod rotate;
