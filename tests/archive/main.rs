//! The program on real input: what a DBA would do, and what goes wrong for one.

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
mod running;
mod workspace;

mod adopt;
mod alerts;
mod check;
mod clock;
mod contracts;
mod copies;
mod dashboard;
mod destinations;
mod disk;
mod documents;
mod fixtures;
mod gcs;
mod identity;
mod init;
mod itself;
mod live;
mod metrics;
mod older_job;
mod rebuild;
mod refused;
mod seal_memory;
mod server;
mod sources;
mod standby;
mod traces;
mod upgrade;
mod watch;
