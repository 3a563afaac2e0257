//! The ledger on real database files.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::SizeRange;
use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::layout::{Sequence, SourceIdentity};

struct Bench {
    dir: TempDir,
    ledger: Ledger,
    source: SourceId,
    destination: DestinationId,
}

fn identity(incarnation: u32) -> SourceIdentity {
    SourceIdentity {
        cluster: "orders".parse().unwrap(),
        server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        incarnation,
    }
}

fn url(dir: &TempDir) -> String {
    format!("sqlite:{}", dir.path().join("gtide.db").display())
}

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

fn committed(sequence: u64) -> Committed {
    Committed {
        entry_sha256: Digest::of(&sequence.to_be_bytes()),
        plain_sha256: Digest::of(format!("plain {sequence}").as_bytes()),
        size: sequence,
        last_commit: Some(at(1_000)),
        gtids: Some(format!("up to {sequence}")),
    }
}

fn imported(sequence: u64) -> ImportedCommit {
    ImportedCommit {
        sequence: Sequence(sequence),
        name: format!("binlog.{sequence:06}"),
        committed: committed(sequence),
        committed_at: at(2_000),
    }
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&url(&dir)).await.unwrap();
        let source = ledger.source(&identity(1), "primary").await.unwrap();
        let destination = ledger.destination("file:///archive").await.unwrap();
        Self {
            dir,
            ledger,
            source,
            destination,
        }
    }

    fn sqlite(&self) -> &SqlitePool {
        match &self.ledger.pool {
            Database::Sqlite(pool) => pool,
            Database::Postgres(_) => panic!("not on SQLite"),
        }
    }

    fn key(&self, sequence: u64) -> FileKey {
        FileKey {
            source: self.source,
            sequence: Sequence(sequence),
        }
    }

    fn file(&self, sequence: u64) -> NewFile {
        NewFile {
            key: self.key(sequence),
            name: format!("binlog.{sequence:06}"),
            path: None,
            size: 100 + sequence,
            fingerprint: Some(Fingerprint {
                device: u64::MAX,
                inode: 1 << 63,
                size: 100 + sequence,
                mtime_ns: -1,
            }),
        }
    }

    async fn discover(&self, sequence: u64) -> Discovery {
        let mut tx = self.ledger.begin().await.unwrap();
        let discovery = tx.discover(&self.file(sequence), at(500)).await.unwrap();
        tx.commit().await.unwrap();
        discovery
    }

    async fn commit(&self, sequence: u64) {
        self.discover(sequence).await;
        let mut tx = self.ledger.begin().await.unwrap();
        let (key, value) = (self.key(sequence), committed(sequence));
        tx.record_commit(key, self.destination, &value, at(3_000))
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn import(&self, sequences: &[u64]) {
        let commits: Vec<_> = sequences.iter().copied().map(imported).collect();
        self.ledger
            .import_commits(self.source, self.destination, &commits)
            .await
            .unwrap();
    }

    async fn watermark(&self) -> Option<u64> {
        let watermark = self.ledger.watermark(self.source, self.destination).await;
        watermark.unwrap().map(|w| w.0)
    }

    async fn head(&self) -> Option<ChainHead> {
        let head = self.ledger.chain_head(self.source, self.destination).await;
        head.unwrap()
    }

    async fn gaps(&self) -> Vec<RangeInclusive<u64>> {
        let gaps = self.ledger.gaps(self.source, self.destination).await;
        let gaps = gaps.unwrap().into_iter();
        gaps.map(|gap| gap.start().0..=gap.end().0).collect()
    }
}

/// What watermark and gaps must be, said naively.
fn model(committed: &BTreeSet<u64>) -> (Option<u64>, Vec<RangeInclusive<u64>>) {
    let (Some(&first), Some(&last)) = (committed.first(), committed.last()) else {
        return (None, Vec::new());
    };
    let watermark = (first..=last).take_while(|s| committed.contains(s)).last();
    let ordered: Vec<u64> = committed.iter().copied().collect();
    let gaps = ordered
        .windows(2)
        .filter(|pair| pair[1] > pair[0] + 1)
        .map(|pair| pair[0] + 1..=pair[1] - 1)
        .collect();
    (watermark, gaps)
}

/// Commits one by one and in pages, in any order, with holes.
fn commit_orders() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let page = prop::collection::vec(1_u64..30, SizeRange::from(1..6));
    prop::collection::vec(page, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_watermark_never_passes_a_gap(pages in commit_orders()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let mut done = BTreeSet::new();
            for page in pages {
                match page.as_slice() {
                    [one] => bench.commit(*one).await,
                    many => bench.import(many).await,
                }
                done.extend(page);
                let (watermark, gaps) = model(&done);
                assert_eq!(bench.watermark().await, watermark, "{done:?}");
                assert_eq!(bench.gaps().await, gaps, "{done:?}");
                let head = bench.head().await.unwrap();
                assert_eq!(Some(&head.sequence.0), done.last());
                assert_eq!(head.gtids, committed(head.sequence.0).gtids);
            }
        });
    }
}

/// `SqliteStorage::setup` would leave some at OFF; power loss would then corrupt.
#[tokio::test]
async fn every_pooled_connection_syncs_fully() {
    let bench = Bench::new().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        held.push(bench.sqlite().acquire().await.unwrap());
    }
    for connection in &mut held {
        for (pragma, expected) in [
            ("PRAGMA synchronous", "2"),
            ("PRAGMA foreign_keys", "1"),
            ("PRAGMA busy_timeout", "30000"),
        ] {
            let value: i64 = sqlx::query_scalar(pragma)
                .fetch_one(&mut **connection)
                .await
                .unwrap();
            assert_eq!(value.to_string(), expected, "{pragma}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut **connection)
            .await
            .unwrap();
        assert_eq!(mode, "wal");
    }
}

#[tokio::test]
async fn ids_are_stable_and_names_follow_the_configuration() {
    let bench = Bench::new().await;
    let ledger = &bench.ledger;
    let again = ledger.source(&identity(1), "replica").await.unwrap();
    assert_eq!(again, bench.source);
    let reset = ledger.source(&identity(2), "replica").await.unwrap();
    assert_ne!(reset, bench.source, "a RESET is another source");
    let sources = ledger.sources().await.unwrap();
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[0].name, "replica");
    assert_eq!(sources[0].identity, identity(1));
    let same = ledger.destination("file:///archive").await.unwrap();
    assert_eq!(same, bench.destination);
}

#[tokio::test]
async fn a_file_is_recorded_once_and_keeps_all_bits_of_its_fingerprint() {
    let bench = Bench::new().await;
    assert_eq!(bench.discover(7).await, Discovery::New);
    assert_eq!(bench.discover(7).await, Discovery::Known);
    let file = bench.ledger.file(bench.key(7)).await.unwrap().unwrap();
    assert_eq!(file.name, "binlog.000007");
    assert_eq!(file.fingerprint, bench.file(7).fingerprint);
    assert_eq!((file.size, file.discovered_at), (107, at(500)));
    assert_eq!(bench.ledger.file(bench.key(8)).await.unwrap(), None);

    let metadata = std::fs::metadata(bench.dir.path()).unwrap();
    let now = Fingerprint::of(&metadata);
    bench
        .ledger
        .set_fingerprint(bench.key(7), now)
        .await
        .unwrap();
    let file = bench.ledger.file(bench.key(7)).await.unwrap().unwrap();
    assert_eq!(file.fingerprint, Some(now));

    let sealed = SealedPayload("{\"blocks\":3}".to_owned());
    let ledger = &bench.ledger;
    ledger.record_sealed(bench.key(7), &sealed).await.unwrap();
    let file = ledger.file(bench.key(7)).await.unwrap().unwrap();
    assert_eq!(file.sealed, Some(sealed.clone()));
    ledger.clear_sealed(bench.key(7)).await.unwrap();
    let file = ledger.file(bench.key(7)).await.unwrap().unwrap();
    assert_eq!(file.sealed, None);
    let unknown = ledger.record_sealed(bench.key(8), &sealed).await;
    assert!(
        unknown.is_err(),
        "nothing is sealed that was not discovered"
    );
}

/// TRAPS 11: by number; and a hole in the index is no reason to wait for a file that never was.
#[tokio::test]
async fn the_file_before_is_the_one_before_by_number() {
    let bench = Bench::new().await;
    for sequence in [999_999, 1_000_000, 3] {
        bench.discover(sequence).await;
    }
    for (sequence, previous) in [(1_000_000, Some(999_999)), (999_999, Some(3)), (3, None)] {
        let found = bench.ledger.previous_file(bench.key(sequence)).await;
        assert_eq!(found.unwrap(), previous.map(Sequence));
    }
}

#[tokio::test]
async fn an_upload_is_remembered_until_its_file_is_committed() {
    let bench = Bench::new().await;
    bench.discover(1).await;
    let (ledger, key, to) = (&bench.ledger, bench.key(1), bench.destination);
    assert_eq!(ledger.upload(key, to).await.unwrap(), None);
    ledger.record_upload(key, to, "token 1").await.unwrap();
    for token in ["token 1", "token 2"] {
        ledger.record_upload(key, to, token).await.unwrap();
        let upload = ledger.upload(key, to).await.unwrap().unwrap();
        assert_eq!(upload.token, token);
    }
    bench.commit(1).await;
    assert_eq!(ledger.upload(key, to).await.unwrap(), None);
    let digest = ledger.committed_digest(key, to).await.unwrap();
    assert_eq!(digest, Some(committed(1).plain_sha256));
}

/// TRAPS 14: the same again is done already; another content under the same identity is never taken.
#[tokio::test]
async fn a_commit_is_never_replaced_by_another_content() {
    let bench = Bench::new().await;
    bench.commit(1).await;
    bench.commit(1).await;
    let mut tx = bench.ledger.begin().await.unwrap();
    let conflict = tx
        .record_commit(bench.key(1), bench.destination, &committed(2), at(4_000))
        .await
        .unwrap_err();
    drop(tx);
    assert!(
        matches!(conflict, LedgerError::Conflict { .. }),
        "{conflict}"
    );
    assert_eq!(conflict.exit(), Exit::Conflict);
    assert!(conflict.hint().is_some());

    let mut other = imported(1);
    other.committed = committed(9);
    let page = [imported(2), other];
    let imported = bench
        .ledger
        .import_commits(bench.source, bench.destination, &page)
        .await;
    assert!(matches!(imported, Err(LedgerError::Conflict { .. })));
    assert_eq!(
        bench.head().await.unwrap().sequence,
        Sequence(1),
        "nothing of the page"
    );
}

#[tokio::test]
async fn a_dropped_transaction_never_happened() {
    let bench = Bench::new().await;
    let mut tx = bench.ledger.begin().await.unwrap();
    tx.discover(&bench.file(1), at(1)).await.unwrap();
    drop(tx);
    assert_eq!(bench.discover(1).await, Discovery::New);
}

#[tokio::test]
async fn writers_take_turns() {
    let bench = Bench::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for sequence in 0..32 {
        let (ledger, file) = (bench.ledger.clone(), bench.file(sequence));
        writers.spawn(async move {
            let mut tx = ledger.begin().await.unwrap();
            tx.discover(&file, at(1)).await.unwrap();
            tokio::task::yield_now().await;
            tx.commit().await.unwrap();
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let newest = bench.ledger.previous_file(bench.key(32)).await.unwrap();
    assert_eq!(newest, Some(Sequence(31)));
}

#[tokio::test]
async fn status_before_the_archiver_ever_ran_is_empty_not_an_error() {
    let bench = Bench::new().await;
    let status = bench.ledger.status().await.unwrap();
    assert_eq!(status.len(), 1);
    assert_eq!((status[0].newest, status[0].destinations.len()), (None, 0));
    assert_eq!(bench.ledger.jobs(&JobFilter::default()).await.unwrap(), []);
    assert_eq!(bench.ledger.retry_failed(None, at(1)).await.unwrap(), 0);
    bench.import(&[4, 5, 8]).await;
    let status = bench.ledger.status().await.unwrap();
    let here = &status[0].destinations[0];
    assert_eq!(here.url, "file:///archive");
    assert_eq!(here.watermark, Some(Sequence(5)));
    assert_eq!(here.gaps, [Sequence(6)..=Sequence(7)]);
    assert_eq!(here.head.as_ref().unwrap().committed_at, at(2_000));
    assert_eq!((here.queued, &here.failing), (0, &None));
}

/// A ledger of 500,000 files must answer from indexes.
#[tokio::test]
async fn no_question_of_the_hot_path_scans() {
    let bench = Bench::new().await;
    for sql in [
        commit::END_OF_RUN,
        "SELECT max(sequence) FROM files WHERE source = $1 AND sequence < $2",
    ] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
            .bind(1)
            .bind(1)
            .bind(1)
            .fetch_all(bench.sqlite())
            .await
            .unwrap();
        for (.., step) in plan {
            assert!(
                !step.contains("SCAN") && !step.contains("TEMP"),
                "{sql}: {step}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_ledger_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gtide.db");
    let missing = Ledger::open_read_only(&url(&dir)).await.unwrap_err();
    assert!(matches!(missing, LedgerError::Missing { .. }), "{missing}");
    assert!(!path.exists(), "a reader creates nothing");

    std::fs::File::create(&path).unwrap();
    let foreign = Ledger::open_read_only(&url(&dir)).await.unwrap_err();
    assert!(matches!(foreign, LedgerError::Foreign { .. }), "{foreign}");

    for url in [
        "sqlite::memory:",
        "sqlite:",
        "gtide.db",
        "sqlite:gtide.db?mode=memory",
    ] {
        let error = Ledger::open(url).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{url}");
        assert!(error.hint().is_some() && error.to_string().contains(url));
    }
    let nowhere = Ledger::open("sqlite:/does/not/exist/gtide.db").await;
    assert!(matches!(nowhere, Err(LedgerError::File { .. })));
}

#[tokio::test]
async fn a_schema_of_another_version_is_refused_by_writers_and_readers() {
    let bench = Bench::new().await;
    let newer = "INSERT INTO _gtide_migrations
        (version, description, success, checksum, execution_time)
        VALUES (99990101000000, 'from the future', true, x'00', 0)";
    sqlx::query(newer).execute(bench.sqlite()).await.unwrap();
    bench.ledger.close().await;
    for error in [
        Ledger::open(&url(&bench.dir)).await.unwrap_err(),
        Ledger::open_read_only(&url(&bench.dir)).await.unwrap_err(),
    ] {
        assert!(matches!(error, LedgerError::OtherVersion { .. }), "{error}");
        assert!(error.to_string().contains("99990101000000"));
    }
}

#[test]
fn lane_names_read_back_and_others_are_refused() {
    let route = Route {
        source: SourceId(3),
        destination: DestinationId(1),
    };
    let lane = ArchiveJob::new(route, Sequence(14)).lane(4);
    assert_eq!(lane.to_string(), "archive/3/1/2");
    assert_eq!(lane.to_string().parse::<LaneName>().unwrap(), lane);
    for name in [
        "archive/3/1",
        "archive/3/1/2/5",
        "upload/3/1/2",
        "archive/x/1/2",
        "",
    ] {
        assert!(name.parse::<LaneName>().is_err(), "{name}");
    }
}

fn agent(host: &str) -> AgentReport {
    AgentReport {
        host: host.to_owned(),
        spool: "/var/lib/gtide/spool".to_owned(),
        pid: 4711,
        version: "0.1.0".to_owned(),
        started: at(1_000),
        sources: vec![SourceId(1)],
        pinned_files: 3,
        pinned_bytes: 3_000,
        sealed_files: 1,
        sealed_bytes: 400,
        free_bytes: 5_000,
        paused: None,
    }
}

#[tokio::test]
async fn an_agent_is_silent_when_it_was_not_heard_of_and_gone_when_it_ended_in_order() {
    let bench = Bench::new().await;
    let ledger = &bench.ledger;
    ledger.report_agent(&agent("db1"), at(1_000)).await.unwrap();
    let paused = AgentReport {
        pid: 4712,
        paused: Some(Paused {
            since: at(1_005),
            needed_bytes: 9_000,
        }),
        ..agent("db1")
    };
    ledger.report_agent(&paused, at(1_010)).await.unwrap();
    ledger.report_agent(&agent("db2"), at(1_050)).await.unwrap();

    let agents = ledger.agents().await.unwrap();
    assert_eq!(
        agents.len(),
        2,
        "the later report took the place of the first"
    );
    assert_eq!(agents[0].report, paused);
    let silent: Vec<bool> = agents
        .iter()
        .map(|agent| agent.is_silent(at(1_100)))
        .collect();
    assert_eq!(silent, [true, false]);

    ledger.retire_agent(&paused).await.unwrap();
    assert_eq!(ledger.agents().await.unwrap().len(), 1);
    // Weeks later another one reports.
    ledger
        .report_agent(&agent("db3"), at(2_000_000))
        .await
        .unwrap();
    let hosts = ledger.agents().await.unwrap();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].report.host, "db3");
}
