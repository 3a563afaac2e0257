//! Binlog files for tests, made of the events of real ones: a chain in which one file is large, and a chain of
//! any number of tiny files.
//!
//! Every event keeps its own bytes but for what must differ: positions, GTIDs, row contents, and the CRC over
//! them. So they are what a server could have written, and gtide's reader finds no fault with them.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::workspace::fixture;

const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
const HEADER: usize = 19;
const FOOTER: usize = 4;

/// What stands before in an event of rows tells of which table they are, and where they begin.
const ROWS: usize = 60;

const ROTATE: u8 = 4;
const WRITE_ROWS: u8 = 30;
const UPDATE_ROWS: u8 = 31;
const GTID: u8 = 33;
const PREVIOUS_GTIDS: u8 = 35;

/// Whose transactions the fixtures hold.
const SERVER: [u8; 16] = *b"\x0d\x1a\x7e\x00\x97\xa0\x40\x00\x80\x00\x00\x00\x00\x00\x00\x01";

/// Whose the added ones are: of a replication source, so that the server's own numbers stay as they are.
const ELSEWHERE: [u8; 16] = *b"\x0d\x1a\x7e\x00\x97\xa0\x40\x00\x80\x00\x00\x00\x00\x00\x00\xee";

/// Transactions 1 to so many of a server.
type Executed = ([u8; 16], u64);

/// Writes `binlog.000001` to `binlog.000004` and their index into `datadir`: all small, but for the second, which
/// has more than `large` bytes that hardly compress. All are closed; the last ends in ROTATE.
pub fn write_chain(datadir: &Path, large: usize) {
    let folder = fixture("binlog/mysql-9.7");
    fs::copy(folder.join("auto.cnf"), datadir.join("auto.cnf")).unwrap();
    let read = |number: u32| Binlog::read(&folder.join(name(number.into())));

    let mut second = read(2);
    let transactions = second.swell(large);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    second.randomise_rows(&mut random);
    let (mut third, mut fourth) = (read(3), read(4));
    third.set_previous_gtids(&[(SERVER, 21), (ELSEWHERE, transactions)]);
    fourth.set_previous_gtids(&[(SERVER, 45), (ELSEWHERE, transactions)]);

    for (number, binlog) in (1..).zip([read(1), second, third, fourth]) {
        fs::write(datadir.join(name(number)), binlog.bytes()).unwrap();
    }
    write_index(datadir, 1..=4);
}

/// Writes the tiny binlogs of these numbers, a few hundred bytes and one transaction each, and an index that
/// names all from 1 up to an active file behind them, which is not there.
pub fn write_tiny(datadir: &Path, numbers: RangeInclusive<u64>) {
    let folder = fixture("binlog/mysql-9.7");
    fs::copy(folder.join("auto.cnf"), datadir.join("auto.cnf")).unwrap();
    let template = Binlog::read(&folder.join("binlog.000001"));
    let last = *numbers.end();
    for number in numbers {
        let binlog = template.tiny(number);
        fs::write(datadir.join(name(number)), binlog.bytes()).unwrap();
    }
    write_index(datadir, 1..=last + 1);
}

/// The name of a file by its number.
pub fn name(number: u64) -> String {
    format!("binlog.{number:06}")
}

/// As the server replaces it: by a rename.
pub fn write_index(datadir: &Path, numbers: RangeInclusive<u64>) {
    let text: String = numbers
        .map(|number| format!("./{}\n", name(number)))
        .collect();
    let new = datadir.join("binlog.index.new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, datadir.join("binlog.index")).unwrap();
}

struct Binlog {
    events: Vec<Vec<u8>>,
}

impl Binlog {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let mut rest = bytes.strip_prefix(&MAGIC).unwrap();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[9..13].try_into().unwrap());
            let (event, behind) = rest.split_at(usize::try_from(length).unwrap());
            events.push(event.to_vec());
            rest = behind;
        }
        Self { events }
    }

    /// With positions and checksums made right.
    fn bytes(mut self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for event in &mut self.events {
            let length = u32::try_from(event.len()).unwrap();
            event[9..13].copy_from_slice(&length.to_le_bytes());
            let end = u32::try_from(bytes.len() + event.len()).unwrap();
            event[13..17].copy_from_slice(&end.to_le_bytes());
            let (body, footer) = event.split_at_mut(length as usize - FOOTER);
            footer.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
            bytes.extend_from_slice(event);
        }
        bytes
    }

    fn find(&self, kind: u8) -> usize {
        let found = self.events.iter().position(|event| event[4] == kind);
        found.unwrap()
    }

    fn set_previous_gtids(&mut self, executed: &[Executed]) {
        let at = self.find(PREVIOUS_GTIDS);
        let event = &mut self.events[at];
        event.truncate(HEADER);
        let executed: Vec<&Executed> = executed.iter().filter(|(_, last)| *last > 0).collect();
        event.extend_from_slice(&(executed.len() as u64).to_le_bytes());
        for (server, last) in executed {
            event.extend_from_slice(server);
            for number in [1, 1, last + 1] {
                event.extend_from_slice(&number.to_le_bytes());
            }
        }
        event.extend_from_slice(&[0; FOOTER]);
    }

    /// The events of the transaction that begins at event `start`.
    fn transaction(&self, start: usize) -> &[Vec<u8>] {
        let others = &self.events[start + 1..];
        let len = others
            .iter()
            .position(|event| matches!(event[4], GTID | ROTATE));
        &self.events[start..=start + len.unwrap()]
    }

    /// Repeats the largest transaction in front of the last event until the file has more than `size` bytes.
    /// Returns how many copies there are; their GTIDs are numbered from 1.
    fn swell(&mut self, size: usize) -> u64 {
        let starts = (0..self.events.len()).filter(|at| self.events[*at][4] == GTID);
        let bytes = |events: &[Vec<u8>]| events.iter().map(Vec::len).sum::<usize>();
        let largest = starts.max_by_key(|start| bytes(self.transaction(*start)));
        let template = self.transaction(largest.unwrap()).to_vec();
        let last = self.events.pop().unwrap();
        let mut copies = 0;
        while bytes(&self.events) <= size {
            copies += 1;
            let mut copy = template.clone();
            set_gtid(&mut copy[0], copies);
            self.events.append(&mut copy);
        }
        self.events.push(last);
        copies
    }

    /// Makes the contents of large rows such as hardly compress.
    fn randomise_rows(&mut self, random: &mut Random) {
        let mut events = self.events.iter_mut();
        while let Some(event) = events.find(|event| is_large_row(event)) {
            let end = event.len() - FOOTER;
            for word in event[ROWS..end].chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
        }
    }

    /// One of this file's transactions as the only one of file `number`.
    fn tiny(&self, number: u64) -> Self {
        let start = self.find(GTID);
        let mut transaction = self.transaction(start).to_vec();
        set_gtid(&mut transaction[0], number);
        let mut rotate = self.events.last().unwrap().clone();
        rotate.truncate(HEADER + 8);
        rotate.extend_from_slice(name(number + 1).as_bytes());
        rotate.extend_from_slice(&[0; FOOTER]);
        let at = self.find(PREVIOUS_GTIDS);
        let mut tiny = Self {
            events: self.events[..=at].to_vec(),
        };
        tiny.set_previous_gtids(&[(ELSEWHERE, number - 1)]);
        tiny.events.append(&mut transaction);
        tiny.events.push(rotate);
        tiny
    }
}

fn is_large_row(event: &[u8]) -> bool {
    matches!(event[4], WRITE_ROWS | UPDATE_ROWS) && event.len() > 1_000
}

fn set_gtid(event: &mut [u8], number: u64) {
    event[20..36].copy_from_slice(&ELSEWHERE);
    event[36..44].copy_from_slice(&number.to_le_bytes());
}

/// Xorshift: the same bytes each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
