//! Real files of a MySQL 9.7 server; `expected.json` beside them is made from what mysqlbinlog prints
//! and from the server's own GTID functions.

use serde_json::Value;

use super::*;
use crate::exit::{Diagnose, Exit};

fn expected(dir: &str) -> Value {
    serde_json::from_slice(&fixture(&format!("{dir}/expected.json"))).unwrap()
}

fn micros(time: Option<Timestamp>) -> Value {
    time.map(Timestamp::as_microsecond).into()
}

/// Compares one file with what mysqlbinlog says of it.
fn compare(dir: &str, file: &Value, next: Option<&Value>) {
    let name = file["name"].as_str().unwrap();
    let bytes = fixture(&format!("{dir}/{name}"));
    let (summary, boundaries) = scan(&bytes).unwrap();
    let context = format!("{dir}/{name}: {summary:#?}");
    assert_eq!(
        (&summary.damage, &summary.obstacle),
        (&None, &None),
        "{context}"
    );
    assert!(!summary.open_transaction, "{context}");
    assert_eq!(file["size"], summary.size, "{context}");
    assert_eq!(file["size"], summary.last_position, "{context}");
    // mysqlbinlog prints no Rows_query event unless it is very verbose.
    let events = event_offsets(&bytes);
    let rows_queries = events
        .iter()
        .filter(|&&at| bytes.get(at + 4) == Some(&29))
        .count() as u64;
    assert_eq!(
        file["event_count"],
        summary.events - rows_queries,
        "{context}"
    );
    assert_eq!(file["server_version"], summary.server_version, "{context}");
    assert_eq!(file["in_use"], summary.in_use, "{context}");
    assert_eq!(
        file["previous_gtids"],
        summary.previous_gtids.to_string(),
        "{context}"
    );
    assert_eq!(
        file["added_gtids"],
        summary.added_gtids.to_string(),
        "{context}"
    );
    assert_eq!(file["transaction_count"], summary.transactions, "{context}");
    assert_eq!(
        file["first_immediate_commit_timestamp"],
        micros(summary.first_commit),
        "{context}"
    );
    assert_eq!(
        file["last_immediate_commit_timestamp"],
        micros(summary.last_commit),
        "{context}"
    );
    let checksum = match summary.checksum_algorithm {
        ChecksumAlgorithm::None => "none",
        ChecksumAlgorithm::Crc32 => "crc32",
    };
    assert_eq!(file["checksum"], checksum, "{context}");
    let end = match &summary.end {
        End::Rotate { next: successor } => {
            if let Some(next) = next {
                assert_eq!(next["name"], successor.as_str(), "{context}");
            }
            "rotate"
        }
        End::Stop => "stop",
        End::None => "none",
    };
    assert_eq!(file["end"], end, "{context}");
    let transactions = file["transactions"].as_array().unwrap();
    let anonymous = transactions.iter().filter(|t| t["gtid"].is_null()).count();
    assert_eq!(
        summary.anonymous_transactions, anonymous as u64,
        "{context}"
    );
    compare_boundaries(transactions, &boundaries, summary.size);
}

/// Each transaction's start is a boundary with its GTID and commit time; the end of one that no other
/// follows is one, too, unless the file ends there.
fn compare_boundaries(transactions: &[Value], boundaries: &[Boundary], size: u64) {
    let mut boundaries = boundaries.iter();
    for (n, transaction) in transactions.iter().enumerate() {
        let start = boundaries.next().unwrap();
        assert_eq!(transaction["position"], start.offset);
        assert_eq!(
            transaction["gtid"],
            Value::from(start.gtid.as_ref().map(Gtid::to_string))
        );
        assert_eq!(
            transaction["immediate_commit_timestamp"],
            micros(start.commit)
        );
        let end = start.offset + transaction["length"].as_u64().unwrap();
        let followed = transactions
            .get(n + 1)
            .is_some_and(|next| next["position"] == end);
        if !followed && end != size {
            let expected = Boundary {
                offset: end,
                gtid: None,
                commit: None,
            };
            assert_eq!(boundaries.next(), Some(&expected));
        }
    }
    assert_eq!(boundaries.next(), None);
}

fn compare_chain(dir: &str) {
    let expected = expected(dir);
    let files = expected["files"].as_array().unwrap();
    assert!(files.len() >= 2);
    for (n, file) in files.iter().enumerate() {
        compare(dir, file, files.get(n + 1));
    }
}

#[test]
fn every_file_of_a_server_reads_as_mysqlbinlog_reads_it() {
    compare_chain("mysql-9.7");
}

#[test]
fn trap_26_anonymous_transactions_read_as_mysqlbinlog_reads_them() {
    compare_chain("mysql-9.7-anonymous");
}

#[test]
fn trap_1_and_2_files_of_a_killed_server_are_in_use_end_in_nothing_and_are_not_damaged() {
    compare_chain("mysql-9.7-crashed");
    let summary = summary(&fixture("mysql-9.7-crashed/binlog.000001"));
    assert!(summary.in_use);
    assert_eq!(summary.end, End::None);
    assert_eq!(summary.damage, None);
}

#[test]
fn trap_1_clearing_in_use_in_place_leaves_the_crc_right() {
    let mut recovered = fixture("mysql-9.7-crashed/binlog.000001");
    recovered[21] = 0;
    let summary = summary(&recovered);
    assert_eq!((summary.in_use, summary.damage), (false, None));
}

#[test]
fn trap_4_previous_gtids_are_those_of_the_file_before_and_the_ones_it_added() {
    for dir in ["mysql-9.7", "mysql-9.7-crashed"] {
        let expected = expected(dir);
        let names = expected["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["name"].as_str().unwrap());
        let mut before = GtidSet::new();
        for name in names {
            let summary = summary(&fixture(&format!("{dir}/{name}")));
            assert_eq!(summary.previous_gtids, before, "{dir}/{name}");
            assert!(
                before.intersect(&summary.added_gtids).is_empty(),
                "{dir}/{name}"
            );
            before.union_with(&summary.added_gtids);
        }
        assert_eq!(expected["gtids_after"], before.to_string());
    }
}

#[test]
fn trap_5_without_checksums_only_the_format_description_has_one() {
    let bytes = fixture("mysql-9.7/binlog.000008");
    assert_eq!(summary(&bytes).checksum_algorithm, ChecksumAlgorithm::None);
    let mut flipped = bytes;
    flipped[30] ^= 1;
    assert_eq!(damage(&flipped).0, 4);
}

#[test]
fn a_truncated_file_is_damaged_at_the_event_that_is_cut_and_its_transaction_does_not_count() {
    let expected = expected("damaged");
    let (summary, boundaries) = scan(&fixture("damaged/truncated.000001")).unwrap();
    let damage = summary.damage.unwrap();
    assert_eq!(expected["event"]["position"], damage.offset);
    let length = &expected["event"]["length"];
    let kept = summary.size - damage.offset;
    assert_eq!(damage.reason, format!("cut off: {kept} of {length} bytes"));
    assert_eq!(expected["transactions_before"], summary.transactions);
    assert_eq!(
        u128::from(summary.transactions),
        summary.added_gtids.count()
    );
    assert!(summary.open_transaction);
    assert_eq!(summary.end, End::None);
    assert_eq!(summary.last_position, damage.offset);
    // The cut transaction's start is known, and nothing behind.
    assert_eq!(boundaries.len() as u64, summary.transactions + 1);
}

#[test]
fn a_flipped_bit_is_damage_at_its_event_and_what_is_behind_is_not_read() {
    let expected = expected("damaged");
    let bytes = fixture("damaged/bit-flipped.000001");
    let (summary, boundaries) = scan(&bytes).unwrap();
    let damage = summary.damage.unwrap();
    assert_eq!(expected["event"]["position"], damage.offset);
    assert!(
        damage.reason.starts_with("CRC32 is 0x"),
        "{}",
        damage.reason
    );
    assert_eq!(expected["transactions_before"], summary.transactions);
    assert_eq!(summary.size, bytes.len() as u64);
    assert!(summary.open_transaction);
    assert!(
        boundaries
            .iter()
            .all(|boundary| boundary.offset < damage.offset)
    );
}

#[test]
fn what_is_no_binlog_of_mysql_is_refused_by_name_with_a_hint() {
    let refused = |name: &str| {
        let refusal = scan(&fixture(name)).unwrap_err();
        assert!(refusal.hint().is_some());
        (refusal.to_string(), refusal.exit())
    };
    let encrypted = "encrypted by the server (binlog_encryption=ON)".to_owned();
    assert_eq!(
        refused("refused/encrypted.000001"),
        (encrypted, Exit::Usage),
        "TRAPS 6"
    );
    let relay = "a relay log, not a binary log".to_owned();
    assert_eq!(
        refused("refused/relay.000002"),
        (relay, Exit::Usage),
        "TRAPS 10"
    );
    let (mariadb, exit) = refused("refused/mariadb.000001");
    assert!(
        mariadb.starts_with("written by MariaDB (11.8."),
        "{mariadb}"
    );
    assert_eq!(exit, Exit::Usage);
    let empty = "empty: not even the 4 magic bytes of a binlog are there".to_owned();
    assert_eq!(refused("refused/empty.000001"), (empty, Exit::Corrupt));
    let zeroes = r#"not a binlog: it begins with "\x00\x00\x00\x00""#.to_owned();
    assert_eq!(refused("damaged/no-magic.000001"), (zeroes, Exit::Corrupt));
}

/// The bodies of its `TRANSACTION_PAYLOAD` events (type 40), however the file is cut into pieces.
#[test]
fn what_the_server_compressed_is_counted() {
    let mut found = 0;
    for name in chains() {
        let bytes = fixture(&name);
        let offsets = event_offsets(&bytes);
        let events = offsets.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
        let sizes: Vec<_> = events
            .filter(|event| event[4] == 40)
            .map(<[u8]>::len)
            .collect();
        let bodies = sizes.iter().sum::<usize>() - sizes.len() * 19;
        let without_checksums = bodies - sizes.len() * 4;
        for piece in [7, bytes.len()] {
            let mut scanner = Scanner::new();
            for piece in bytes.chunks(piece) {
                scanner.push(piece).unwrap();
            }
            let compressed = usize::try_from(scanner.compressed()).unwrap();
            assert!(
                [bodies, without_checksums].contains(&compressed),
                "{name}: {compressed}"
            );
        }
        found += sizes.len();
    }
    assert!(found > 3, "{found}");
}
