//! What must hold when an archiver has come to rest, whatever happened to it before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::ledger::{JobFilter, Ledger};
use engine::store::{ObjectStore, connect};
use futures::TryStreamExt;
use serde_json::Value;

use super::Site;
use crate::workspace::{code, json, stderr};

/// The files of a server, by name.
pub type Originals = BTreeMap<String, Vec<u8>>;

/// Reads the binlogs that lie in `datadir`.
pub fn originals(datadir: &Path) -> Originals {
    let mut originals = Originals::new();
    for entry in fs::read_dir(datadir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("binlog.0") || name.starts_with("binlog.1") {
            originals.insert(name, fs::read(&path).unwrap());
        }
    }
    originals
}

impl Site {
    /// Everything at once: the archive holds exactly `originals`, once each, up to `watermark`, and nothing is left
    /// over, neither in the store nor in the spool nor in the queue.
    pub fn assert_whole(&self, originals: &Originals, watermark: u64) {
        self.assert_caught_up(watermark);
        self.assert_identical(originals);
        self.assert_once_each(originals.len());
        self.assert_nothing_left();
    }

    /// `gtide status` shows this watermark, and nothing in the way.
    pub fn assert_caught_up(&self, watermark: u64) {
        let status = self.status();
        assert_eq!(status["watermark"], watermark, "{status}");
        assert_eq!(status["queued"], 0, "{status}");
        assert_eq!(status["stalled"], 0, "{status}");
        assert_eq!(status["stopped"], Value::Null, "{status}");
        assert_eq!(status["gaps"], serde_json::json!([]), "{status}");
    }

    /// The only row of `gtide status`.
    pub fn status(&self) -> Value {
        let mut status = self.workspace.gtide();
        let output = status.args(["status", "--format", "json"]).output();
        let output = output.unwrap();
        assert_eq!(code(&output), 0, "status: {}", stderr(&output));
        rows(json(&output)).remove(0)
    }

    /// What comes back is what went in.
    pub fn assert_identical(&self, originals: &Originals) {
        let verify = self.workspace.verify();
        assert_eq!(code(&verify), 0, "verify: {}", stderr(&verify));
        let dir = tempfile::tempdir_in(self.workspace.path()).unwrap();
        let mut fetch = self.workspace.restore();
        let fetch = fetch.args(["fetch", "--dir"]).arg(dir.path()).output();
        let fetch = fetch.unwrap();
        assert_eq!(code(&fetch), 0, "fetch: {}", stderr(&fetch));
        let fetched: Vec<String> = names(dir.path());
        let wanted: Vec<String> = originals.keys().cloned().collect();
        assert_eq!(fetched, wanted, "other files came back");
        for (name, bytes) in originals {
            let same = fs::read(dir.path().join(name)).unwrap() == *bytes;
            assert!(same, "{name} differs");
        }
    }

    /// One object and one entry for each file, and besides them the layout version only.
    fn assert_once_each(&self, files: usize) {
        let keys = self.keys();
        let of = |kind: &str| keys.iter().filter(|key| key.contains(kind)).count();
        assert_eq!(of("/log/"), files, "objects: {keys:#?}");
        assert_eq!(of("/manifest/"), files, "entries: {keys:#?}");
        assert_eq!(keys.len(), 2 * files + 1, "other objects: {keys:#?}");
    }

    /// An entry names an object that is there (I1): also while the archiver lies dead.
    pub fn assert_no_entry_without_object(&self) {
        let keys = self.keys();
        for key in &keys {
            if let Some((source, file)) = key.split_once("/manifest/") {
                let object = format!("{source}/log/{}", file.replace(".json", ".gtb"));
                assert!(keys.contains(&object), "{key} has no object: {keys:#?}");
            }
        }
    }

    /// No upload that was begun and not ended, no pin, no sealed object, no dot file, no job.
    fn assert_nothing_left(&self) {
        let uploads = block_on(async { self.open_store().list_uploads("").await.unwrap() });
        assert!(uploads.is_empty(), "uploads left over: {uploads:#?}");
        let spooled = files_below(&self.spool());
        assert!(spooled.is_empty(), "left in the spool: {spooled:#?}");
        assert_eq!(self.jobs(), 0, "jobs left over");
    }

    /// Rows in the queue's table.
    pub fn jobs(&self) -> usize {
        let filter = JobFilter {
            limit: 1_000,
            ..JobFilter::default()
        };
        block_on(async {
            let ledger = Ledger::open_read_only(&self.database).await.unwrap();
            ledger.jobs(&filter).await.unwrap().len()
        })
    }

    /// All objects of the archive.
    pub fn keys(&self) -> Vec<String> {
        block_on(async {
            let store = self.open_store();
            let listed = store.list("", None);
            let keys = listed.map_ok(|object| object.key.to_string());
            keys.try_collect().await.unwrap()
        })
    }

    fn open_store(&self) -> std::sync::Arc<dyn ObjectStore> {
        connect(&self.store).unwrap()
    }
}

/// The rows of `gtide status --format json`.
pub fn rows(status: Value) -> Vec<Value> {
    match status {
        Value::Array(rows) => rows,
        other => panic!("no list of sources: {other}"),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// All files below `dir`, none when it is not there.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn block_on<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}
