//! `gtide-restore` on good and on damaged archives: the real program, on archives that the engine's
//! own writer makes of real binary logs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is what a test is for"
)]

mod archive;
mod cat;
mod dependencies;
mod fetch;
mod find;
mod ls;
mod plan;
mod verify;
