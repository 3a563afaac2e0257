//! A parallel run: does this archiver do what the older job beside it does?
//!
//! # Owns
//! What it amounts to ([`compare`], [`verdict`]), from what the ledger keeps of both sides ([`report`]).
//!
//! # Invariants
//! - *parity* is said only when the whole window is over, every file that either side has was compared by the SHA-256 of
//!   its content, and all are equal. What cannot be read or understood is never parity.

pub mod compare;
pub mod report;
pub mod verdict;
