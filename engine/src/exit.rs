//! Exit codes, and how an error is shown: `error:` a lower-case chain, `hint:` what to check or run.
//!
//! All programs share it. Each error type says its own exit code and hint ([`Diagnose`]); this file
//! asks the outermost error of a chain that has an opinion.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Exit codes, a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl Exit {
    /// How grave it is, for a program that found several things: what can no longer be trusted
    /// comes before what is missing, and that before what may yet succeed.
    pub fn gravity(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Interrupted => 1,
            Self::Transient => 2,
            Self::Usage => 3,
            Self::Unexpected => 4,
            Self::Gap => 5,
            Self::Conflict => 6,
            Self::Corrupt => 7,
        }
    }

    /// The graver of two.
    #[must_use]
    pub fn graver(self, other: Self) -> Self {
        if other.gravity() > self.gravity() {
            other
        } else {
            self
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What an error means for the person who reads it.
pub trait Diagnose: Error {
    /// The exit code of a program that ends with this error.
    fn exit(&self) -> Exit;

    /// What to check or run, one sentence.
    fn hint(&self) -> Option<String>;
}

/// An error with its whole chain: `outer: inner: innermost`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {inner}");
        source = inner.source();
    }
    text
}

/// The exit code and hint of the outermost error in the chain that is one of `T…`.
macro_rules! outermost {
    ($error:expr, $($(#[$gate:meta])* $type:ty),+ $(,)?) => {{
        let mut found = None;
        for link in $error.chain() {
            $($(#[$gate])* if let Some(known) = link.downcast_ref::<$type>() {
                found = Some((known.exit(), known.hint()));
                break;
            })+
        }
        found
    }};
}

pub(crate) fn diagnose(error: &anyhow::Error) -> (Exit, Option<String>) {
    outermost!(
        error,
        Failure,
        crate::archive::ArchiveError,
        crate::binlog::Refusal,
        crate::binlog::index::IndexError,
        crate::config::ConfigError,
        crate::keyring::KeyringError,
        crate::manifest::ManifestError,
        crate::store::StoreError,
        #[cfg(feature = "ledger")]
        crate::ledger::LedgerError,
        #[cfg(feature = "daemon")]
        crate::mysql::MysqlError,
        #[cfg(feature = "daemon")]
        crate::pipeline::PipelineError,
        #[cfg(feature = "daemon")]
        crate::pipeline::seal::SealError,
        #[cfg(feature = "daemon")]
        crate::queue::OwnershipError,
        #[cfg(feature = "daemon")]
        crate::queue::QueueError,
        #[cfg(feature = "daemon")]
        crate::reconcile::ReconcileError,
        #[cfg(feature = "daemon")]
        crate::spool::SpoolError,
        #[cfg(feature = "daemon")]
        crate::watch::WatchError,
    )
    .unwrap_or((Exit::Unexpected, None))
}

/// An error made at the edge, where no module's type fits: its own words, code and hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Lower case, names what it is about.
    pub message: String,
    /// The exit code.
    pub exit: Exit,
    /// What to check or run.
    pub hint: Option<String>,
}

impl Diagnose for Failure {
    fn exit(&self) -> Exit {
        self.exit
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// Writes `error:` and `hint:` to stderr and says how the program should exit.
pub fn report(error: &anyhow::Error) -> Exit {
    let (exit, hint) = diagnose(error);
    show(&format!("{error:#}"), hint.as_deref());
    exit
}

/// Writes one error and its hint to stderr.
pub fn show(error: &str, hint: Option<&str>) {
    let mut stderr = anstream::stderr().lock();
    // When stderr is closed there is nobody left to tell.
    let _ = writeln!(stderr, "{ERROR}error:{ERROR:#} {error}");
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "\n{HINT}hint:{HINT:#} {hint}");
    }
}
