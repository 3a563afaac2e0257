//! `gtide-restore` on good and on damaged archives: the real program, on archives that the engine's
//! own writer makes of real binary logs.

mod archive;
mod cat;
mod dependencies;
mod fetch;
mod ls;
mod verify;
