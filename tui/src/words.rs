//! Times, sizes and foreign text, as the console writes them.

use bytesize::ByteSize;
use engine::retry::RetryClass;
use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

/// Columns of a shortened URL's end, at least: in fewer its scheme is left out.
const LEAST_END: usize = 8;

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

/// A URL in so many columns: its scheme and its end, by which destinations differ.
pub fn shorten_url(url: &str, columns: usize, mark: &str) -> String {
    if url.width() <= columns {
        return url.to_owned();
    }
    let scheme = url.find("://").and_then(|at| url.get(..=at));
    let scheme = scheme.filter(|scheme| scheme.width() + mark.width() + LEAST_END <= columns);
    let scheme = scheme.unwrap_or_default();
    let room = columns.saturating_sub(scheme.width() + mark.width());
    let rest = url.get(scheme.len()..).unwrap_or_default();
    let fits = |(at, _): &(usize, char)| rest.get(*at..).is_some_and(|end| end.width() <= room);
    let end = rest.char_indices().find(fits);
    let end = end.and_then(|(at, _)| rest.get(at..)).unwrap_or_default();
    format!("{scheme}{mark}{end}")
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
    fn what_is_left_of_a_url_is_its_scheme_and_its_end() {
        let url = "s3://orders-binlogs/production";
        for (columns, said) in [
            (40, url),
            (30, url),
            (29, "s3:…orders-binlogs/production"),
            (20, "s3:…nlogs/production"),
            (12, "s3:…oduction"),
            (11, "…production"),
            (4, "…ion"),
            (1, "…"),
        ] {
            assert_eq!(shorten_url(url, columns, "…"), said, "{columns}");
        }
        assert_eq!(shorten_url("file:///größer/日本", 9, ".."), "..er/日本");
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
