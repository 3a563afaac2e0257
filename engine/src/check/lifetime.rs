//! How long credentials last.

use jiff::{SignedDuration, Timestamp};

use crate::cloud::Lifetime;
use crate::exit::Exit;
use crate::finding::Finding;

/// They should have been renewed by then: what renews them fails, or is slow.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// None where there are no credentials.
pub(super) fn finding(
    check: &'static str,
    subject: &str,
    lifetime: Lifetime,
    now: Timestamp,
) -> Option<Finding> {
    let hint = "renew what `credentials` names, or see why it is not renewed";
    Some(match lifetime {
        Lifetime::None => return None,
        Lifetime::Unending => Finding::ok(check, subject, "they do not expire"),
        Lifetime::Untold => {
            let reason = "renewed by Google's library, which does not tell when they expire";
            Finding::ok(check, subject, reason)
        }
        Lifetime::Until {
            expires,
            renewed_from,
        } => {
            let left = expires.duration_since(now);
            let margin = expires.duration_since(renewed_from);
            let reason = format!(
                "they expire in {}, at {expires:.0}; renewed {} ahead",
                short(left),
                short(margin)
            );
            let finding = if left.is_negative() || left.is_zero() {
                Finding::fail(
                    check,
                    subject,
                    Exit::Transient,
                    format!("they expired at {expires:.0}"),
                    hint,
                )
            } else if now.duration_since(renewed_from) > LATE {
                Finding::warn(
                    check,
                    subject,
                    format!("{reason}, which has failed so far"),
                    hint,
                )
            } else {
                Finding::ok(check, subject, reason)
            };
            finding
                .with("expires", expires.to_string())
                .with("seconds_left", left.as_secs())
                .with("renewed_ahead_seconds", margin.as_secs())
        }
    })
}

/// To the second, as `59m 58s`.
fn short(duration: SignedDuration) -> String {
    format!("{:#}", SignedDuration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    #[test]
    fn the_time_left_is_told_and_what_is_not_renewed_is_noticed() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let seconds = SignedDuration::from_secs;
        let verdict = |left: i64, ahead: i64| {
            let expires = now + seconds(left);
            let lifetime = Lifetime::Until {
                expires,
                renewed_from: expires - seconds(ahead),
            };
            let found = finding("key-credentials", "key", lifetime, now).unwrap();
            (found.verdict, found.reason)
        };
        assert_eq!(
            verdict(3600, 300),
            (
                Verdict::Ok,
                "they expire in 1h, at 2026-01-01T01:00:00Z; renewed 5m ahead".to_owned()
            )
        );
        assert_eq!(verdict(290, 300).0, Verdict::Ok, "it is being renewed");
        assert_eq!(verdict(200, 300).0, Verdict::Warn);
        assert_eq!(verdict(-1, 300).0, Verdict::Fail);
        assert_eq!(finding("x", "y", Lifetime::None, now), None);
    }
}
