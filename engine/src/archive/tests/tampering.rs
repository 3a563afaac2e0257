//! Every way to alter an object is found, and named for what it is.

use super::*;

fn object() -> Vec<u8> {
    let blocks = [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()];
    seal(1, &blocks).0
}

/// Where the parts of an object begin: blocks, index, trailer, end.
struct Parts {
    blocks: Vec<usize>,
    index: usize,
    trailer: usize,
    end: usize,
}

impl Parts {
    fn of(object: &[u8]) -> Self {
        let (_, index) = open(object, object.len()).unwrap();
        let offset = |offset: u64| usize::try_from(offset).unwrap();
        let last = index.blocks.last().unwrap();
        Self {
            blocks: index
                .blocks
                .iter()
                .map(|block| offset(block.object_offset))
                .collect(),
            index: offset(last.object_offset + last.object_size),
            trailer: object.len() - Trailer::SIZE,
            end: object.len(),
        }
    }

    fn part(&self, offset: usize) -> Part {
        if offset < self.blocks[0] {
            Part::Header
        } else if offset < self.index {
            let number = self.blocks.iter().filter(|begin| **begin <= offset).count() - 1;
            Part::Block(number as u64)
        } else if offset < self.trailer {
            Part::Index
        } else {
            Part::Trailer
        }
    }

    fn block<'a>(&self, object: &'a [u8], number: usize) -> &'a [u8] {
        let end = self.blocks.get(number + 1).unwrap_or(&self.index);
        &object[self.blocks[number]..*end]
    }
}

/// Reads in one go and byte by byte; both must refuse for the same reason.
fn refused(object: &[u8]) -> ArchiveError {
    let error = open(object, object.len().max(1)).unwrap_err();
    let bytewise = open(object, 1).unwrap_err();
    assert_eq!(error.to_string(), bytewise.to_string());
    error
}

#[test]
fn every_single_flipped_bit_is_found_in_its_part() {
    let object = object();
    let parts = Parts::of(&object);
    for bit in 0..object.len() * 8 {
        let mut altered = object.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let error = open(&altered, altered.len()).unwrap_err();
        let found = match &error {
            ArchiveError::NotAnObject { .. } => (0..8).contains(&(bit / 8)),
            ArchiveError::UnsupportedVersion { .. } => (8..10).contains(&(bit / 8)),
            ArchiveError::MalformedHeader { .. }
            | ArchiveError::Identity { .. }
            | ArchiveError::Unwrap { .. } => parts.part(bit / 8) == Part::Header,
            // Every byte of the header is in each block's associated data; the key encryption key
            // of this test answers to any name.
            ArchiveError::Authentication {
                part: Part::Block(0),
            } if parts.part(bit / 8) == Part::Header => true,
            ArchiveError::Authentication { part }
            | ArchiveError::Limit { part, .. }
            | ArchiveError::Inconsistent { part, .. }
            | ArchiveError::Truncated { part, .. } => *part == parts.part(bit / 8),
            _ => false,
        };
        assert!(found, "bit {bit}: {error}");
        assert!(open_ranged(&altered).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_is_found_and_says_where() {
    let object = object();
    let parts = Parts::of(&object);
    for size in 0..object.len() {
        let error = refused(&object[..size]);
        let expected = parts.part(size);
        assert!(
            matches!(error, ArchiveError::Truncated { part, size: found }
                if part == expected && found == size as u64),
            "{size} bytes: {error}"
        );
        assert!(open_ranged(&object[..size]).is_err(), "{size} bytes");
    }
}

#[test]
fn whatever_follows_the_trailer_is_refused() {
    let object = object();
    let end = object.len() as u64;
    for appended in [&[0][..], b"\n", &object] {
        let longer = [&object[..], appended].concat();
        let error = refused(&longer);
        assert!(
            matches!(error, ArchiveError::TrailingBytes { offset } if offset == end),
            "{error}"
        );
        assert!(open_ranged(&longer).is_err());
    }
}

fn authentication(error: &ArchiveError, expected: Part) -> bool {
    matches!(error, ArchiveError::Authentication { part } if *part == expected)
}

/// Rebuilds an object from its parts.
fn assemble(object: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
    let parts = Parts::of(object);
    let mut altered = object[..parts.blocks[0]].to_vec();
    altered.extend(blocks.concat());
    altered.extend(&object[parts.index..parts.end]);
    altered
}

#[test]
fn blocks_cannot_be_swapped_dropped_doubled_or_taken_from_another_object() {
    let object = object();
    let parts = Parts::of(&object);
    let block = |number| parts.block(&object, number);
    let other = super::seal(1, &[b"first".to_vec(), b"x".to_vec()]).0;
    let foreign = Parts::of(&other).block(&other, 0).to_vec();
    for (blocks, expected) in [
        (vec![block(1), block(0), block(2)], Part::Block(0)),
        (vec![block(0), block(2)], Part::Block(1)),
        (vec![block(2)], Part::Block(0)),
        (vec![block(0), block(0), block(1), block(2)], Part::Block(1)),
        (vec![&foreign, block(1), block(2)], Part::Block(0)),
        (vec![block(0), block(1), block(2), block(2)], Part::Index),
    ] {
        let error = refused(&assemble(&object, &blocks));
        let found = match &error {
            // A second last block stands where the index must be, flag and all.
            ArchiveError::Inconsistent { part, .. } => *part == expected,
            error => authentication(error, expected),
        };
        assert!(found, "{expected}: {error}");
    }
}

/// Ending a file early by flagging an inner block, or hiding its end.
#[test]
fn the_last_flag_cannot_be_set_or_cleared() {
    let object = object();
    let parts = Parts::of(&object);
    for number in 0..3 {
        let mut altered = object.clone();
        altered[parts.blocks[number] + 3] ^= 0x80;
        let error = refused(&altered);
        assert!(
            authentication(&error, Part::Block(number as u64)),
            "{error}"
        );
        // With all behind the forged end removed, too.
        if number < 2 {
            altered.drain(parts.blocks[number + 1]..parts.index);
            let error = refused(&altered);
            assert!(
                authentication(&error, Part::Block(number as u64)),
                "{error}"
            );
        }
    }
}

/// An index and trailer of another attempt at the same file.
#[test]
fn the_index_of_another_attempt_is_refused() {
    let (object, other) = (object(), object());
    let (parts, others) = (Parts::of(&object), Parts::of(&other));
    let altered = [&object[..parts.index], &other[others.index..]].concat();
    assert!(authentication(&refused(&altered), Part::Index));
}

/// A trailer that is right in itself, but not of this object.
#[test]
fn the_trailer_of_another_object_is_refused() {
    let object = object();
    let parts = Parts::of(&object);
    let other = seal(1, &[b"another".to_vec()]).0;
    let trailer = &other[other.len() - Trailer::SIZE..];
    let error = refused(&[&object[..parts.trailer], trailer].concat());
    assert!(matches!(
        error,
        ArchiveError::Inconsistent {
            part: Part::Trailer,
            ..
        }
    ));
}

#[test]
fn swapped_objects_are_named_by_what_they_say_they_are() {
    let (object, _) = seal(2, &[b"second file".to_vec()]);
    let error = refused(&object);
    assert_eq!(
        error.to_string(),
        "the object says that it is orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/1/2/binlog.000002, \
         expected orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/1/1/binlog.000001"
    );
}

/// The header is no secret: whoever can write can make it say anything, but not wrap a key for it.
#[test]
fn a_swapped_object_with_a_forged_header_is_refused() {
    let (object, _) = seal(2, &[b"second file".to_vec()]);
    let forged: Vec<u8> = replace(&object, b"\"sequence\":2", b"\"sequence\":1");
    let forged = replace(&forged, b"binlog.000002", b"binlog.000001");
    assert!(matches!(refused(&forged), ArchiveError::Unwrap { .. }));
}

/// … nor take the envelope and the header of the right object for another one's blocks.
#[test]
fn blocks_behind_another_objects_header_are_refused() {
    let (object, other) = (object(), object());
    let (parts, others) = (Parts::of(&object), Parts::of(&other));
    let altered = [&object[..parts.blocks[0]], &other[others.blocks[0]..]].concat();
    assert!(authentication(&refused(&altered), Part::Block(0)));
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn a_wrong_key_opens_nothing() {
    let object = object();
    let error = open_as(&identity(1), &key_encryption_key(2), &object, 100).unwrap_err();
    assert!(matches!(error, ArchiveError::Unwrap { .. }), "{error}");

    let mut locked = LockedReader::new(identity(1));
    locked.push(&object).unwrap();
    let mut reader = locked.unlock(&DataKey::from_bytes([9; 32])).unwrap();
    let error = reader.next_block().unwrap_err();
    assert!(authentication(&error, Part::Block(0)), "{error}");
}

/// A block that failed is not skipped: nothing comes out behind it.
#[test]
fn nothing_comes_out_after_an_error() {
    let object = object();
    let parts = Parts::of(&object);
    let mut altered = object.clone();
    altered[parts.blocks[0] + 10] ^= 1;
    let mut locked = LockedReader::new(identity(1));
    locked.push(&altered).unwrap();
    let header = locked.header().unwrap();
    let key = key_encryption_key(1)
        .unwrap(header.wrapped_key(), header.identity())
        .unwrap();
    let mut reader = locked.unlock(&key).unwrap();
    assert!(authentication(
        &reader.next_block().unwrap_err(),
        Part::Block(0)
    ));
    for _ in 0..3 {
        assert!(matches!(reader.next_block(), Err(ArchiveError::Misuse(_))));
    }
    assert!(reader.finish().is_err());
}

#[test]
fn a_length_beyond_the_limit_is_refused_with_nothing_behind_it() {
    let object = object();
    let parts = Parts::of(&object);
    for (offset, part) in [
        (parts.blocks[1], Part::Block(1)),
        (parts.index, Part::Index),
    ] {
        let mut altered = object[..offset].to_vec();
        altered.extend([0xFF, 0xFF, 0xFF, 0x7F]);
        let error = refused(&altered);
        assert!(
            matches!(error, ArchiveError::Limit { part: found, .. } if found == part),
            "{error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Not only single bits: whatever range is replaced by whatever, in length too, is refused.
    #[test]
    fn no_edit_is_believed(
        at in any::<prop::sample::Index>(),
        removed in 0..200_usize,
        inserted in prop::collection::vec(any::<u8>(), 0..200),
        piece in 1..500_usize,
    ) {
        let object = object();
        let at = at.index(object.len());
        let behind = object.len().min(at + removed);
        let altered = [&object[..at], &inserted, &object[behind..]].concat();
        prop_assume!(altered != object);
        prop_assert!(open(&altered, piece).is_err());
    }
}
