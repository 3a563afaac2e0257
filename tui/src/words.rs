//! Times, sizes and foreign text, as the console writes them.

use bytesize::ByteSize;
use engine::retry::RetryClass;
use jiff::Timestamp;

/// Text from databases, files and servers, made harmless: no control character reaches the terminal, and none that
/// turns the direction of writing or is invisible.
pub fn printable(text: &str) -> String {
    let is_harmless = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    };
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if is_harmless(c) => c,
            _ => '\u{FFFD}',
        })
        .collect()
}

/// A length of time in one unit or two: `12s`, `4m`, `3h 20m`, `2d 4h`.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m"),
        3_600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// How long ago; a clock that is ahead of this one counts as now.
pub fn since(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then).as_secs())
}

/// Until then, or `now`.
pub fn until(then: Timestamp, now: Timestamp) -> String {
    match then.duration_since(now).as_secs() {
        ..=0 => "now".to_owned(),
        seconds => format!("in {}", span(seconds)),
    }
}

/// A moment, in UTC.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A moment of today, in UTC.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

/// A size in binary units.
pub fn bytes(count: u64) -> String {
    ByteSize(count).display().iec().to_string()
}

/// So many of something.
pub fn count(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{number} {word}")
}

/// What may be done about a failure.
pub fn class(class: RetryClass) -> &'static str {
    match class {
        RetryClass::Never => "needs you",
        RetryClass::After(_) => "throttled",
        RetryClass::Cancelled => "cancelled",
        RetryClass::Backoff => "transient",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_foreign_text_moves_the_cursor_or_turns_the_line() {
        assert_eq!(printable("a\u{1b}[31mb\0"), "a\u{FFFD}[31mb\u{FFFD}");
        assert_eq!(printable("a\u{202E}b\u{9b}2J"), "a\u{FFFD}b\u{FFFD}2J");
        assert_eq!(printable("two\nlines, größer"), "two lines, größer");
    }

    #[test]
    fn spans_have_one_unit_or_two() {
        let said: Vec<String> = [-5, 0, 59, 60, 3_599, 3_600, 12_000, 86_400, 187_000]
            .map(span)
            .into();
        assert_eq!(
            said,
            [
                "0s", "0s", "59s", "1m", "59m", "1h 0m", "3h 20m", "1d 0h", "2d 3h"
            ]
        );
    }
}
