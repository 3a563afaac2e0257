//! `gtide adopt`: what an older job keeps, taken into the archive.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use engine::digest::Digest;
use engine::layout::ObjectKey;
use engine::store::{ObjectStore, StoreConfig};
use serde_json::Value;

use crate::harness::SeaweedFs;
use crate::running::{names, write_index};
use crate::workspace::{Workspace, code, fixture, json, stderr};

/// A source of which gtide has archived the files from the fourth on, and the folder of the job before it.
struct Beside {
    workspace: Workspace,
    kept: PathBuf,
}

impl Beside {
    fn new() -> Self {
        let workspace = Workspace::of_fixture("binlog/mysql-9.7");
        write_index(&workspace.datadir(), &names(4..=14));
        assert_eq!(code(&workspace.run_once()), 0);
        let kept = workspace.path().join("cron");
        fs::create_dir(&kept).unwrap();
        Self { workspace, kept }
    }

    fn keep(&self, number: u64) -> PathBuf {
        let name = format!("binlog.{number:06}");
        let to = self.kept.join(&name);
        fs::copy(fixture("binlog/mysql-9.7").join(name), &to).unwrap();
        to
    }

    fn keep_packed(&self, number: u64) -> PathBuf {
        let plain = self.keep(number);
        let packed = plain.with_extension(format!("{number:06}.gz"));
        fs::write(&packed, gzip(&fs::read(&plain).unwrap())).unwrap();
        fs::remove_file(plain).unwrap();
        packed
    }

    fn adopt(&self, pattern: &str) -> Output {
        let mut gtide = self.workspace.gtide();
        gtide.args(["adopt", "--format", "json", "--from"]);
        gtide.arg(self.kept.join(pattern)).output().unwrap()
    }

    fn staged(&self) -> Vec<String> {
        let folders = fs::read_dir(self.workspace.path().join("spool/adopt")).unwrap();
        let folder = folders.last().unwrap().unwrap().path();
        let names = fs::read_dir(folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("binlog.")).collect()
    }

    /// Incarnation and name of each file on the way from nothing to the latest.
    fn planned(&self) -> Vec<(u64, String)> {
        let mut restore = self.workspace.restore();
        restore.args([
            "--format",
            "json",
            "plan",
            "--to-latest",
            "--from-gtid-set",
            "",
        ]);
        let output = restore.output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let plan = json(&output);
        let files = plan["files"].as_array().unwrap().iter();
        files
            .map(|file| {
                let incarnation = file["incarnation"].as_u64().unwrap();
                (incarnation, file["file_name"].as_str().unwrap().to_owned())
            })
            .collect()
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    let gzip = gzip.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut gzip = gzip.spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let plain = plain.to_owned();
    let feeding = std::thread::spawn(move || stdin.write_all(&plain).unwrap());
    let output = gzip.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn cut(path: &Path) {
    let len = fs::metadata(path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(len / 2).unwrap();
}

fn counts(report: &Value) -> [u64; 3] {
    ["found", "adopted", "archived_before"].map(|name| report[name].as_u64().unwrap())
}

#[test]
fn older_files_join_the_archive_and_one_plan_crosses_both() {
    let beside = Beside::new();
    beside.keep_packed(1);
    beside.keep(2);
    beside.keep_packed(3);
    beside.keep_packed(4);
    beside.keep(5);
    fs::write(beside.kept.join("SHA256SUMS"), "").unwrap();
    fs::write(beside.kept.join("binlog.index"), "").unwrap();

    let output = beside.adopt("*");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(counts(&json(&output)), [5, 3, 2]);
    assert_eq!(beside.staged(), [""; 0], "left behind");
    assert_eq!(code(&beside.workspace.verify()), 0);
    let planned = beside.planned();
    let expected: Vec<_> = (1..=13)
        .map(|number| (u64::from(number > 3), format!("binlog.{number:06}")))
        .collect();
    assert_eq!(planned, expected);

    // What the source's own archiver does goes on as if nothing had been.
    assert_eq!(code(&beside.workspace.run_once()), 0);
    let again = beside.adopt("*");
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert_eq!(counts(&json(&again)), [5, 0, 2]);
}

/// A job that was cut off in the middle of an upload keeps half a file, and nobody knows. Nothing is adopted behind it:
/// a better copy could not be taken in any more.
#[test]
fn half_a_file_holds_up_what_follows_until_a_better_copy_is_found() {
    let beside = Beside::new();
    cut(&beside.keep_packed(1));
    beside.keep(2);
    let last = beside.keep(3);
    cut(&last);

    let output = beside.adopt("binlog.*");
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("binlog.000001.gz"), "{said}");
    assert!(said.contains("binlog.000002 is not adopted"), "{said}");
    assert_eq!(counts(&json(&output)), [3, 0, 0]);

    beside.keep_packed(1);
    let output = beside.adopt("binlog.*");
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("binlog.000003 does not end in ROTATE"),
        "{said}"
    );
    assert_eq!(counts(&json(&output)), [3, 2, 0]);

    beside.keep(3);
    let output = beside.adopt("binlog.*");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(counts(&json(&output)), [3, 1, 0]);
    assert_eq!(beside.planned().len(), 13);
}

/// One that is lost for good is passed when a person says so, and stays a gap.
#[test]
fn a_missing_file_is_passed_only_when_that_is_accepted() {
    let beside = Beside::new();
    beside.keep(1);
    beside.keep(3);
    let output = beside.adopt("binlog.*");
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("number 2 is missing"),
        "{}",
        stderr(&output)
    );
    assert_eq!(counts(&json(&output)), [2, 1, 0]);

    let mut gtide = beside.workspace.gtide();
    gtide.args(["adopt", "--accept-gaps", "--format", "json", "--from"]);
    let output = gtide.arg(beside.kept.join("binlog.*")).output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert_eq!(json(&output)["gaps"], serde_json::json!([[2, 2]]));
    assert_eq!(counts(&json(&output)), [2, 1, 0]);
}

/// Half a file between whole ones is archived byte for byte, and a plan does not pass it unasked.
#[test]
fn half_a_file_in_the_middle_is_flagged() {
    let beside = Beside::new();
    beside.keep(1);
    cut(&beside.keep(2));
    beside.keep(3);
    let output = beside.adopt("*");
    assert_eq!(counts(&json(&output)), [3, 3, 0], "{}", stderr(&output));
    let mut restore = beside.workspace.restore();
    restore.args(["plan", "--to-latest", "--from-gtid-set", ""]);
    let refused = restore.output().unwrap();
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("binlog.000002"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let beside = Beside::new();
    let nothing = beside.adopt("binlog.*");
    assert_eq!(code(&nothing), 2, "{}", stderr(&nothing));
    beside.keep_packed(1);
    beside.keep(1);
    let twice = beside.adopt("binlog.*");
    assert_eq!(code(&twice), 2, "{}", stderr(&twice));
    assert!(
        stderr(&twice).contains("are both number"),
        "{}",
        stderr(&twice)
    );
}

/// The older job keeps its files and its sums in a bucket of the same service as the archive's.
struct Bucket {
    _seaweed: SeaweedFs,
    store: Arc<dyn ObjectStore>,
    runtime: tokio::runtime::Runtime,
    workspace: Workspace,
}

impl Bucket {
    const ROOT: &str = "s3://archive/";

    /// gtide has archived the files from the fourth on.
    fn new() -> Self {
        let seaweed = SeaweedFs::start();
        assert_eq!(Self::ROOT, format!("s3://{}/", SeaweedFs::BUCKET));
        let workspace = Workspace::empty();
        for name in names(1..=14) {
            let from = fixture("binlog/mysql-9.7").join(&name);
            fs::copy(from, workspace.datadir().join(&name)).unwrap();
        }
        let auto_cnf = fixture("binlog/mysql-9.7/auto.cnf");
        fs::copy(auto_cnf, workspace.datadir().join("auto.cnf")).unwrap();
        write_index(&workspace.datadir(), &names(4..=14));
        let destination = format!("{}it", Self::ROOT);
        let index = workspace.datadir().join("binlog.index");
        workspace.init(&index, &["--destination", &destination]);
        let credentials = format!("file:{}", seaweed.credentials_file().display());
        workspace.edit(
            "#endpoint = \"https://s3.example.net\"",
            &format!("endpoint = \"{}\"", seaweed.endpoint()),
        );
        workspace.edit(
            "#credentials = \"file:/etc/gtide/credentials\"",
            &format!("credentials = \"{credentials}\""),
        );
        assert_eq!(code(&workspace.run_once()), 0);
        let store = engine::store::connect(&StoreConfig {
            url: Self::ROOT.to_owned(),
            endpoint: Some(seaweed.endpoint()),
            credentials: Some(credentials),
            ..StoreConfig::default()
        });
        Self {
            _seaweed: seaweed,
            store: store.unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            workspace,
        }
    }

    fn put(&self, name: &str, body: Vec<u8>) {
        let key = ObjectKey::from_listing(format!("cron/{name}"));
        let put = self.store.put_if_absent(&key, body.into());
        self.runtime.block_on(put).unwrap();
    }

    fn gtide(&self, args: &[&str]) -> Output {
        let mut gtide = self.workspace.gtide();
        gtide
            .args(args)
            .args(["--format", "json"])
            .output()
            .unwrap()
    }
}

fn original(number: u64) -> Vec<u8> {
    let name = format!("binlog.{number:06}");
    fs::read(fixture("binlog/mysql-9.7").join(name)).unwrap()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn what_lies_in_a_bucket_is_adopted_as_from_a_folder() {
    let bucket = Bucket::new();
    for number in 1..=3 {
        bucket.put(&format!("binlog.{number:06}.gz"), gzip(&original(number)));
    }
    let place = format!("{}cron/binlog.*", Bucket::ROOT);
    let output = bucket.gtide(&["adopt", "--from", &place]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(counts(&json(&output)), [3, 3, 0]);
    assert_eq!(code(&bucket.workspace.verify()), 0);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn sums_in_a_bucket_are_compared_as_those_in_a_folder() {
    let bucket = Bucket::new();
    let place = format!("{}cron/*.sha256", Bucket::ROOT);
    bucket.put("0.sha256", Vec::new());
    let start = ["parity", "start", "--window", "0s", "--grace", "1h"];
    let begun = bucket.gtide(&[&start[..], &["--manifest", &place]].concat());
    assert_eq!(code(&begun), 0, "{}", stderr(&begun));

    let packed = gzip(&original(5));
    let digest = Digest::of(&packed);
    bucket.put("binlog.000005.gz", packed);
    bucket.put(
        "5.sha256",
        format!("{digest}  binlog.000005.gz\n").into_bytes(),
    );
    let report = bucket.gtide(&["parity", "report"]);
    assert_eq!(json(&report)["verdict"], "parity", "{}", stderr(&report));
    assert_eq!(json(&report)["matched"], 1);

    let half = original(6);
    let half = gzip(&half[..half.len() - 40]);
    let digest = Digest::of(&half);
    bucket.put("binlog.000006.gz", half);
    bucket.put(
        "6.sha256",
        format!("SHA256 (binlog.000006.gz) = {digest}\n").into_bytes(),
    );
    let report = bucket.gtide(&["parity", "report"]);
    assert_eq!(code(&report), 5, "{}", stderr(&report));
    let report = json(&report);
    assert_eq!(
        (&report["matched"], &report["mismatched"]),
        (&1.into(), &1.into())
    );
    let reasons = report["reasons"].to_string();
    assert!(
        reasons.contains("before the server had closed the file"),
        "{reasons}"
    );
}
