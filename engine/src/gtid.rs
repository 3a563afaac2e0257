//! GTIDs and GTID sets, with tags (MySQL 8.3+), and the algebra over them.
//!
//! # Owns
//! The identifiers ([`Tag`], [`Tsid`], [`Gtid`]), the set of them ([`GtidSet`]), and the two forms in
//! which MySQL writes a set: the text of `@@gtid_executed` and the encoding inside a
//! `PREVIOUS_GTIDS` event.
//!
//! # Invariants
//! - A set holds per TSID at least one interval; the intervals are ascending, disjoint and never
//!   adjacent, so that equal sets are equal values and have equal texts.
//! - Every transaction number lies in 1 to [`MAX_GNO`].
//!
//! # Limits
//! A set takes memory of the order of the text or encoding it was read from, never of a count that
//! the input merely claims. Reading *n* intervals takes *n* log *n* steps at worst; all operations
//! over two sets are linear in their intervals.

mod encoding;
mod interval;
mod text;

use std::collections::BTreeMap;

use serde_with::{DeserializeFromStr, SerializeDisplay};
use uuid::Uuid;

pub use self::encoding::EncodingError;
pub use self::text::GtidError;

use self::interval::Intervals;

/// The last transaction number, 2^63 - 2 (`GNO_END` in the server's `sql/rpl_gtid.h` is one more).
pub const MAX_GNO: u64 = i64::MAX as u64 - 1;

/// The longest tag, in characters (the server's `libs/mysql/gtid/gtid_constants.h`).
pub const MAX_TAG_LEN: usize = 32;

/// A tag of 1 to 32 characters `[a-z_][a-z0-9_]*` (TRAPS 8). Upper case is read as lower case, as
/// the server does.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// MySQL's TSID: a server uuid and perhaps a tag. The order is the one in which MySQL prints them:
/// by uuid, then the untagged one, then by tag.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct Tsid {
    /// The originating server.
    pub uuid: Uuid,
    /// None for a classic GTID.
    pub tag: Option<Tag>,
}

/// One transaction's global identifier.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct Gtid {
    /// Who and which tag.
    pub tsid: Tsid,
    /// Transaction number, 1 to [`MAX_GNO`].
    pub gno: u64,
}

/// A set of GTIDs.
///
/// Its text is what MySQL prints as `@@gtid_executed`, on one line; it is stored as that text.
#[derive(Debug, Clone, PartialEq, Eq, Default, SerializeDisplay, DeserializeFromStr)]
pub struct GtidSet {
    /// No value is empty.
    by_tsid: BTreeMap<Tsid, Intervals>,
}

impl GtidSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no GTID is in it.
    pub fn is_empty(&self) -> bool {
        self.by_tsid.is_empty()
    }

    /// The number of GTIDs in it.
    pub fn count(&self) -> u128 {
        self.by_tsid.values().map(Intervals::count).sum()
    }

    /// The TSIDs that have GTIDs in it, in print order.
    pub fn tsids(&self) -> impl Iterator<Item = &Tsid> {
        self.by_tsid.keys()
    }

    /// Its intervals in print order, both ends included.
    pub fn intervals(&self) -> impl Iterator<Item = (&Tsid, u64, u64)> {
        self.by_tsid.iter().flat_map(|(tsid, intervals)| {
            intervals
                .iter()
                .map(move |(first, last)| (tsid, first, last))
        })
    }

    /// Adds one GTID; one that is there already changes nothing.
    ///
    /// # Errors
    /// When the transaction number is not in 1 to [`MAX_GNO`]; the set is unchanged.
    pub fn insert(&mut self, gtid: Gtid) -> Result<(), GtidError> {
        self.insert_range(gtid.tsid, gtid.gno, gtid.gno)
    }

    /// Adds `first` to `last`, both included.
    ///
    /// # Errors
    /// When the ends are not in 1 to [`MAX_GNO`], or in the wrong order; the set is unchanged.
    pub fn insert_range(&mut self, tsid: Tsid, first: u64, last: u64) -> Result<(), GtidError> {
        interval::check(first, last)
            .map_err(|reason| GtidError::new(&format!("{tsid}:{first}-{last}"), reason))?;
        self.by_tsid.entry(tsid).or_default().insert(first, last);
        Ok(())
    }

    /// Whether this GTID is in the set.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.by_tsid
            .get(&gtid.tsid)
            .is_some_and(|intervals| intervals.contains(gtid.gno))
    }

    /// Whether `first` to `last`, both included, are all in the set.
    pub fn contains_range(&self, tsid: &Tsid, first: u64, last: u64) -> bool {
        self.by_tsid
            .get(tsid)
            .is_some_and(|intervals| intervals.contains_range(first, last))
    }

    /// Whether no GTID is in both sets.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.intersect(other).is_empty()
    }

    /// Whether every GTID of `other` is in this set.
    pub fn is_superset(&self, other: &Self) -> bool {
        other.by_tsid.iter().all(|(tsid, theirs)| {
            self.by_tsid
                .get(tsid)
                .is_some_and(|ours| ours.is_superset(theirs))
        })
    }

    /// The GTIDs that are in either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.union_with(other);
        union
    }

    /// Adds all GTIDs of `other`. Cheap when `other` is small or lies behind what is there, as the
    /// GTIDs of the next binlog file do.
    pub fn union_with(&mut self, other: &Self) {
        for (tsid, theirs) in &other.by_tsid {
            if let Some(ours) = self.by_tsid.get_mut(tsid) {
                ours.union_with(theirs);
            } else {
                self.by_tsid.insert(tsid.clone(), theirs.clone());
            }
        }
    }

    /// The GTIDs of this set that are not in `other` (`GTID_SUBTRACT`).
    pub fn subtract(&self, other: &Self) -> Self {
        self.map_intervals(|tsid, ours| match other.by_tsid.get(tsid) {
            Some(theirs) => ours.subtract(theirs),
            None => ours.clone(),
        })
    }

    /// The GTIDs that are in both sets.
    pub fn intersect(&self, other: &Self) -> Self {
        self.map_intervals(|tsid, ours| {
            other
                .by_tsid
                .get(tsid)
                .map(|theirs| ours.intersect(theirs))
                .unwrap_or_default()
        })
    }

    fn map_intervals(&self, map: impl Fn(&Tsid, &Intervals) -> Intervals) -> Self {
        let by_tsid = self.by_tsid.iter().filter_map(|(tsid, ours)| {
            let mapped = map(tsid, ours);
            (!mapped.is_empty()).then(|| (tsid.clone(), mapped))
        });
        Self {
            by_tsid: by_tsid.collect(),
        }
    }

    /// The set of intervals that may overlap and come in any order.
    fn from_unordered(by_tsid: BTreeMap<Tsid, Vec<(u64, u64)>>) -> Self {
        let by_tsid = by_tsid.into_iter().filter_map(|(tsid, intervals)| {
            let intervals = Intervals::from_unordered(intervals);
            (!intervals.is_empty()).then_some((tsid, intervals))
        });
        Self {
            by_tsid: by_tsid.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
