//! `kill -9` before and after every durable step: whatever dies, whenever, the archive becomes whole.
//!
//! The program kills itself at a failpoint (engine/src/failpoint.rs), is run again, and everything is looked at.

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

mod matrix;
mod points;
