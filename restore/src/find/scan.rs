//! Looks through one file.

use std::ops::Range;

use engine::archive::{IndexedBlock, ObjectIndex};
use engine::binlog::{Boundary, Change, Scanner};

use super::hit::Hit;
use super::sought::Sought;
use crate::history::ArchivedFile;
use crate::locate::Header;
use crate::object::{Archive, ReadError};

/// What was found in a file.
#[derive(Debug)]
pub struct Scanned {
    /// The transactions, at most one more than were asked for.
    pub hits: Vec<Hit>,
    /// Bytes of the object that were read.
    pub fetched: u64,
}

/// Looks for transactions in `file`. Behind damage nothing is found.
///
/// # Errors
/// When it cannot be read.
pub async fn scan(
    archive: &Archive,
    file: &ArchivedFile,
    sought: &Sought,
) -> Result<Scanned, ReadError> {
    let mut ranged = archive.open_ranged(file).await?;
    let mut fetched = ranged.opened_bytes();
    let mut scanner = Scanner::with_changes();
    let mut walk = Walk::new(file, sought);
    let mut blocks = blocks(ranged.index(), sought);
    let begins_at = ranged
        .index()
        .blocks
        .get(blocks.start)
        .map(|block| block.plain_offset);
    if let (1.., Some(begins_at)) = (blocks.start, begins_at) {
        ranged.end_at(1);
        let header = Header::read(&mut ranged).await?;
        fetched = fetched.saturating_add(header.fetched);
        if scanner.push(&header.bytes).is_err() || !scanner.skip_to(begins_at) {
            scanner = Scanner::with_changes();
            blocks.start = 0;
        }
    }
    ranged.end_at(blocks.end);
    for number in blocks {
        let (_, plain) = ranged.read_block(number).await?;
        fetched = fetched.saturating_add(ranged.block_size(number));
        // What is no binlog holds no transactions.
        if scanner.push(&plain).is_err() || walk.is_enough() {
            break;
        }
        walk.take(scanner.take_boundaries(), scanner.take_changes());
    }
    Ok(Scanned {
        hits: walk.finish(),
        fetched,
    })
}

/// The blocks that may hold transactions of the time that is sought.
fn blocks(index: &ObjectIndex, sought: &Sought) -> Range<usize> {
    let all = 0..index.blocks.len();
    // Who wrote no boundaries gave nothing to go by.
    if !sought.has_time() || !index.blocks.iter().any(|block| block.boundary) {
        return all;
    }
    let may = |block: &IndexedBlock| match (block.first_commit, block.last_commit) {
        (Some(earliest), Some(latest)) => sought.may_be_within(earliest, latest),
        _ => false,
    };
    let Some(first) = index.blocks.iter().position(may) else {
        return 0..0;
    };
    let last = index.blocks.iter().rposition(may).unwrap_or(first);
    let begins = |block: &IndexedBlock| block.boundary;
    let until = index.blocks.get(..=first).unwrap_or_default();
    let start = until.iter().rposition(begins).unwrap_or(0);
    // A transaction may go on in blocks that none begins in.
    let behind = index.blocks.iter().skip(last.saturating_add(1));
    let further = behind.take_while(|block| !begins(block)).count();
    start..last.saturating_add(1).saturating_add(further)
}

/// Puts boundaries and changes together again.
struct Walk<'a> {
    file: &'a ArchivedFile,
    sought: &'a Sought,
    /// The transaction that the next change is of, if it may be one of those that are sought.
    current: Option<Hit>,
    hits: Vec<Hit>,
}

impl<'a> Walk<'a> {
    fn new(file: &'a ArchivedFile, sought: &'a Sought) -> Self {
        Self {
            file,
            sought,
            current: None,
            hits: Vec::new(),
        }
    }

    fn is_enough(&self) -> bool {
        self.hits.len() > self.sought.limit
    }

    fn take(&mut self, boundaries: Vec<Boundary>, changes: Vec<Change>) {
        let mut boundaries = boundaries.into_iter().peekable();
        for change in changes {
            while let Some(boundary) = boundaries.next_if(|next| next.offset <= change.offset) {
                self.begin(&boundary);
            }
            if let Some(current) = self
                .current
                .as_mut()
                .filter(|_| self.sought.is_change(&change))
            {
                current.add(change);
            }
        }
        for boundary in boundaries {
            self.begin(&boundary);
        }
    }

    fn begin(&mut self, boundary: &Boundary) {
        self.end();
        let begins = boundary.gtid.is_some() || boundary.commit.is_some();
        if begins && self.sought.is_transaction(boundary) {
            self.current = Some(Hit::new(self.file, boundary));
        }
    }

    fn end(&mut self) {
        let found = |hit: &Hit| self.sought.any_change() || !hit.changes.is_empty();
        if let Some(hit) = self.current.take().filter(found)
            && self.hits.len() <= self.sought.limit
        {
            self.hits.push(hit);
        }
    }

    fn finish(mut self) -> Vec<Hit> {
        self.end();
        self.hits
    }
}
