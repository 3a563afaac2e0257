//! What a handler may fail with, and how that travels through apalis and into the job's row.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit::{self, Diagnose, Exit};
use crate::retry::RetryClass;

/// A failure's text is cut here, in bytes: it is stored with the job and shown in a table.
pub const MAX_MESSAGE_LEN: usize = 4_096;

/// Why an attempt to archive a file failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// The error with all its causes, each after a colon.
    pub message: String,
    /// What may be done about it.
    pub class: RetryClass,
    /// The exit code of a program that ends with it.
    pub exit: Exit,
    /// What a person should check or run.
    pub hint: Option<String>,
}

impl JobFailure {
    /// An error and its causes as a failure.
    pub fn of(error: &(impl Diagnose + 'static), class: RetryClass) -> Self {
        let failure = Self::new(exit::chain(error), class);
        Self {
            exit: error.exit(),
            hint: error.hint(),
            ..failure
        }
    }

    /// A failure that has no error of its own.
    pub fn new(message: impl Into<String>, class: RetryClass) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_LEN));
        Self {
            message,
            class,
            exit: Exit::Unexpected,
            hint: None,
        }
    }

    /// The attempt was stopped; nothing is wrong.
    pub fn cancelled() -> Self {
        Self::new("stopped before it was done", RetryClass::Cancelled)
    }

    /// A task of the runtime that ended without an answer. A panic may be the bug of a moment (a race, memory)
    /// or of this file: it is retried like any error, and stalls in the end.
    pub(super) fn of_join(error: tokio::task::JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "of a kind that has no text".to_owned());
                Self::new(
                    format!("panic while archiving: {text}"),
                    RetryClass::Backoff,
                )
            }
            Err(_) => Self::cancelled(),
        }
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for JobFailure {}

/// A failure on its way through apalis, which keeps nothing of an error but its text: so the text is JSON.
#[derive(Debug)]
pub(super) struct Reported(pub(super) JobFailure);

impl Reported {
    /// Reads the text back. Errors of apalis itself, which are no JSON, are retried like any other.
    pub(super) fn read(text: &str) -> JobFailure {
        serde_json::from_str(text).unwrap_or_else(|_| JobFailure::new(text, RetryClass::Backoff))
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        f.write_str(&json)
    }
}

impl Error for Reported {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("upload part 3")]
    struct Outer(#[source] std::io::Error);

    impl Diagnose for Outer {
        fn exit(&self) -> Exit {
            Exit::Transient
        }

        fn hint(&self) -> Option<String> {
            Some("check the network".to_owned())
        }
    }

    #[test]
    fn a_failure_names_all_causes_and_survives_the_way_through_apalis() {
        let error = Outer(std::io::Error::other("connection reset"));
        for class in [
            RetryClass::Never,
            RetryClass::Backoff,
            RetryClass::After(Duration::from_millis(1_500)),
            RetryClass::Cancelled,
        ] {
            let failure = JobFailure::of(&error, class);
            assert_eq!(failure.message, "upload part 3: connection reset");
            assert_eq!(failure.exit, Exit::Transient);
            let text = Reported(failure.clone()).to_string();
            assert_eq!(Reported::read(&text), failure);
        }
    }

    #[test]
    fn text_that_no_handler_wrote_is_kept_and_retried() {
        let failure = Reported::read("the channel is gone");
        assert_eq!(failure.message, "the channel is gone");
        assert_eq!(failure.class, RetryClass::Backoff);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let failure = JobFailure::new("ü".repeat(MAX_MESSAGE_LEN), RetryClass::Never);
        assert_eq!(failure.message.len(), MAX_MESSAGE_LEN);
        let failure = JobFailure::new(
            format!("x{}", "ü".repeat(MAX_MESSAGE_LEN)),
            RetryClass::Never,
        );
        assert_eq!(failure.message.len(), MAX_MESSAGE_LEN - 1);
    }
}
