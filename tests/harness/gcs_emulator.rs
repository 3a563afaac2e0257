//! gcp-storage-emulator: the JSON protocol of Google Cloud Storage as somebody else read it, in memory.
//!
//! It ignores preconditions, `startOffset` and `X-Goog-Hash`, ends no session, and wants no credentials, so it judges nothing
//! that rests on them; [`super::Gcs`] does. What it is good for is that its author never saw our client. What it omits so
//! that nothing else is seen is made good in `gcs_emulator.py`.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::lab::lab_program;
use super::port::free_port;
use super::process::{Process, tail, wait_until};

const READY_WITHIN: Duration = Duration::from_mins(3);

/// A running emulator with one bucket.
#[derive(Debug)]
pub struct GcsEmulator {
    port: u16,
    _process: Process,
    _dir: TempDir,
}

impl GcsEmulator {
    /// The bucket that it has.
    pub const BUCKET: &str = "archive";

    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gtide-gcs-emulator-")
            .tempdir()
            .unwrap();
        let (log, port) = (dir.path().join("log"), free_port());
        let mut command = Command::new(lab_program("python3"));
        command
            .arg("-c")
            .arg(include_str!("gcs_emulator.py"))
            .args(["start", "--quiet", "--in-memory", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .args(["--default-bucket", Self::BUCKET])
            .current_dir(dir.path());
        let mut process = Process::start(&mut command, &log);
        let is_up = wait_until(READY_WITHIN, || {
            process.ended().is_some() || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(
            is_up && process.ended().is_none(),
            "gcp-storage-emulator does not start:\n{}",
            tail(&log)
        );
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
