//! A spool, a ledger, an archive and real binlogs in a temporary folder, opened as often as a test likes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::recording::Recording;
use crate::archive::ObjectIdentity;
use crate::clock::SystemClock;
use crate::config::{EncryptionConfig, SpoolConfig};
use crate::digest::Digest;
use crate::keyring::{self, Keyring};
use crate::layout::{Sequence, SourceIdentity};
use crate::ledger::{FileKey, Fingerprint, JobFilter, JobRow, Ledger, NewFile, Route};
use crate::pipeline::backups::BaseBackups;
use crate::pipeline::pace::Pace;
use crate::pipeline::progress::Uploads;
use crate::pipeline::{Fresh, Pipeline, SealLocks, Source};
use crate::pipeline::{PartPlaces, commit};
use crate::queue::{Claim, Claims, Queue, QueueConfig};
use crate::spool::Spool;
use crate::store::{ObjectStore, StoreConfig, connect};

/// Nothing here takes longer; what hangs must not hang the suite.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// The largest of the real binlogs: many parts.
pub(super) const LARGE: &str = "binlog.000013";

/// One part.
pub(super) const SMALL: &str = "binlog.000010";

/// The folder, and where its archive lies.
pub(super) struct Bench {
    dir: TempDir,
    archive: PathBuf,
}

/// An archiver's parts on that folder, as one process has them.
pub(super) struct Opened {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) queue: Arc<Queue>,
    pub(super) store: Arc<Recording>,
    pub(super) route: Route,
    claims: Claims,
}

/// Lanes that work.
pub(super) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/binlog/mysql-9.7")
        .join(name)
}

pub(super) fn identity() -> SourceIdentity {
    SourceIdentity {
        cluster: "test".parse().unwrap(),
        server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        incarnation: 1,
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        keyring::create_key_file(&dir.path().join("key")).unwrap();
        let archive = dir.path().join("archive");
        Self { dir, archive }
    }

    /// Another archiver, with a spool and a ledger of its own, for the same files and the same archive.
    pub(super) fn rival(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(self.path().join("key"), dir.path().join("key")).unwrap();
        let archive = self.archive.clone();
        Self { dir, archive }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn spool_config(&self) -> SpoolConfig {
        SpoolConfig {
            dir: self.path().join("spool"),
            reserve: 0,
            pin: true,
        }
    }

    /// Opens everything as a new process would.
    pub(super) async fn open(&self) -> Opened {
        self.open_with(Duration::from_secs(20)).await
    }

    pub(super) async fn open_with(&self, shutdown_grace: Duration) -> Opened {
        self.open_all(shutdown_grace, self.spool_config()).await
    }

    pub(super) async fn open_on(&self, spool: SpoolConfig) -> Opened {
        self.open_all(Duration::from_secs(20), spool).await
    }

    async fn open_all(&self, shutdown_grace: Duration, spool: SpoolConfig) -> Opened {
        let database = format!("sqlite:{}", self.path().join("gtide.db").display());
        let ledger = Ledger::open(&database).await.unwrap();
        let source = ledger.source(&identity(), "db1").await.unwrap();
        let url = format!("file://{}", self.archive.display());
        let destination = ledger.destination(&url).await.unwrap();
        let config = StoreConfig {
            url,
            ..StoreConfig::default()
        };
        let store = Arc::new(Recording::new(connect(&config).unwrap()));
        let queue = QueueConfig {
            lanes: 2,
            max_attempts: 3,
            shutdown_grace,
        };
        let clock = Arc::new(SystemClock);
        let queue = Queue::open(ledger.clone(), queue, clock.clone()).await;
        let key = format!("file:{}", self.path().join("key").display());
        let pipeline = Pipeline {
            ledger,
            keyring: Arc::new(Keyring::open(&EncryptionConfig::new(key)).unwrap()),
            spool: Spool::open(&spool).unwrap(),
            level: 3,
            clock,
            sources: [(source, named("db1"))].into(),
            stores: [(destination, Arc::clone(&store) as Arc<dyn ObjectStore>)].into(),
            pace: Arc::new(Pace::new(2, 0)),
            seals: SealLocks::default(),
            fresh: Fresh::default(),
            backups: BaseBackups::default(),
            meter: crate::metrics::Meter::default(),
            uploads: Uploads::default(),
            places: PartPlaces::new(1),
        };
        Opened {
            pipeline: Arc::new(pipeline),
            queue: Arc::new(queue.unwrap()),
            store,
            route: Route {
                source,
                destination,
            },
            claims: Claims::open(&database).await.unwrap(),
        }
    }

    /// A server's file with the content of a fixture.
    pub(super) fn binlog(&self, sequence: u64, content: &str) -> PathBuf {
        let path = self.path().join(format!("binlog.{sequence:06}"));
        std::fs::copy(fixture(content), &path).unwrap();
        path
    }
}

fn named(name: &str) -> Source {
    Source {
        name: name.to_owned(),
        identity: identity(),
    }
}

pub(super) fn object(sequence: u64) -> ObjectIdentity {
    ObjectIdentity {
        source: identity(),
        sequence: Sequence(sequence),
        file_name: format!("binlog.{sequence:06}"),
    }
}

impl Opened {
    pub(super) fn file(&self, sequence: u64) -> FileKey {
        FileKey {
            source: self.route.source,
            sequence: Sequence(sequence),
        }
    }

    /// Finds a file as the watch does, without pinning it.
    pub(super) async fn find(&self, sequence: u64, path: &Path) {
        let fingerprint = Fingerprint::of(&path.metadata().unwrap());
        let file = NewFile {
            key: self.file(sequence),
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            path: Some(path.to_owned()),
            size: fingerprint.size,
            fingerprint: Some(fingerprint),
        };
        let destinations = [self.route.destination];
        self.queue.enqueue(&[file], &destinations).await.unwrap();
    }

    pub(super) async fn run(&self) -> Running {
        let claim = self.claims.try_claim(&identity()).await.unwrap();
        let Claim::Owned(ownership) = claim else {
            panic!("{claim:?}");
        };
        let (ownership, stop) = (Arc::new(ownership), CancellationToken::new());
        let (queue, handler, token) = (
            Arc::clone(&self.queue),
            Arc::clone(&self.pipeline),
            stop.clone(),
        );
        let Route {
            source,
            destination,
        } = self.route;
        let task = tokio::spawn(async move {
            let destinations = [destination];
            let run = queue.run(&ownership, source, &destinations, handler, token);
            run.await.unwrap();
        });
        Running { stop, task }
    }

    /// Runs until the lanes rest.
    pub(super) async fn settle(&self) {
        let running = self.run().await;
        self.settle_and_stop(running).await;
    }

    pub(super) async fn settle_and_stop(&self, running: Running) {
        let settled = tokio::time::timeout(PATIENCE, self.queue.settled(&[self.route])).await;
        let settled = settled.expect("the lanes do not rest");
        running.stop().await;
        assert_eq!(settled.stalled, [], "nothing is stalled");
    }

    /// The SHA-256 that a file's entry says.
    pub(super) async fn archived(&self, sequence: u64) -> Digest {
        let object = object(sequence);
        let key = object.source.manifest_key(object.sequence);
        let read = commit::read_entry(self.store.as_ref(), &key).await;
        read.unwrap().0.sha256
    }

    pub(super) async fn watermark(&self) -> Option<u64> {
        let Route {
            source,
            destination,
        } = self.route;
        let ledger = &self.pipeline.ledger;
        let watermark = ledger.watermark(source, destination).await.unwrap();
        watermark.map(|sequence| sequence.0)
    }

    pub(super) async fn jobs(&self) -> Vec<JobRow> {
        let filter = JobFilter {
            limit: 100,
            ..JobFilter::default()
        };
        self.pipeline.ledger.jobs(&filter).await.unwrap()
    }

    /// What lies in the spool's seal folder.
    pub(super) fn sealed_files(&self) -> Vec<String> {
        let path = self.pipeline.spool.seal_path(&object(1));
        let Ok(entries) = path.parent().unwrap().read_dir() else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Running {
    pub(super) fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    pub(super) async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the lanes do not end").unwrap();
    }

    pub(super) async fn stop(self) {
        self.tell_to_stop();
        self.ended().await;
    }
}
