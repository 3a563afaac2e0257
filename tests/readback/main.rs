//! `gtide-restore` on good and on damaged archives: the real program, on archives that the engine's
//! own writer makes of real binary logs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test ends with a panic when its ground gives way"
)]

mod archive;
mod cat;
mod dependencies;
mod fetch;
mod ls;
mod verify;
