//! What an object promises, over whole objects: it comes back, or it is refused for the right reason.

mod golden;
mod tampering;

use std::io;

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::gtid::Gtid;

pub(crate) fn identity(sequence: u64) -> ObjectIdentity {
    ObjectIdentity {
        source: SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation: 1,
        },
        sequence: Sequence(sequence),
        file_name: format!("binlog.{sequence:06}"),
    }
}

pub(crate) fn key_encryption_key(byte: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::new("file:test".parse().unwrap(), &[byte; 32])
}

pub(crate) fn longest_gtid() -> Gtid {
    "3e11fa47-71ca-11e1-9e33-c80aa9429562:abcdefghijklmnopqrstuvwxyz_01234:9223372036854775806"
        .parse()
        .unwrap()
}

/// Seals blocks as the object of this sequence.
fn seal(sequence: u64, blocks: &[Vec<u8>]) -> (Vec<u8>, ObjectFacts) {
    let identity = identity(sequence);
    let key = key_encryption_key(1).new_data_key(&identity).unwrap();
    let mut writer = ObjectWriter::create(Vec::new(), &identity, key, 3).unwrap();
    for block in blocks {
        writer
            .write_block(block, Content::Plain, BlockInfo::default())
            .unwrap();
    }
    writer.finish(Digest::of(&blocks.concat())).unwrap()
}

/// Reads an object as that of sequence 1, pushed in pieces of this size.
pub(crate) fn open(object: &[u8], piece: usize) -> Result<(Vec<u8>, ObjectIndex), ArchiveError> {
    open_as(&identity(1), &key_encryption_key(1), object, piece)
}

fn open_as(
    identity: &ObjectIdentity,
    kek: &KeyEncryptionKey,
    object: &[u8],
    piece: usize,
) -> Result<(Vec<u8>, ObjectIndex), ArchiveError> {
    let mut locked = LockedReader::new(identity.clone());
    let mut pieces = object.chunks(piece);
    while !locked.has_header() {
        let Some(piece) = pieces.next() else { break };
        locked.push(piece)?;
    }
    let header = locked.header()?;
    let key = kek.unwrap(header.wrapped_key(), header.identity())?;
    let mut reader = locked.unlock(&key)?;
    let mut plain = Vec::new();
    loop {
        while let Some(block) = reader.next_block()? {
            assert_eq!(block.offset, plain.len() as u64);
            plain.extend(block.plain);
        }
        let Some(piece) = pieces.next() else { break };
        reader.push(piece);
    }
    Ok((plain, reader.finish()?))
}

/// Reads an object by ranges, every block by itself, last one first.
fn open_ranged(object: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let trailer = Trailer::parse(object, object.len() as u64)?;
    let header = Header::parse(object)?.ok_or(ArchiveError::Misuse("cut header"))?;
    let key = key_encryption_key(1).unwrap(header.wrapped_key(), header.identity())?;
    let mut reader = RangedReader::new(&identity(1), &header, &key)?;
    let range = |offset: u64, size: u64| {
        let (offset, size) = (
            usize::try_from(offset).unwrap(),
            usize::try_from(size).unwrap(),
        );
        &object[offset..offset + size]
    };
    let index = reader.open_index(trailer, range(trailer.index_offset, trailer.index_size))?;
    let mut plain = vec![0; usize::try_from(index.plain_size).unwrap()];
    for (number, block) in index.blocks.iter().enumerate().rev() {
        let sealed = range(block.object_offset, block.object_size);
        let opened = reader.open_block(&index, number, sealed)?;
        let offset = usize::try_from(opened.offset).unwrap();
        plain[offset..offset + opened.plain.len()].copy_from_slice(&opened.plain);
    }
    Ok(plain)
}

/// Bytes that compress about as well as nothing, the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(size)
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any blocks, pushed in any pieces, come back as one file; and so by ranges.
    #[test]
    fn what_comes_back_is_what_went_in(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..5000), 0..6),
        piece in 1..3000_usize,
    ) {
        let (object, facts) = seal(1, &blocks);
        prop_assert_eq!(facts.size, object.len() as u64);
        prop_assert_eq!(facts.crc32c, crc32c::crc32c(&object));
        prop_assert_eq!(facts.blocks, blocks.len().max(1) as u64);

        let file = blocks.concat();
        let (plain, index) = open(&object, piece)?;
        prop_assert_eq!(&plain, &file);
        prop_assert_eq!(index.plain_size, file.len() as u64);
        prop_assert_eq!(index.plain_sha256, Digest::of(&file));
        prop_assert_eq!(index.sealed_sha256, facts.index_sha256);
        prop_assert_eq!(open_ranged(&object)?, file);
    }
}

#[test]
fn blocks_of_the_largest_size_come_back_compressible_or_not() {
    let blocks = [noise(MAX_BLOCK_PLAIN), vec![7; MAX_BLOCK_PLAIN], vec![1]];
    let (object, _) = seal(1, &blocks);
    for piece in [65536, 1 << 20, object.len()] {
        let (plain, index) = open(&object, piece).unwrap();
        assert!(plain == blocks.concat());
        assert_eq!(index.blocks[1].plain_offset, MAX_BLOCK_PLAIN as u64);
    }
    assert!(open_ranged(&object).unwrap() == blocks.concat());
}

/// There is a last block to authenticate even when there is nothing in it.
#[test]
fn an_empty_file_is_one_empty_block() {
    let (object, facts) = seal(1, &[]);
    assert_eq!(facts.blocks, 1);
    let (plain, index) = open(&object, 7).unwrap();
    assert!(plain.is_empty());
    assert_eq!(index.blocks.len(), 1);
    assert!(open_ranged(&object).unwrap().is_empty());
}

#[test]
fn the_index_says_what_each_block_holds() {
    let info = BlockInfo {
        boundary: true,
        first_gtid: Some(longest_gtid()),
        first_commit: Some("2026-01-02T03:04:05.000006Z".parse().unwrap()),
        last_commit: Some("2026-01-02T03:04:06Z".parse().unwrap()),
    };
    let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
    let mut writer = ObjectWriter::create(Vec::new(), &identity(1), key, 3).unwrap();
    writer
        .write_block(b"one", Content::Plain, info.clone())
        .unwrap();
    writer
        .write_block(b"two", Content::Plain, BlockInfo::default())
        .unwrap();
    let (object, _) = writer.finish(Digest::of(b"onetwo")).unwrap();

    let (_, index) = open(&object, 100).unwrap();
    let [one, two] = &index.blocks[..] else {
        panic!("{index:?}");
    };
    assert_eq!(
        (
            one.boundary,
            &one.first_gtid,
            one.first_commit,
            one.last_commit
        ),
        (true, &info.first_gtid, info.first_commit, info.last_commit)
    );
    assert_eq!(
        (
            two.boundary,
            &two.first_gtid,
            two.first_commit,
            two.plain_offset
        ),
        (false, &None, None, 3)
    );
    assert_eq!(one.object_offset + one.object_size, two.object_offset);
}

/// TRAPS 30: sealing the same file again gives another key, and so other bytes.
#[test]
fn each_attempt_has_a_key_of_its_own() {
    let blocks = [b"the same".to_vec()];
    let ((one, facts_one), (two, facts_two)) = (seal(1, &blocks), seal(1, &blocks));
    assert_ne!(facts_one.wrapped_key, facts_two.wrapped_key);
    assert_ne!(facts_one.index_sha256, facts_two.index_sha256);
    assert_ne!(one, two);
}

#[test]
fn a_key_made_for_one_file_does_not_seal_another() {
    let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
    let writer = ObjectWriter::create(Vec::new(), &identity(2), key, 3);
    assert!(matches!(writer, Err(ArchiveError::Identity { .. })));
}

#[test]
fn blocks_beyond_the_limits_and_unknown_levels_are_refused() {
    let key = || key_encryption_key(1).new_data_key(&identity(1)).unwrap();
    for level in [i32::MIN, 0, 23] {
        let writer = ObjectWriter::create(Vec::new(), &identity(1), key(), level);
        assert!(matches!(writer, Err(ArchiveError::Level { .. })));
    }
    for size in [0, MAX_BLOCK_PLAIN + 1] {
        let mut writer = ObjectWriter::create(Vec::new(), &identity(1), key(), 3).unwrap();
        let written = writer.write_block(&vec![0; size], Content::Plain, BlockInfo::default());
        assert!(matches!(written, Err(ArchiveError::Misuse(_))));
    }
}

/// Takes some bytes, then has no space left.
#[derive(Debug)]
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was half written cannot be continued as if it were whole.
#[test]
fn a_writer_that_failed_stays_failed() {
    let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
    let mut writer = ObjectWriter::create(Full(600), &identity(1), key, 3).unwrap();
    let block = noise(1000);
    writer
        .write_block(&block, Content::Plain, BlockInfo::default())
        .unwrap();
    let failed = writer.write_block(&block, Content::Plain, BlockInfo::default());
    assert!(matches!(failed, Err(ArchiveError::Write(_))));
    let again = writer.write_block(b"x", Content::Plain, BlockInfo::default());
    assert!(matches!(again, Err(ArchiveError::Misuse(_))));
    let finished = writer.finish(Digest::of(b""));
    assert!(matches!(finished, Err(ArchiveError::Misuse(_))));
}

/// Its level is that block's alone.
#[test]
fn a_block_that_is_compressed_already_costs_little_and_reads_like_any_other() {
    // Words in no order: a higher level finds more in them.
    let words = |n: u64| format!("{} ", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52);
    let block: String = (0..100_000).map(words).collect();
    let block = block.as_bytes();
    let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
    let mut writer = ObjectWriter::create(Vec::new(), &identity(1), key, 9).unwrap();
    for content in [Content::Plain, Content::Compressed, Content::Plain] {
        let info = BlockInfo::default();
        writer.write_block(block, content, info).unwrap();
    }
    let plain = block.repeat(3);
    let (object, facts) = writer.finish(Digest::of(&plain)).unwrap();
    assert_eq!(facts.level, 9);
    let (read, index) = open(&object, 10_000).unwrap();
    assert!(read == plain);
    let sizes: Vec<u64> = index.blocks.iter().map(|block| block.object_size).collect();
    assert_eq!(sizes[0], sizes[2]);
    assert!(sizes[1] > sizes[0], "{sizes:?}");
}

#[test]
fn blocks_are_written_in_the_order_in_which_they_were_begun() {
    let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
    let mut writer = ObjectWriter::create(Vec::new(), &identity(1), key, 3).unwrap();
    let compressors = [writer.compressor().unwrap(), writer.compressor().unwrap()];
    let [_, second] = compressors.map(|one| one.compress(b"x", Content::Plain).unwrap());
    let written = writer.write_compressed(second, BlockInfo::default());
    assert!(matches!(written, Err(ArchiveError::Misuse(_))));
}

/// A wrong digest from the caller makes an object that every reader refuses.
#[test]
fn readers_hold_the_plaintext_to_the_digest_it_was_sealed_with() {
    let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
    let mut writer = ObjectWriter::create(Vec::new(), &identity(1), key, 3).unwrap();
    writer
        .write_block(b"one", Content::Plain, BlockInfo::default())
        .unwrap();
    let (object, _) = writer.finish(Digest::of(b"other")).unwrap();
    let error = open(&object, 100).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
}

#[test]
fn a_reader_ended_before_its_blocks_were_taken_says_so() {
    let (object, _) = seal(1, &[b"one".to_vec()]);
    let mut locked = LockedReader::new(identity(1));
    locked.push(&object).unwrap();
    let header = locked.header().unwrap();
    let key = key_encryption_key(1)
        .unwrap(header.wrapped_key(), header.identity())
        .unwrap();
    let reader = locked.unlock(&key).unwrap();
    assert!(matches!(reader.finish(), Err(ArchiveError::Misuse(_))));
}
