//! A part of an archived file, as a plan wants it: the file's header, and its transactions between two
//! cuts.
//!
//! # Invariants
//! - The bytes are a binlog: magic, `FormatDescription`, `PREVIOUS_GTIDS`, then whole transactions.
//! - Of a file that is cut, only the blocks between the cuts and the one with the header are read; a
//!   whole file is read by [`crate::object`], which proves its digest.

use std::ops::Range;

use bytes::Bytes;
use engine::archive::ObjectIndex;
use engine::gtid::GtidSet;
use tokio::sync::mpsc::Sender;

use crate::history::ArchivedFile;
use crate::locate::Header;
use crate::object::{Archive, Prefetched, ReadError};

/// An archived file between two cuts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub file: ArchivedFile,
    /// Where its transactions begin to be wanted; none for its beginning.
    pub from: Option<u64>,
    /// Where it is cut; none for its end.
    pub to: Option<u64>,
}

impl Part {
    /// All of a file.
    pub fn whole(file: ArchivedFile) -> Self {
        Self {
            file,
            from: None,
            to: None,
        }
    }

    /// Whether it is all of the file.
    pub fn is_whole(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Bytes of the binlog file between the cuts.
    pub fn bytes(&self) -> u64 {
        let end = self.to.unwrap_or(self.file.size);
        end.saturating_sub(self.from.unwrap_or(0))
    }

    /// The blocks that hold the bytes between the cuts.
    pub fn blocks(&self, index: &ObjectIndex) -> Range<usize> {
        let from = self.from.unwrap_or(0);
        let to = self.to.unwrap_or(index.plain_size);
        let blocks = &index.blocks;
        let first = blocks
            .partition_point(|block| block.plain_offset.saturating_add(block.plain_size) <= from);
        let end = blocks.partition_point(|block| block.plain_offset < to);
        first..end.max(first)
    }

    /// Bytes of the object in the blocks that are read, the one with the header included: headers are
    /// shorter than a block.
    pub fn block_bytes(&self, index: &ObjectIndex) -> u64 {
        let size = |number: usize| index.blocks.get(number).map_or(0, |b| b.object_size);
        let header = if self.from.is_some() { size(0) } else { 0 };
        self.blocks(index)
            .fold(header, |sum, number| sum.saturating_add(size(number)))
    }
}

/// A part of a plan, and what its file's manifest entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The part.
    pub part: Part,
    /// All that the file adds, cuts or not.
    pub adds: GtidSet,
    /// It holds anonymous transactions.
    pub anonymous: bool,
    /// `server_id` of the server that wrote it.
    pub server_id: u32,
    /// The version of the server that wrote it.
    pub server_version: String,
}

impl Archive {
    /// Reads a part in a task of its own, a bounded way ahead of whoever takes the bytes.
    pub fn prefetch_part(&self, part: &Part) -> Prefetched {
        if part.is_whole() {
            return self.prefetch(&part.file);
        }
        let (archive, part) = (self.clone(), part.clone());
        Prefetched::spawn(move |sender| async move { archive.send_part(&part, &sender).await })
    }

    async fn send_part(&self, part: &Part, sender: &Sender<Bytes>) -> Result<(), ReadError> {
        let mut file = self.open_ranged(&part.file).await?;
        let blocks = part.blocks(file.index());
        file.end_at(1);
        if part.from.is_some() {
            let header = Header::read(&mut file).await?;
            if sender.send(header.bytes).await.is_err() {
                return Ok(());
            }
        }
        let wanted = part.from.unwrap_or(0)..part.to.unwrap_or(file.index().plain_size);
        file.end_at(blocks.end);
        for number in blocks {
            let (offset, plain) = file.read_block(number).await?;
            let bytes = within(&plain, offset, &wanted);
            if !bytes.is_empty() && sender.send(bytes).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Those bytes of a block, which lies at `offset`, that are in `wanted`.
fn within(plain: &Bytes, offset: u64, wanted: &Range<u64>) -> Bytes {
    let place = |at: u64| {
        let inside = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
        inside.min(plain.len())
    };
    let (from, to) = (place(wanted.start), place(wanted.end));
    plain.slice(from..to.max(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_outside_of_the_cuts_are_dropped() {
        let plain = Bytes::from_static(b"0123456789");
        let cut = |from, to| within(&plain, 100, &(from..to));
        assert_eq!(cut(0, 1000), "0123456789");
        assert_eq!(cut(103, 105), "34");
        assert_eq!(cut(103, 1000), "3456789");
        assert_eq!(cut(0, 103), "012");
        assert_eq!(cut(0, 100), "");
        assert_eq!(cut(110, 120), "");
    }
}
