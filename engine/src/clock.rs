//! The only place that asks what time it is, so that tests can say.

use std::fmt::Debug;

use jiff::{Timestamp, Unit};

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Now, in UTC, to the microsecond: as MySQL tells commit times.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // Rounding fails only at the end of time.
        now.round(Unit::Microsecond).unwrap_or(now)
    }
}
