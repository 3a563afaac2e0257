//! When should the server close its active binary log, so that no transaction is unarchived for long?

use std::time::Duration;

use jiff::Timestamp;

/// What was seen of the active file, from look to look.
#[derive(Debug, Default)]
pub struct Rotation {
    /// Its name, and when it was first seen with transactions in it.
    filled: Option<(String, Timestamp)>,
}

impl Rotation {
    /// A look at the active file. True when there have been transactions in it for `max_rpo`, less the time to the next
    /// look; then it is asked once, and again a `max_rpo` later if the file is still there.
    pub fn is_due(
        &mut self,
        active: &str,
        is_empty: bool,
        max_rpo: Duration,
        next_look: Duration,
        now: Timestamp,
    ) -> bool {
        if is_empty {
            self.filled = None;
            return false;
        }
        let since = match &self.filled {
            Some((name, since)) if name == active => *since,
            _ => now,
        };
        let age = now.duration_since(since);
        let age = Duration::try_from(age).unwrap_or_default();
        let is_due = age >= max_rpo.saturating_sub(next_look);
        let since = if is_due { now } else { since };
        self.filled = Some((active.to_owned(), since));
        is_due
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const LOOK: Duration = Duration::from_secs(5);

    fn looks(at: &[(i64, &str, bool)]) -> Vec<bool> {
        let mut rotation = Rotation::default();
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let look = |&(second, name, is_empty): &(i64, &str, bool)| {
            let now = begin + SignedDuration::from_secs(second);
            rotation.is_due(name, is_empty, Duration::from_mins(1), LOOK, now)
        };
        at.iter().map(look).collect()
    }

    #[test]
    fn a_file_with_transactions_is_closed_before_they_are_too_old() {
        let asked = looks(&[
            (0, "a", true),
            (5, "a", false),
            (55, "a", false),
            (60, "a", false),
        ]);
        assert_eq!(asked, [false, false, false, true]);
    }

    #[test]
    fn an_empty_file_is_never_closed() {
        assert_eq!(looks(&[(0, "a", true), (600, "a", true)]), [false, false]);
    }

    #[test]
    fn the_server_rotated_by_itself() {
        let asked = looks(&[
            (0, "a", false),
            (50, "b", false),
            (60, "b", false),
            (105, "b", false),
        ]);
        assert_eq!(asked, [false, false, false, true]);
    }

    #[test]
    fn a_server_that_did_not_obey_is_not_asked_at_each_look() {
        let asked = looks(&[
            (0, "a", false),
            (60, "a", false),
            (65, "a", false),
            (115, "a", false),
        ]);
        assert_eq!(asked, [false, true, false, true]);
    }
}
