//! stdout is data: reports for people or for programs. All else goes to stderr.
//!
//! Text from the archive is shown with its control characters escaped: a file name in a bucket must
//! not drive a terminal.

use std::borrow::Cow;
use std::io;

use bytesize::ByteSize;
use engine::gtid::GtidSet;
use engine::layout::Sequence;
use engine::terminal::{self, Format};
use jiff::Timestamp;
use serde::Serialize;

/// Version of the JSON reports: additive changes keep it.
pub const REPORT_VERSION: u32 = 1;

/// A report in both forms.
pub trait Report: Serialize {
    /// The form for people, ending in a newline.
    fn human(&self) -> String;
}

/// Writes a report to stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(report: &impl Report, format: Format) -> io::Result<()> {
    match format {
        Format::Human => terminal::print(&report.human()),
        Format::Json => terminal::print_json(report),
    }
}

/// `text` with its control characters escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// A number of bytes, rounded: `1.2 MiB`.
pub fn bytes(count: u64) -> String {
    ByteSize(count).to_string()
}

/// A part of a whole in percent, or nothing when the whole is empty.
pub fn percent(part: u64, whole: u64) -> Option<String> {
    let permille = u128::from(part)
        .checked_mul(1000)?
        .checked_div(u128::from(whole))?;
    Some(format!("{}.{}%", permille / 10, permille % 10))
}

/// A GTID set on one line.
pub fn gtids(set: &GtidSet) -> String {
    if set.is_empty() {
        "none".to_owned()
    } else {
        set.to_string()
    }
}

/// A time in RFC 3339, UTC.
pub fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// A range of sequences: `7`, or `7 to 9`.
pub fn sequences(first: Sequence, last: Sequence) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first} to {last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_the_archive_cannot_drive_a_terminal() {
        assert_eq!(printable("binlog.000001"), "binlog.000001");
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}c"), "a\\u{1b}[2Jb\\n\\u{9b}c");
    }

    #[test]
    fn percents_are_cut_not_rounded_up_and_nothing_has_none() {
        assert_eq!(percent(300, 1200).unwrap(), "25.0%");
        assert_eq!(percent(999, 1000).unwrap(), "99.9%");
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(u64::MAX, u64::MAX).unwrap(), "100.0%");
    }
}
