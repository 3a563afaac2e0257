//! The program on real input: what a DBA would do, and what goes wrong for one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test ends with a panic when its ground gives way"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod workspace;

mod disk;
mod fixtures;
mod init;
mod live;
mod rebuild;
mod refused;
mod seal_memory;
