//! Which MySQL it is, and how statements are spelled there.

use std::fmt;

/// A server's version: `8.0.36`, `8.4.2`, `9.7.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

/// The first with the new words everywhere (`SHOW BINARY LOG STATUS` beside `SHOW MASTER STATUS`: 8.2.0; the old ones are
/// gone in 8.4.0).
const NEW_WORDS: Version = Version::new(8, 2, 0);

/// The first that is supported: older ones have another `PREVIOUS_GTIDS` life cycle and no commit timestamps.
pub(super) const OLDEST: Version = Version::new(8, 0, 1);

impl Version {
    /// The three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads `@@version`, whatever a build has put behind the numbers. None for what is not MySQL.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains("MariaDB") {
            return None;
        }
        let numbers = text.split(|c: char| c != '.' && !c.is_ascii_digit());
        let mut numbers = numbers.take(1).flat_map(|text| text.split('.'));
        let mut next = || numbers.next()?.parse().ok();
        Some(Self::new(next()?, next()?, next()?))
    }

    /// The statement that makes a server begin its binary logs anew.
    #[must_use]
    pub fn reset_statement(self) -> &'static str {
        if self < NEW_WORDS {
            "RESET MASTER"
        } else {
            "RESET BINARY LOGS AND GTIDS"
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_whatever_a_build_adds() {
        let read = [
            ("8.0.36", "8.0.36"),
            ("8.0.35-27.1", "8.0.35"),
            ("8.4.2-log", "8.4.2"),
            ("9.7.0-er", "9.7.0"),
            ("8.0.36-28-debug-asan", "8.0.36"),
            ("8.0.40-0ubuntu0.24.04.1", "8.0.40"),
        ];
        for (text, version) in read {
            let read = Version::parse(text).map(|version| version.to_string());
            assert_eq!(read.as_deref(), Some(version), "{text}");
        }
        for text in ["", "8", "8.0", "5.5.5-10.6.12-MariaDB-log", "eight"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    /// TRAPS 13.
    #[test]
    fn statements_are_spelled_as_the_version_knows_them() {
        for (version, words) in [
            (Version::new(8, 0, 36), "RESET MASTER"),
            (Version::new(8, 4, 0), "RESET BINARY LOGS AND GTIDS"),
            (Version::new(9, 7, 0), "RESET BINARY LOGS AND GTIDS"),
        ] {
            assert_eq!(version.reset_statement(), words);
        }
    }
}
