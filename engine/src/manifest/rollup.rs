//! Rollups: the manifest entries of a thousand sequences, as stored, in one compressed object (FORMAT.md §11.1).
//!
//! A plan over half a million files would else read half a million objects.
//!
//! # Invariants
//! - The entries are the truth, and a rollup is a copy of them: whoever finds none, or one that is not whole, reads the
//!   entries.
//! - A rollup holds entries' bytes as they are stored, so that the chain proves them. Within it nothing is missing: each
//!   entry names the one before it, and the first names none that belongs in the same rollup.
//!
//! # Limits
//! [`MAX_LEN`] bytes of entries. A source whose entries are larger (very many GTID intervals) has no rollup there.

use std::io;
use std::ops::Range;

use super::{Entry, ManifestError};
use crate::digest::Digest;
use crate::layout::{RollupName, Sequence};

/// Bytes of the entries in one rollup, at most: what a reader holds for each rollup that it has in hand.
pub const MAX_LEN: usize = 32 * 1024 * 1024;

/// Bytes of a rollup as it is stored, at most: zstd makes nothing much larger than it was.
pub const MAX_STORED_LEN: usize = MAX_LEN + MAX_LEN / 128 + 1024;

/// zstd's default, and it reads as fast whatever it was written with.
const LEVEL: i32 = 3;

/// An entry's last line with the end of the one before; no other line of it is the same, since all others are indented.
const ENTRY_END: &[u8] = b"\n}\n";

/// Why bytes are not the rollup that they should be, or entries cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum RollupError {
    /// Not compressed as it should be, or larger than [`MAX_LEN`].
    #[error("{0}: not a rollup")]
    Packing(String, #[source] io::Error),
    /// One of its entries is none.
    #[error(transparent)]
    Entry(#[from] ManifestError),
    /// Its entries do not belong together.
    #[error("{key}: sequence {sequence} does not belong behind the entry before it")]
    Chain {
        /// Which rollup.
        key: String,
        /// The entry that does not fit.
        sequence: Sequence,
    },
    /// It holds nothing.
    #[error("{0}: no entries")]
    Empty(String),
}

/// An entry in a rollup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledEntry {
    /// What it says.
    pub entry: Entry,
    /// SHA-256 of its bytes as stored.
    pub sha256: Digest,
    /// Where its bytes lie among those of all.
    pub at: Range<usize>,
}

/// A rollup, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// The entries' bytes, one behind the other.
    pub bytes: Vec<u8>,
    /// The entries, by ascending sequence; at least one.
    pub entries: Vec<RolledEntry>,
}

/// The rollup of entries' bytes as they are stored, one behind the other by ascending sequence. None when they are more
/// than [`MAX_LEN`].
///
/// # Errors
/// When they are not the entries of `name`, or do not follow from each other.
pub fn encode(name: &RollupName, entries: &[u8]) -> Result<Option<Vec<u8>>, RollupError> {
    if entries.len() > MAX_LEN {
        return Ok(None);
    }
    split(name, entries)?;
    let packed = |error| RollupError::Packing(name.key().to_string(), error);
    let mut packer = zstd::bulk::Compressor::new(LEVEL).map_err(packed)?;
    packer.include_checksum(true).map_err(packed)?;
    Ok(Some(packer.compress(entries).map_err(packed)?))
}

/// Reads the rollup of this name.
///
/// # Errors
/// When it is none, or not whole.
pub fn decode(name: &RollupName, stored: &[u8]) -> Result<Rollup, RollupError> {
    let unpacked = zstd::bulk::decompress(stored, room(stored));
    let bytes = unpacked.map_err(|error| RollupError::Packing(name.key().to_string(), error))?;
    let entries = split(name, &bytes)?;
    Ok(Rollup { bytes, entries })
}

/// How much to unpack at most: what the frame says that it holds, within bounds.
fn room(stored: &[u8]) -> usize {
    let said = zstd::zstd_safe::get_frame_content_size(stored)
        .ok()
        .flatten();
    let said = said.and_then(|said| usize::try_from(said).ok());
    said.map_or(MAX_LEN, |said| said.min(MAX_LEN))
}

fn split(name: &RollupName, bytes: &[u8]) -> Result<Vec<RolledEntry>, RollupError> {
    let key = name.key();
    let mut entries: Vec<RolledEntry> = Vec::new();
    let mut start = 0_usize;
    let ends =
        memchr::memmem::find_iter(bytes, ENTRY_END).map(|at| at.saturating_add(ENTRY_END.len()));
    // What stands behind the last entry's end is none, and is refused as such.
    for end in ends.chain([bytes.len()]) {
        if start == end {
            continue;
        }
        let stored = bytes.get(start..end).unwrap_or_default();
        let entry = Entry::read(&key, stored)?;
        if !follows(name, entries.last(), &entry) {
            return Err(RollupError::Chain {
                key: key.to_string(),
                sequence: entry.sequence,
            });
        }
        entries.push(RolledEntry {
            entry,
            sha256: Digest::of(stored),
            at: start..end,
        });
        start = end;
    }
    if entries.is_empty() {
        return Err(RollupError::Empty(key.to_string()));
    }
    Ok(entries)
}

/// Does `entry` stand behind `last`, or at the beginning?
fn follows(name: &RollupName, last: Option<&RolledEntry>, entry: &Entry) -> bool {
    let is_ours = entry.source == name.source && name.spans(entry.sequence);
    let is_next = match (last, entry.previous) {
        (None, previous) => previous.is_none_or(|previous| previous.sequence < name.first()),
        (Some(last), Some(previous)) => {
            last.entry.sequence < entry.sequence
                && previous.sequence == last.entry.sequence
                && previous.sha256 == last.sha256
        }
        (Some(_), None) => false,
    };
    is_ours && is_next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::ObjectKey;
    use crate::manifest::Predecessor;

    const GOLDEN: &[u8] = include_bytes!("../../../fixtures/manifest/v1/entry.json");

    fn golden() -> Entry {
        let uuid = "0d1a7e00-97a0-4000-8000-000000000001";
        let key = format!("demo/{uuid}/1/manifest/0000000007.json");
        Entry::parse(&ObjectKey::from_listing(key), GOLDEN).unwrap()
    }

    /// Entries of these sequences, each behind the one before it, and their rollup's name.
    fn chain(sequences: &[u64]) -> (RollupName, Vec<Vec<u8>>) {
        let mut entry = golden();
        let name = RollupName::of(entry.source.clone(), Sequence(sequences[0]));
        entry.previous = None;
        let mut stored = Vec::new();
        for &sequence in sequences {
            entry.sequence = Sequence(sequence);
            let bytes = entry.to_bytes().unwrap();
            entry.previous = Some(Predecessor {
                sequence: entry.sequence,
                sha256: Digest::of(&bytes),
            });
            stored.push(bytes);
        }
        (name, stored)
    }

    #[test]
    fn entries_come_back_byte_for_byte() {
        let (name, stored) = chain(&[1000, 1001, 1005, 1999]);
        let rollup = encode(&name, &stored.concat()).unwrap().unwrap();
        assert!(rollup.len() < stored.concat().len());
        let read = decode(&name, &rollup).unwrap();
        let bytes: Vec<_> = read
            .entries
            .iter()
            .map(|rolled| &read.bytes[rolled.at.clone()])
            .collect();
        assert_eq!(bytes, stored);
        for (rolled, stored) in read.entries.iter().zip(&stored) {
            assert_eq!(rolled.sha256, Digest::of(stored));
        }
    }

    #[test]
    fn what_is_not_whole_is_not_rolled_up() {
        let (name, stored) = chain(&[7, 8, 9]);
        let chain_is_broken = |entries: Vec<u8>| {
            let error = encode(&name, &entries).unwrap_err();
            assert!(matches!(error, RollupError::Chain { .. }), "{error:?}");
        };
        chain_is_broken([&*stored[0], &stored[2]].concat());
        chain_is_broken([&*stored[1], &stored[2]].concat());
        chain_is_broken([&*stored[1], &stored[0]].concat());
        chain_is_broken([&*stored[0], &stored[0]].concat());
        chain_is_broken(chain(&[1007, 1008]).1.concat());
        assert!(encode(&name, b"").is_err());
        assert!(encode(&name, b"{}\n").is_err());
        assert!(encode(&name, &stored.concat()[..100]).is_err());
    }

    #[test]
    fn a_rollup_under_another_name_or_damaged_is_none() {
        let (name, stored) = chain(&[7, 8, 9]);
        let rollup = encode(&name, &stored.concat()).unwrap().unwrap();
        assert!(decode(&name.next(), &rollup).is_err());
        let whole = decode(&name, &rollup).unwrap();
        for place in 0..rollup.len() {
            let mut damaged = rollup.clone();
            damaged[place] ^= 1;
            // A bit that means nothing changes nothing.
            let read = decode(&name, &damaged);
            assert!(read.is_err() || read.unwrap() == whole, "byte {place}");
            assert!(decode(&name, &rollup[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn too_much_is_left_to_the_entries() {
        let (name, _) = chain(&[7]);
        assert!(encode(&name, &vec![b' '; MAX_LEN + 1]).unwrap().is_none());
    }

    #[test]
    fn a_frame_that_promises_much_gets_no_room_for_it() {
        let (name, _) = chain(&[7]);
        let bomb = zstd::bulk::compress(&vec![b' '; MAX_LEN + 1], 3).unwrap();
        assert!(matches!(
            decode(&name, &bomb),
            Err(RollupError::Packing(..))
        ));
    }
}
