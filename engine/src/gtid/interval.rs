//! The transaction numbers of one TSID: ascending, disjoint, never adjacent intervals.

use super::MAX_GNO;

/// Transaction numbers as intervals `(first, last)`, both ends included.
///
/// Invariant: for neighbours `a`, `b` in the vector, `a.0 <= a.1` and `a.1 + 1 < b.0`; all numbers
/// are in 1 to [`MAX_GNO`], so that adding one never overflows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Intervals(Vec<(u64, u64)>);

/// Below this share of our length, their intervals are inserted one by one instead of merged.
const INSERT_SHARE: usize = 16;

/// Whether `first` to `last` is an interval at all; if not, why.
pub(super) fn check(first: u64, last: u64) -> Result<(), &'static str> {
    if first == 0 {
        Err("transaction numbers begin at 1")
    } else if last > MAX_GNO {
        Err("the last transaction number is 9223372036854775806")
    } else if first > last {
        Err("the interval ends before it begins")
    } else {
        Ok(())
    }
}

impl Intervals {
    /// Takes intervals, each of them [`check`]ed, in any order; they may overlap.
    pub(super) fn from_unordered(mut intervals: Vec<(u64, u64)>) -> Self {
        if !intervals.is_sorted() {
            intervals.sort_unstable();
        }
        intervals.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1 + 1;
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
        Self(intervals)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    pub(super) fn count(&self) -> u128 {
        self.iter()
            .map(|(first, last)| u128::from(last - first + 1))
            .sum()
    }

    pub(super) fn contains(&self, gno: u64) -> bool {
        self.contains_range(gno, gno)
    }

    /// Whether all of an interval is in it: neighbours never touch, so one of them has it all.
    pub(super) fn contains_range(&self, first: u64, last: u64) -> bool {
        let behind = self.0.partition_point(|&(start, _)| start <= first);
        self.0
            .get(..behind)
            .and_then(<[_]>::last)
            .is_some_and(|&(_, end)| last <= end)
    }

    /// Adds a [`check`]ed interval: one step when it lies at or behind the end.
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        let begin = match self.0.last() {
            Some(&(_, end)) if end + 1 >= first => {
                self.0.partition_point(|&(_, end)| end + 1 < first)
            }
            _ => {
                self.0.push((first, last));
                return;
            }
        };
        let touched = self.0.get(begin..).unwrap_or_default();
        let touched = touched.partition_point(|&(start, _)| start <= last + 1);
        let end = begin + touched;
        let merged = self
            .0
            .get(begin..end)
            .unwrap_or_default()
            .iter()
            .fold((first, last), |merged, touched| {
                (merged.0.min(touched.0), merged.1.max(touched.1))
            });
        match self.0.get_mut(begin) {
            // The usual case, the end of the last interval moves: nothing to shift.
            Some(only) if touched == 1 => *only = merged,
            _ => drop(self.0.splice(begin..end, [merged])),
        }
    }

    pub(super) fn union_with(&mut self, other: &Self) {
        if other.0.len() <= self.0.len() / INSERT_SHARE + 1 {
            for (first, last) in other.iter() {
                self.insert(first, last);
            }
            return;
        }
        let ours = std::mem::take(&mut self.0);
        let mut union = Self(Vec::with_capacity(ours.len() + other.0.len()));
        let (mut ours, mut theirs) = (ours.into_iter().peekable(), other.iter().peekable());
        loop {
            let next = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) if a <= b => ours.next(),
                (Some(_), None) => ours.next(),
                _ => theirs.next(),
            };
            let Some((first, last)) = next else { break };
            match union.0.last_mut() {
                Some(end) if first <= end.1 + 1 => end.1 = end.1.max(last),
                _ => union.0.push((first, last)),
            }
        }
        *self = union;
    }

    pub(super) fn subtract(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        let mut theirs = other.iter().peekable();
        for (mut first, last) in self.iter() {
            while theirs.next_if(|&(_, end)| end < first).is_some() {}
            // `first` runs past `last` when nothing is left.
            while let Some(&(start, end)) = theirs.peek()
                && first <= last
                && start <= last
            {
                if first < start {
                    rest.push((first, start - 1));
                }
                first = end + 1;
                if end > last {
                    break;
                }
                theirs.next();
            }
            if first <= last {
                rest.push((first, last));
            }
        }
        Self(rest)
    }

    pub(super) fn intersect(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        while let (Some(&a), Some(&b)) = (ours.peek(), theirs.peek()) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                both.push((first, last));
            }
            if a.1 <= b.1 {
                ours.next();
            } else {
                theirs.next();
            }
        }
        Self(both)
    }

    pub(super) fn is_superset(&self, other: &Self) -> bool {
        let mut ours = self.iter().peekable();
        other.iter().all(|(first, last)| {
            while ours.next_if(|&(_, end)| end < first).is_some() {}
            ours.peek()
                .is_some_and(|&(start, end)| start <= first && last <= end)
        })
    }
}
