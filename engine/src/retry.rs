//! The one vocabulary of transience: what may be done about an error.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Every error of the engine answers with one of these, and retry code asks nothing else.
///
/// Stored with failed jobs; additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
