//! moto: AWS's KMS and STS, and buckets with object lock, in memory.
//!
//! It does not enforce that a key is disabled or is to be deleted, and says `AccessDeniedException` where AWS says
//! `InvalidCiphertextException` or `IncorrectKeyException`: what those refusals become is tested with canned answers. A
//! key that it was told of is gone when it ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::lab::lab_program;
use super::port::free_port;
use super::process::{Process, tail, wait_until};

const READY_WITHIN: Duration = Duration::from_mins(3);

/// A running moto.
#[derive(Debug)]
pub struct Moto {
    port: u16,
    process: Process,
    dir: TempDir,
}

impl Moto {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gtide-moto-")
            .tempdir()
            .unwrap();
        let credentials =
            "[default]\naws_access_key_id = tester\naws_secret_access_key = testers-secret\n";
        let path = dir.path().join("credentials");
        std::fs::write(&path, credentials).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let port = free_port();
        let process = serve(port, dir.path());
        Self { port, process, dir }
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A shared credentials file. Whose they are does not matter to moto.
    pub fn credentials_file(&self) -> PathBuf {
        self.dir.path().join("credentials")
    }

    /// Makes a key; its ARN.
    pub fn create_key(&self) -> String {
        let made = self.kms("CreateKey", "{}");
        made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    /// Lets `alias/NAME` stand for a key.
    pub fn alias(&self, name: &str, arn: &str) {
        let body = format!(r#"{{"AliasName": "alias/{name}", "TargetKeyId": "{arn}"}}"#);
        self.kms("CreateAlias", &body);
    }

    /// An action of KMS's JSON protocol.
    pub fn kms(&self, action: &str, body: &str) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "-X", "POST", "-d", body])
            .args(["-H", "Content-Type: application/x-amz-json-1.1", "-H"])
            .arg(format!("X-Amz-Target: TrentService.{action}"))
            .args(["-H", "Authorization: AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/kms/aws4_request"])
            .arg(self.endpoint());
        let output = curl.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{action}: {output:?}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Makes a bucket, with object lock or without.
    pub fn create_bucket(&self, name: &str, locks: bool) {
        let lock = format!("x-amz-bucket-object-lock-enabled: {locks}");
        self.s3(&["-X", "PUT", "-H", &lock], name);
    }

    /// The headers of an object, in lower case.
    pub fn object_head(&self, path: &str) -> String {
        self.s3(&["-I"], path).to_lowercase()
    }

    fn s3(&self, arguments: &[&str], path: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--max-time", "20"])
            .args(arguments)
            .args(["-H", "Authorization: AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/s3/aws4_request"])
            .arg(format!("{}/{path}", self.endpoint()));
        let output = curl.output().unwrap();
        assert!(output.status.success(), "{path}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Nothing answers any more, connections stay open.
    pub fn freeze(&mut self) {
        self.process.signal("STOP");
    }

    /// It goes on, with all that it knew.
    pub fn thaw(&mut self) {
        self.process.signal("CONT");
    }
}

fn serve(port: u16, dir: &Path) -> Process {
    let log = dir.join("log");
    let mut command = Command::new(lab_program("moto_server"));
    command
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .current_dir(dir);
    let mut process = Process::start(&mut command, &log);
    let is_up = wait_until(READY_WITHIN, || {
        process.ended().is_some() || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    assert!(
        is_up && process.ended().is_none(),
        "moto does not start:\n{}",
        tail(&log)
    );
    process
}
