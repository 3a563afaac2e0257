//! An independent decoder, written from engine/FORMAT.md alone, reads what the engine writes, and
//! refuses what the engine refuses. It proves that the specification says all, and that an archive
//! can be read without gtide.
//!
//! The decoder runs on the lab's Python (`tests/lab/install`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use engine::archive::{BlockInfo, Content, MAX_BLOCK_PLAIN, ObjectIdentity, ObjectWriter};
use engine::config::EncryptionConfig;
use engine::digest::Digest;
use engine::keyring::{Keyring, create_key_file};
use engine::layout::{Sequence, SourceIdentity};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `${GTIDE_LAB:-${XDG_CACHE_HOME:-~/.cache}/gtide-lab}/bin/python3`
fn python() -> PathBuf {
    let lab = std::env::var_os("GTIDE_LAB").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let lab = lab
        .or_else(|| cache.map(|cache| cache.join("gtide-lab")))
        .expect("GTIDE_LAB or HOME");
    let python = lab.join("bin/python3");
    assert!(
        python.exists(),
        "no {}: run tests/lab/install",
        python.display()
    );
    python
}

fn decode(key: &Path, object: &Path, identity: &ObjectIdentity) -> Output {
    Command::new(python())
        .arg(repository().join("tests/decoder/gtb_decode.py"))
        .args([key, object])
        .arg(identity.to_string())
        .output()
        .unwrap()
}

fn identity(file_name: &str) -> ObjectIdentity {
    ObjectIdentity {
        source: SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "0d1a7e00-97a0-4000-8000-000000000001".parse().unwrap(),
            incarnation: 2,
        },
        sequence: Sequence::of_file_name(file_name).unwrap(),
        file_name: file_name.to_owned(),
    }
}

/// A folder with two keys and an object.
struct Archive {
    folder: tempfile::TempDir,
    keyring: Keyring,
}

impl Archive {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        create_key_file(&folder.path().join("key")).unwrap();
        create_key_file(&folder.path().join("other-key")).unwrap();
        let reference = format!("file:{}", folder.path().join("key").display());
        Self {
            keyring: Keyring::open(&EncryptionConfig::new(reference)).unwrap(),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn seal(&self, plain: &[u8], file_name: &str, block: usize, level: i32) -> PathBuf {
        let identity = identity(file_name);
        let path = self.path("object.gtb");
        let out = fs::File::create(&path).unwrap();
        let key = self.keyring.new_data_key(&identity).await.unwrap();
        let mut writer = ObjectWriter::create(out, &identity, key, level).unwrap();
        for block in plain.chunks(block) {
            writer
                .write_block(block, Content::Plain, BlockInfo::default())
                .unwrap();
        }
        writer.finish(Digest::of(plain)).unwrap();
        path
    }
}

fn binlogs() -> Vec<(String, Vec<u8>)> {
    let folder = repository().join("fixtures/binlog/mysql-9.7");
    let mut binlogs: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e.to_string_lossy().parse::<u32>().is_ok())
        })
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    binlogs.sort();
    binlogs
}

#[tokio::test]
#[ignore = "needs python3 with zstandard and cryptography (tests/lab/install)"]
async fn the_decoder_reads_real_binlogs_byte_for_byte() {
    let archive = Archive::new();
    let binlogs = binlogs();
    assert!(binlogs.len() >= 10, "{} binlogs", binlogs.len());
    for (n, (name, plain)) in binlogs.iter().enumerate() {
        let (block, level) = [(MAX_BLOCK_PLAIN, 3), (1000, 19), (4096, 1)][n % 3];
        let object = archive.seal(plain, name, block, level).await;
        let decoded = decode(&archive.path("key"), &object, &identity(name));
        assert!(decoded.status.success(), "{name}: {decoded:?}");
        assert!(decoded.stdout == *plain, "{name}");
    }
}

#[tokio::test]
#[ignore = "needs python3 with zstandard and cryptography (tests/lab/install)"]
async fn the_decoder_reads_blocks_of_the_largest_size() {
    let archive = Archive::new();
    // Of all real binlogs, over and over, until it is three blocks.
    let plain: Vec<u8> = binlogs()
        .iter()
        .flat_map(|(_, plain)| plain)
        .copied()
        .cycle()
        .take(2 * MAX_BLOCK_PLAIN + 1)
        .collect();
    let name = "binlog.1000000";
    let object = archive.seal(&plain, name, MAX_BLOCK_PLAIN, 3).await;
    let decoded = decode(&archive.path("key"), &object, &identity(name));
    assert!(
        decoded.status.success(),
        "{}",
        String::from_utf8_lossy(&decoded.stderr)
    );
    assert!(decoded.stdout == plain);
}

#[tokio::test]
#[ignore = "needs python3 with zstandard and cryptography (tests/lab/install)"]
async fn the_decoder_refuses_another_key_and_another_file() {
    let archive = Archive::new();
    let object = archive.seal(b"a binlog", "binlog.000001", 100, 3).await;
    for (key, name) in [("other-key", "binlog.000001"), ("key", "binlog.000002")] {
        let decoded = decode(&archive.path(key), &object, &identity(name));
        assert!(!decoded.status.success(), "{key} {name}");
        assert!(decoded.stdout.is_empty());
    }
}

/// What opens, opens to the same bytes; what is refused, is refused.
#[test]
#[ignore = "needs python3 with zstandard and cryptography (tests/lab/install)"]
fn the_decoder_agrees_on_every_test_vector() {
    let folder = repository().join("fixtures/archive/v1");
    let mut vectors = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        vectors += 1;
        let vector: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let identity = serde_json::from_value(vector["identity"].clone()).unwrap();
        let decoded = decode(
            &folder.join("archive.key"),
            &path.with_extension("gtb"),
            &identity,
        );
        let opened = decoded
            .status
            .success()
            .then(|| Digest::of(&decoded.stdout).to_string());
        let expected = vector["opens"]["plain_sha256"].as_str();
        assert_eq!(
            opened.as_deref(),
            expected,
            "{}: {decoded:?}",
            path.display()
        );
        assert_eq!(expected.is_none(), vector["refused"].is_string());
    }
    assert!(vectors >= 36, "{vectors} vectors");
}
