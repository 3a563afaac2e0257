//! The program on real input: what a DBA would do, and what goes wrong for one.

#[path = "../harness/mod.rs"]
mod harness;
mod workspace;

mod fixtures;
mod live;
mod rebuild;
mod refused;
mod seal_memory;
