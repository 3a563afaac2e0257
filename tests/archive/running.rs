//! A daemon that a test started, and a datadir whose index a test writes as a server would.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::workspace::{Workspace, fixture};

/// Nothing in this suite that comes at all takes longer.
pub const PATIENCE: Duration = Duration::from_mins(4);

const POLL: Duration = Duration::from_millis(20);

/// A running archiver; killed when it is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// `gtide run` with this workspace's configuration; the log goes to a file of this name.
    pub fn start(workspace: &Workspace, log: &str) -> Self {
        Self::start_with(workspace.gtide(), &workspace.path().join(log))
    }

    /// `command run`.
    pub fn start_with(mut command: Command, log: &Path) -> Self {
        let child = command
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        let log = log.to_owned();
        Self { child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its log holds `words`.
    pub fn wait_for(&self, words: &str) {
        self.wait_until(words, || self.log().contains(words));
    }

    /// Waits until `is_true`; `what` is for the panic.
    pub fn wait_until(&self, what: &str, is_true: impl FnMut() -> bool) {
        assert!(wait_until(is_true), "not {what}: {}", self.log());
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM: it must end in order, and says how long that took.
    pub fn stop(&mut self) -> Duration {
        let begin = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        begin.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `is_true`; `false` when it is not after [`PATIENCE`].
pub fn wait_until(mut is_true: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        if Instant::now() > end {
            return false;
        }
        sleep(POLL);
    }
    true
}

/// Writes the index as a server does: in place of the old one, by rename.
pub fn write_index(datadir: &Path, names: &[String]) {
    let lines: Vec<String> = names.iter().map(|name| format!("./{name}\n")).collect();
    let new = datadir.join("binlog.index_crash_safe");
    fs::write(&new, lines.concat()).unwrap();
    fs::rename(new, datadir.join("binlog.index")).unwrap();
}

/// `binlog.000001` and so on.
pub fn names(sequences: impl IntoIterator<Item = u64>) -> Vec<String> {
    let sequences = sequences.into_iter();
    sequences.map(|n| format!("binlog.{n:06}")).collect()
}

/// Copies a fixture's file `from` into the datadir as file `to`.
pub fn put(workspace: &Workspace, from: u64, to: u64) {
    let from = fixture("binlog/mysql-9.7").join(format!("binlog.{from:06}"));
    fs::copy(from, workspace.datadir().join(format!("binlog.{to:06}"))).unwrap();
}

/// Files that are still pinned, in all incarnations.
pub fn pins(workspace: &Workspace) -> Vec<String> {
    let Ok(folders) = fs::read_dir(workspace.path().join("spool/pin")) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for folder in folders {
        for pin in fs::read_dir(folder.unwrap().path()).unwrap() {
            names.push(pin.unwrap().file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

/// The rows of `gtide status`; none while there is no database.
pub fn status(workspace: &Workspace) -> Vec<Value> {
    let output = workspace
        .gtide()
        .args(["status", "--format", "json"])
        .output()
        .unwrap();
    let report = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
    report["sources"].as_array().cloned().unwrap_or_default()
}

/// The watermark of the row of this incarnation at a destination whose URL ends so.
pub fn watermark(workspace: &Workspace, incarnation: u64, destination: &str) -> Option<u64> {
    let rows = status(workspace);
    let row = rows.iter().find(|row| {
        row["incarnation"] == incarnation
            && row["destination"]
                .as_str()
                .is_some_and(|url| url.ends_with(destination))
    });
    row?["watermark"].as_u64()
}

/// All files below a folder, with what tells whether they were written again.
pub fn inodes(folder: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    use std::os::unix::fs::MetadataExt;
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((entry.path(), metadata.ino(), metadata.modified().unwrap()));
            }
        }
    }
    files.sort();
    files
}
