//! The pipeline under a real queue and ledger, against a directory that counts what is asked of it.

mod ahead;
mod bench;
mod orphans;
mod parts;
mod recording;
mod resuming;
mod rivals;
mod sealing;
mod stopping;
