//! How large a sealed object will be, learnt from those of late. Pure.
//!
//! A mean of object size by file size, weighted by bytes, in which each file counts for three quarters of the one
//! after it. It begins as if nothing could be compressed. Never more than that is expected either: tiny files,
//! whose objects are larger than they are, say nothing of large ones.

/// What an object has beside its blocks, at most: header, trailer, and the index of a small file.
const OVERHEAD: u64 = 64 * 1024;

/// Weight, in bytes, of what is believed before any file was seen.
const PRIOR: u64 = 1024 * 1024;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expectation {
    plain: u64,
    sealed: u64,
}

impl Default for Expectation {
    fn default() -> Self {
        Self {
            plain: PRIOR,
            sealed: PRIOR,
        }
    }
}

impl Expectation {
    /// Takes note of a file of `plain` bytes whose object has `sealed`.
    pub(super) fn learn(&mut self, plain: u64, sealed: u64) {
        let fade = |sum: u64| sum - sum / 4;
        self.plain = fade(self.plain).saturating_add(plain);
        self.sealed = fade(self.sealed).saturating_add(sealed);
    }

    /// Bytes of the object of a file of `plain` bytes.
    pub(super) fn of(self, plain: u64) -> u64 {
        let blocks = u128::from(plain) * u128::from(self.sealed) / u128::from(self.plain.max(1));
        let blocks = u64::try_from(blocks).unwrap_or(u64::MAX).min(plain);
        // zstd lets bytes that it cannot compress grow by 1/256 at most; tags and index entries are less.
        blocks.saturating_add(plain / 256).saturating_add(OVERHEAD)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn nothing_is_expected_to_shrink_before_a_file_was_seen() {
        assert!(Expectation::default().of(GIB) >= GIB);
    }

    #[test]
    fn one_large_file_is_believed_and_a_change_is_learnt_within_a_few() {
        let mut expectation = Expectation::default();
        expectation.learn(GIB, GIB / 8);
        let expected = expectation.of(GIB);
        assert!(expected > GIB / 8 && expected < GIB / 7, "{expected}");
        for _ in 0..12 {
            expectation.learn(GIB, GIB / 2);
        }
        let expected = expectation.of(GIB);
        assert!(expected > GIB * 48 / 100, "{expected}");
    }

    #[test]
    fn tiny_files_do_not_make_a_large_one_larger_than_it_is() {
        let mut expectation = Expectation::default();
        for _ in 0..1_000 {
            expectation.learn(200, 1_200);
        }
        assert!(expectation.of(GIB) < GIB + GIB / 200);
    }

    proptest! {
        #[test]
        fn it_never_overflows_and_lies_within_the_file_and_its_overhead(
            seen in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..20),
            plain: u64,
        ) {
            let mut expectation = Expectation::default();
            for (plain, sealed) in seen {
                expectation.learn(plain, sealed);
            }
            let expected = expectation.of(plain);
            prop_assert!(expected >= OVERHEAD.min(plain));
            prop_assert!(expected <= plain.saturating_add(plain / 256).saturating_add(OVERHEAD));
        }
    }
}
