//! One archiver with everything that it needs: binlogs, configuration, database, spool, destination.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use engine::store::StoreConfig;
use rustix::process::{Pid, Signal, kill_process};

use super::binlogs;
use super::place::{self, Database, Destination};
use crate::workspace::Workspace;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it said.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// An archiver and its surroundings, in a folder of its own.
pub struct Site {
    /// Its folder.
    pub workspace: Workspace,
    /// Its archive, for the test to look at.
    pub(super) store: StoreConfig,
    /// Its database's URL.
    pub database: String,
}

impl Site {
    /// A site whose index is `index`; `name` is its own prefix where it shares a store.
    pub fn new(name: &str, index: &Path, database: Database, destination: Destination) -> Self {
        Self::assemble(Workspace::empty(), name, index, database, destination)
    }

    /// A site with a copy of the datadir `template`.
    pub fn of(name: &str, template: &Path, database: Database, destination: Destination) -> Self {
        let workspace = Workspace::empty();
        for entry in fs::read_dir(template).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), workspace.datadir().join(entry.file_name())).unwrap();
        }
        let index = workspace.datadir().join("binlog.index");
        Self::assemble(workspace, name, &index, database, destination)
    }

    fn assemble(
        workspace: Workspace,
        name: &str,
        index: &Path,
        database: Database,
        destination: Destination,
    ) -> Self {
        let (store, straight) = match destination {
            Destination::Folder => place::folder(&workspace.archive()),
            Destination::Mount(mount) => place::folder(&mount.join(name)),
            Destination::Bucket(bucket) => (bucket.store(name), bucket.straight(name)),
            Destination::Google(server) => {
                let store = place::google(server, name);
                (store.clone(), store)
            }
        };
        workspace.init(index, &["--destination", &store.url]);
        let database = database.create(name, &workspace);
        place::configure(&workspace, &database, &store);
        Self {
            workspace,
            store: straight,
            database,
        }
    }

    /// As if the server had closed the files up to this one just now, and wrote to the next.
    pub fn close_up_to(&self, number: u64) {
        binlogs::write_index(&self.workspace.datadir(), 1..=number + 1);
    }

    /// The spool's folder.
    pub fn spool(&self) -> PathBuf {
        self.workspace.path().join("spool")
    }

    /// What the daemon says.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.workspace.path().join("daemon.log")
    }

    /// Archives everything and comes to rest.
    pub fn run_all(&self) -> Ended {
        self.workspace.run_all().into()
    }

    /// Archives everything that is closed and comes to rest.
    pub fn run_once(&self) -> Ended {
        self.workspace.run_once().into()
    }

    /// Bytes that a SQLite database takes.
    pub fn database_size(&self) -> u64 {
        // Beside the file itself: its log, which is not yet part of it.
        let files = ["gtide.db", "gtide.db-wal"].map(|name| self.workspace.path().join(name));
        let sizes = files.iter().filter_map(|path| fs::metadata(path).ok());
        sizes.map(|metadata| metadata.len()).sum()
    }

    /// As [`Site::run_all`], with a failpoint: the program is killed when it comes there for the `passing`th time.
    pub fn run_into(&self, failpoint: &str, passing: u32) -> Ended {
        let action = match passing - 1 {
            0 => "return".to_owned(),
            off => format!("{off}*off->return"),
        };
        let mut command = self.workspace.gtide();
        command
            .args(["run", "--once", "--include-last"])
            .env("FAILPOINTS", format!("{failpoint}={action}"));
        command.output().unwrap().into()
    }

    /// Starts the daemon; its log goes on where an earlier one's ended.
    pub fn start(&self) -> Daemon {
        self.start_by(self.workspace.gtide())
    }

    /// Starts the daemon by a command that lacks only `run`.
    pub fn start_by(&self, mut gtide: Command) -> Daemon {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.log_path());
        gtide.arg("run").stdout(Stdio::null()).stderr(log.unwrap());
        Daemon(gtide.spawn().unwrap())
    }
}

/// A running `gtide run`; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether and how it has ended by itself.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// SIGKILL, and waits for its end.
    pub fn kill9(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and waits for its end; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.0.wait().unwrap().code()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
