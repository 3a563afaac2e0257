//! A real MySQL server in a temporary data directory, on a private socket.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::lab::lab_program;
use super::process::{Process, tail, wait_until};

const READY_WITHIN: Duration = Duration::from_mins(4);

/// Small enough that several run side by side.
const SMALL: &[&str] = &[
    "--innodb-buffer-pool-size=32M",
    "--innodb-redo-log-capacity=16M",
    "--performance-schema=OFF",
    "--max-connections=20",
    "--skip-networking",
];

/// Binary logs with GTIDs, as gtide wants them; a test's own arguments come behind and win.
const LOGGING: &[&str] = &[
    "--log-bin=binlog",
    "--server-id=1",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
];

/// A server, running or not, and its data directory.
#[derive(Debug)]
pub struct Mysqld {
    process: Option<Process>,
    dir: TempDir,
}

impl Mysqld {
    /// Starts a server on a data directory of its own, as `mysqld --initialize` makes it, with `args` beside the defaults.
    pub fn start(args: &[&str]) -> Self {
        let mut server = Self::stopped();
        copy(&initialized(), &server.datadir());
        server.start_again(args);
        server
    }

    fn stopped() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gtide-mysqld-")
            .tempdir()
            .unwrap();
        Self { process: None, dir }
    }

    /// Starts a server on a copy of the data directory of one that was shut down. It gets a
    /// `server_uuid` of its own.
    pub fn start_on_copy_of(datadir: &Path, args: &[&str]) -> Self {
        let mut server = Self::stopped();
        copy(datadir, &server.datadir());
        std::fs::remove_file(server.datadir().join("auto.cnf")).unwrap();
        server.start_again(args);
        server
    }

    /// Starts a server on a copy of what CLONE made, which has no `server_uuid` yet.
    pub fn start_on_clone(clone: &Path, args: &[&str]) -> Self {
        let mut server = Self::stopped();
        copy(clone, &server.datadir());
        server.start_again(args);
        server
    }

    /// Starts the server that was ended, with these `args` beside the defaults.
    pub fn start_again(&mut self, args: &[&str]) {
        assert!(self.process.is_none(), "mysqld runs already");
        let (log, socket) = (self.log(), self.socket());
        let mut command = self.command();
        command
            .arg(format!("--socket={}", socket.display()))
            .arg(format!(
                "--pid-file={}",
                self.dir.path().join("pid").display()
            ))
            .args(SMALL)
            .args(LOGGING)
            .args(args);
        let mut process = Process::start(&mut command, &log);
        let is_ready = wait_until(READY_WITHIN, || {
            process.ended().is_some() || (socket.exists() && self.try_sql("SELECT 1").is_ok())
        });
        assert!(
            is_ready && process.ended().is_none(),
            "mysqld does not start:\n{}",
            tail(&log)
        );
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        mysqld(&self.datadir())
    }

    /// What the `mysql` client prints for `sql`: rows as lines, columns by tabs, no headings.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`Mysqld::sql`], with the client's complaint where it fails.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let output = Command::new(lab_program("mysql"))
            .args([
                "--no-defaults",
                "--user=root",
                "--batch",
                "--raw",
                "--skip-column-names",
            ])
            .arg(format!("--socket={}", self.socket().display()))
            .args(["--execute", sql])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Its data directory.
    pub fn datadir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its binary log index.
    pub fn index(&self) -> PathBuf {
        self.datadir().join("binlog.index")
    }

    /// Its socket, for clients.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("mysqld.sock")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("mysqld.log")
    }

    /// SIGKILL: the last binlog ends in neither ROTATE nor STOP, its `IN_USE` flag is set.
    pub fn kill9(&mut self) {
        self.process.take().expect("mysqld runs").kill9();
    }

    /// A clean shutdown: the last binlog ends in STOP.
    pub fn shutdown(&mut self) {
        let mut process = self.process.take().expect("mysqld runs");
        self.sql("SHUTDOWN");
        let has_ended = wait_until(READY_WITHIN, || process.ended().is_some());
        assert!(has_ended, "mysqld does not stop:\n{}", tail(&self.log()));
    }
}

fn mysqld(datadir: &Path) -> Command {
    let mut command = Command::new(lab_program("mysqld"));
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", datadir.display()));
    command
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["--archive", "--reflink=auto", "--sparse=always"])
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success(), "copy {}", from.display());
}

/// A data directory that no server ever ran on, without `server_uuid`: made once for each installation of the lab, since
/// it takes seconds.
fn initialized() -> PathBuf {
    let program = lab_program("mysqld");
    let lab = program.parent().and_then(Path::parent).unwrap();
    let made = lab.join("datadir");
    // Test processes that run side by side make it once.
    let lock = File::create(lab.join("datadir.lock")).unwrap();
    lock.lock().unwrap();
    let age = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    if age(&made).is_ok_and(|made| made >= age(&program).unwrap()) {
        return made;
    }
    let dir = tempfile::Builder::new().prefix("datadir-").tempdir_in(lab);
    let dir = dir.unwrap();
    let (new, log) = (dir.path().join("data"), dir.path().join("log"));
    let status = mysqld(&new)
        .arg("--initialize-insecure")
        .arg(format!("--log-error={}", log.display()))
        .args(SMALL)
        .status()
        .unwrap();
    assert!(
        status.success(),
        "mysqld --initialize-insecure:\n{}",
        tail(&log)
    );
    // A server that finds none makes itself one.
    let identity = new.join("auto.cnf");
    if identity.exists() {
        std::fs::remove_file(identity).unwrap();
    }
    let _ = std::fs::remove_dir_all(&made);
    std::fs::rename(new, &made).unwrap();
    made
}
