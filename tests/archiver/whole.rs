//! What must hold when an archiver has come to rest, whatever happened to it before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::ledger::{JobFilter, Ledger};
use engine::store::{ObjectStore, connect};
use futures::TryStreamExt;
use serde_json::Value;

use super::Site;
use crate::harness::wait_until;
use crate::workspace::{code, stderr};

/// The files that a server has closed: by name, where they lie.
pub type Originals = BTreeMap<String, PathBuf>;

/// Those that the index in `datadir` names before its last one.
pub fn originals(datadir: &Path) -> Originals {
    let index = fs::read_to_string(datadir.join("binlog.index")).unwrap();
    let names = index.lines().map(|line| line.trim_start_matches("./"));
    let mut names: Vec<&str> = names.collect();
    names.pop();
    let paths = names
        .iter()
        .map(|name| ((*name).to_owned(), datadir.join(name)));
    paths.collect()
}

impl Site {
    /// Everything at once: the archive holds exactly `originals`, once each, up to `watermark`, and nothing is left
    /// over, neither in the store nor in the spool nor in the queue.
    pub fn assert_whole(&self, originals: &Originals, watermark: u64) {
        self.assert_whole_after(0, originals, watermark);
    }

    /// The same after kills at any moment. Whoever is killed between the store's word that an upload was begun and the
    /// ledger's leaves one that nobody knows, until the sweep takes it for an orphan, a day later.
    pub fn assert_whole_after(&self, kills: usize, originals: &Originals, watermark: u64) {
        self.assert_caught_up(watermark);
        self.assert_identical(originals);
        self.assert_once_each(originals.len());
        self.assert_nothing_left(kills);
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

    /// All that `gtide status` tells, and its exit code. Null while there is no database yet.
    pub fn report(&self) -> (Value, i32) {
        let mut status = self.workspace.gtide();
        let output = status.args(["status", "--format", "json"]).output();
        let output = output.unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (report, code(&output))
    }

    /// The only source of `gtide status`.
    pub fn status(&self) -> Value {
        self.report().0["sources"][0].clone()
    }

    /// Waits until `gtide status` shows a watermark of at least this; panics with what the daemon said when it does
    /// not come within `limit`.
    pub fn wait_for_watermark(&self, watermark: u64, limit: Duration) {
        let mut last = Value::Null;
        let reached = wait_until(limit, || {
            last = self.status();
            last["watermark"].as_u64() >= Some(watermark)
        });
        assert!(
            reached,
            "no watermark {watermark} in {limit:?}: {last:#}\n{}",
            self.log()
        );
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
        for (name, original) in originals {
            let same = fs::read(dir.path().join(name)).unwrap() == fs::read(original).unwrap();
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

    /// At most so many uploads that were begun and not ended, no pin, no sealed object, no dot file, no job.
    fn assert_nothing_left(&self, begun: usize) {
        let uploads = block_on(async { self.open_store().list_uploads("").await.unwrap() });
        assert!(uploads.len() <= begun, "uploads left over: {uploads:#?}");
        let mut spooled = files_below(&self.spool());
        // The locks of those who seal there stay for ever, and so does the spool's name.
        spooled.retain(|path| path.extension().is_none_or(|end| end != "lock"));
        spooled.retain(|path| path.file_name().is_none_or(|name| name != "id"));
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
