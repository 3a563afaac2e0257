//! A queue in a temporary directory, and handlers that do as a test says.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use engine::clock::SystemClock;
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
use sqlx::SqlitePool;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing in this suite takes longer; a lane that hangs must not hang the suite.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const CONFIG: QueueConfig = QueueConfig {
    lanes: 4,
    max_attempts: 3,
    shutdown_grace: Duration::from_secs(20),
};

/// A directory with a database, a source and a destination.
pub(crate) struct Bench {
    dir: TempDir,
}

pub(crate) fn url_of(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("gtide.db").display())
}

pub(crate) fn identity() -> SourceIdentity {
    SourceIdentity {
        cluster: "orders".parse().unwrap(),
        server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        incarnation: 1,
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn url(&self) -> String {
        url_of(self.dir())
    }

    pub(crate) async fn open(&self) -> Opened {
        open(self.dir(), CONFIG).await
    }

    /// A connection that knows nothing of the ledger, to look at or to break the tables.
    pub(crate) async fn raw(&self) -> SqlitePool {
        SqlitePool::connect(&self.url()).await.unwrap()
    }
}

/// An open queue and the ids of its only route.
pub(crate) struct Opened {
    pub(crate) ownership: Arc<Ownership>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) source: SourceId,
    pub(crate) destination: DestinationId,
}

pub(crate) async fn open(dir: &Path, config: QueueConfig) -> Opened {
    let url = url_of(dir);
    let ledger = Ledger::open(&url).await.unwrap();
    let source = ledger.source(&identity(), "primary").await.unwrap();
    let destination = ledger.destination("file:///archive").await.unwrap();
    let queue = Queue::open(ledger, config, Arc::new(SystemClock)).await;
    Opened {
        ownership: Arc::new(claim(&url).await),
        queue: Arc::new(queue.unwrap()),
        source,
        destination,
    }
}

pub(crate) async fn claim(url: &str) -> Ownership {
    let claims = Claims::open(url).await.unwrap();
    match claims.try_claim(&identity()).await.unwrap() {
        Claim::Owned(ownership) => ownership,
        Claim::Held { by } => panic!("held by {by}"),
    }
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
}

impl Log {
    /// Sequence and number of each attempt, as they began.
    pub(crate) fn attempts(&self) -> Vec<(u64, u32)> {
        self.attempts.lock().unwrap().clone()
    }

    /// Sequences in the order in which their manifest entries would have been written.
    pub(crate) fn entries(&self) -> Vec<u64> {
        self.entries.lock().unwrap().clone()
    }
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
            Act::Succeed => {}
            Act::Fail(class) => {
                return Err(JobFailure::new(format!("no luck with {sequence}"), class));
            }
            Act::Panic => panic!("bug with {sequence}"),
            Act::Hang => {
                run.cancel().cancelled().await;
                return Err(JobFailure::cancelled());
            }
        }
        run.turn(previous(job.sequence)).await?;
        self.log.entries.lock().unwrap().push(sequence);
        Ok(committed(sequence))
    }
}
