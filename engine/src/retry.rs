//! The one vocabulary of transience: what may be done about an error.

use std::time::Duration;

/// Every error of the engine answers with one of these, and retry code asks nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// The same call will fail again until a person acts: corrupt, refused, conflict, configuration.
    Never,
    /// It may go away by itself: try again after a growing delay.
    Backoff,
    /// The other side said when to come back.
    After(Duration),
    /// We are stopping; nothing is wrong.
    Cancelled,
}
