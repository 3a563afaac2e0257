//! A pooler before a PostgreSQL server. In transaction mode a client's session is none of the server's.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::lab::lab_program;
use super::port::free_port;
use super::postgres::Postgres;
use super::process::{Process, tail, wait_until};

const READY_WITHIN: Duration = Duration::from_mins(2);

/// A running pooler.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    server_port: u16,
    process: Process,
    dir: TempDir,
}

impl PgBouncer {
    /// Starts a pooler before the server; `mode` is `session` or `transaction`.
    pub fn start(server: &Postgres, mode: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gtide-pgbouncer-")
            .tempdir()
            .unwrap();
        let (port, server_port) = (free_port(), server.port());
        let config = configure(dir.path(), port, server_port, mode);
        let log = dir.path().join("log");
        let mut process = Process::start(Command::new(lab_program("pgbouncer")).arg(config), &log);
        let is_up = wait_until(READY_WITHIN, || {
            process.ended().is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        assert!(
            is_up && process.ended().is_none(),
            "pgbouncer does not start:\n{}",
            tail(&log)
        );
        Self {
            port,
            server_port,
            process,
            dir,
        }
    }

    /// Changes the mode for the clients that are there and those that come.
    pub fn set_mode(&mut self, mode: &str) {
        configure(self.dir.path(), self.port, self.server_port, mode);
        self.process.signal("HUP");
    }

    /// A database of the server, seen through the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

fn configure(dir: &Path, port: u16, server_port: u16, mode: &str) -> PathBuf {
    let config = dir.join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={server_port} user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n"
    );
    std::fs::write(&config, text).unwrap();
    config
}
