//! Events that are handed on: all of them, however the file comes in pieces.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::artificial;
use super::super::passing::{self, Kind, MAX_WHOLE, Misframed, Passing, Piece};
use super::*;

const FILES: [&str; 5] = [
    "mysql-9.7/binlog.000001",
    "mysql-9.7/binlog.000006",
    "mysql-9.7/binlog.000008",
    "mysql-9.7/binlog.000012",
    "mysql-9.7-anonymous/binlog.000002",
];

/// All pieces of a file that comes in chunks of these sizes, over and over.
fn pieces(bytes: &[u8], sizes: &[usize]) -> Result<Vec<Piece>, Misframed> {
    let mut passing = Passing::new();
    let (mut pieces, mut rest) = (Vec::new(), Bytes::copy_from_slice(bytes));
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        passing.push(rest.split_to(rest.len().min(*size)));
        while let Some(piece) = passing.next()? {
            pieces.push(piece);
        }
    }
    passing.finish()?;
    Ok(pieces)
}

#[test]
fn events_begin_where_they_do_and_small_ones_are_whole() {
    for name in FILES {
        let bytes = fixture(name);
        for sizes in [&[usize::MAX][..], &[1], &[19, 3], &[4096]] {
            let pieces = pieces(&bytes, sizes).unwrap();
            let joined: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| piece.bytes.to_vec())
                .collect();
            assert_eq!(joined, bytes[4..], "{name} in {sizes:?}");
            let heads = pieces
                .iter()
                .filter_map(|piece| Some((piece, piece.begins?)));
            for (piece, head) in heads.clone() {
                let whole = piece.bytes.len() == head.length as usize;
                assert!(whole || head.length as usize > MAX_WHOLE);
            }
            assert_eq!(heads.count() as u64, summary(&bytes).events, "{name}");
        }
    }
}

#[test]
fn gtids_are_those_that_the_scanner_finds() {
    for name in FILES {
        let bytes = fixture(name);
        let (mut gtids, mut checksum) = (Vec::new(), ChecksumAlgorithm::None);
        for piece in pieces(&bytes, &[usize::MAX]).unwrap() {
            match piece.begins.unwrap().kind {
                Kind::FormatDescription => {
                    checksum = passing::checksum_algorithm(&piece.bytes).unwrap();
                }
                Kind::Gtid => gtids.push(passing::gtid(&piece.bytes, checksum).unwrap()),
                _ => {}
            }
        }
        let (summary, boundaries) = scan(&bytes).unwrap();
        let last = pieces(&bytes, &[usize::MAX]).unwrap().pop().unwrap().bytes;
        if let End::Rotate { next } = summary.end {
            assert_eq!(passing::rotate_target(&last, checksum).unwrap(), next);
        }
        let expected: Vec<_> = boundaries.into_iter().filter_map(|b| b.gtid).collect();
        assert_eq!(gtids, expected, "{name}");
    }
}

#[test]
fn what_is_made_is_what_a_reader_takes_for_whole() {
    let bytes = fixture("mysql-9.7/binlog.000006");
    let first = pieces(&bytes, &[usize::MAX]).unwrap().remove(0).bytes;
    let begun = artificial::without_position(first.to_vec());
    assert_eq!(begun[13..17], [0; 4]);
    let created = artificial::without_created(first.to_vec());
    assert_eq!(created[..71], first[..71]);
    assert_eq!(created[71..75], [0; 4]);
    assert_ne!(begun, first);
    assert_eq!(artificial::without_in_use(first.to_vec()), first);
    for (made, kind) in [
        (begun, Kind::FormatDescription),
        (created, Kind::FormatDescription),
        (
            artificial::rotate(7, "binlog.000007", 4, ChecksumAlgorithm::Crc32),
            Kind::Rotate,
        ),
        (
            artificial::heartbeat(7, "binlog.000007", 99, ChecksumAlgorithm::Crc32),
            Kind::Other,
        ),
    ] {
        let (body, footer) = made.split_at(made.len() - 4);
        assert_eq!(crc32fast::hash(body).to_le_bytes(), footer);
        let file = [&MAGIC[..], &made].concat();
        let piece = pieces(&file, &[5]).unwrap().remove(0);
        assert_eq!(piece.begins.unwrap().kind, kind);
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_error_or_come_out_again(
        noise in vec(any::<u8>(), 0..600),
        sizes in vec(1..200_usize, 1..5),
        magic in any::<bool>(),
    ) {
        let mut bytes = if magic { MAGIC.to_vec() } else { Vec::new() };
        bytes.extend(noise);
        if let Ok(pieces) = pieces(&bytes, &sizes) {
            let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
            prop_assert_eq!(&joined, &bytes[4..]);
        }
    }
}
