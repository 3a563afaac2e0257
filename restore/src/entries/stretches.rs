//! Which sequences are read from rollups, and which entry by entry.

use engine::layout::{RollupName, Sequence};

use crate::range::SequenceRange;

/// Sequences that are read in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stretch {
    /// From a rollup, which may hold some that were not asked for.
    Rolled(RollupName),
    /// Entry by entry, as the store lists them.
    Listed {
        /// The first.
        from: Sequence,
        /// The last; none: all that there are.
        to: Option<Sequence>,
    },
}

/// How to read `range` where there are these rollups, by ascending sequence.
pub(super) fn stretches(rollups: Vec<RollupName>, range: SequenceRange) -> Vec<Stretch> {
    let mut next = range.from().unwrap_or_default();
    let mut stretches = Vec::new();
    for name in rollups {
        if name.last() < next || range.ends_before(name.first()) {
            continue;
        }
        if next < name.first() {
            stretches.push(Stretch::Listed {
                from: next,
                to: Some(Sequence(name.first().0.saturating_sub(1))),
            });
        }
        next = name.last().next();
        stretches.push(Stretch::Rolled(name));
    }
    if !range.ends_before(next) {
        stretches.push(Stretch::Listed {
            from: next,
            to: range.to(),
        });
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(first: u64) -> RollupName {
        let source = engine::layout::SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation: 1,
        };
        RollupName::of(source, Sequence(first))
    }

    fn listed(from: u64, to: Option<u64>) -> Stretch {
        Stretch::Listed {
            from: Sequence(from),
            to: to.map(Sequence),
        }
    }

    fn range(from: Option<u64>, to: Option<u64>) -> SequenceRange {
        SequenceRange::new(from.map(Sequence), to.map(Sequence)).unwrap()
    }

    #[test]
    fn without_rollups_all_is_listed() {
        assert_eq!(stretches(vec![], range(None, None)), [listed(0, None)]);
        assert_eq!(
            stretches(vec![], range(Some(5), Some(7))),
            [listed(5, Some(7))]
        );
    }

    #[test]
    fn what_no_rollup_holds_is_listed_between_them_and_behind() {
        let rollups = vec![name(1000), name(2000), name(5000)];
        let all = [
            listed(0, Some(999)),
            Stretch::Rolled(name(1000)),
            Stretch::Rolled(name(2000)),
            listed(3000, Some(4999)),
            Stretch::Rolled(name(5000)),
            listed(6000, None),
        ];
        assert_eq!(stretches(rollups.clone(), range(None, None)), all);
        let some = stretches(rollups.clone(), range(Some(2001), Some(5000)));
        assert_eq!(some, all[2..5]);
        assert_eq!(
            stretches(rollups, range(Some(3500), Some(4000))),
            [listed(3500, Some(4000))]
        );
    }
}
