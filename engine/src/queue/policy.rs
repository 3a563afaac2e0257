//! When a failed job is tried again. Pure but for the dice.
//!
//! Nothing is ever given up: after the last quick attempt a job is *stalled*, which alerts, and is retried
//! slowly until someone has removed the cause.
//!
//! # Clocks
//! A delay is stored as two times, when it began and when it ends. So a clock that jumps neither loses a job nor keeps
//! it: one that failed in the future is due, and no delay is longer than [`LONGEST_DELAY`].

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use retry_policies::policies::ExponentialBackoff;
use retry_policies::{Jitter, RetryDecision, RetryPolicy};

use super::failure::JobFailure;
use crate::clock::{Clock, SystemClock};
use crate::exit::Exit;
use crate::ledger::{JobStatus, LastFailure};
use crate::retry::RetryClass;

/// Upper bound of the first delay; it doubles with each attempt. The delay itself is drawn from 0 up to the
/// bound (full jitter), so that a thousand jobs that failed together do not come back together.
pub const BACKOFF_BASE: Duration = Duration::from_secs(1);

/// The bound grows no further than this.
pub const BACKOFF_CAP: Duration = Duration::from_mins(5);

/// Between two attempts at a stalled job.
pub const STALLED_RETRY: Duration = Duration::from_mins(5);

/// The longest that a store's "retry after" is taken at its word.
pub const AFTER_CAP: Duration = Duration::from_hours(1);

/// No job waits longer, whatever is stored.
pub const LONGEST_DELAY: Duration = AFTER_CAP;

/// Before a cancelled job is due again: were it cancelled again and again, it would not spin.
pub const CANCELLED_RETRY: Duration = Duration::from_secs(1);

/// What a failed attempt means for its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Failed, or Pending when the attempt does not count.
    pub(super) status: JobStatus,
    /// Failed attempts including this one, if it counts.
    pub(super) attempts: u32,
    /// The earliest next attempt, whole seconds as the table stores them.
    pub(super) run_at: i64,
    /// To be stored; none when the attempt does not count.
    pub(super) failure: Option<LastFailure>,
}

/// Judges failure number `attempt` (from 1) of a job.
pub(super) fn judge(
    failure: JobFailure,
    attempt: u32,
    max_attempts: u32,
    now: Timestamp,
) -> Verdict {
    if failure.class == RetryClass::Cancelled {
        return Verdict {
            status: JobStatus::Pending,
            attempts: attempt.saturating_sub(1),
            run_at: due(now, CANCELLED_RETRY),
            failure: None,
        };
    }
    let stalled = failure.class == RetryClass::Never || attempt >= max_attempts;
    let delay = match failure.class {
        RetryClass::After(wait) if stalled => wait.min(AFTER_CAP).max(STALLED_RETRY),
        RetryClass::After(wait) => wait.min(AFTER_CAP),
        _ if stalled => STALLED_RETRY,
        _ => backoff(attempt),
    };
    Verdict {
        status: JobStatus::Failed,
        attempts: attempt,
        run_at: due(now, delay),
        failure: Some(LastFailure {
            message: failure.message,
            class: failure.class,
            stalled,
            exit: failure.exit,
            hint: failure.hint,
            interruptions: 0,
        }),
    }
}

/// Judges that a process ended without a word while it worked on a job, whose last failure was `before`. That is no
/// failed attempt, until it has happened `max_attempts` times in a row: then the file may be what ends it, and backs
/// off; after twice as many it counts as stalled.
///
/// The delay is drawn at random, so that of several files that were under way the guilty one is alone some day.
pub(super) fn interrupted(
    before: Option<LastFailure>,
    attempts: u32,
    max_attempts: u32,
    now: Timestamp,
) -> Verdict {
    let interruptions = before.as_ref().map_or(0, |failure| failure.interruptions);
    let interruptions = interruptions.saturating_add(1);
    let suspect = interruptions >= max_attempts;
    let mut message = "the archiver was killed or crashed while it worked on this file".to_owned();
    if suspect {
        let _ = write!(message, ", {interruptions} times in a row");
    }
    let failure = before.filter(|_| !suspect).unwrap_or_else(|| LastFailure {
        message,
        class: RetryClass::Backoff,
        stalled: interruptions / 2 >= max_attempts,
        exit: Exit::Unexpected,
        hint: Some(
            "look in the system's log for what ended gtide: out of memory, a crash".to_owned(),
        ),
        interruptions,
    });
    let (status, delay) = if suspect {
        let delay = backoff(interruptions - max_attempts + 1);
        (JobStatus::Failed, delay.max(Duration::from_millis(1)))
    } else {
        (JobStatus::Pending, Duration::ZERO)
    };
    Verdict {
        status,
        attempts,
        run_at: due(now, delay),
        failure: Some(LastFailure {
            interruptions,
            ..failure
        }),
    }
}

/// How long a job has still to wait that is not to run before `run_at` since its last attempt ended at `ended_at`, both
/// in whole seconds. `offset`, less than a second, is the lane's own: lanes that are due in the same second do not
/// begin in the same moment.
pub(super) fn remaining(
    run_at: i64,
    ended_at: Option<i64>,
    now: Timestamp,
    offset: Duration,
) -> Duration {
    // No attempt, no delay.
    let Some(ended_at) = ended_at.filter(|at| *at <= now.as_second()) else {
        return Duration::ZERO;
    };
    let longest = i64::try_from(LONGEST_DELAY.as_secs()).unwrap_or(i64::MAX);
    let delay = run_at.saturating_sub(ended_at).clamp(0, longest + 1);
    if delay == 0 {
        return Duration::ZERO;
    }
    let due = Timestamp::from_second(ended_at.saturating_add(delay)).unwrap_or(Timestamp::MAX);
    let due = due.saturating_add(offset).unwrap_or(Timestamp::MAX);
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A random delay after failure number `attempt`.
fn backoff(attempt: u32) -> Duration {
    backoff_within(BACKOFF_BASE, BACKOFF_CAP, attempt)
}

/// A random delay after failure number `attempt` (from 1): from 0 to a bound that begins at `base` and doubles up to
/// `cap`.
pub(crate) fn backoff_within(base: Duration, cap: Duration, attempt: u32) -> Duration {
    let policy = ExponentialBackoff::builder()
        .retry_bounds(base, cap)
        .jitter(Jitter::Full)
        .build_with_max_retries(u32::MAX);
    let asked_at = SystemClock.now();
    match policy.should_retry(asked_at.into(), attempt.saturating_sub(1)) {
        // The policy answers with a time of the machine's clock; ours may be another one.
        RetryDecision::Retry { execute_after } => Timestamp::try_from(execute_after)
            .ok()
            .and_then(|at| Duration::try_from(at.duration_since(asked_at)).ok())
            .unwrap_or(base)
            .min(cap),
        RetryDecision::DoNotRetry => cap,
    }
}

/// The whole second at or after `now + delay`; without a delay, now.
fn due(now: Timestamp, delay: Duration) -> i64 {
    if delay.is_zero() {
        return now.as_second();
    }
    let at = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
    at.as_second() + i64::from(at.subsec_nanosecond() > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00.25Z".parse().unwrap()
    }

    fn fail(class: RetryClass, attempt: u32) -> Verdict {
        judge(JobFailure::new("x", class), attempt, 5, now())
    }

    fn delay(verdict: &Verdict) -> i64 {
        verdict.run_at - now().as_second()
    }

    fn stalled(verdict: &Verdict) -> bool {
        verdict.failure.as_ref().unwrap().stalled
    }

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        for (attempt, bound) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (8, 128),
            (9, 256),
            (10, 300),
            (90, 300),
        ] {
            let delays: Vec<Duration> = (0..200).map(|_| backoff(attempt)).collect();
            let longest = delays.iter().max().unwrap().as_secs_f64();
            assert!(longest <= f64::from(bound) + 0.01, "{attempt}: {longest}");
            assert!(longest > f64::from(bound) * 0.8, "{attempt}: {longest}");
        }
    }

    /// Full jitter: jobs that failed in the same moment come back spread over the whole interval.
    #[test]
    fn a_thousand_failing_jobs_come_back_spread_out() {
        let runs: Vec<i64> = (0..1_000)
            .map(|_| judge(JobFailure::new("x", RetryClass::Backoff), 9, 50, now()).run_at)
            .collect();
        let distinct: HashSet<i64> = runs.iter().copied().collect();
        assert!(
            distinct.len() > 200,
            "only {} distinct seconds",
            distinct.len()
        );
        let first_quarter = runs
            .iter()
            .filter(|r| **r - now().as_second() <= 64)
            .count();
        assert!((150..350).contains(&first_quarter), "{first_quarter}");
    }

    #[test]
    fn a_store_that_names_a_delay_is_obeyed_within_reason() {
        let verdict = fail(RetryClass::After(Duration::from_secs(90)), 1);
        assert_eq!((delay(&verdict), stalled(&verdict)), (91, false));
        let verdict = fail(RetryClass::After(Duration::from_secs(1_000_000)), 1);
        assert_eq!(delay(&verdict), 3_601);
        let verdict = fail(RetryClass::After(Duration::ZERO), 1);
        assert_eq!((delay(&verdict), stalled(&verdict)), (0, false));
    }

    #[test]
    fn after_the_last_attempt_a_job_stalls_and_is_retried_slowly() {
        assert!(!stalled(&fail(RetryClass::Backoff, 4)));
        let verdict = fail(RetryClass::Backoff, 5);
        assert_eq!(verdict.status, JobStatus::Failed);
        assert_eq!((delay(&verdict), stalled(&verdict)), (301, true));
        assert_eq!(delay(&fail(RetryClass::Backoff, 500)), 301);
        let verdict = fail(RetryClass::After(Duration::from_secs(1)), 5);
        assert_eq!((delay(&verdict), stalled(&verdict)), (301, true));
    }

    #[test]
    fn what_needs_a_person_stalls_at_once() {
        let verdict = fail(RetryClass::Never, 1);
        assert_eq!((delay(&verdict), stalled(&verdict)), (301, true));
    }

    #[test]
    fn a_job_is_due_when_its_delay_is_over_and_no_earlier() {
        let now = Timestamp::from_second(1_000).unwrap();
        let wait = |run_at, ended_at, offset| {
            let offset = Duration::from_millis(offset);
            remaining(run_at, ended_at, now, offset).as_millis()
        };
        assert_eq!(wait(990, Some(980), 250), 0);
        assert_eq!(wait(1_000, Some(980), 250), 250, "with the lane's offset");
        assert_eq!(wait(1_030, Some(999), 0), 30_000);
        assert_eq!(wait(1_030, None, 250), 0, "nothing to wait for");
        assert_eq!(wait(1_000, Some(1_000), 250), 0, "no delay, no offset");
    }

    /// A day forward, a day back.
    #[test]
    fn a_clock_that_jumps_neither_loses_nor_keeps_a_job() {
        let day = 86_400;
        let at = |second| Timestamp::from_second(second).unwrap();
        let (failed, run_at) = (1_000_000, 1_000_030);
        let wait = |now| remaining(run_at, Some(failed), at(now), Duration::ZERO);
        assert_eq!(wait(failed + day), Duration::ZERO);
        assert_eq!(wait(failed - day), Duration::ZERO);
        // It failed before the clock jumped forward, and was told when it had.
        let wait = remaining(failed + day, Some(failed), at(failed), Duration::ZERO);
        assert!(wait <= LONGEST_DELAY + Duration::from_secs(1), "{wait:?}");
    }

    #[test]
    fn a_file_that_ends_the_process_every_time_stalls() {
        let mut before = None;
        for interruption in 1..=9 {
            let verdict = interrupted(before.clone(), 2, 4, now());
            let wait = delay(&verdict);
            let failure = verdict.failure.unwrap();
            assert_eq!(failure.interruptions, interruption);
            assert_eq!(failure.stalled, interruption >= 8);
            assert_eq!(verdict.attempts, 2, "no attempt of its own");
            let (status, longest) = match interruption {
                ..4 => (JobStatus::Pending, 0),
                4.. => (JobStatus::Failed, 1 + (1 << (interruption - 4))),
            };
            assert_eq!(verdict.status, status);
            assert!((i64::from(longest > 0)..=longest).contains(&wait), "{wait}");
            before = Some(failure);
        }
        let message = before.unwrap().message;
        assert!(message.contains("9 times in a row"), "{message}");
        // What failed by itself begins to count anew.
        let failed = fail(RetryClass::Backoff, 1);
        assert_eq!(failed.failure.unwrap().interruptions, 0);
    }

    #[test]
    fn an_interruption_does_not_hide_why_the_attempt_before_failed() {
        let failure = fail(RetryClass::Backoff, 1).failure;
        let verdict = interrupted(failure, 1, 5, now());
        let failure = verdict.failure.unwrap();
        assert_eq!((failure.message.as_str(), failure.interruptions), ("x", 1));
    }

    #[test]
    fn a_cancelled_attempt_does_not_count() {
        let verdict = fail(RetryClass::Cancelled, 5);
        assert_eq!(verdict.status, JobStatus::Pending);
        assert_eq!((verdict.attempts, verdict.failure), (4, None));
    }
}
