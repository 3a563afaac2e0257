//! An archive in a temporary folder, ways to harm it, and the program that reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use engine::archive::{BlockInfo, Content, ObjectIdentity, ObjectWriter};
use engine::binlog::Scanner;
use engine::config::EncryptionConfig;
use engine::digest::Digest;
use engine::keyring::{self, Keyring};
use engine::layout::{ObjectKey, Sequence, SourceIdentity};
use engine::manifest::{Entry, Predecessor, StoredObject, VERSION};
use engine::store::{self, ObjectStore, StoreConfig};
use serde_json::Value;
use tempfile::TempDir;

/// Plaintext of a block: small, so that the larger fixtures have several.
const BLOCK: usize = 16 * 1024;

/// The binary logs in `fixtures/binlog/<folder>`, by name, in the order of their index.
pub(crate) fn binlogs(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fixtures().join(folder);
    let index = fs::read_to_string(folder.join("binlog.index")).unwrap();
    let name = |line: &str| line.rsplit('/').next().unwrap().to_owned();
    index
        .lines()
        .map(name)
        .map(|name| (name.clone(), fs::read(folder.join(name)).unwrap()))
        .collect()
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/binlog")
}

pub(crate) fn source(incarnation: u32) -> SourceIdentity {
    SourceIdentity {
        cluster: "orders".parse().unwrap(),
        server_uuid: "0d1a7e00-97a0-4000-8000-000000000001".parse().unwrap(),
        incarnation,
    }
}

pub(crate) struct Archive {
    folder: TempDir,
    pub(crate) source: SourceIdentity,
    last: Option<Predecessor>,
}

impl Archive {
    /// An archive without files.
    pub(crate) fn empty() -> Self {
        let archive = Self {
            folder: tempfile::tempdir().unwrap(),
            source: source(1),
            last: None,
        };
        keyring::create_key_file(&archive.path("key")).unwrap();
        archive.write_config("key");
        archive.put(
            &ObjectKey::layout_version(&archive.source.cluster),
            b"{\"layout_version\":1}\n",
        );
        archive
    }

    /// An archive of these files.
    pub(crate) fn of(files: &[(String, Vec<u8>)]) -> Self {
        let mut archive = Self::empty();
        for (name, bytes) in files {
            archive.commit(name, bytes);
        }
        archive
    }

    /// Seals a file, stores the object and commits its entry.
    pub(crate) fn commit(&mut self, name: &str, bytes: &[u8]) {
        let identity = ObjectIdentity {
            source: self.source.clone(),
            sequence: Sequence::of_file_name(name).unwrap(),
            file_name: name.to_owned(),
        };
        let key = block_on(self.keyring().new_data_key(&identity)).unwrap();
        let mut scanner = Scanner::new();
        let mut writer = ObjectWriter::create(Vec::new(), &identity, key, 3).unwrap();
        for block in bytes.chunks(BLOCK) {
            scanner.push(block).unwrap();
            let info = BlockInfo {
                boundary: false,
                first_gtid: None,
                first_commit: None,
                last_commit: None,
            };
            writer.write_block(block, Content::Plain, info).unwrap();
        }
        let sha256 = Digest::of(bytes);
        let (object, facts) = writer.finish(sha256).unwrap();
        let key = self.source.log_key(identity.sequence);
        self.put(&key, &object);
        let entry = Entry {
            version: VERSION,
            source: self.source.clone(),
            sequence: identity.sequence,
            file_name: identity.file_name,
            sha256,
            binlog: scanner.finish().unwrap(),
            object: StoredObject { key, facts },
            base_backup: None,
            previous: self.last,
            writer: "readback".to_owned(),
            written_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let bytes = entry.to_bytes().unwrap();
        self.put(&self.source.manifest_key(entry.sequence), &bytes);
        self.last = Some(Predecessor {
            sequence: entry.sequence,
            sha256: Digest::of(&bytes),
        });
    }

    /// What follows belongs to another incarnation.
    pub(crate) fn reset(&mut self) {
        self.source.incarnation += 1;
        self.last = None;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path("archive").display())
    }

    /// Where an object lies.
    pub(crate) fn object(&self, key: &ObjectKey) -> PathBuf {
        self.path("archive").join(key.as_str())
    }

    pub(crate) fn log(&self, sequence: u64) -> ObjectKey {
        self.source.log_key(Sequence(sequence))
    }

    pub(crate) fn entry(&self, sequence: u64) -> ObjectKey {
        self.source.manifest_key(Sequence(sequence))
    }

    pub(crate) fn write_config(&self, key: &str) {
        let config = format!(
            "[[destination]]\nurl = {:?}\n\n[encryption]\nkey = \"file:{key}\"\n",
            self.url()
        );
        write(&self.path("gtide.toml"), config.as_bytes());
    }

    pub(crate) fn put(&self, key: &ObjectKey, bytes: &[u8]) {
        block_on(
            self.store()
                .put_if_absent(key, Bytes::copy_from_slice(bytes)),
        )
        .unwrap();
    }

    /// Changes an object behind the store's back.
    pub(crate) fn harm(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.object(key);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::remove_file(&path).unwrap();
        write(&path, &bytes);
    }

    /// Changes a field of an entry.
    pub(crate) fn alter(&self, sequence: u64, pointer: &str, value: impl Into<Value>) {
        self.harm(&self.entry(sequence), |bytes| {
            let mut entry: Value = serde_json::from_slice(bytes).unwrap();
            *entry.pointer_mut(pointer).unwrap() = value.into();
            *bytes = serde_json::to_vec_pretty(&entry).unwrap();
        });
    }

    pub(crate) fn remove(&self, key: &ObjectKey) {
        fs::remove_file(self.object(key)).unwrap();
    }

    pub(crate) fn swap(&self, one: &ObjectKey, other: &ObjectKey) {
        let [a, b] = [one, other].map(|key| fs::read(self.object(key)).unwrap());
        self.harm(one, |bytes| *bytes = b);
        self.harm(other, |bytes| *bytes = a);
    }

    /// The program, ready to be run with these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gtide-restore"));
        command
            .arg("--config")
            .arg(self.path("gtide.toml"))
            .args(args)
            .stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GTIDE_")) {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::new(args, self.command(args).output().unwrap())
    }

    fn keyring(&self) -> Keyring {
        let key = format!("file:{}", self.path("key").display());
        Keyring::open(&EncryptionConfig::new(key)).unwrap()
    }

    fn store(&self) -> std::sync::Arc<dyn ObjectStore> {
        store::connect(&StoreConfig {
            url: self.url(),
            ..StoreConfig::default()
        })
        .unwrap()
    }
}

/// What a run of the program gave.
pub(crate) struct Ran {
    command: String,
    pub(crate) code: i32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn new(args: &[&str], output: Output) -> Self {
        Self {
            command: args.join(" "),
            code: output.status.code().unwrap(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            bytes: output.stdout,
        }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let Self {
            command,
            stdout,
            stderr,
            ..
        } = &self;
        let shown: String = stdout.chars().take(4000).collect();
        assert_eq!(
            self.code, code,
            "{command}\nstdout: {shown}\nstderr: {stderr}"
        );
        self
    }

    /// Asserts that stdout has each of these.
    #[track_caller]
    pub(crate) fn prints(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.stdout.contains(part),
                "{part:?} is not in stdout:\n{}",
                self.stdout
            );
        }
        self
    }

    /// Asserts that the error has each of these, and a hint.
    #[track_caller]
    pub(crate) fn complains(self, parts: &[&str]) -> Self {
        for part in parts.iter().chain(&["error: ", "\n\nhint: "]) {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in stderr:\n{}",
                self.stderr
            );
        }
        self
    }

    /// stdout as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

/// The types of a document: its keys, and of each array the first element. What scripts rely on.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
        Value::Array(elements) => elements.first().map(shape).into_iter().collect(),
        Value::String(_) => "string".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => "null".into(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own folder")]
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Interrupts a running program as Ctrl-C does, and waits for its end.
pub(crate) fn interrupt(child: &mut std::process::Child) -> Option<i32> {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    for _ in 0..200 {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    panic!("the program did not end when it was interrupted");
}
