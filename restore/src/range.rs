//! Which sequences of a source a command is about.

use std::fmt;

use engine::exit::{Diagnose, Exit};
use engine::layout::Sequence;

/// A range of sequences, both ends included; an absent end is the archive's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceRange {
    from: Option<Sequence>,
    to: Option<Sequence>,
}

/// A range that no sequence is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range ends at sequence {to}, before its beginning {from}")]
pub struct RangeError {
    /// Where it begins.
    pub from: Sequence,
    /// Where it ends.
    pub to: Sequence,
}

impl Diagnose for RangeError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("give --from-seq the smaller number; both ends belong to the range".to_owned())
    }
}

impl SequenceRange {
    /// The range with these ends.
    ///
    /// # Errors
    /// When it ends before it begins.
    pub fn new(from: Option<Sequence>, to: Option<Sequence>) -> Result<Self, RangeError> {
        match (from, to) {
            (Some(from), Some(to)) if to < from => Err(RangeError { from, to }),
            _ => Ok(Self { from, to }),
        }
    }

    /// The first sequence asked for, if one was.
    pub fn from(self) -> Option<Sequence> {
        self.from
    }

    /// The last sequence asked for, if one was.
    pub fn to(self) -> Option<Sequence> {
        self.to
    }

    /// Whether `sequence` is in it.
    pub fn contains(self, sequence: Sequence) -> bool {
        self.from.is_none_or(|from| from <= sequence) && !self.ends_before(sequence)
    }

    /// Whether `sequence` and all after it are outside.
    pub fn ends_before(self, sequence: Sequence) -> bool {
        self.to.is_some_and(|to| to < sequence)
    }
}

impl fmt::Display for SequenceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (None, None) => f.write_str("all sequences"),
            (Some(from), None) => write!(f, "sequences from {from}"),
            (None, Some(to)) => write!(f, "sequences up to {to}"),
            (Some(from), Some(to)) => write!(f, "sequences {from} to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: Option<u64>, to: Option<u64>) -> Result<SequenceRange, RangeError> {
        SequenceRange::new(from.map(Sequence), to.map(Sequence))
    }

    #[test]
    fn both_ends_belong_to_a_range_and_absent_ends_are_open() {
        let middle = range(Some(3), Some(5)).unwrap();
        let inside: Vec<u64> = (1..8).filter(|&n| middle.contains(Sequence(n))).collect();
        assert_eq!(inside, [3, 4, 5]);
        assert!(range(None, None).unwrap().contains(Sequence::MAX));
        assert!(range(Some(7), Some(7)).unwrap().contains(Sequence(7)));
        assert!(!range(Some(3), None).unwrap().contains(Sequence(2)));
        assert!(range(None, Some(5)).unwrap().ends_before(Sequence(6)));
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_wrong_usage() {
        let error = range(Some(5), Some(3)).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert_eq!(
            error.to_string(),
            "the range ends at sequence 3, before its beginning 5"
        );
    }
}
