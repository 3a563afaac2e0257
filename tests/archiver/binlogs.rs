//! Binlog files for tests: what a server could have written, any number of them, as large as wanted.
//!
//! They are made of the events of a real one (fixtures/binlog). Each event keeps its own bytes but for what must
//! differ: positions, GTIDs, row contents, and the CRC over them. Files follow one another: each says which
//! transactions were before it.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use uuid::Uuid;

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

/// The name of a file by its number.
pub fn name(number: u64) -> String {
    format!("binlog.{number:06}")
}

/// Writes the index that names these files, as the server does: by a rename.
pub fn write_index(datadir: &Path, numbers: RangeInclusive<u64>) {
    let lines: Vec<String> = numbers
        .map(|number| format!("./{}\n", name(number)))
        .collect();
    let new = datadir.join("binlog.index.new");
    fs::write(&new, lines.concat()).unwrap();
    fs::rename(&new, datadir.join("binlog.index")).unwrap();
}

/// A server that writes one file after the other.
pub struct Server {
    uuid: Uuid,
    /// The events of the file that the others are made of.
    template: Vec<Vec<u8>>,
    /// The file that it writes next.
    number: u64,
    /// The transaction that it commits next.
    gno: u64,
    random: Random,
}

impl Server {
    /// A server in an empty `datadir`; each `nth` is another one.
    pub fn new(datadir: &Path, nth: u8) -> Self {
        let uuid = Uuid::from_u128(0x0d1a_7e00_97a0_4000_8000_0000_0000_0000 + u128::from(nth));
        fs::write(
            datadir.join("auto.cnf"),
            format!("[auto]\nserver-uuid={uuid}\n"),
        )
        .unwrap();
        write_index(datadir, 1..=1);
        Self {
            uuid,
            template: read_events(&fixture("binlog/mysql-9.7/binlog.000002")),
            number: 1,
            gno: 1,
            random: Random(0x9E37_79B9_7F4A_7C15),
        }
    }

    /// Writes and closes the next file, and begins another: of more than `size` bytes that hardly compress, where that
    /// is more than its least. The file that it begins is named in the index, and not there.
    pub fn rotate(&mut self, datadir: &Path, size: usize) {
        let starts: Vec<usize> = (0..self.template.len())
            .filter(|at| self.template[*at][4] == GTID)
            .collect();
        let largest = starts.iter().max_by_key(|at| len(self.transaction(**at)));
        let (small, large) = (starts.last().unwrap(), largest.unwrap());

        let mut events = self.template[..starts[0]].to_vec();
        self.set_previous_gtids(&mut events);
        self.commit(&mut events, *small);
        while len(&events) < size {
            self.commit(&mut events, *large);
        }
        events.push(rotation_to(
            &name(self.number + 1),
            self.template.last().unwrap(),
        ));
        fs::write(datadir.join(name(self.number)), bytes_of(events)).unwrap();
        self.number += 1;
        write_index(datadir, 1..=self.number);
    }

    /// Everything up to now.
    fn set_previous_gtids(&self, events: &mut [Vec<u8>]) {
        let mut events = events.iter_mut();
        let event = events.find(|event| event[4] == PREVIOUS_GTIDS).unwrap();
        event.truncate(HEADER);
        let servers = u64::from(self.gno > 1);
        event.extend_from_slice(&servers.to_le_bytes());
        if servers > 0 {
            event.extend_from_slice(self.uuid.as_bytes());
            let (intervals, first, behind) = (1_u64, 1_u64, self.gno);
            for number in [intervals, first, behind] {
                event.extend_from_slice(&number.to_le_bytes());
            }
        }
        event.extend_from_slice(&[0; FOOTER]);
    }

    /// The template's transaction that begins at event `start`.
    fn transaction(&self, start: usize) -> &[Vec<u8>] {
        let others = &self.template[start + 1..];
        let is_behind = |event: &Vec<u8>| matches!(event[4], GTID | ROTATE);
        let rest = others.iter().position(is_behind).unwrap();
        &self.template[start..=start + rest]
    }

    fn commit(&mut self, events: &mut Vec<Vec<u8>>, start: usize) {
        let mut transaction = self.transaction(start).to_vec();
        let gtid = &mut transaction[0];
        gtid[20..36].copy_from_slice(self.uuid.as_bytes());
        gtid[36..44].copy_from_slice(&self.gno.to_le_bytes());
        self.gno += 1;
        for event in transaction.iter_mut().filter(|event| is_large_row(event)) {
            let end = event.len() - FOOTER;
            for word in event[ROWS..end].chunks_exact_mut(8) {
                word.copy_from_slice(&self.random.next().to_le_bytes());
            }
        }
        events.append(&mut transaction);
    }
}

fn read_events(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.strip_prefix(&MAGIC).unwrap();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[9..13].try_into().unwrap());
        let (event, behind) = rest.split_at(usize::try_from(length).unwrap());
        events.push(event.to_vec());
        rest = behind;
    }
    events
}

/// A file of these events, their positions and checksums made right.
fn bytes_of(events: Vec<Vec<u8>>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for mut event in events {
        let length = u32::try_from(event.len()).unwrap();
        event[9..13].copy_from_slice(&length.to_le_bytes());
        let end = u32::try_from(bytes.len() + event.len()).unwrap();
        event[13..17].copy_from_slice(&end.to_le_bytes());
        let (body, footer) = event.split_at_mut(length as usize - FOOTER);
        footer.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        bytes.extend_from_slice(&event);
    }
    bytes
}

fn len(events: &[Vec<u8>]) -> usize {
    events.iter().map(Vec::len).sum()
}

fn rotation_to(name: &str, template: &[u8]) -> Vec<u8> {
    let mut event = template[..HEADER + 8].to_vec();
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(&[0; FOOTER]);
    event
}

fn is_large_row(event: &[u8]) -> bool {
    matches!(event[4], WRITE_ROWS | UPDATE_ROWS) && event.len() > 1_000
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

/// A datadir whose server has closed four files: the second of more than `large` bytes, the others tiny.
pub fn write_four(datadir: &Path, large: usize) {
    let mut server = Server::new(datadir, 1);
    for size in [0, large, 0, 0] {
        server.rotate(datadir, size);
    }
}
