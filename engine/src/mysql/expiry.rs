//! When will the server expire a file that is not archived yet?
//!
//! A server removes files that were last written longer than `binlog_expire_logs_seconds` ago, when it rotates, flushes
//! or starts (Reference Manual, `binlog_expire_logs_seconds`): at this moment at the earliest.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// There is danger when less than this part of the time that a file is kept is left: a quarter.
const DANGER: i32 = 4;

/// The oldest file that is not archived, and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Its name at the server.
    pub file_name: String,
    /// When the server may remove it.
    pub at: Timestamp,
    /// The time is running out.
    pub in_danger: bool,
}

/// `closed` is when the file was last written, `keeps` how long the server keeps one.
#[must_use]
pub fn of(file_name: &str, closed: Timestamp, keeps: SignedDuration, now: Timestamp) -> Expiry {
    let at = closed.saturating_add(keeps).unwrap_or(Timestamp::MAX);
    let left = at.duration_since(now);
    Expiry {
        file_name: file_name.to_owned(),
        at,
        in_danger: left <= keeps / DANGER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_danger_in_the_last_quarter() {
        let closed: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let keeps = SignedDuration::from_hours(40);
        let after = |hours| {
            of(
                "binlog.000007",
                closed,
                keeps,
                closed + SignedDuration::from_hours(hours),
            )
        };
        assert!(!after(0).in_danger && !after(29).in_danger);
        assert!(after(30).in_danger && after(41).in_danger);
        assert_eq!(after(0).at, closed + keeps);
    }
}
