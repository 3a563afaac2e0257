//! SeaweedFS as an S3 store, strict where it matters: it honours conditional writes and checksums.
//!
//! Tests get an identity that is no admin: with an admin's, a bucket appears when it is written to.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::lab::lab_program;
use super::process::{Process, tail, wait_until};

const READY_WITHIN: Duration = Duration::from_mins(3);

/// Ports are taken from here; SeaweedFS adds 10,000 for gRPC. Both stay below the range (32768 and up)
/// from which the kernel gives ports to outgoing connections.
const FIRST_PORT: u16 = 11_000;
const PORTS: u16 = 11_000;
const GRPC_OFFSET: u16 = 10_000;

/// How often other ports are tried when somebody was quicker.
const STARTS: u32 = 3;

/// A running store with one bucket.
#[derive(Debug)]
pub struct SeaweedFs {
    /// Of master, volume, filer and S3.
    ports: [u16; 4],
    process: Process,
    dir: TempDir,
}

impl SeaweedFs {
    /// The one bucket.
    pub const BUCKET: &str = "archive";

    /// Starts a store and waits until it answers.
    pub fn start() -> Self {
        for _ in 1..STARTS {
            if let Ok(store) = Self::try_start() {
                return store;
            }
        }
        Self::try_start().unwrap_or_else(|log| panic!("SeaweedFS does not start:\n{log}"))
    }

    fn try_start() -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("gtide-weed-")
            .tempdir()
            .unwrap();
        let ports = free_ports();
        std::fs::write(dir.path().join("s3.json"), identities()).unwrap();
        for (file, identity) in [("credentials", "tester"), ("readers-credentials", "reader")] {
            write_credentials(&dir.path().join(file), identity);
        }
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let process = serve(dir.path(), ports)?;
        create_bucket(ports[0])?;
        Ok(Self {
            ports,
            process,
            dir,
        })
    }

    /// SIGKILL: the store is away until it is started again.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// On the same ports, with all that it had.
    pub fn start_again(&mut self) {
        let started = serve(self.dir.path(), self.ports);
        self.process = started.unwrap_or_else(|log| panic!("SeaweedFS does not start:\n{log}"));
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        let [.., s3] = self.ports;
        format!("127.0.0.1:{s3}")
    }

    /// A shared credentials file with the identity that is no admin.
    pub fn credentials_file(&self) -> PathBuf {
        self.dir.path().join("credentials")
    }

    /// The same with an identity that may read and list, and nothing else.
    pub fn readers_credentials_file(&self) -> PathBuf {
        self.dir.path().join("readers-credentials")
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

/// Starts the store in its folder, and waits until it answers; else its log.
fn serve(dir: &Path, ports: [u16; 4]) -> Result<Process, String> {
    let [master, volume, filer, s3] = ports;
    let log = dir.join("log");
    let mut command = Command::new(lab_program("weed"));
    command
        .arg("-logtostderr=true")
        .args([
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
        ])
        .arg(format!("-dir={}", dir.join("data").display()))
        .arg(format!("-master.port={master}"))
        .arg(format!("-volume.port={volume}"))
        .arg(format!("-filer.port={filer}"))
        .args([
            "-volume.max=0",
            "-master.volumeSizeLimitMB=1024",
            "-filer",
            "-s3",
        ])
        .arg(format!("-s3.port={s3}"))
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-s3.config={}", dir.join("s3.json").display()))
        .current_dir(dir);
    let mut process = Process::start(&mut command, &log);
    let is_up = wait_until(READY_WITHIN, || process.ended().is_some() || answers(s3));
    if !is_up || process.ended().is_some() {
        return Err(tail(&log));
    }
    Ok(process)
}

/// A shared credentials file, as private as one should be.
fn write_credentials(path: &Path, identity: &str) {
    let text = format!(
        "[default]\naws_access_key_id = {identity}\naws_secret_access_key = {identity}s-secret\n"
    );
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Through the server's own shell, which asks for no identity.
fn create_bucket(master: u16) -> Result<(), String> {
    let mut shell = Command::new(lab_program("weed"));
    shell
        .arg("shell")
        .arg(format!("-master=127.0.0.1:{master}"));
    let mut output = String::new();
    let created = wait_until(READY_WITHIN, || {
        output = run(
            &mut shell,
            &format!("s3.bucket.create -name {}\n", SeaweedFs::BUCKET),
        );
        run(&mut shell, "s3.bucket.list\n").contains(SeaweedFs::BUCKET)
    });
    if created { Ok(()) } else { Err(output) }
}

fn run(shell: &mut Command, line: &str) -> String {
    let mut child = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropped, so that the shell sees the end.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(line.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = write!(text, "{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn identities() -> String {
    let identity = |name: &str, actions: &[&str]| {
        let actions: Vec<String> = actions
            .iter()
            .map(|action| format!("\"{action}\""))
            .collect();
        format!(
            r#"{{"name": "{name}", "credentials": [{{"accessKey": "{name}", "secretKey": "{name}s-secret"}}], "actions": [{}]}}"#,
            actions.join(", ")
        )
    };
    let bucket = SeaweedFs::BUCKET;
    let in_bucket = |actions: &[&str]| -> Vec<String> {
        let actions = actions.iter();
        actions.map(|action| format!("{action}:{bucket}")).collect()
    };
    let of = |name: &str, actions: &[&str]| {
        let actions = in_bucket(actions);
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        identity(name, &actions)
    };
    let tester = of("tester", &["Read", "Write", "List"]);
    let reader = of("reader", &["Read", "List"]);
    let admin = identity("admin", &["Admin"]);
    format!(r#"{{"identities": [{admin}, {tester}, {reader}]}}"#)
}

/// Any HTTP answer will do.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut status = [0; 12];
    stream.write_all(request).is_ok()
        && stream.read_exact(&mut status).is_ok()
        && status.starts_with(b"HTTP/1.1")
}

/// Ports that are free, and so are those 10,000 above them.
fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let start = u16::try_from(u64::from(std::process::id()) * 37 % u64::from(PORTS)).unwrap();
    let mut ports = std::iter::repeat_with(|| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST_PORT + start.wrapping_add(step) % PORTS
    })
    .take(usize::from(PORTS))
    .filter(|port| is_free(*port) && is_free(port + GRPC_OFFSET));
    std::array::from_fn(|_| ports.next().expect("a free port"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
