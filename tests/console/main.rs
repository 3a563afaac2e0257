//! The console's program and `gtide queue`, beside a real archiver.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure is what a test is for"
)]

mod bench;
mod frames;
mod interactive;
