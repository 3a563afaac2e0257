//! The ledger on real databases.

#[path = "../../../tests/harness/mod.rs"]
pub(crate) mod servers;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::SizeRange;
use sqlx::PgPool;
use tempfile::TempDir;

use self::servers::Postgres;
use super::*;
use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::layout::{Sequence, SourceIdentity};

struct Bench {
    _home: Home,
    url: String,
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

/// Where databases are made.
enum Home {
    Folder(TempDir),
    Server(Postgres),
}

impl Home {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    /// The URL of an empty database.
    fn database(&self) -> String {
        match self {
            Self::Folder(dir) => url(dir),
            Self::Server(server) => server.create_database("ledger"),
        }
    }
}

/// Makes tests of scenarios (`async fn(Bench)`): one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($($scenario:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(super::Bench::sqlite().await).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            #[ignore = "needs the lab: tests/lab/install"]
            async fn $scenario() {
                super::$scenario(super::Bench::postgres().await).await;
            })+
        }
    };
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
    async fn sqlite() -> Self {
        Self::at(Home::folder()).await
    }

    async fn postgres() -> Self {
        Self::at(Home::Server(Postgres::start())).await
    }

    async fn at(home: Home) -> Self {
        let url = home.database();
        let ledger = Ledger::open(&url).await.unwrap();
        let source = ledger.source(&identity(1), "primary").await.unwrap();
        let destination = ledger.destination("file:///archive").await.unwrap();
        Self {
            _home: home,
            url,
            ledger,
            source,
            destination,
        }
    }

    /// The same ledger, another source.
    async fn next_source(&mut self) {
        let identity = identity(self.source.0 + 1);
        self.source = self.ledger.source(&identity, "primary").await.unwrap();
    }

    fn pool_of_sqlite(&self) -> &SqlitePool {
        match &self.ledger.pool {
            Database::Sqlite(pool) => pool,
            Database::Postgres(_) => panic!("not on SQLite"),
        }
    }

    fn pool_of_postgres(&self) -> &PgPool {
        match &self.ledger.pool {
            Database::Sqlite(_) => panic!("not on PostgreSQL"),
            Database::Postgres(pool) => pool,
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

/// Commits page by page, and asks after each.
async fn follow(bench: &Bench, pages: Vec<Vec<u64>>) {
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
}

fn the_watermark_never_passes_a_gap(home: Home) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = RefCell::new(runtime.block_on(Bench::at(home)));
    let config = ProptestConfig::with_cases(24);
    proptest!(config, |(pages in commit_orders())| {
        let mut bench = bench.borrow_mut();
        runtime.block_on(async {
            follow(&bench, pages).await;
            bench.next_source().await;
        });
    });
}

#[test]
fn the_watermark_never_passes_a_gap_on_sqlite() {
    the_watermark_never_passes_a_gap(Home::folder());
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_watermark_never_passes_a_gap_on_postgres() {
    the_watermark_never_passes_a_gap(Home::Server(Postgres::start()));
}

on_both![
    ids_are_stable_and_names_follow_the_configuration,
    a_file_is_recorded_once_and_keeps_all_bits_of_its_fingerprint,
    the_file_before_is_the_one_before_by_number,
    files_that_are_not_sealed_are_found_between_two_others,
    an_upload_is_remembered_until_its_file_is_committed,
    a_commit_is_never_replaced_by_another_content,
    a_dropped_transaction_never_happened,
    writers_take_turns,
    status_before_the_archiver_ever_ran_is_empty_not_an_error,
    a_schema_of_another_version_is_refused_by_writers_and_readers,
    commits_of_many_lanes_make_one_watermark,
    what_an_error_quotes_can_be_stored,
    two_archivers_may_call_different_servers_alike,
    an_agent_is_silent_when_it_was_not_heard_of_and_gone_when_it_ended_in_order,
    the_last_transaction_is_found_behind_files_without_any,
];

/// `SqliteStorage::setup` would leave some at OFF; power loss would then corrupt.
#[tokio::test]
async fn every_pooled_connection_syncs_fully() {
    let bench = Bench::sqlite().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        held.push(bench.pool_of_sqlite().acquire().await.unwrap());
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
async fn an_unsynced_transaction_has_a_connection_of_its_own() {
    let bench = Bench::sqlite().await;
    let mut tx = bench.ledger.begin_unsynced().await.unwrap();
    let asked: i64 = on!(tx, |db| {
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(db).await
    })
    .unwrap();
    assert_eq!(
        asked, 1,
        "NORMAL: its log is in order, and syncs with the next"
    );
    tx.commit().await.unwrap();
    for _ in 0..MAX_CONNECTIONS {
        let pooled: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(bench.pool_of_sqlite())
            .await
            .unwrap();
        assert_eq!(pooled, 2, "FULL");
    }
}

/// Whatever the server's, the database's or the role's defaults are.
#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn every_session_has_its_limits_and_syncs() {
    let server = Postgres::start();
    let database = server.create_database("ledger");
    for sql in [
        "ALTER DATABASE ledger SET synchronous_commit = off",
        "ALTER DATABASE ledger SET default_transaction_isolation = 'repeatable read'",
    ] {
        server.sql("ledger", sql);
    }
    let ledger = Ledger::open(&database).await.unwrap();
    for (setting, expected) in [
        ("synchronous_commit", "on"),
        ("search_path", "gtide,apalis"),
        ("statement_timeout", "1min"),
        ("lock_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "1min"),
    ] {
        let value: Result<String, _> = on!(ledger, |db| {
            let show = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
            show.fetch_one(db).await
        });
        assert_eq!(value.unwrap(), expected, "{setting}");
    }
    let mut tx = ledger.begin().await.unwrap();
    let isolation: Result<String, _> = on!(tx, |db| {
        sqlx::query_scalar("SELECT current_setting('transaction_isolation')")
            .fetch_one(db)
            .await
    });
    assert_eq!(isolation.unwrap(), "read committed");
    let name = server.sql(
        "ledger",
        "SELECT DISTINCT application_name FROM pg_stat_activity
         WHERE datname = 'ledger' AND application_name <> 'psql'",
    );
    let pid = format!(":{}", std::process::id());
    assert!(name.starts_with("gtide ") && name.ends_with(&pid), "{name}");
}

/// A connection that failed, or was dropped in the middle, is closed: the next one starts clean.
#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_session_in_an_unknown_state_is_never_used_again() {
    let bench = Bench::postgres().await;
    let mut tx = bench.ledger.begin().await.unwrap();
    tx.discover(&bench.file(1), at(1)).await.unwrap();
    let failed = on!(tx, |db| {
        sqlx::query("SELECT 1 / 0").execute(db).await.map(|_| ())
    });
    assert!(failed.is_err());
    tx.commit().await.unwrap_err();

    // Dropped while the server works on it, and in a transaction.
    for _ in 0..2 * MAX_SESSIONS {
        let slow = async {
            on!(bench.ledger, |db| {
                let slow = sqlx::query("SELECT pg_sleep(30)");
                slow.execute(db).await.map(|_| ())
            })
        };
        let limit = Duration::from_millis(20);
        assert!(tokio::time::timeout(limit, slow).await.is_err());
        let mut tx = bench.ledger.begin().await.unwrap();
        tx.discover(&bench.file(2), at(1)).await.unwrap();
        drop(tx);
    }
    assert_eq!(bench.discover(1).await, Discovery::New);
    assert_eq!(bench.discover(2).await, Discovery::New);
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn who_waits_for_a_lock_gives_up_in_time() {
    let bench = Bench::postgres().await;
    let wait = Duration::from_millis(200);
    let impatient = Ledger::open_with(&bench.url, wait).await.unwrap();
    let mut holder = bench.ledger.begin().await.unwrap();
    holder.lock_source(bench.source).await.unwrap();
    let mut waiter = impatient.begin().await.unwrap();
    let error = waiter.lock_source(bench.source).await.unwrap_err();
    assert!(error.hint().unwrap().contains("lock"), "{error}");
    assert_eq!(error.exit(), Exit::Transient);
}

async fn ids_are_stable_and_names_follow_the_configuration(bench: Bench) {
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

async fn a_file_is_recorded_once_and_keeps_all_bits_of_its_fingerprint(bench: Bench) {
    assert_eq!(bench.discover(7).await, Discovery::New);
    assert_eq!(bench.discover(7).await, Discovery::Known);
    let file = bench.ledger.file(bench.key(7)).await.unwrap().unwrap();
    assert_eq!(file.name, "binlog.000007");
    assert_eq!(file.fingerprint, bench.file(7).fingerprint);
    assert_eq!((file.size, file.discovered_at), (107, at(500)));
    assert_eq!(bench.ledger.file(bench.key(8)).await.unwrap(), None);

    let metadata = std::fs::metadata(".").unwrap();
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
    let key = bench.key(7);
    ledger.record_sealed(key, &sealed, None).await.unwrap();
    let file = ledger.file(key).await.unwrap().unwrap();
    assert_eq!(file.sealed, Some(sealed.clone()));
    assert_eq!(file.fingerprint, Some(now), "as it was");
    let later = Fingerprint { size: 8, ..now };
    ledger
        .record_sealed(key, &sealed, Some(later))
        .await
        .unwrap();
    let file = ledger.file(key).await.unwrap().unwrap();
    assert_eq!((file.fingerprint, file.size), (Some(later), 8));
    ledger.clear_sealed(bench.key(7)).await.unwrap();
    let file = ledger.file(bench.key(7)).await.unwrap().unwrap();
    assert_eq!(file.sealed, None);
    let unknown = ledger.record_sealed(bench.key(8), &sealed, None).await;
    assert!(
        unknown.is_err(),
        "nothing is sealed that was not discovered"
    );
}

/// TRAPS 11: by number; and a hole in the index is no reason to wait for a file that never was.
async fn the_file_before_is_the_one_before_by_number(bench: Bench) {
    for sequence in [999_999, 1_000_000, 3] {
        bench.discover(sequence).await;
    }
    for (sequence, previous) in [(1_000_000, Some(999_999)), (999_999, Some(3)), (3, None)] {
        let found = bench.ledger.previous_file(bench.key(sequence)).await;
        assert_eq!(found.unwrap(), previous.map(Sequence));
    }
}

async fn files_that_are_not_sealed_are_found_between_two_others(bench: Bench) {
    for sequence in [1, 2, 3, 5, 7] {
        bench.discover(sequence).await;
    }
    let payload = SealedPayload("{}".to_owned());
    let sealed = bench.ledger.record_sealed(bench.key(3), &payload, None);
    sealed.await.unwrap();
    let found = async |after: Option<u64>, before, limit| {
        let (after, before) = (after.map(Sequence), bench.key(before));
        let sizes = bench.ledger.unsealed_sizes(after, before, limit).await;
        sizes.unwrap().len()
    };
    assert_eq!(found(None, 7, 9).await, 3);
    assert_eq!(found(None, 7, 2).await, 2);
    assert_eq!(found(Some(1), 7, 9).await, 2);
    assert_eq!(found(Some(2), 5, 9).await, 0);
}

async fn an_upload_is_remembered_until_its_file_is_committed(bench: Bench) {
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
    let commit = ledger.commit(key, to).await.unwrap();
    let digest = commit.map(|commit| commit.plain_sha256);
    assert_eq!(digest, Some(committed(1).plain_sha256));
}

/// TRAPS 14: the same again is done already; another content under the same identity is never taken.
async fn a_commit_is_never_replaced_by_another_content(bench: Bench) {
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

async fn a_dropped_transaction_never_happened(bench: Bench) {
    let mut tx = bench.ledger.begin().await.unwrap();
    tx.discover(&bench.file(1), at(1)).await.unwrap();
    drop(tx);
    assert_eq!(bench.discover(1).await, Discovery::New);
}

async fn writers_take_turns(bench: Bench) {
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

async fn status_before_the_archiver_ever_ran_is_empty_not_an_error(bench: Bench) {
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

/// An idle server closes files without transactions: what is archived is archived through the last one before them.
async fn the_last_transaction_is_found_behind_files_without_any(bench: Bench) {
    let mut commits: Vec<_> = (1..=5).map(imported).collect();
    for (commit, last) in commits
        .iter_mut()
        .zip([Some(at(900)), Some(at(1_000)), None, None, None])
    {
        commit.committed.last_commit = last;
    }
    let (ledger, to) = (&bench.ledger, bench.destination);
    let imported = ledger.import_commits(bench.source, to, &commits).await;
    imported.unwrap();
    let picture = ledger.picture(at(4_000)).await.unwrap();
    let position = picture.sources[0].routes[0].position.as_ref().unwrap();
    assert_eq!(position.watermark, Sequence(5));
    assert_eq!(position.through, Some(at(1_000)));
    assert_eq!(bench.head().await.unwrap().last_commit, Some(at(1_000)));
}

/// A ledger of 500,000 files must answer from indexes.
#[tokio::test]
async fn no_question_of_the_hot_path_scans() {
    let bench = Bench::sqlite().await;
    for sql in [commit::END_OF_RUN, file::PREVIOUS_FILE] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
            .bind(1)
            .bind(1)
            .bind(1)
            .fetch_all(bench.pool_of_sqlite())
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

/// The same on PostgreSQL, before and after it has gathered statistics.
#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn no_question_of_the_hot_path_scans_on_postgres() {
    let bench = Bench::postgres().await;
    let fill = "INSERT INTO files (source, sequence, name, size, discovered_at)
          SELECT 1, n, 'binlog.' || n, 1, 0 FROM generate_series(1, 50000) n;
        INSERT INTO commits (source, destination, sequence, entry_sha256, plain_sha256, size,
            committed_at)
          SELECT 1, 1, n, sha256('a'), sha256('b'), 1, 0 FROM generate_series(1, 49990) n;
        INSERT INTO positions VALUES (1, 1, 1, 49990, 49990, NULL);
        INSERT INTO uploads VALUES (1, 1, 49990, 'token')";
    let pool = bench.pool_of_postgres();
    sqlx::raw_sql(fill).execute(pool).await.unwrap();
    for _ in 0..2 {
        for (sql, values) in [
            (commit::END_OF_RUN, &[1, 1, 49_000][..]),
            (commit::CHAIN_HEAD, &[1, 1]),
            (commit::GAPS, &[1, 1, 10]),
            (commit::FORGET_UPLOADS, &[1, 1, 49_000, 50_000]),
            (file::KNOWN_FILES, &[1, 49_900]),
            (file::WAITING_FILES, &[1]),
            (file::PREVIOUS_FILE, &[1, 49_900]),
        ] {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN ANALYZE {sql}"));
            let mut explain = sqlx::query_scalar(explain);
            for value in values {
                explain = explain.bind(i64::from(*value));
            }
            let plan: Vec<String> = explain.fetch_all(pool).await.unwrap();
            let plan = plan.join("\n");
            // A filter would remove rows that were read in vain: by the thousand for each row of the answer.
            for waste in [
                "Seq Scan on files",
                "Seq Scan on commits",
                "Removed by Join",
            ] {
                assert!(!plan.contains(waste), "{sql}\n{plan}");
            }
        }
        sqlx::raw_sql("ANALYZE").execute(pool).await.unwrap();
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

async fn a_schema_of_another_version_is_refused_by_writers_and_readers(bench: Bench) {
    let newer = bench.ledger.pick(
        "INSERT INTO _gtide_migrations
           (version, description, success, checksum, execution_time)
         VALUES (99990101000000, 'from the future', true, x'00', 0)",
        "INSERT INTO gtide._gtide_migrations
           (version, description, success, checksum, execution_time)
         VALUES (99990101000000, 'from the future', true, '\\x00', 0)",
    );
    let written = on!(bench.ledger, |db| {
        sqlx::query(newer).execute(db).await.map(|_| ())
    });
    written.unwrap();
    bench.ledger.close().await;
    for error in [
        Ledger::open(&bench.url).await.unwrap_err(),
        Ledger::open_read_only(&bench.url).await.unwrap_err(),
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
        uploads: Vec::new(),
    }
}

async fn an_agent_is_silent_when_it_was_not_heard_of_and_gone_when_it_ended_in_order(bench: Bench) {
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

/// Lanes of one route commit side by side; on PostgreSQL in transactions that overlap.
async fn commits_of_many_lanes_make_one_watermark(bench: Bench) {
    for sequence in 1..=64 {
        bench.discover(sequence).await;
    }
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let (ledger, source, to) = (bench.ledger.clone(), bench.source, bench.destination);
        lanes.spawn(async move {
            for sequence in (1..=64).filter(|s| s % 8 == lane) {
                let mut tx = ledger.begin().await.unwrap();
                let key = FileKey {
                    source,
                    sequence: Sequence(sequence),
                };
                tx.record_commit(key, to, &committed(sequence), at(3_000))
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
                tx.commit().await.unwrap();
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    assert_eq!(bench.watermark().await, Some(64));
    assert_eq!(bench.head().await.unwrap().sequence, Sequence(64));
    assert_eq!(bench.gaps().await, []);
}

fn scope(agent: &str) -> TroubleScope {
    TroubleScope {
        agent: agent.to_owned(),
        source_name: "primary".to_owned(),
        destination: None,
    }
}

/// PostgreSQL stores no NUL; an error may quote one from a damaged file.
async fn what_an_error_quotes_can_be_stored(bench: Bench) {
    let trouble = Trouble {
        error: "read \"binlog\0\"".to_owned(),
        hint: Some("a\0b".to_owned()),
        exit: Exit::Corrupt,
        since: at(7),
    };
    let (ledger, scope) = (&bench.ledger, scope("db1"));
    ledger.set_trouble(&scope, Some(&trouble)).await.unwrap();
    let again = Trouble {
        since: at(9),
        ..trouble
    };
    ledger.set_trouble(&scope, Some(&again)).await.unwrap();
    let stored = &ledger.troubles().await.unwrap()[&scope];
    assert_eq!(stored.error, "read \"binlog\u{fffd}\"");
    assert_eq!((stored.since, stored.exit), (at(7), Exit::Corrupt));
    ledger.set_trouble(&scope, None).await.unwrap();
    assert!(ledger.troubles().await.unwrap().is_empty());
}

async fn two_archivers_may_call_different_servers_alike(bench: Bench) {
    let trouble = Trouble {
        error: "no index".to_owned(),
        hint: None,
        exit: Exit::Usage,
        since: at(7),
    };
    let ledger = &bench.ledger;
    let destination = TroubleScope {
        destination: Some("s3://bucket/x@y".to_owned()),
        ..scope("db1")
    };
    for scope in [&scope("db1"), &scope("db2"), &destination] {
        ledger.set_trouble(scope, Some(&trouble)).await.unwrap();
    }
    ledger.set_trouble(&scope("db2"), None).await.unwrap();
    let left: Vec<TroubleScope> = ledger.troubles().await.unwrap().into_keys().collect();
    assert_eq!(left, [scope("db1"), destination]);
}
