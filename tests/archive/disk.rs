//! A spool whose disk is full, fills up, or turns read-only: waited out, and nothing half-made is left.
//!
//! The disk is a small tmpfs in a mount namespace of the program's own; the test reaches into it by `/proc`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::workspace::{Workspace, code, fixture, json, stderr};

const PATIENCE: Duration = Duration::from_mins(4);

/// Try again.
const TRANSIENT: i32 = 6;

const MIB: usize = 1 << 20;

/// `gtide` with a spool on a disk of its own.
struct Run {
    child: Child,
    spool: PathBuf,
    log: PathBuf,
}

impl Run {
    /// Runs `gtide` with these arguments after `prepare`, shell words with the spool as their folder.
    fn start(workspace: &Workspace, size_mib: usize, prepare: &str, arguments: &str) -> Self {
        let spool = workspace.path().join("spool");
        fs::create_dir_all(&spool).unwrap();
        let log = workspace.path().join("log");
        let script = format!(
            "mount -t tmpfs -o size={size_mib}m tmpfs \"$1\" && (cd \"$1\" && {prepare}) && exec \"$2\" --config \"$3\" {arguments}"
        );
        let child = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                &script,
                "sh",
            ])
            .arg(&spool)
            .arg(env!("CARGO_BIN_EXE_gtide"))
            .arg(workspace.config())
            .env_remove("GTIDE_LOG")
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, spool, log }
    }

    /// The spool as the program sees it.
    fn spool(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(self.spool.strip_prefix("/").unwrap())
    }

    fn remount(&self, folder: &str, how: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("nsenter")
            .args([
                "--target",
                &pid,
                "--user",
                "--preserve-credentials",
                "--mount",
            ])
            .args(["mount", "-o", &format!("remount,bind,{how}")])
            .arg(self.spool.join(folder))
            .status();
        assert!(status.unwrap().success());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn wait_for(&mut self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(words) {
            assert!(
                Instant::now() < end,
                "{words:?} is not said:\n{}",
                self.log()
            );
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "{ended:?} before {words:?}:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Its exit code.
    fn end(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("ended by a signal");
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unfinished(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap().as_encoded_bytes()[0] == b'.' {
                found.push(path);
            }
        }
    }
    found
}

#[test]
#[ignore = "needs user namespaces"]
fn a_full_disk_is_waited_out_and_is_no_failure() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let ballast = "head -c 7340032 /dev/zero > ballast";
    let mut run = Run::start(&workspace, 8, ballast, "run --once");
    run.wait_for("there is no room in the spool");
    sleep(Duration::from_secs(3));
    fs::remove_file(run.spool().join("ballast")).unwrap();
    assert_eq!(run.end(), 0, "{}", run.log());
    let log = run.log();
    assert_eq!(
        log.matches("there is no room in the spool").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("sealing goes on").count(), 1, "{log}");
    assert!(!log.contains("to be tried again"), "{log}");
    assert_eq!(workspace.archived("manifest").len(), 13);
}

#[test]
#[ignore = "needs user namespaces"]
fn status_tells_of_a_disk_that_is_full_for_as_long_as_it_is() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let ballast = "head -c 7340032 /dev/zero > ballast";
    let mut run = Run::start(&workspace, 8, ballast, "run");
    run.wait_for("there is no room in the spool");
    let report = json(&wait_for_status(&workspace, TRANSIENT));
    let paused = &report["agents"][0]["paused"];
    let needed = paused["needed_bytes"].as_u64().unwrap();
    let free = report["agents"][0]["free_bytes"].as_u64().unwrap();
    assert!(needed > free, "{report:#}");
    let told = stderr(&workspace.gtide().arg("status").output().unwrap());
    assert!(told.contains("sealing waits since"), "{told}");
    assert!(told.contains("hint: free space there"), "{told}");

    fs::remove_file(run.spool().join("ballast")).unwrap();
    let report = json(&wait_for_status(&workspace, 0));
    assert_eq!(report["agents"][0]["paused"], serde_json::Value::Null);
}

/// What `gtide status` says when it first ends like this.
fn wait_for_status(workspace: &Workspace, exit: i32) -> Output {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut status = workspace.gtide();
        let status = status
            .args(["status", "--format", "json"])
            .output()
            .unwrap();
        if code(&status) == exit {
            return status;
        }
        assert!(Instant::now() < end, "{}", stderr(&status));
        sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs user namespaces"]
fn a_disk_that_fills_up_in_the_middle_of_sealing_leaves_nothing_half_made() {
    let workspace = of_two_large_files();
    let ballast = "head -c 12582912 /dev/zero > ballast";
    let mut run = Run::start(&workspace, 17, ballast, "run --once");
    // The first file shrinks to nothing, which is then expected of the second one.
    run.wait_for("the disk was full in the middle of sealing");
    sleep(Duration::from_millis(300));
    let seal = run.spool().join("seal");
    assert_eq!(unfinished(&seal), Vec::<PathBuf>::new());
    fs::remove_file(run.spool().join("ballast")).unwrap();
    assert_eq!(run.end(), 0, "{}", run.log());
    assert_eq!(workspace.archived("manifest").len(), 2);
    let dir = workspace.path().join("fetched");
    let fetch = workspace
        .restore()
        .args([
            "fetch",
            "--accept-damage",
            "--from-seq",
            "2",
            "--to-seq",
            "2",
            "--dir",
        ])
        .arg(&dir)
        .output()
        .unwrap();
    assert_eq!(code(&fetch), 0, "{}", stderr(&fetch));
    let original = fs::read(workspace.datadir().join("binlog.000002")).unwrap();
    assert!(fs::read(dir.join("binlog.000002")).unwrap() == original);
}

/// Megabytes that shrink to nothing, and such as do not shrink, behind a real binlog: damaged, and archived.
fn of_two_large_files() -> Workspace {
    let workspace = Workspace::empty();
    let datadir = workspace.datadir();
    let folder = fixture("binlog/mysql-9.7");
    fs::copy(folder.join("auto.cnf"), datadir.join("auto.cnf")).unwrap();
    let header = fs::read(folder.join("binlog.000001")).unwrap();
    let zeros = vec![0; 2 * MIB];
    fs::write(
        datadir.join("binlog.000001"),
        [&header[..], &zeros].concat(),
    )
    .unwrap();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[3]
    })
    .take(6 * MIB)
    .collect();
    fs::write(
        datadir.join("binlog.000002"),
        [&header[..], &noise].concat(),
    )
    .unwrap();
    let index = "./binlog.000001\n./binlog.000002\n./binlog.000003\n";
    fs::write(datadir.join("binlog.index"), index).unwrap();
    workspace.init(&datadir.join("binlog.index"), &[]);
    workspace.edit("#lanes = 4", "lanes = 1");
    workspace
}

#[test]
#[ignore = "needs user namespaces"]
fn a_spool_that_turns_read_only_is_an_error_that_passes() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let datadir = workspace.datadir();
    let index = datadir.join("binlog.index");
    let whole = fs::read_to_string(&index).unwrap();
    let first: Vec<&str> = whole.lines().take(3).collect();
    fs::write(&index, first.join("\n") + "\n").unwrap();
    workspace.edit("#pin = true", "pin = false");
    let mut run = Run::start(&workspace, 8, "mkdir seal && mount --bind seal seal", "run");
    run.wait_for("\"archived\"");
    sleep(Duration::from_secs(2));
    // The folder by itself: the lock file beside it is open for writing.
    run.remount("seal", "ro");
    fs::write(&index, &whole).unwrap();
    run.wait_for("Read-only file system");
    run.remount("seal", "rw");
    run.wait_for("binlog.000013");
    let end = Instant::now() + PATIENCE;
    while workspace.archived("manifest").len() < 13 {
        assert!(Instant::now() < end, "{}", run.log());
        sleep(Duration::from_millis(100));
    }
}
