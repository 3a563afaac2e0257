//! The times that an HTTP answer tells. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The longest `Retry-After` that is taken seriously.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// An HTTP date, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new()
        .parse_timestamp(text.trim())
        .ok()
}

/// `Retry-After`: seconds, or the date when to come back, seen from the `Date` of the answer. None for "at once":
/// that is what our own delays are for.
pub(super) fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    let delay = if let Ok(seconds) = text.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let (then, now) = (parse(text)?, parse(date?)?);
        Duration::try_from(then.duration_since(now)).ok()?
    };
    (!delay.is_zero()).then_some(delay.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read_and_other_text_is_not() {
        let date = parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date, "1994-11-06T08:49:37Z".parse().unwrap());
        for text in ["", "7", "soon", "1994-11-06T08:49:37Z"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
