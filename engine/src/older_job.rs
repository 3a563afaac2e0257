//! The older job beside this archiver, as its own evidence shows it.
//!
//! # Owns
//! Its `sha256sum` manifests ([`sums`]), wherever they lie ([`place`]); the binlogs behind what they list, unpacked where
//! the job packed them (`unpack`, [`kept`]); and looking at all of it again and again ([`follow`]). The ledger keeps what was
//! seen, so that a manifest may be replaced and both programs may stop.
//!
//! # Invariants
//! - The older job's files are only read.
//!
//! # Limits
//! [`place::MAX_MANIFEST`], [`place::MAX_OBJECTS`], [`follow::MAX_UNPACKED_AT_ONCE`].

pub mod follow;
pub mod kept;
pub mod place;
pub mod sums;
mod unpack;
