//! A queue on a database of its own, and handlers that do as a test says.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use engine::clock::{Clock, SystemClock};
use engine::digest::Digest;
use engine::layout::{Sequence, SourceIdentity};
use engine::ledger::{
    ArchiveJob, Committed, DestinationId, FileKey, JobFilter, JobRow, Ledger, NewFile, Route,
    SourceId,
};
use engine::queue::{
    Claim, Claims, Handler, JobFailure, JobRun, Ownership, Queue, QueueConfig, Settled,
};
use engine::retry::RetryClass;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgPool, SqlitePool};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::servers::Postgres;

/// Nothing in this suite takes longer; a lane that hangs must not hang the suite.
pub(crate) const PATIENCE: Duration = Duration::from_mins(4);

pub(crate) const CONFIG: QueueConfig = QueueConfig {
    lanes: 4,
    max_attempts: 3,
    shutdown_grace: Duration::from_secs(20),
};

/// A database of one kind or the other, and a directory.
pub(crate) struct Bench {
    dir: TempDir,
    url: String,
    server: Option<Postgres>,
}

/// A pool that knows nothing of the ledger, to look at or to break the tables.
pub(crate) enum Raw {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

pub(crate) fn identity() -> SourceIdentity {
    numbered(1)
}

/// The identity of another source.
pub(crate) fn numbered(incarnation: u32) -> SourceIdentity {
    SourceIdentity {
        cluster: "orders".parse().unwrap(),
        server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        incarnation,
    }
}

impl Bench {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("gtide.db").display());
        let server = None;
        Self { dir, url, server }
    }

    pub(crate) fn postgres() -> Self {
        let server = Postgres::start();
        Self {
            dir: tempfile::tempdir().unwrap(),
            url: server.create_database("ledger"),
            server: Some(server),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn server(&mut self) -> &mut Postgres {
        self.server.as_mut().expect("on PostgreSQL")
    }

    /// To another database of the same server.
    pub(crate) fn move_to(&mut self, database: &str) {
        self.url = self.server().url(database);
    }

    pub(crate) async fn open(&self) -> Opened {
        self.open_with(CONFIG).await
    }

    pub(crate) async fn open_with(&self, config: QueueConfig) -> Opened {
        let ledger = Ledger::open(&self.url).await.unwrap();
        open(&self.url, ledger, config, Arc::new(SystemClock)).await
    }

    pub(crate) async fn raw(&self) -> Raw {
        if self.server.is_none() {
            return Raw::Sqlite(SqlitePool::connect(&self.url).await.unwrap());
        }
        let options: PgConnectOptions = self.url.parse().unwrap();
        let options = options.options([("search_path", "gtide,apalis")]);
        Raw::Postgres(PgPool::connect_with(options).await.unwrap())
    }
}

impl Raw {
    /// Executes one of two statements.
    pub(crate) async fn execute(&self, sqlite: &'static str, postgres: &'static str) {
        match self {
            Self::Sqlite(pool) => drop(sqlx::raw_sql(sqlite).execute(pool).await.unwrap()),
            Self::Postgres(pool) => drop(sqlx::raw_sql(postgres).execute(pool).await.unwrap()),
        }
    }

    /// The number that a statement yields on both.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
        }
    }

    /// The pool of a SQLite database.
    pub(crate) fn sqlite(&self) -> &SqlitePool {
        match self {
            Self::Sqlite(pool) => pool,
            Self::Postgres(_) => panic!("not on SQLite"),
        }
    }

    /// Makes every commit fail.
    pub(crate) async fn refuse_commits(&self) {
        self.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON commits
             BEGIN SELECT raise(ABORT, 'disk full'); END",
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'disk full'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON commits
             FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    }
}

/// An open queue and the ids of its only route.
pub(crate) struct Opened {
    pub(crate) ownership: Arc<Ownership>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) source: SourceId,
    pub(crate) destination: DestinationId,
}

pub(crate) async fn open(
    url: &str,
    ledger: Ledger,
    config: QueueConfig,
    clock: Arc<dyn Clock>,
) -> Opened {
    let source = ledger.source(&identity(), "primary").await.unwrap();
    let destination = ledger.destination("file:///archive").await.unwrap();
    let queue = Queue::open(ledger, config, clock).await;
    Opened {
        ownership: Arc::new(claim(url, &identity()).await),
        queue: Arc::new(queue.unwrap()),
        source,
        destination,
    }
}

/// Waits for an owner that is just going: on PostgreSQL the server takes note of it.
pub(crate) async fn claim(url: &str, source: &SourceIdentity) -> Ownership {
    let claims = Claims::open(url).await.unwrap();
    let claim = async {
        loop {
            match claims.try_claim(source).await.unwrap() {
                Claim::Owned(ownership) => return ownership,
                Claim::Held { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, claim).await.unwrap()
}

impl Opened {
    pub(crate) fn route(&self) -> Route {
        Route {
            source: self.source,
            destination: self.destination,
        }
    }

    pub(crate) fn file(&self, sequence: u64) -> NewFile {
        NewFile {
            key: FileKey {
                source: self.source,
                sequence: Sequence(sequence),
            },
            name: format!("binlog.{sequence:06}"),
            path: None,
            size: sequence,
            fingerprint: None,
        }
    }

    pub(crate) async fn enqueue(&self, sequences: impl IntoIterator<Item = u64>) {
        let files: Vec<NewFile> = sequences.into_iter().map(|s| self.file(s)).collect();
        let destinations = [self.destination];
        self.queue.enqueue(&files, &destinations).await.unwrap();
    }

    pub(crate) fn run(&self, handler: impl Handler) -> Running {
        self.run_routes(vec![self.route()], handler)
    }

    pub(crate) fn run_routes(&self, routes: Vec<Route>, handler: impl Handler) -> Running {
        let asked = routes.clone();
        let stop = CancellationToken::new();
        let (queue, token) = (Arc::clone(&self.queue), stop.clone());
        let (ownership, handler) = (Arc::clone(&self.ownership), Arc::new(handler));
        let task = tokio::spawn(async move {
            let runs = routes.iter().map(|route| {
                let (handler, stop) = (Arc::clone(&handler), token.clone());
                let destinations = std::slice::from_ref(&route.destination);
                queue.run(&ownership, route.source, destinations, handler, stop)
            });
            futures::future::try_join_all(runs).await.unwrap();
        });
        Running {
            queue: Arc::clone(&self.queue),
            routes: asked,
            stop,
            task,
        }
    }

    pub(crate) async fn jobs(&self) -> Vec<JobRow> {
        let filter = JobFilter {
            limit: 1_000,
            ..JobFilter::default()
        };
        self.queue.ledger().jobs(&filter).await.unwrap()
    }

    pub(crate) async fn watermark(&self) -> Option<u64> {
        let ledger = self.queue.ledger();
        let watermark = ledger.watermark(self.source, self.destination).await;
        watermark.unwrap().map(|sequence| sequence.0)
    }
}

/// Lanes under way.
pub(crate) struct Running {
    queue: Arc<Queue>,
    routes: Vec<Route>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until they stop by themselves.
    pub(crate) async fn ended(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.unwrap().unwrap();
    }

    pub(crate) async fn settled(&self) -> Settled {
        let settled = self.queue.settled(&self.routes);
        tokio::time::timeout(PATIENCE, settled).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        drop(self.queue);
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap();
    }

    pub(crate) async fn settle_and_stop(self) -> Settled {
        let settled = self.settled().await;
        self.stop().await;
        settled
    }
}

/// What a test wants of one attempt.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Succeed,
    Fail(RetryClass),
    Panic,
    /// Until the attempt is cancelled.
    Hang,
}

/// A handler that does as a function says, and keeps a log of its attempts and commits.
pub(crate) struct Scripted<F> {
    script: F,
    pub(crate) log: Log,
}

/// What a handler did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    attempts: Arc<Mutex<Vec<(u64, u32)>>>,
    entries: Arc<Mutex<Vec<u64>>>,
    prepared: Arc<Mutex<Vec<u64>>>,
}

impl Log {
    /// Sequence and number of each attempt, as they began.
    pub(crate) fn attempts(&self) -> Vec<(u64, u32)> {
        self.attempts.lock().unwrap().clone()
    }

    /// Sequences whose jobs were prepared.
    pub(crate) fn prepared(&self) -> Vec<u64> {
        self.prepared.lock().unwrap().clone()
    }

    pub(crate) fn prepare(&self, job: &ArchiveJob) {
        self.prepared.lock().unwrap().push(job.sequence.0);
    }

    pub(crate) async fn wait_for_attempts(&self, count: usize) {
        wait_until(|| self.attempts().len() >= count).await;
    }

    pub(crate) async fn wait_for_prepared(&self, count: usize) {
        wait_until(|| self.prepared().len() >= count).await;
    }

    /// Sequences in the order in which their manifest entries would have been written.
    pub(crate) fn entries(&self) -> Vec<u64> {
        self.entries.lock().unwrap().clone()
    }
}

async fn wait_until(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

/// Does as `script` says for a sequence and attempt.
pub(crate) fn scripted<F>(script: F) -> (Scripted<F>, Log)
where
    F: Fn(u64, u32) -> Act + Send + Sync + 'static,
{
    let log = Log::default();
    let handler = Scripted {
        script,
        log: log.clone(),
    };
    (handler, log)
}

impl<F> fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

pub(crate) fn committed(sequence: u64) -> Committed {
    Committed {
        entry_sha256: Digest::of(&sequence.to_be_bytes()),
        plain_sha256: Digest::of(format!("plain {sequence}").as_bytes()),
        size: sequence,
        last_commit: None,
        gtids: Some(format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{sequence}")),
    }
}

/// The file before, where sequences begin with 1 and have no holes.
pub(crate) fn previous(sequence: Sequence) -> Option<Sequence> {
    sequence.0.checked_sub(1).filter(|s| *s > 0).map(Sequence)
}

#[async_trait]
impl<F> Handler for Scripted<F>
where
    F: Fn(u64, u32) -> Act + Send + Sync + 'static,
{
    async fn archive(&self, job: &ArchiveJob, run: &JobRun) -> Result<Committed, JobFailure> {
        let sequence = job.sequence.0;
        let attempt = (sequence, run.attempt());
        self.log.attempts.lock().unwrap().push(attempt);
        tokio::task::yield_now().await;
        match (self.script)(sequence, run.attempt()) {
            Act::Succeed => run.halfway(),
            Act::Fail(class) => {
                return Err(JobFailure::new(format!("no luck with {sequence}"), class));
            }
            Act::Panic => panic!("bug with {sequence}"),
            Act::Hang => {
                run.halfway();
                run.cancel().cancelled().await;
                return Err(JobFailure::cancelled());
            }
        }
        run.turn(previous(job.sequence)).await?;
        self.log.entries.lock().unwrap().push(sequence);
        Ok(committed(sequence))
    }

    async fn prepare(&self, job: &ArchiveJob, _: &CancellationToken) {
        self.log.prepare(job);
    }
}
