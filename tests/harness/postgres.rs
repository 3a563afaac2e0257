//! A PostgreSQL cluster of its own in a temporary directory, on a free loopback port.
//!
//! The lab initialised a cluster when it was installed; each server starts on a copy of it.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::lab::lab_program;
use super::port::free_port;
use super::process::{Process, tail, wait_until};

const READY_WITHIN: Duration = Duration::from_mins(3);

/// Small, and quick: what was committed survives a crash of the server, not one of the machine.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_wal_size=64MB",
];

/// How often another port is tried when somebody was quicker.
const STARTS: u32 = 3;

/// A server, running or not, and its data directory.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    /// Ended before the directory is removed.
    process: Option<Process>,
    dir: TempDir,
}

impl Postgres {
    /// Starts a server with one empty database, `postgres`, and one user, the superuser `postgres`, who needs no
    /// password.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gtide-postgres-")
            .tempdir()
            .unwrap();
        let data = dir.path().join("data");
        let made = Command::new(lab_program("pg_newcluster"))
            .arg(&data)
            .status()
            .unwrap();
        assert!(made.success(), "pg_newcluster {}", data.display());
        let mut server = Self {
            port: 0,
            process: None,
            dir,
        };
        for _ in 1..STARTS {
            server.port = free_port();
            if server.try_start().is_ok() {
                return server;
            }
        }
        server.port = free_port();
        server.start_again();
        server
    }

    /// Starts the server that was ended, on the same port.
    pub fn start_again(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("PostgreSQL does not start:\n{log}");
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "PostgreSQL runs already");
        let log = self.dir.path().join("log");
        let mut command = Command::new(lab_program("postgres"));
        command.arg("-D").arg(self.dir.path().join("data")).args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
        ]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let sockets = format!("unix_socket_directories={}", self.dir.path().display());
        command.args(["-c", &sockets]);
        let mut process = Process::start(&mut command, &log);
        let is_up = wait_until(READY_WITHIN, || {
            process.ended().is_some() || self.accepts_connections()
        });
        if !is_up || process.ended().is_some() {
            return Err(tail(&log));
        }
        self.process = Some(process);
        Ok(())
    }

    fn accepts_connections(&self) -> bool {
        Command::new(lab_program("pg_isready"))
            .args(["--quiet", "--dbname", &self.url("postgres")])
            .status()
            .unwrap()
            .success()
    }

    /// `postgres://postgres@127.0.0.1:port/database`
    pub fn url(&self, database: &str) -> String {
        self.url_of("postgres", database)
    }

    /// The same for another user.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// `postgres://postgres@/database?…` by a socket in the file system, for those in another network namespace.
    pub fn socket_url(&self, database: &str) -> String {
        let (port, dir) = (self.port, self.dir.path().display());
        format!("postgres://postgres@localhost:{port}/{database}?host={dir}")
    }

    /// The port on 127.0.0.1, the same for as long as this value lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database and returns its URL.
    pub fn create_database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// What `psql` prints for `sql` as the superuser: rows as lines, columns by `|`, no headings.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`Postgres::sql`], with the client's complaint where it fails.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(lab_program("psql"))
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set=ON_ERROR_STOP=1", "--command", sql])
            .arg(self.url(database))
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

    /// Ends the sessions of all clients, and returns how many there were. They may come again at once.
    pub fn cut_connections(&self) -> usize {
        self.sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
        .lines()
        .count()
    }

    /// A clean shutdown: sessions are ended, everything is written.
    pub fn stop(&mut self) {
        self.end("INT");
    }

    /// A crash of all its processes at once; the next start recovers from the log.
    pub fn crash(&mut self) {
        self.end("QUIT");
    }

    /// A clean shutdown, and a start.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    fn end(&mut self, signal: &str) {
        let mut process = self.process.take().expect("PostgreSQL runs");
        process.signal(signal);
        let has_ended = wait_until(READY_WITHIN, || process.ended().is_some());
        let log = self.dir.path().join("log");
        assert!(has_ended, "PostgreSQL does not stop:\n{}", tail(&log));
    }

    /// Where its files are.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A SIGKILL would leave its other processes for a moment, at work in the directory.
        if let Some(process) = &mut self.process {
            process.signal("QUIT");
            wait_until(Duration::from_secs(10), || process.ended().is_some());
        }
    }
}
