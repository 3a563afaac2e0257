//! Made histories for tests: servers that execute transactions, replicate, and close files.

use engine::archive::{KeyId, ObjectFacts, WrappedKey};
use engine::base_backup::{Coordinates, Record, Tool, VERSION as RECORD_VERSION};
use engine::binlog::{Boundary, ChecksumAlgorithm, Damage, End, Summary};
use engine::digest::Digest;
use engine::gtid::{Gtid, GtidSet};
use engine::layout::{Sequence, SourceIdentity};
use engine::manifest::{Entry, Predecessor, StoredObject, VERSION};
use jiff::Timestamp;

use super::{FileAt, Timeline};
use crate::cut::{Cut, Search, Seeker};
use crate::history::StoredEntry;

/// A GTID of server `a`, `b`, …
pub(crate) fn gtid(text: &str) -> Gtid {
    set(text).to_string().parse().unwrap()
}

/// A GTID set in which servers are one letter.
pub(crate) fn set(text: &str) -> GtidSet {
    let long: Vec<String> = text
        .split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (server, rest) = part.split_once(':').unwrap();
            format!("{}:{rest}", uuid(server))
        })
        .collect();
    long.join(",").parse().unwrap()
}

fn uuid(server: &str) -> String {
    let digit = server.repeat(8);
    format!("{digit}-0000-4000-8000-000000000000")
}

pub(crate) fn source(server: &str) -> SourceIdentity {
    SourceIdentity {
        cluster: "test".parse().unwrap(),
        server_uuid: uuid(server).parse().unwrap(),
        incarnation: 1,
    }
}

pub(crate) fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// A file offset at which the transaction with this place in its file begins.
pub(crate) fn offset(place: usize) -> u64 {
    200 + 100 * place as u64
}

/// One transaction in a file.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) gtid: Gtid,
    pub(crate) commit: Timestamp,
}

/// A closed file: what was executed before it, and its transactions.
#[derive(Debug, Clone)]
pub(crate) struct MadeFile {
    pub(crate) before: GtidSet,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) damaged: bool,
}

/// A server's log.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) executed: GtidSet,
    pub(crate) files: Vec<MadeFile>,
    open: Vec<Transaction>,
}

impl Server {
    /// A server that has executed this and begins its first file.
    pub(crate) fn new(name: &'static str, executed: &str) -> Self {
        Self {
            name,
            executed: set(executed),
            files: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Executes one transaction, `a:7`, committed at a second.
    pub(crate) fn execute(&mut self, text: &str, second: i64) -> &mut Self {
        self.open.push(Transaction {
            gtid: gtid(text),
            commit: time(second),
        });
        self
    }

    /// Executes `server:first` to `server:last`, one each second.
    pub(crate) fn execute_all(
        &mut self,
        server: &str,
        numbers: std::ops::RangeInclusive<i64>,
        second: i64,
    ) -> &mut Self {
        for (passed, number) in numbers.enumerate() {
            let second = second + i64::try_from(passed).unwrap();
            self.execute(&format!("{server}:{number}"), second);
        }
        self
    }

    /// Closes the file.
    pub(crate) fn flush(&mut self) -> &mut Self {
        let transactions = std::mem::take(&mut self.open);
        let before = self.executed.clone();
        for transaction in &transactions {
            self.executed.insert(transaction.gtid.clone()).unwrap();
        }
        self.files.push(MadeFile {
            before,
            transactions,
            damaged: false,
        });
        self
    }
}

impl MadeFile {
    pub(crate) fn added(&self) -> GtidSet {
        let mut added = GtidSet::new();
        for transaction in &self.transactions {
            added.insert(transaction.gtid.clone()).unwrap();
        }
        added
    }

    fn size(&self) -> u64 {
        offset(self.transactions.len()) + 50
    }

    pub(crate) fn summary(&self) -> Summary {
        let commits = || self.transactions.iter().map(|t| t.commit);
        let (first, last) = (commits().next(), commits().next_back());
        let behind = offset(self.transactions.len());
        Summary {
            size: self.size(),
            events: 2,
            previous_gtids: self.before.clone(),
            added_gtids: self.added(),
            first_commit: first,
            last_commit: last,
            earliest_commit: commits().min().filter(|time| Some(*time) != first),
            latest_commit: commits().max().filter(|time| Some(*time) != last),
            transactions: self.transactions.len() as u64,
            anonymous_transactions: 0,
            last_position: if self.damaged { behind } else { self.size() },
            end: End::Stop,
            in_use: false,
            server_version: "9.7.4".to_owned(),
            server_id: 1,
            checksum_algorithm: ChecksumAlgorithm::Crc32,
            open_transaction: false,
            damage: self.damaged.then(|| Damage {
                offset: behind,
                reason: "made".to_owned(),
            }),
            obstacle: None,
        }
    }

    pub(crate) fn boundaries(&self) -> Vec<Boundary> {
        let begin = |(place, transaction): (usize, &Transaction)| Boundary {
            offset: offset(place),
            gtid: Some(transaction.gtid.clone()),
            commit: Some(transaction.commit),
        };
        let mut boundaries: Vec<_> = self.transactions.iter().enumerate().map(begin).collect();
        boundaries.push(Boundary {
            offset: offset(self.transactions.len()),
            gtid: None,
            commit: None,
        });
        boundaries
    }

    /// What a search in the file finds.
    pub(crate) fn find(&self, search: &Search) -> Option<Cut> {
        let mut seeker = Seeker::new(search.clone());
        for boundary in self.boundaries() {
            seeker.push(&boundary);
        }
        seeker.finish(&self.added(), true)
    }
}

/// All servers' archives, less the files that are lost: server and number, from 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    /// Entries that are gone.
    pub(crate) lost: Vec<(usize, usize)>,
}

impl Cluster {
    pub(crate) fn of(servers: &[&Server]) -> Self {
        Self {
            servers: servers.iter().map(|server| (*server).clone()).collect(),
            lost: Vec::new(),
        }
    }

    pub(crate) fn timeline(&self) -> Timeline {
        let mut timeline = Timeline::default();
        for (number, server) in self.servers.iter().enumerate() {
            let mut previous = None;
            for (file, made) in server.files.iter().enumerate() {
                let stored = entry(server.name, file as u64 + 1, made.summary(), previous);
                previous = Some(Predecessor {
                    sequence: stored.entry.sequence,
                    sha256: stored.sha256,
                });
                if !self.lost.contains(&(number, file)) {
                    timeline.push(&stored);
                }
            }
        }
        timeline.settle(&GtidSet::new());
        timeline
    }

    /// The file of a timeline, which may lack files.
    pub(crate) fn file(&self, timeline: &Timeline, at: FileAt) -> &MadeFile {
        let (line, record) = timeline.file(at).unwrap();
        let server = self
            .servers
            .iter()
            .find(|server| source(server.name) == line.source);
        let number = usize::try_from(record.sequence.0).unwrap() - 1;
        &server.unwrap().files[number]
    }
}

/// An entry as it is stored, with facts that no test looks at.
pub(crate) fn entry(
    server: &str,
    sequence: u64,
    binlog: Summary,
    previous: Option<Predecessor>,
) -> StoredEntry {
    let source = source(server);
    let sequence = Sequence(sequence);
    let key = source.log_key(sequence);
    let facts = ObjectFacts {
        size: 1000,
        crc32c: 0,
        index_sha256: Digest::of(b""),
        blocks: 1,
        key_id: "test".parse::<KeyId>().unwrap(),
        wrapped_key: WrappedKey::new(vec![0]),
        level: 3,
    };
    let entry = Entry {
        version: VERSION,
        source: source.clone(),
        sequence,
        file_name: format!("binlog.{:06}", sequence.0),
        sha256: Digest::of(b""),
        binlog,
        object: StoredObject { key, facts },
        base_backup: None,
        previous,
        writer: String::new(),
        written_at: time(0),
    };
    StoredEntry {
        key: source.manifest_key(sequence),
        sha256: Digest::of(sequence.0.to_string().as_bytes()),
        entry,
        bytes: bytes::Bytes::new(),
    }
}

/// A base backup's record.
pub(crate) fn backup(id: &str, gtids: Option<&str>) -> Record {
    Record {
        version: RECORD_VERSION,
        id: id.parse().unwrap(),
        cluster: "test".parse().unwrap(),
        coordinates: Coordinates {
            gtid_set: gtids.map(set),
            ..Coordinates::unknown(Tool::Stated)
        },
        location: "here".to_owned(),
        recorded_at: time(0),
        writer: String::new(),
    }
}
