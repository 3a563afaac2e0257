//! The program for a long time: killed at random moments beside a server that writes, and with as many files as
//! a busy server makes in weeks.
//!
//! `tests/run soak` runs it at full length; the gate runs few rounds.

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

mod kills;
mod tiny;
