//! The head of a binlog file: what was executed before it, and whether anything follows.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::binlog::Scanner;
use crate::binlog::scanner::MAX_PREVIOUS_GTIDS;
use crate::gtid::GtidSet;

/// Enough for the two events of most files' heads.
const PIECE: usize = 8 * 1024;

/// More than the two events of any head.
const MAX_HEAD: u64 = MAX_PREVIOUS_GTIDS as u64 + 64 * 1024;

/// What a file begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// GTIDs of all files before it.
    pub previous_gtids: GtidSet,
    /// Is there nothing behind the head yet?
    pub is_empty: bool,
}

/// Reads the head of a file that a server may be writing to. None while it is not whole, or not understood.
///
/// # Errors
/// When the file cannot be read.
pub fn read_head(path: &Path) -> io::Result<Option<Head>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut file = file.take(MAX_HEAD);
    let mut scanner = Scanner::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(None);
        }
        let (piece, _) = piece.split_at(read);
        if scanner.push(piece).is_err() {
            return Ok(None);
        }
        if let Some(previous_gtids) = scanner.previous_gtids() {
            // Of a piece that holds more than the head, the rest was scanned, too.
            let is_empty = scanner.offset() == size && scanner.is_at_end_of_head();
            return Ok(Some(Head {
                previous_gtids: previous_gtids.clone(),
                is_empty,
            }));
        }
    }
}
