//! Cuts a stream of bytes into blocks of whole transactions, and writes them.
//!
//! A block ends at a transaction boundary wherever one lies in its reach; only a transaction larger than
//! [`MAX_BLOCK_PLAIN`] is cut inside, and all behind the first damage.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::SealError;
use super::line::Line;
use crate::archive::{
    ArchiveError, BlockInfo, Content, MAX_BLOCK_PLAIN, ObjectFacts, ObjectWriter,
};
use crate::binlog::{Boundary, Refusal, Scanner, Summary};
use crate::digest::{Digest, Hasher};
use crate::failpoint::failpoint;
use crate::pipeline::pace::Pace;

/// Why the byte stream could not be sealed; the path is added outside.
pub(super) enum BlockError {
    Refused(Refusal),
    Archive(ArchiveError),
}

impl BlockError {
    pub(super) fn of(self, path: &Path) -> SealError {
        let path = path.to_owned();
        match self {
            Self::Refused(source) => SealError::Refused { path, source },
            Self::Archive(source) => SealError::Archive { path, source },
        }
    }
}

/// A stream of bytes that was sealed.
pub(super) struct Contents<W> {
    /// Where the object was written.
    pub(super) out: W,
    /// SHA-256 of the bytes.
    pub(super) sha256: Digest,
    /// What is in them.
    pub(super) summary: Summary,
    /// The object.
    pub(super) facts: ObjectFacts,
}

/// Cuts a stream of bytes into blocks of whole transactions.
pub(super) struct Blocks<W: Write> {
    scanner: Scanner,
    hasher: Hasher,
    line: Line<W>,
    /// Plaintext not yet written, and the file offset of its first byte.
    pending: Vec<u8>,
    start: u64,
    /// Boundaries at or behind `start`.
    boundaries: VecDeque<Boundary>,
    /// What the server had compressed when the last block was cut. The scanner is ahead of the cut by a piece that is
    /// read at most, so that a block is judged by some 6 % of another.
    compressed: u64,
}

impl<W: Write> Blocks<W> {
    /// By this thread alone, or with the help of places that nobody wants.
    pub(super) fn new(writer: ObjectWriter<W>, pace: Option<Arc<Pace>>) -> Self {
        Self {
            scanner: Scanner::new(),
            hasher: Hasher::default(),
            line: Line::new(writer, pace),
            pending: Vec::with_capacity(MAX_BLOCK_PLAIN),
            start: 0,
            boundaries: VecDeque::new(),
            compressed: 0,
        }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), BlockError> {
        self.scanner.push(bytes).map_err(BlockError::Refused)?;
        self.hasher.update(bytes);
        self.boundaries.extend(self.scanner.take_boundaries());
        while !bytes.is_empty() {
            let room = MAX_BLOCK_PLAIN.saturating_sub(self.pending.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == MAX_BLOCK_PLAIN {
                let end = self.cut();
                self.write(end)?;
            }
        }
        Ok(())
    }

    /// How many pending bytes the next block takes: up to the last boundary in reach.
    fn cut(&self) -> usize {
        self.boundaries
            .iter()
            .rev()
            .filter_map(|boundary| usize::try_from(boundary.offset.checked_sub(self.start)?).ok())
            .find(|&len| len > 0 && len <= self.pending.len())
            .unwrap_or(self.pending.len())
    }

    fn write(&mut self, len: usize) -> Result<(), BlockError> {
        let end = self.start.saturating_add(len as u64);
        let mut info = BlockInfo {
            boundary: self.start == 0
                || self
                    .boundaries
                    .front()
                    .is_some_and(|first| first.offset == self.start),
            first_gtid: None,
            first_commit: None,
            last_commit: None,
        };
        while let Some(boundary) = self.boundaries.pop_front_if(|next| next.offset < end) {
            if info.first_gtid.is_none() {
                info.first_gtid = boundary.gtid;
            }
            info.first_commit = earlier(info.first_commit, boundary.commit);
            info.last_commit = info.last_commit.max(boundary.commit);
        }
        let content = self.content(len);
        let behind = self.pending.split_off(len);
        let plain = std::mem::take(&mut self.pending);
        self.pending = self
            .line
            .push(plain, content, info)
            .map_err(BlockError::Archive)?;
        self.pending.extend(behind);
        failpoint!("seal-block");
        self.start = end;
        Ok(())
    }

    /// Of the block of `len` bytes that is cut now.
    fn content(&mut self, len: usize) -> Content {
        let before = std::mem::replace(&mut self.compressed, self.scanner.compressed());
        let compressed = self.compressed.saturating_sub(before);
        if compressed > len as u64 / 2 {
            Content::Compressed
        } else {
            Content::Plain
        }
    }

    pub(super) fn finish(mut self) -> Result<Contents<W>, BlockError> {
        if !self.pending.is_empty() {
            self.line.go_on_alone();
            self.write(self.pending.len())?;
        }
        let summary = self.scanner.finish().map_err(BlockError::Refused)?;
        let sha256 = self.hasher.finish();
        let (out, facts) = self.line.finish(sha256).map_err(BlockError::Archive)?;
        Ok(Contents {
            out,
            sha256,
            summary,
            facts,
        })
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
