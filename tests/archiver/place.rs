//! Where an archiver keeps its work, and where its archive goes.

use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use engine::store::StoreConfig;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::harness::{Gcs, Postgres, Proxy, SeaweedFs};
use crate::workspace::Workspace;

/// The database of queue and ledger.
#[derive(Debug, Clone, Copy)]
pub enum Database<'a> {
    /// A file of the site's own.
    Sqlite,
    /// A database of the site's own on this server.
    Postgres(&'a Postgres),
    /// A database that is there, by its URL: several sites may share it.
    Shared(&'a str),
}

impl Database<'_> {
    /// Its URL, made new; `name` is the site's.
    pub fn create(self, name: &str, workspace: &Workspace) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", workspace.path().join("gtide.db").display()),
            Self::Postgres(server) => server.create_database(&name.replace('-', "_")),
            Self::Shared(url) => url.to_owned(),
        }
    }
}

/// Where the archive of one site goes.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    /// A folder of the site's own, on the spool's filesystem: sealed objects get a second name there.
    Folder,
    /// A folder of the site's own below this one, on another filesystem.
    Mount(&'a Path),
    /// A prefix of its own in a bucket.
    Bucket(&'a Bucket),
    /// A prefix of its own in a `gs://` bucket.
    Google(&'a Gcs),
}

/// A store in a folder, for the program and for the test to look at.
pub(super) fn folder(path: &Path) -> (StoreConfig, StoreConfig) {
    let store = StoreConfig {
        url: format!("file://{}", path.display()),
        ..StoreConfig::default()
    };
    (store.clone(), store)
}

/// A folder that is not on the filesystem where temporary ones are.
pub fn other_filesystem() -> TempDir {
    let mount = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is a second filesystem");
    let device = |path: &Path| path.metadata().unwrap().dev();
    assert_ne!(device(mount.path()), device(&std::env::temp_dir()));
    mount
}

/// A real S3 store with a proxy before it. One serves any number of sites.
#[derive(Debug)]
pub struct Bucket {
    /// The store itself.
    pub server: SeaweedFs,
    /// What stands between it and the program.
    pub proxy: Proxy,
    // Last: what runs on it is dropped before.
    runtime: Runtime,
}

impl Bucket {
    /// Starts both.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = SeaweedFs::start();
        let proxy = runtime.block_on(Proxy::start(&server.address()));
        Self {
            server,
            proxy,
            runtime,
        }
    }

    /// Runs what a test has to await.
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// The store of a site named `name`, through the proxy.
    pub fn store(&self, name: &str) -> StoreConfig {
        StoreConfig {
            endpoint: Some(self.proxy.endpoint()),
            ..self.straight(name)
        }
    }

    /// The same store, past the proxy.
    pub fn straight(&self, name: &str) -> StoreConfig {
        StoreConfig {
            url: format!("s3://{}/{name}", SeaweedFs::BUCKET),
            endpoint: Some(self.server.endpoint()),
            region: None,
            credentials: Some(format!("file:{}", self.server.credentials_file().display())),
            ..StoreConfig::default()
        }
    }
}

/// The `gs://` store of a site named `name`.
pub fn google(server: &Gcs, name: &str) -> StoreConfig {
    StoreConfig {
        url: format!("gs://{}/{name}", Gcs::BUCKET),
        endpoint: Some(server.endpoint()),
        region: None,
        credentials: Some(format!("file:{}", server.credentials_file().display())),
        ..StoreConfig::default()
    }
}

/// Puts database and store into a configuration that `gtide init` wrote.
pub fn configure(workspace: &Workspace, database: &str, store: &StoreConfig) {
    workspace.edit(
        "database = \"sqlite:gtide.db\"",
        &format!("database = \"{database}\""),
    );
    let settings = [
        ("endpoint", "https://s3.example.net", &store.endpoint),
        (
            "credentials",
            "file:/etc/gtide/credentials",
            &store.credentials,
        ),
    ];
    for (key, example, value) in settings {
        if let Some(value) = value {
            workspace.edit(
                &format!("#{key} = \"{example}\""),
                &format!("{key} = \"{value}\""),
            );
        }
    }
}
