//! Point-in-time recovery against real servers: archive, plan, run the plan's own commands, compare.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test ends with a panic when its ground gives way"
)]

#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "shared with the suite `archive`")]
#[path = "../archive/workspace.rs"]
mod workspace;

mod accident;
mod apply;
mod backup;
mod cutting;
mod damage;
mod estimate;
mod failover;
mod large;
mod place;
mod readme;
mod rehearse;
mod rollups;
mod round_trip;
mod second;
mod serve;
mod serving;
mod tutorial;
mod workload;
