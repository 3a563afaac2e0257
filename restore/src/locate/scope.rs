//! Which blocks can decide a search, by the index alone.

use std::cmp::Reverse;

use engine::archive::{IndexedBlock, ObjectIndex};
use engine::gtid::{Gtid, GtidSet};

use crate::cut::Search;

/// Which blocks to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// From this block, which begins with a transaction, to the end; none when reading from the
    /// beginning is less.
    pub suffix_from: Option<usize>,
    /// The block that most likely decides, when the file is read from its beginning.
    pub likely: usize,
}

impl Scope {
    /// The blocks for a search in a file with this index.
    pub fn of(index: &ObjectIndex, search: &Search) -> Self {
        let blocks = &index.blocks;
        // Who wrote no boundaries, or no contents, gave nothing to go by.
        if !blocks.iter().any(|block| block.first_gtid.is_some()) {
            return Self {
                suffix_from: None,
                likely: blocks.len(),
            };
        }
        let cut = block_of_the_cut(blocks, search);
        let start = start_before(blocks, cut).unwrap_or(0);
        let size = |blocks: &[IndexedBlock]| -> u64 {
            blocks
                .iter()
                .fold(0, |sum, block| sum.saturating_add(block.object_size))
        };
        let (prefix, suffix) = (blocks.get(..=cut), blocks.get(start..));
        let shorter = size(suffix.unwrap_or_default()) < size(prefix.unwrap_or_default());
        Self {
            suffix_from: (start > 0 && shorter).then_some(start),
            likely: cut,
        }
    }
}

/// The block that the cut is in, if transactions stand in the order of their numbers; for times and
/// offsets, in any case.
fn block_of_the_cut(blocks: &[IndexedBlock], search: &Search) -> usize {
    let last = blocks.len().saturating_sub(1);
    match search {
        Search::After(time) => blocks
            .iter()
            .position(|block| block.last_commit.is_some_and(|commit| commit > *time))
            .unwrap_or(last),
        Search::At(offset) => blocks
            .partition_point(|block| block.plain_offset <= *offset)
            .saturating_sub(1),
        Search::Outside(set) => blocks
            .iter()
            .position(|block| block.first_gtid.as_ref().is_some_and(|g| !set.contains(g)))
            .map_or(last, |outside| outside.saturating_sub(1)),
        Search::Before(gtid) => last_not_after(blocks, gtid),
        Search::Behind(wanted) => greatest(wanted)
            .iter()
            .map(|gtid| last_not_after(blocks, gtid))
            .max()
            .unwrap_or(last),
        Search::Torn | Search::End => blocks
            .iter()
            .rposition(|block| block.first_gtid.is_some() || block.first_commit.is_some())
            .unwrap_or(last),
    }
}

/// The last block whose first transaction has the GTID's TSID and no greater number.
fn last_not_after(blocks: &[IndexedBlock], gtid: &Gtid) -> usize {
    let not_after = |first: &Gtid| first.tsid == gtid.tsid && first.gno <= gtid.gno;
    blocks
        .iter()
        .rposition(|block| block.first_gtid.as_ref().is_some_and(not_after))
        .unwrap_or(0)
}

/// The GTID with the greatest number of each TSID.
fn greatest(set: &GtidSet) -> Vec<Gtid> {
    let mut all: Vec<Gtid> = set
        .intervals()
        .map(|(tsid, _, last)| Gtid {
            tsid: tsid.clone(),
            gno: last,
        })
        .collect();
    all.sort_by(|a, b| (&a.tsid, Reverse(a.gno)).cmp(&(&b.tsid, Reverse(b.gno))));
    all.dedup_by(|next, kept| next.tsid == kept.tsid);
    all
}

/// The second-last block at or before `cut` that begins with a transaction, so that the transaction
/// before the cut is seen; else the last one.
fn start_before(blocks: &[IndexedBlock], cut: usize) -> Option<usize> {
    let until = blocks.get(..=cut)?;
    let mut boundaries = until.iter().enumerate().rev().filter(|(_, b)| b.boundary);
    let last = boundaries.next()?.0;
    Some(boundaries.next().map_or(last, |(before, _)| before))
}
