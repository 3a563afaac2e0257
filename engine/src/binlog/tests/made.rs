//! Files made event by event: what other servers write, and what none should.

use super::super::event::kind;
use super::*;
use crate::gtid::Tsid;

const UUID: &str = "0d1a7e00-97a0-4000-8000-000000000001";
const ROWS: u8 = 30;
const IGNORABLE: u16 = 0x80;

/// A file that grows by events, each with the position and checksum that belong to it.
struct File {
    bytes: Vec<u8>,
    checksums: bool,
}

impl File {
    /// Magic and `FormatDescription`.
    fn begun(version: &str, flags: u16, checksums: bool) -> Self {
        let mut body = vec![4, 0];
        body.extend(version.bytes().chain(std::iter::repeat(0)).take(50));
        body.extend([0, 0, 0, 0, 19]);
        body.extend((1..=42).map(|kind| if kind == kind::ROTATE { 8 } else { 0 }));
        body.push(u8::from(checksums));
        let mut file = Self {
            bytes: MAGIC.to_vec(),
            checksums: true,
        };
        file.event(kind::FORMAT_DESCRIPTION, flags, &body);
        file.checksums = checksums;
        file
    }

    /// The same and an empty `PREVIOUS_GTIDS`.
    fn new() -> Self {
        let mut file = Self::begun("9.7.4", 0, true);
        file.event(kind::PREVIOUS_GTIDS, IGNORABLE, &GtidSet::new().encode());
        file
    }

    fn at(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn header(&mut self, kind: u8, flags: u16, length: u64, end: u64) {
        self.bytes.extend([0, 0, 0, 0, kind, 7, 0, 0, 0]);
        self.bytes
            .extend(u32::try_from(length).unwrap().to_le_bytes());
        self.bytes
            .extend(u32::try_from(end % (1 << 32)).unwrap().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
    }

    fn event(&mut self, kind: u8, flags: u16, body: &[u8]) -> &mut Self {
        let length = 19 + body.len() as u64 + if self.checksums { 4 } else { 0 };
        let start = self.bytes.len();
        self.header(kind, flags & !1, length, start as u64 + length);
        self.bytes.extend(body);
        if self.checksums {
            let crc = crc32fast::hash(&self.bytes[start..]);
            self.bytes.extend(crc.to_le_bytes());
        }
        self.bytes[start + 17] |= flags.to_le_bytes()[0] & 1;
        self
    }

    /// A classic GTID event, with whatever follows the number.
    fn gtid_event(&mut self, gno: u64, rest: &[u8]) -> &mut Self {
        let mut body = vec![0];
        body.extend(UUID.parse::<Tsid>().unwrap().uuid.as_bytes());
        body.extend(gno.to_le_bytes());
        body.extend(rest);
        let kind = if gno == 0 {
            kind::ANONYMOUS_GTID
        } else {
            kind::GTID
        };
        self.event(kind, 0, &body)
    }

    /// As 8.0.2 and later write it; committed at `gno` seconds after the epoch.
    fn gtid(&mut self, gno: u64, length: u64) -> &mut Self {
        let mut rest = vec![2];
        rest.extend([0; 16]);
        rest.extend(&(gno * 1_000_000).to_le_bytes()[..7]);
        rest.push(254);
        rest.extend(length.to_le_bytes());
        self.gtid_event(gno, &rest)
    }

    /// As 5.7 writes it.
    fn gtid_5_7(&mut self, gno: u64) -> &mut Self {
        let mut rest = vec![2];
        rest.extend([0; 16]);
        self.gtid_event(gno, &rest)
    }

    fn query(&mut self, text: &str) -> &mut Self {
        let mut body = vec![0; 13];
        body[8] = 4;
        body[11] = 3;
        body.extend(b"\x01\x02\x03tide\0");
        body.extend(text.as_bytes());
        self.event(kind::QUERY, 0, &body)
    }

    fn rows(&mut self) -> &mut Self {
        self.event(ROWS, 0, &[0xAA; 100])
    }

    fn xid(&mut self) -> &mut Self {
        self.event(kind::XID, 0, &[1; 8])
    }

    fn rotate(&mut self, next: &str) -> &mut Self {
        let mut body = vec![4, 0, 0, 0, 0, 0, 0, 0];
        body.extend(next.as_bytes());
        self.event(kind::ROTATE, 0, &body)
    }

    /// A transaction that states its length, whole.
    fn transaction(&mut self, gno: u64) -> &mut Self {
        let length = transaction_length(|file| file.query("BEGIN").rows().xid());
        self.gtid(gno, length).query("BEGIN").rows().xid()
    }

    fn scan(&self) -> (Summary, Vec<Boundary>) {
        scan(&self.bytes).unwrap()
    }

    /// Where and why an obstacle stands.
    fn obstacle(&self) -> (u64, String) {
        let summary = self.scan().0;
        assert_eq!(summary.damage, None);
        let obstacle = summary.obstacle.unwrap();
        (obstacle.offset, obstacle.reason)
    }
}

/// Length of a GTID event and these events behind it.
fn transaction_length(events: impl Fn(&mut File) -> &mut File) -> u64 {
    let mut file = File::new();
    let start = file.at();
    events(file.gtid(1, 0));
    file.at() - start
}

fn set(intervals: &str) -> GtidSet {
    format!("{UUID}:{intervals}").parse().unwrap()
}

fn offsets(boundaries: &[Boundary]) -> Vec<u64> {
    boundaries.iter().map(|boundary| boundary.offset).collect()
}

#[test]
fn a_file_that_ends_behind_any_event_without_rotate_or_stop_is_not_damaged() {
    let mut file = File::new();
    file.transaction(1).transaction(2);
    let (summary, boundaries) = file.scan();
    assert_eq!(
        (summary.end, summary.damage, summary.obstacle),
        (End::None, None, None)
    );
    assert!(!summary.open_transaction);
    assert_eq!(summary.added_gtids, set("1-2"));
    assert_eq!(boundaries.len(), 2);

    let behind_two = file.at();
    file.gtid(3, 400).query("BEGIN").rows();
    let (summary, boundaries) = file.scan();
    assert_eq!((summary.damage, summary.obstacle), (None, None));
    assert!(summary.open_transaction);
    assert_eq!(summary.added_gtids, set("1-2"), "the third is not whole");
    assert_eq!(summary.transactions, 2);
    assert_eq!(summary.last_commit.unwrap().as_second(), 2);
    assert_eq!(summary.last_position, summary.size);
    assert_eq!(boundaries[2].offset, behind_two);
}

#[test]
fn trap_2_the_three_ends_of_a_file() {
    let mut rotated = File::new();
    rotated.rotate("binlog.000043");
    let next = "binlog.000043".to_owned();
    assert_eq!(rotated.scan().0.end, End::Rotate { next });
    let mut stopped = File::new();
    stopped.event(kind::STOP, 0, &[]);
    assert_eq!(stopped.scan().0.end, End::Stop);
    assert_eq!(File::new().scan().0.end, End::None);
    stopped.checksums = false;
    let mut no_checksums = File::begun("9.7.4", 0, false);
    no_checksums
        .event(kind::PREVIOUS_GTIDS, 0, &[0; 8])
        .event(kind::STOP, 0, &[]);
    assert_eq!(
        no_checksums.scan().0.end,
        End::Stop,
        "an event that is its header alone"
    );
}

#[test]
fn magic_alone_and_less_are_damage_and_not_refused() {
    let (offset, reason) = damage(&MAGIC[..3]);
    assert_eq!((offset, reason.as_str()), (0, "cut off: 3 of 4 bytes"));
    let (offset, reason) = damage(&MAGIC);
    assert_eq!(
        (offset, reason.as_str()),
        (4, "cut off: 0 of at least 19 bytes")
    );
    let begun = File::begun("9.7.4", 1, true);
    let cut = summary(&begun.bytes[..60]);
    assert_eq!(cut.damage.unwrap().offset, 4);
    assert_eq!(
        (cut.server_version.as_str(), cut.events, cut.last_position),
        ("", 0, 4)
    );
    assert!(matches!(scan(b"\xFDbi"), Err(Refusal::NotABinlog(_))));
}

#[test]
fn trap_17_the_immediate_commit_time_is_the_one_that_counts() {
    const COMMIT: u64 = 1_795_354_946_159_941;
    let mut both = vec![2];
    both.extend([0; 16]);
    let follows = 1 << 55;
    both.extend(&(COMMIT + follows).to_le_bytes()[..7]);
    both.extend(&1_000_000_u64.to_le_bytes()[..7]);
    let mut file = File::new();
    file.gtid_event(9, &both).query("BEGIN").rows().xid();
    let (summary, boundaries) = file.scan();
    assert_eq!(
        summary.first_commit.unwrap().as_microsecond(),
        COMMIT.cast_signed()
    );
    assert_eq!(boundaries[0].commit, summary.first_commit);
    assert_eq!(boundaries[0].gtid.as_ref().unwrap().gno, 9);
}

#[test]
fn trap_17_commit_times_are_those_of_the_first_and_last_transaction_not_the_extremes() {
    let mut file = File::new();
    file.transaction(5).transaction(9).transaction(2);
    let summary = file.scan().0;
    assert_eq!(summary.first_commit.unwrap().as_second(), 5);
    assert_eq!(summary.last_commit.unwrap().as_second(), 2);
}

#[test]
fn servers_before_8_0_2_state_no_length_and_transactions_end_by_their_events() {
    let mut file = File::new();
    let first = file.at();
    let second = file
        .gtid_5_7(1)
        .query("BEGIN")
        .rows()
        .query("SAVEPOINT a")
        .query("COMMIT")
        .at();
    let third = file.gtid_5_7(2).query("CREATE TABLE t (a INT)").at();
    // As 5.6 writes a GTID event.
    file.gtid_event(3, &[])
        .query("XA START X'61',X'',1")
        .rows()
        .query("XA END X'61',X'',1");
    assert!(
        file.scan().0.open_transaction,
        "prepared XA is the end, not XA END"
    );
    let fourth = file.event(kind::XA_PREPARE, 0, &[0; 16]).at();
    assert!(!file.scan().0.open_transaction);
    file.gtid_5_7(4).query("XA COMMIT X'61',X'',1");
    assert!(!file.scan().0.open_transaction);
    let fifth = file.at();
    file.gtid_5_7(0)
        .query("BEGIN")
        .rows()
        .query("ROLLBACK TO `a`");
    assert!(file.scan().0.open_transaction);
    let end = file.xid().at();
    file.rotate("binlog.000002");

    let (summary, boundaries) = file.scan();
    assert_eq!((summary.damage, summary.obstacle), (None, None));
    assert_eq!(summary.added_gtids, set("1-4"));
    assert_eq!(
        (summary.transactions, summary.anonymous_transactions),
        (5, 1)
    );
    assert_eq!((summary.first_commit, summary.last_commit), (None, None));
    let expected = [first, second, third, fourth, fifth, end];
    assert_eq!(offsets(&boundaries), expected);
}

#[test]
fn a_stated_length_that_the_events_contradict_is_an_obstacle_and_the_events_decide() {
    let honest = transaction_length(|file| file.query("BEGIN").rows().xid());
    let mut past_the_next = File::new();
    past_the_next
        .gtid(1, honest + 50)
        .query("BEGIN")
        .rows()
        .xid();
    let next = past_the_next.at();
    past_the_next.transaction(2);
    let (offset, reason) = past_the_next.obstacle();
    assert_eq!(offset, next);
    assert!(reason.contains("past this event"), "{reason}");
    assert_eq!(past_the_next.scan().0.added_gtids, set("1-2"));

    let mut within_an_event = File::new();
    within_an_event.gtid(1, honest - 10).query("BEGIN").rows();
    let last = within_an_event.at();
    within_an_event.xid().transaction(2);
    let (offset, reason) = within_an_event.obstacle();
    assert_eq!(offset, last);
    assert!(reason.contains("end within this event"), "{reason}");
    assert_eq!(within_an_event.scan().0.added_gtids, set("1-2"));
    assert_eq!(within_an_event.scan().1.len(), 2);

    let mut past_the_end = File::new();
    past_the_end
        .gtid(1, u64::MAX)
        .query("BEGIN")
        .rows()
        .xid()
        .rotate("b.000002");
    assert!(past_the_end.obstacle().1.contains("past this event"));
    assert!(!past_the_end.scan().0.open_transaction);

    let mut too_short = File::new();
    let start = too_short.at();
    too_short.gtid(1, 20).query("BEGIN").rows().xid();
    assert_eq!(too_short.obstacle().0, start);

    let mut not_all = File::new();
    not_all.gtid(1, honest);
    not_all.query("BEGIN").rows().xid();
    let outside = not_all.at();
    not_all.rows();
    assert_eq!(not_all.obstacle().0, outside);
    assert!(not_all.obstacle().1.contains("outside of any transaction"));
}

#[test]
fn trap_9_unknown_events_are_skipped_when_ignorable_and_flagged_when_not() {
    let mut file = File::new();
    file.transaction(1)
        .event(77, IGNORABLE, b"ignorable")
        .transaction(2);
    let (summary, boundaries) = file.scan();
    assert_eq!((summary.damage, summary.obstacle), (None, None));
    assert_eq!(summary.added_gtids, set("1-2"));
    assert_eq!(
        boundaries.len(),
        3,
        "two starts, and the end before the ignorable event"
    );

    let unknown = file.at();
    file.event(77, 0, b"not ignorable").transaction(3);
    let (summary, _) = file.scan();
    let reason = "event type 77 is unknown to this version".to_owned();
    let obstacle = Obstacle {
        offset: unknown,
        event_type: 77,
        reason,
    };
    assert_eq!((summary.damage, summary.obstacle), (None, Some(obstacle)));
    assert_eq!(
        summary.added_gtids,
        set("1-3"),
        "what is behind is still read"
    );
}

#[test]
fn an_incident_is_an_obstacle() {
    let mut file = File::new();
    let at = file.at();
    file.event(kind::INCIDENT, 0, &[1, 0, 0]);
    assert_eq!(file.obstacle().0, at);
}

#[test]
fn a_tagged_gtid_event_of_a_newer_server_is_an_obstacle_not_damage() {
    let mut file = File::new();
    let at = file.at();
    file.event(kind::TAGGED_GTID, 0, &[4, 6, 0]).transaction(1);
    assert_eq!(
        file.obstacle(),
        (at, "serialization format version 2".to_owned())
    );
}

#[test]
fn trap_9_a_transaction_beyond_4_gib_wraps_its_positions_and_is_streamed() {
    const GIB: u64 = 1 << 30;
    let mebibyte = vec![0x5A; 1 << 20];
    let mut file = File::begun("9.7.4", 0, false);
    file.event(kind::PREVIOUS_GTIDS, 0, &[0; 8]);
    let start = file.at();
    let events = 5;
    let length = transaction_length_without_checksums() + events * (19 + GIB);
    file.gtid(1, length).query("BEGIN");

    let mut scanner = Scanner::new();
    let mut position = file.at();
    scanner.push(&file.bytes).unwrap();
    for _ in 0..events {
        file.bytes.clear();
        position += 19 + GIB;
        file.header(ROWS, 0, 19 + GIB, position);
        scanner.push(&file.bytes).unwrap();
        for _ in 0..1024 {
            scanner.push(&mebibyte).unwrap();
        }
    }
    for (kind, body) in [(kind::XID, &[1; 8][..]), (kind::STOP, &[])] {
        file.bytes.clear();
        position += 19 + body.len() as u64;
        file.header(kind, 0, 19 + body.len() as u64, position);
        file.bytes.extend(body);
        scanner.push(&file.bytes).unwrap();
    }
    let boundaries = scanner.take_boundaries();
    let summary = scanner.finish().unwrap();
    assert!(position > 5 * GIB);
    assert_eq!((summary.damage, summary.obstacle), (None, None));
    assert_eq!((summary.size, summary.last_position), (position, position));
    assert_eq!((summary.end, summary.transactions), (End::Stop, 1));
    assert_eq!(offsets(&boundaries), [start, start + length]);
}

/// GTID, BEGIN and XID.
fn transaction_length_without_checksums() -> u64 {
    transaction_length(|file| file.query("BEGIN").xid()) - 3 * 4
}

#[test]
fn trap_9_an_event_shorter_than_its_header_is_damage() {
    for length in [0, 18, 22_u32] {
        let mut file = File::new();
        file.transaction(1);
        let at = file.bytes.len();
        file.transaction(2);
        file.bytes[at + 9..at + 13].copy_from_slice(&length.to_le_bytes());
        let (offset, reason) = damage(&file.bytes);
        assert_eq!(offset, at as u64);
        assert_eq!(reason, format!("event length {length} is below 23"));
        assert_eq!(file.scan().0.added_gtids, set("1"));
    }
}

#[test]
fn zeroes_behind_the_last_event_are_damage_there() {
    let mut file = File::new();
    file.transaction(1);
    let at = file.at();
    file.bytes.extend([0; 4096]);
    let (summary, boundaries) = file.scan();
    assert_eq!(summary.damage.unwrap().offset, at);
    assert_eq!(summary.size, at + 4096);
    assert_eq!(
        boundaries.last().unwrap().offset,
        at,
        "the last whole transaction's end"
    );
}

#[test]
fn a_missing_event_is_found_though_every_crc_is_right() {
    let mut whole = File::new();
    whole.transaction(1);
    let from = whole.bytes.len();
    whole.transaction(2);
    let to = whole.bytes.len();
    whole.transaction(3);
    whole.bytes.drain(from..to);
    let (offset, reason) = damage(&whole.bytes);
    assert_eq!(offset, from as u64);
    assert!(reason.contains("says that it ends at"), "{reason}");
}

#[test]
fn events_behind_rotate_or_stop_are_read_on_and_flagged() {
    let mut file = File::new();
    file.transaction(1).event(kind::STOP, 0, &[]);
    let at = file.at();
    file.transaction(2);
    assert_eq!(
        file.obstacle(),
        (at, "an event behind the end of the file".to_owned())
    );
    let summary = file.scan().0;
    assert_eq!(summary.added_gtids, set("1-2"));
    assert_eq!(summary.end, End::None);
    file.rotate("b.000002");
    assert!(matches!(file.scan().0.end, End::Rotate { .. }));

    let mut garbage = File::new();
    garbage.event(kind::STOP, 0, &[]);
    let at = garbage.at();
    garbage.bytes.extend(b"garbage");
    let summary = garbage.scan().0;
    assert_eq!(summary.damage.unwrap().offset, at);
    assert_eq!(summary.end, End::Stop);
}

#[test]
fn a_file_without_previous_gtids_is_an_obstacle_lest_it_read_as_an_empty_set() {
    let mut file = File::begun("9.7.4", 0, true);
    let at = file.at();
    assert_eq!(
        file.obstacle(),
        (at, "the file has no PREVIOUS_GTIDS event".to_owned())
    );
    file.transaction(1);
    assert_eq!(
        file.obstacle(),
        (at, "no PREVIOUS_GTIDS event before it".to_owned())
    );
}

#[test]
fn previous_gtids_beyond_the_bound_are_flagged_not_guessed() {
    let mut file = File::begun("9.7.4", 0, true);
    let at = file.at();
    file.event(
        kind::PREVIOUS_GTIDS,
        0,
        &vec![0; scanner::MAX_PREVIOUS_GTIDS as usize],
    );
    file.transaction(1);
    let (offset, reason) = file.obstacle();
    assert_eq!(offset, at);
    assert!(reason.ends_with("bytes of GTIDs are not read"), "{reason}");
    assert_eq!(file.scan().0.transactions, 1);
}

#[test]
fn previous_gtids_of_megabytes_are_read() {
    let mut many = GtidSet::new();
    for n in 1..=100_000 {
        many.insert_range(UUID.parse().unwrap(), n * 3, n * 3)
            .unwrap();
    }
    let mut file = File::begun("9.7.4", 0, true);
    file.event(kind::PREVIOUS_GTIDS, 0, &many.encode());
    assert_eq!(file.scan().0.previous_gtids, many);
}

#[test]
fn bodies_that_no_server_writes_are_damage() {
    let damaged = |make: &dyn Fn(&mut File) -> &mut File| {
        let mut file = File::new();
        let at = file.at();
        make(&mut file);
        let (offset, reason) = damage(&file.bytes);
        assert_eq!(offset, at, "{reason}");
        reason
    };
    assert!(damaged(&|file| file.event(kind::GTID, 0, &[0; 25])).contains("number 0"));
    assert!(damaged(&|file| file.event(kind::GTID, 0, &[0xFF; 25])).contains("out of range"));
    assert!(damaged(&|file| file.event(kind::GTID, 0, &[0; 24])).contains("shorter"));
    let anonymous = damaged(&|file| file.event(kind::ANONYMOUS_GTID, 0, &[1; 25]));
    assert!(anonymous.contains("anonymous"), "{anonymous}");
    assert!(damaged(&|file| file.event(kind::ROTATE, 0, &[0; 8])).contains("without a file name"));
    assert!(damaged(&|file| file.event(kind::ROTATE, 0, &[0; 7])).contains("shorter"));
    assert!(damaged(&|file| file.event(kind::ROTATE, 0, &[b'x'; 5000])).contains("event length"));
    assert!(damaged(&|file| file.event(kind::PREVIOUS_GTIDS, 0, &[0; 8])).contains("a second"));
    assert!(damaged(&|file| file.event(kind::FORMAT_DESCRIPTION, 0, &[])).contains("a second"));
    let mut bad_set = File::begun("9.7.4", 0, true);
    bad_set.event(kind::PREVIOUS_GTIDS, 0, &[1, 0, 0, 0, 0, 0, 0, 0]);
    assert!(
        damage(&bad_set.bytes)
            .1
            .contains("malformed GTID set encoding")
    );
}

#[test]
fn a_format_description_of_another_format_is_damage_at_the_start() {
    let with = |at: usize, byte: u8| {
        let mut file = File::begun("9.7.4", 0, true);
        file.bytes[4 + 19 + at] = byte;
        let end = file.bytes.len() - 4;
        let crc = crc32fast::hash(&file.bytes[4..end]).to_le_bytes();
        file.bytes[end..].copy_from_slice(&crc);
        let (offset, reason) = damage(&file.bytes);
        assert_eq!(offset, 4);
        reason
    };
    assert_eq!(with(0, 5), "binlog format version 5, not 4");
    assert_eq!(with(56, 20), "event headers of 20 bytes, not 19");
    assert_eq!(with(57 + 42, 2), "unknown checksum algorithm 2");
    let mut other = File {
        bytes: MAGIC.to_vec(),
        checksums: true,
    };
    other.query("BEGIN");
    assert_eq!(
        damage(&other.bytes).1,
        "the first event is of type 2, not 15"
    );
}

#[test]
fn mariadb_is_refused_by_its_version_or_by_its_list_of_event_types() {
    let named = File::begun("10.11.6-MariaDB-log", 0, true);
    let version = "10.11.6-MariaDB-log".to_owned();
    assert_eq!(scan(&named.bytes), Err(Refusal::MariaDb(version.clone())));
    let mut other_checksum = named.bytes.clone();
    *other_checksum.last_mut().unwrap() ^= 1;
    assert_eq!(scan(&other_checksum), Err(Refusal::MariaDb(version)));

    let mut body = vec![4, 0];
    body.extend(
        b"11.4.2-custom"
            .iter()
            .copied()
            .chain(std::iter::repeat(0))
            .take(50),
    );
    body.extend([0, 0, 0, 0, 19]);
    body.extend([0; 171]);
    body.push(1);
    let mut renamed = File {
        bytes: MAGIC.to_vec(),
        checksums: true,
    };
    renamed.event(kind::FORMAT_DESCRIPTION, 0, &body);
    assert_eq!(
        scan(&renamed.bytes),
        Err(Refusal::MariaDb("11.4.2-custom".to_owned()))
    );
}

#[test]
fn a_refusal_is_repeated_by_every_later_call() {
    let mut scanner = Scanner::new();
    assert_eq!(scanner.push(b"\xFDbin and more"), Err(Refusal::Encrypted));
    assert_eq!(scanner.push(b"more"), Err(Refusal::Encrypted));
    assert_eq!(scanner.finish(), Err(Refusal::Encrypted));
}

#[test]
fn trap_1_the_flag_of_a_file_in_use_is_recorded_and_its_crc_is_that_of_the_cleared_flag() {
    let mut file = File::begun("9.7.4", 1, true);
    assert_eq!(file.bytes[21], 1);
    file.event(kind::PREVIOUS_GTIDS, 0, &[0; 8]);
    let summary = file.scan().0;
    assert!(summary.in_use);
    assert_eq!(summary.damage, None);
    assert_eq!(
        (summary.server_version.as_str(), summary.server_id),
        ("9.7.4", 7)
    );
}
