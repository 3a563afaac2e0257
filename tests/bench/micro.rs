//! Parts by themselves: `GTIDE_BENCH_BINLOG=FILE cargo bench -p engine --bench micro`, where FILE is a binary log
//! (`tests/bench/run` leaves some in its folder).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot run has nothing to say"
)]

use std::hint::black_box;
use std::sync::LazyLock;
use std::{env, fs, io};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use engine::archive::{
    BlockInfo, Content, LockedReader, MAX_BLOCK_PLAIN, ObjectFacts, ObjectIdentity,
};
use engine::archive::{DataKey, ObjectWriter};
use engine::binlog::Scanner;
use engine::config::EncryptionConfig;
use engine::digest::{Digest, Hasher};
use engine::gtid::GtidSet;
use engine::keyring::{Keyring, create_key_file};
use engine::layout::{Sequence, SourceIdentity};
use engine::ledger::{DestinationId, FileKey, Fingerprint, Ledger, NewFile, SealedPayload};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What is read at once where a file is.
const PIECE: usize = 256 * 1024;

/// How much of the file is used.
const SIZE: usize = 64 << 20;

fn main() {
    divan::main();
}

static BINLOG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = env::var_os("GTIDE_BENCH_BINLOG").expect("GTIDE_BENCH_BINLOG names a binary log");
    let mut bytes = fs::read(path).expect("GTIDE_BENCH_BINLOG can be read");
    bytes.truncate(SIZE);
    bytes
});

fn bytes() -> BytesCount {
    BytesCount::new(BINLOG.len())
}

/// Events, checksums, GTIDs.
#[divan::bench]
fn scan(bencher: Bencher) {
    bencher.counter(bytes()).bench(|| {
        let mut scanner = Scanner::new();
        for piece in BINLOG.chunks(PIECE) {
            scanner.push(piece).unwrap();
        }
        scanner.offset()
    });
}

#[divan::bench]
fn sha256(bencher: Bencher) {
    bencher.counter(bytes()).bench(|| {
        let mut hasher = Hasher::default();
        hasher.update(&BINLOG);
        hasher.finish()
    });
}

/// A key of its own for each object, as the archiver has.
struct Keys {
    keyring: Keyring,
    runtime: Runtime,
    _folder: TempDir,
}

impl Keys {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("gtide.key");
        create_key_file(&path).unwrap();
        let config = EncryptionConfig::new(format!("file:{}", path.display()));
        Self {
            keyring: Keyring::open(&config).unwrap(),
            runtime: Runtime::new().unwrap(),
            _folder: folder,
        }
    }

    fn seal<W: io::Write>(&self, out: W, level: i32) -> (W, ObjectFacts) {
        let identity = identity();
        let key = self.runtime.block_on(self.keyring.new_data_key(&identity));
        let mut writer = ObjectWriter::create(out, &identity, key.unwrap(), level).unwrap();
        for block in BINLOG.chunks(MAX_BLOCK_PLAIN) {
            writer
                .write_block(block, Content::Plain, BlockInfo::default())
                .unwrap();
        }
        writer.finish(*DIGEST).unwrap()
    }

    fn key(&self, facts: &ObjectFacts) -> DataKey {
        let identity = identity();
        let opened = self
            .keyring
            .unwrap(&facts.key_id, &facts.wrapped_key, &identity);
        self.runtime.block_on(opened).unwrap()
    }
}

static DIGEST: LazyLock<Digest> = LazyLock::new(|| Digest::of(&BINLOG));

fn identity() -> ObjectIdentity {
    ObjectIdentity {
        source: source(),
        sequence: Sequence(1),
        file_name: "binlog.000001".to_owned(),
    }
}

fn source() -> SourceIdentity {
    SourceIdentity {
        cluster: "bench".parse().unwrap(),
        server_uuid: "11111111-2222-4333-8444-555555555555".parse().unwrap(),
        incarnation: 1,
    }
}

/// Compression and encryption, by level.
#[divan::bench(args = [1, 3, 6], sample_count = 5)]
fn seal(bencher: Bencher, level: i32) {
    let keys = Keys::new();
    LazyLock::force(&DIGEST);
    bencher
        .counter(bytes())
        .bench(|| keys.seal(io::sink(), level).1);
}

/// Decryption, decompression, and the digest of all that came out.
#[divan::bench(sample_count = 10)]
fn open(bencher: Bencher) {
    let keys = Keys::new();
    let (object, facts) = keys.seal(Vec::new(), 3);
    let key = keys.key(&facts);
    bencher.counter(bytes()).bench(|| {
        let mut locked = LockedReader::new(identity());
        let mut pieces = object.chunks(PIECE);
        while !locked.has_header() {
            locked.push(pieces.next().unwrap()).unwrap();
        }
        let mut reader = locked.unlock(&key).unwrap();
        for piece in pieces {
            reader.push(piece);
            while let Some(block) = reader.next_block().unwrap() {
                black_box(block);
            }
        }
        reader.finish().unwrap()
    });
}

/// So many intervals of each of four servers, every other one.
fn gtids(intervals: u64, from: u64) -> GtidSet {
    let mut set = GtidSet::new();
    for server in 0..4 {
        let tsid = format!("11111111-2222-4333-8444-55555555555{server}");
        let tsid: engine::gtid::Tsid = tsid.parse().unwrap();
        for number in 0..intervals {
            let first = from + number * 20;
            set.insert_range(tsid.clone(), first, first + 9).unwrap();
        }
    }
    set
}

const INTERVALS: [u64; 3] = [1, 100, 10_000];

#[divan::bench(args = INTERVALS)]
fn gtid_union(bencher: Bencher, intervals: u64) {
    let (a, b) = (gtids(intervals, 1), gtids(intervals, 6));
    bencher
        .counter(ItemsCount::new(4 * intervals))
        .bench(|| black_box(&a).union(black_box(&b)));
}

#[divan::bench(args = INTERVALS)]
fn gtid_subtract(bencher: Bencher, intervals: u64) {
    let (a, b) = (gtids(intervals, 1), gtids(intervals, 6));
    bencher
        .counter(ItemsCount::new(4 * intervals))
        .bench(|| black_box(&a).subtract(black_box(&b)));
}

#[divan::bench(args = INTERVALS)]
fn gtid_parse(bencher: Bencher, intervals: u64) {
    let text = gtids(intervals, 1).to_string();
    bencher
        .counter(ItemsCount::new(4 * intervals))
        .bench(|| black_box(&text).parse::<GtidSet>().unwrap());
}

/// A ledger on SQLite that knows one file.
struct Bench {
    ledger: Ledger,
    key: FileKey,
    to: DestinationId,
    runtime: Runtime,
    _folder: TempDir,
}

const FOUND: Fingerprint = Fingerprint {
    device: 1,
    inode: 2,
    size: 3,
    mtime_ns: 4,
};

impl Bench {
    fn new() -> Self {
        let (folder, runtime) = (TempDir::new().unwrap(), Runtime::new().unwrap());
        let url = format!("sqlite:{}", folder.path().join("gtide.db").display());
        let (ledger, key, to) = runtime.block_on(async {
            let ledger = Ledger::open(&url).await.unwrap();
            let source = ledger.source(&source(), "bench").await.unwrap();
            let to = ledger.destination("file:///archive").await.unwrap();
            let sequence = Sequence(1);
            let key = FileKey { source, sequence };
            let mut tx = ledger.begin().await.unwrap();
            let file = NewFile {
                key,
                name: "binlog.000001".to_owned(),
                path: None,
                size: 3,
                fingerprint: Some(FOUND),
            };
            tx.discover(&file, jiff::Timestamp::UNIX_EPOCH)
                .await
                .unwrap();
            tx.commit().await.unwrap();
            (ledger, key, to)
        });
        Self {
            ledger,
            key,
            to,
            runtime,
            _folder: folder,
        }
    }
}

/// A transaction that waits for no disk.
#[divan::bench]
fn ledger_fingerprint(bencher: Bencher) {
    let bench = Bench::new();
    let set = || bench.ledger.set_fingerprint(bench.key, FOUND);
    bencher.bench(|| bench.runtime.block_on(set()).unwrap());
}

/// A transaction that is synced.
#[divan::bench]
fn ledger_sealed(bencher: Bencher) {
    let bench = Bench::new();
    let sealed = SealedPayload("x".repeat(1500));
    let record = || bench.ledger.record_sealed(bench.key, &sealed, Some(FOUND));
    bencher.bench(|| bench.runtime.block_on(record()).unwrap());
}

#[divan::bench]
fn ledger_chain_head(bencher: Bencher) {
    let bench = Bench::new();
    let head = || bench.ledger.chain_head(bench.key.source, bench.to);
    bencher.bench(|| bench.runtime.block_on(head()).unwrap());
}
