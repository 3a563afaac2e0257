//! The test vectors of version 1 in `fixtures/archive/v1`: they open, or are refused, for ever.
//!
//! `every_vector_is_there` also tells how they were made.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::archive::cipher::Sealer;
use crate::archive::frame::{FrameBuilder, LengthWord};
use crate::archive::index::{StoredBlock, StoredIndex};

/// Fewer would mean that vectors were lost.
const VECTORS: usize = 36;

/// One vector, as its JSON file holds it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    about: String,
    /// As whose object it is to be opened.
    identity: ObjectIdentity,
    /// What must come out …
    #[serde(skip_serializing_if = "Option::is_none")]
    opens: Option<Opens>,
    /// … or why nothing may.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opens {
    plain_size: u64,
    plain_sha256: Digest,
    index_sha256: Digest,
    blocks: Vec<serde_json::Value>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/archive/v1")
}

fn golden_key() -> KeyEncryptionKey {
    let text = std::fs::read(folder().join("archive.key")).unwrap();
    crate::keyring::file::parse(&text).unwrap()
}

/// The reason's name, independent of gtide's wording.
fn reason(error: &ArchiveError) -> String {
    match error {
        ArchiveError::NotAnObject { .. } => "not an object".to_owned(),
        ArchiveError::UnsupportedVersion { .. } => "unsupported version".to_owned(),
        ArchiveError::MalformedHeader { .. } => "malformed header".to_owned(),
        ArchiveError::Identity { .. } => "another identity".to_owned(),
        ArchiveError::Unwrap { .. } => "data key does not unwrap".to_owned(),
        ArchiveError::Authentication { part } => format!("authentication of {part}"),
        ArchiveError::Truncated { part, .. } => format!("truncated in {part}"),
        ArchiveError::TrailingBytes { .. } => "trailing bytes".to_owned(),
        ArchiveError::Limit { part, .. } => format!("limit exceeded in {part}"),
        ArchiveError::Inconsistent { part, .. } => format!("inconsistency in {part}"),
        error => panic!("no reason to refuse an object: {error}"),
    }
}

fn opens(plain: &[u8], index: &ObjectIndex) -> Opens {
    let block = |block: &IndexedBlock| {
        json!({
            "plain_offset": block.plain_offset,
            "plain_size": block.plain_size,
            "object_offset": block.object_offset,
            "object_size": block.object_size,
            "boundary": block.boundary,
            "first_gtid": block.first_gtid,
            "first_commit": block.first_commit,
            "last_commit": block.last_commit,
        })
    };
    Opens {
        plain_size: plain.len() as u64,
        plain_sha256: Digest::of(plain),
        index_sha256: index.sealed_sha256,
        blocks: index.blocks.iter().map(block).collect(),
    }
}

#[test]
fn objects_of_version_1_open_or_are_refused_for_ever() {
    let mut vectors = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        vectors += 1;
        let vector: Vector = serde_json::from_reader(File::open(&path).unwrap()).unwrap();
        let object = std::fs::read(path.with_extension("gtb")).unwrap();
        for piece in [1, 1000, usize::MAX] {
            let opened = open_as(&vector.identity, &golden_key(), &object, piece);
            match (&vector.opens, &vector.refused, opened) {
                (Some(expected), None, Ok((plain, index))) => {
                    assert_eq!(&opens(&plain, &index), expected, "{}", path.display());
                }
                (None, Some(expected), Err(error)) => {
                    assert_eq!(&reason(&error), expected, "{}", path.display());
                }
                (_, _, opened) => panic!("{}: {opened:?}", path.display()),
            }
        }
    }
    assert!(vectors >= VECTORS, "{vectors} vectors");
}

// ---- How they were made ------------------------------------------------------------------------

/// Keys and nonces are fixed here, and these only: each vector has a data key of its own number.
fn golden_sealing_key(number: u8, identity: &ObjectIdentity) -> SealingKey {
    let data_key = DataKey::from_bytes([number; 32]);
    golden_key().seal_data_key(data_key, [number; 12], identity)
}

fn info(boundary: bool, gtid: Option<&str>, times: Option<(&str, &str)>) -> BlockInfo {
    BlockInfo {
        boundary,
        first_gtid: gtid.map(|gtid| gtid.parse().unwrap()),
        first_commit: times.map(|(first, _)| first.parse().unwrap()),
        last_commit: times.map(|(_, last)| last.parse().unwrap()),
    }
}

fn sealed(number: u8, identity: &ObjectIdentity, blocks: &[(&[u8], BlockInfo)]) -> Vec<u8> {
    let key = golden_sealing_key(number, identity);
    let mut writer = ObjectWriter::create(Vec::new(), identity, key, 3).unwrap();
    let mut plain = Vec::new();
    for (block, info) in blocks {
        writer
            .write_block(block, Content::Plain, info.clone())
            .unwrap();
        plain.extend(*block);
    }
    writer.finish(Digest::of(&plain)).unwrap().0
}

/// Three blocks: the second goes on with the transaction of the first.
fn three_blocks(number: u8) -> Vec<u8> {
    let times = Some(("2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:06Z"));
    let gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23";
    sealed(
        number,
        &identity(1),
        &[
            (b"the first block", info(true, Some(gtid), times)),
            (b"the second one", info(false, None, None)),
            (
                b"the last",
                info(true, Some(&longest_gtid().to_string()), times),
            ),
        ],
    )
}

/// Seals whatever it is given, by the rules or not.
fn forged(number: u8, frames: &[Vec<u8>], index: &StoredIndex) -> Vec<u8> {
    let key = golden_sealing_key(number, &identity(1));
    let (mut object, digest) = Header::encode(&key).unwrap();
    let mut sealer = Sealer::new(&key.data_key, digest);
    for (n, frame) in frames.iter().enumerate() {
        let last = n + 1 == frames.len();
        let mut frame = frame.clone();
        let tag = sealer.seal_block(last, &mut frame).unwrap();
        let word = LengthWord {
            sealed: frame.len() + TAG_SIZE,
            last,
        };
        object.extend(word.to_bytes().into_iter().chain(frame).chain(tag));
    }
    let index_offset = object.len() as u64;
    let mut builder = FrameBuilder::new(3).unwrap();
    let json = serde_json::to_vec(index).unwrap();
    builder.compress(Part::Index, &json, 3).unwrap();
    let tag = sealer.seal_index(builder.body_mut());
    let (word, body) = builder.finish(tag, false);
    object.extend(word.to_bytes().iter().chain(body));
    let trailer = Trailer {
        index_offset,
        index_size: word.frame_size() as u64,
        blocks: frames.len() as u64,
    };
    object.extend(trailer.to_bytes());
    object
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    ::zstd::bulk::compress(plain, 19).unwrap()
}

/// An index of blocks with these plaintexts and frames.
fn index_of(blocks: &[(&[u8], &[u8])]) -> StoredIndex {
    let plain: Vec<u8> = blocks
        .iter()
        .flat_map(|(plain, _)| plain.to_vec())
        .collect();
    let stored = |(plain, frame): &(&[u8], &[u8])| {
        StoredBlock::new(
            info(true, None, None),
            u32::try_from(plain.len()).unwrap(),
            u32::try_from(4 + frame.len() + TAG_SIZE).unwrap(),
        )
    };
    StoredIndex {
        plain_size: plain.len() as u64,
        plain_sha256: Digest::of(&plain),
        blocks: blocks.iter().map(stored).collect(),
    }
}

type Made = (&'static str, &'static str, Vec<u8>);

fn whole_objects() -> Vec<Made> {
    let plain = info(true, None, None);
    let incompressible = noise(10_000);
    vec![
        (
            "empty",
            "a file of no bytes: one empty block",
            sealed(1, &identity(1), &[]),
        ),
        (
            "one_byte",
            "one block of one byte",
            sealed(2, &identity(1), &[(b"\xFE", plain.clone())]),
        ),
        (
            "three_blocks",
            "GTIDs, one tagged, and commit times; the second block is no boundary",
            three_blocks(3),
        ),
        (
            "incompressible",
            "blocks that are larger compressed",
            sealed(
                4,
                &identity(1),
                &[
                    (&incompressible, plain.clone()),
                    (&incompressible[1..], plain.clone()),
                ],
            ),
        ),
        (
            "largest_block",
            "4 MiB of zeros, then one byte more",
            sealed(
                5,
                &identity(1),
                &[(&vec![0; MAX_BLOCK_PLAIN], plain.clone()), (b"\0", plain)],
            ),
        ),
    ]
}

/// A sound object of three blocks, to be altered.
struct Sound {
    object: Vec<u8>,
    /// Where the blocks begin.
    blocks: Vec<usize>,
    index: usize,
}

impl Sound {
    fn new() -> Self {
        let object = three_blocks(6);
        let (_, index) = open_as(&identity(1), &golden_key(), &object, usize::MAX).unwrap();
        let offset = |block: &IndexedBlock| usize::try_from(block.object_offset).unwrap();
        let trailer = Trailer::parse(&object, object.len() as u64).unwrap();
        Self {
            blocks: index.blocks.iter().map(offset).collect(),
            index: usize::try_from(trailer.index_offset).unwrap(),
            object,
        }
    }

    fn flipped(&self, offset: usize, bits: u8) -> Vec<u8> {
        let mut altered = self.object.clone();
        altered[offset] ^= bits;
        altered
    }

    fn cut(&self, size: usize) -> Vec<u8> {
        self.object[..size].to_vec()
    }

    /// These blocks, between this object's header and its index.
    fn with_blocks(&self, numbers: &[usize]) -> Vec<u8> {
        let ends = [&self.blocks[1..], &[self.index]].concat();
        let block = |number: &usize| &self.object[self.blocks[*number]..ends[*number]];
        let blocks: Vec<&[u8]> = numbers.iter().map(block).collect();
        let header = &self.object[..self.blocks[0]];
        [header, &blocks.concat(), &self.object[self.index..]].concat()
    }

    fn with_length_word(&self, number: usize, word: u32) -> Vec<u8> {
        let mut altered = self.object.clone();
        altered[self.blocks[number]..][..4].copy_from_slice(&word.to_le_bytes());
        altered
    }

    /// The object with another header in the place of its own.
    fn with_header(object: &[u8], edits: &[(&str, &str)]) -> Vec<u8> {
        let header = Header::parse(object).unwrap().unwrap();
        let (json, blocks) = object[16..].split_at(usize::try_from(header.size()).unwrap() - 16);
        let json = edits.iter().fold(
            str::from_utf8(json).unwrap().to_owned(),
            |json, (from, to)| {
                assert!(json.contains(from));
                json.replacen(from, to, 1)
            },
        );
        let length = u32::try_from(json.len()).unwrap().to_le_bytes();
        [&object[..12], &length, json.as_bytes(), blocks].concat()
    }
}

fn altered_headers() -> Vec<Made> {
    let sound = Sound::new();
    let edited = |from, to| Sound::with_header(&sound.object, &[(from, to)]);
    let other = sealed(7, &identity(2), &[(b"another file", BlockInfo::default())]);
    let forged = Sound::with_header(
        &other,
        &[
            ("\"sequence\":2", "\"sequence\":1"),
            ("binlog.000002", "binlog.000001"),
        ],
    );
    vec![
        (
            "bad_magic",
            "the magic after a transfer as text",
            sound.flipped(4, 0x07),
        ),
        ("later_version", "version 3", sound.flipped(8, 0x02)),
        (
            "reserved_bits",
            "a reserved bit of the prefix is set",
            sound.flipped(10, 0x01),
        ),
        (
            "huge_header",
            "a header length of 2 GiB",
            sound.flipped(15, 0x80),
        ),
        (
            "bad_header",
            "the header is no JSON",
            sound.flipped(16, 0x01),
        ),
        (
            "loose_header",
            "a space in the header's JSON",
            edited(",", ", "),
        ),
        (
            "unknown_cipher",
            "the header names another cipher",
            edited("256-GCM", "256-CTR"),
        ),
        ("swapped_objects", "the object of sequence 2", other),
        (
            "forged_identity",
            "the object of sequence 2, its header altered to say 1",
            forged,
        ),
        (
            "bad_wrapped_key",
            "one bit of the wrapped key",
            edited("BgYGBg", "BgYGBw"),
        ),
        ("truncated_header", "cut in the header", sound.cut(100)),
    ]
}

fn altered_blocks() -> Vec<Made> {
    let sound = Sound::new();
    let [_, second, third] = sound.blocks[..] else {
        panic!("three blocks");
    };
    vec![
        (
            "bad_tag",
            "one bit of block 1's tag",
            sound.flipped(third - 1, 0x01),
        ),
        (
            "bad_ciphertext",
            "one bit of block 1",
            sound.flipped(second + 8, 0x80),
        ),
        (
            "swapped_blocks",
            "blocks 0 and 1 in each other's place",
            sound.with_blocks(&[1, 0, 2]),
        ),
        (
            "missing_block",
            "block 1 is left out",
            sound.with_blocks(&[0, 2]),
        ),
        (
            "repeated_block",
            "block 0 twice",
            sound.with_blocks(&[0, 0, 1, 2]),
        ),
        (
            "early_last_flag",
            "block 1 is flagged as the last",
            sound.flipped(second + 3, 0x80),
        ),
        (
            "cleared_last_flag",
            "block 2 is not flagged as the last",
            sound.flipped(third + 3, 0x80),
        ),
        (
            "huge_length",
            "block 1 claims 2 GiB",
            sound.with_length_word(1, 0x7FFF_FFFF),
        ),
        (
            "short_length",
            "block 1 claims to be only a tag",
            sound.with_length_word(1, 16),
        ),
        (
            "truncated_final",
            "cut before the last block",
            sound.cut(third),
        ),
    ]
}

fn altered_ends() -> Vec<Made> {
    let sound = Sound::new();
    let size = sound.object.len();
    vec![
        (
            "truncated_index",
            "cut behind the last block",
            sound.cut(sound.index),
        ),
        (
            "truncated_trailer",
            "the last byte is missing",
            sound.cut(size - 1),
        ),
        (
            "trailing_byte",
            "one byte behind the trailer",
            [&sound.object[..], b"\n"].concat(),
        ),
        (
            "bad_index",
            "one bit of the index",
            sound.flipped(sound.index + 10, 0x01),
        ),
        (
            "bad_trailer",
            "one bit of the trailer's index offset",
            sound.flipped(size - 40, 0x01),
        ),
    ]
}

/// Authentic objects of a writer that breaks the rules.
fn unlawful_objects() -> Vec<Made> {
    let (one, two) = (zstd(b"one"), zstd(b"two"));
    let pair = [one.clone(), two.clone()];
    let blocks: [(&[u8], &[u8]); 2] = [(b"one", &one), (b"two", &two)];
    let mut shifted = index_of(&blocks);
    shifted.blocks[0].plain_size -= 1;
    shifted.blocks[1].plain_size += 1;
    let mut digest = index_of(&blocks);
    digest.plain_sha256 = Digest::of(b"other");
    let bomb_plain = vec![0; MAX_BLOCK_PLAIN + 1];
    let bomb = zstd(&bomb_plain);
    let twice = [one.clone(), two.clone()].concat();
    let empty = zstd(b"");
    vec![
        (
            "zstd_bomb",
            "a block of 4 MiB and one byte",
            forged(
                9,
                std::slice::from_ref(&bomb),
                &index_of(&[(&bomb_plain, &bomb)]),
            ),
        ),
        (
            "two_frames",
            "two zstd frames in one block",
            forged(
                10,
                std::slice::from_ref(&twice),
                &index_of(&[(b"onetwo", &twice)]),
            ),
        ),
        (
            "empty_block",
            "an empty block before another",
            forged(
                11,
                &[empty.clone(), one.clone()],
                &index_of(&[(b"", &empty), (b"one", &one)]),
            ),
        ),
        (
            "index_shifted",
            "the index moves a byte from one block to the next",
            forged(12, &pair, &shifted),
        ),
        (
            "index_digest",
            "the index has the digest of another file",
            forged(13, &pair, &digest),
        ),
    ]
}

/// None is lost. With `GTIDE_WRITE_VECTORS=1` the missing ones are written, and none is ever changed.
#[test]
fn every_vector_is_there() {
    let write = std::env::var_os("GTIDE_WRITE_VECTORS").is_some();
    let made = [
        whole_objects(),
        altered_headers(),
        altered_blocks(),
        altered_ends(),
        unlawful_objects(),
    ]
    .concat();
    for (name, about, object) in made {
        let path = folder().join(name).with_extension("gtb");
        if !path.exists() {
            assert!(write, "{} is missing", path.display());
            write_vector(&path, about, &object);
        }
    }
}

fn write_vector(path: &Path, about: &str, object: &[u8]) {
    let opened = open_as(&identity(1), &golden_key(), object, usize::MAX);
    let (opens, refused) = match opened {
        Ok((plain, index)) => (Some(opens(&plain, &index)), None),
        Err(error) => (None, Some(reason(&error))),
    };
    let vector = Vector {
        about: about.to_owned(),
        identity: identity(1),
        opens,
        refused,
    };
    let text = serde_json::to_string_pretty(&vector).unwrap() + "\n";
    for (path, bytes) in [
        (path, object),
        (&path.with_extension("json"), text.as_bytes()),
    ] {
        File::create_new(path).unwrap().write_all(bytes).unwrap();
    }
}
