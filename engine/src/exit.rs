//! Exit codes, and how an error is shown: `error:` a lower-case chain, `hint:` what to check or run.
//!
//! All programs share it. Each error type says its own exit code and hint ([`Diagnose`]); this file
//! finds the outermost one that has an opinion.

use std::io::{self, Write};
use std::process::ExitCode;

/// Exit codes, a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Unexpected: please report it.
    Unexpected = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// A gap in the archive, or a target that cannot be reached.
    Gap = 3,
    /// Corruption, or authentication of data failed.
    Corrupt = 4,
    /// The same identity with other content.
    Conflict = 5,
    /// Transient: try again.
    Transient = 6,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What an error means for the person who reads it.
pub trait Diagnose: std::error::Error {
    /// The exit code of a program that ends with this error.
    fn exit(&self) -> Exit;

    /// What to check or run, one sentence, lower case.
    fn hint(&self) -> Option<String>;
}
