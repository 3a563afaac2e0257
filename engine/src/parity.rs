//! A parallel run: does this archiver do what the older job beside it does?
//!
//! # Owns
//! The older job's own evidence, `sha256sum` manifests ([`sums`]), wherever they lie ([`place`]); the binlogs behind what
//! they list, unpacked where the job packed them ([`unpack`]); and what it amounts to ([`compare`], [`verdict`]). The
//! ledger keeps what was seen, so that a manifest may be replaced and both programs may stop.
//!
//! # Invariants
//! - *parity* is said only when the whole window is over, every file that either side has was compared by the SHA-256 of
//!   its content, and all are equal. What cannot be read or understood is never parity.
//! - The older job's files are only read.
//!
//! # Limits
//! [`place::MAX_MANIFEST`], [`place::MAX_MANIFESTS`], [`follow::MAX_UNPACKED_AT_ONCE`].

pub mod compare;
pub mod follow;
pub mod place;
pub mod sums;
mod unpack;
pub mod verdict;
