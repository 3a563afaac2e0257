//! Restoring from several destinations: from whichever answers, and over a copy that is missing or damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use engine::binlog::Scanner;

use crate::workspace::{Workspace, code, stderr};

const SOURCE: &str = "test/0d1a7e00-97a0-4000-8000-000000000001/1";

/// Everything is archived to `archive` and to `second`.
struct Twice(Workspace);

impl Twice {
    fn new() -> Self {
        let workspace = Workspace::of_fixture("binlog/mysql-9.7");
        let second = url::Url::from_file_path(workspace.path().join("second")).unwrap();
        let section = format!("[[destination]]\nurl = \"{second}\"\n\n[encryption]");
        workspace.edit("[encryption]", &section);
        let output = workspace.run_once();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        Self(workspace)
    }

    fn folder(&self, destination: &str) -> PathBuf {
        self.0.path().join(destination)
    }

    fn object(&self, destination: &str, sequence: u64) -> PathBuf {
        let log = self.folder(destination).join(SOURCE).join("log");
        log.join(format!("{sequence:010}.gtb"))
    }

    fn restore(&self, arguments: &[&str]) -> Output {
        self.0.restore().args(arguments).output().unwrap()
    }

    /// Fetches everything, and compares it with the originals. What was said.
    fn fetches_all(&self) -> String {
        let dir = tempfile::tempdir_in(self.0.path()).unwrap();
        let output = self.restore(&["fetch", "--dir", dir.path().to_str().unwrap()]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        for sequence in 1..=13 {
            let name = format!("binlog.{sequence:06}");
            let original = fs::read(self.0.datadir().join(&name)).unwrap();
            assert!(
                fs::read(dir.path().join(&name)).unwrap() == original,
                "{name}"
            );
        }
        stderr(&output)
    }
}

/// Another byte in its middle.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    overwrite(path, &bytes);
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn restoring_reads_from_the_destination_that_answers() {
    let twice = Twice::new();
    fs::rename(twice.folder("archive"), twice.folder("aside")).unwrap();
    fs::write(twice.folder("archive"), "in the way").unwrap();
    let told = twice.fetches_all();
    assert!(told.contains("archive holds no archive"), "{told}");
    assert_eq!(code(&twice.restore(&["ls"])), 0);
    // Whoever judges a destination, or names one, means that one.
    assert_ne!(code(&twice.restore(&["verify"])), 0);
    let url = format!("file://{}", twice.folder("archive").display());
    assert_ne!(code(&twice.restore(&["ls", "--destination", &url])), 0);

    fs::remove_dir_all(twice.folder("second")).unwrap();
    fs::write(twice.folder("second"), "in the way").unwrap();
    let none = twice.restore(&["ls"]);
    assert_ne!(code(&none), 0);
    assert!(stderr(&none).contains("error: "), "{}", stderr(&none));
}

#[test]
fn a_missing_or_damaged_object_is_read_from_another_destination() {
    let twice = Twice::new();
    fs::remove_file(twice.object("archive", 3)).unwrap();
    damage(&twice.object("archive", 5));
    let whole = fs::read(twice.object("archive", 7)).unwrap();
    overwrite(&twice.object("archive", 7), &whole[..whole.len() - 9]);
    overwrite(&twice.object("archive", 9), b"");
    let told = twice.fetches_all();
    for sequence in [3, 5, 7, 9] {
        let file = format!("binlog.{sequence:06}");
        let line = told.lines().find(|line| line.contains(&file));
        let line = line.unwrap_or_else(|| panic!("nothing of {file}: {told}"));
        assert!(line.contains("second instead"), "{line}");
    }
    let sound = told.lines().filter(|line| line.contains("instead")).count();
    assert_eq!(sound, 4, "{told}");
    // The destination itself is judged as it is.
    assert_ne!(code(&twice.restore(&["verify"])), 0);
}

/// The parts of a plan are read block by block.
#[test]
fn a_plans_cut_file_is_read_from_another_destination_too() {
    let twice = Twice::new();
    let bytes = fs::read(twice.0.datadir().join("binlog.000002")).unwrap();
    let mut scanner = Scanner::new();
    scanner.push(&bytes).unwrap();
    let boundaries = scanner.take_boundaries();
    let middle = &boundaries[boundaries.len() / 2];
    let position = format!("binlog.000002:{}", middle.offset);
    let plan = twice.folder("plan.json");
    let saved = twice.restore(&[
        "plan",
        "--from-gtid-set",
        "",
        "--to-position",
        &position,
        "--save",
        plan.to_str().unwrap(),
    ]);
    assert_eq!(code(&saved), 0, "{}", stderr(&saved));
    let cat = ["cat", "--plan", plan.to_str().unwrap()];
    let before = twice.restore(&cat);
    assert_eq!(code(&before), 0, "{}", stderr(&before));

    damage(&twice.object("archive", 2));
    fs::remove_file(twice.object("archive", 1)).unwrap();
    let after = twice.restore(&cat);
    assert_eq!(code(&after), 0, "{}", stderr(&after));
    assert!(
        stderr(&after).contains("second instead"),
        "{}",
        stderr(&after)
    );
    assert!(after.stdout == before.stdout, "another stream");
}

/// A saved plan is of the archive, not of the place where it was read.
#[test]
fn a_plan_that_was_saved_at_one_destination_is_carried_out_at_another() {
    let twice = Twice::new();
    let plan = twice.0.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    let args = ["plan", "--to-latest", "--from-gtid-set", "", "--save", plan];
    let output = twice.restore(&args);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let here = twice.restore(&["cat", "--plan", plan]);
    assert_eq!(code(&here), 0, "{}", stderr(&here));

    fs::remove_dir_all(twice.folder("archive")).unwrap();
    let there = twice.restore(&["cat", "--plan", plan]);
    assert_eq!(code(&there), 0, "{}", stderr(&there));
    assert!(!here.stdout.is_empty() && here.stdout == there.stdout);
    let url = format!("file://{}", twice.folder("second").display());
    let named = twice.restore(&["cat", "--plan", plan, "--destination", &url]);
    assert_eq!(code(&named), 0, "{}", stderr(&named));
    assert!(here.stdout == named.stdout);
}

#[test]
fn when_no_copy_is_sound_the_first_error_is_reported() {
    const GAP: i32 = 3;
    let twice = Twice::new();
    fs::remove_file(twice.object("archive", 3)).unwrap();
    damage(&twice.object("second", 3));
    let dir = twice.folder("fetched");
    let output = twice.restore(&["fetch", "--dir", dir.to_str().unwrap()]);
    assert_eq!(code(&output), GAP, "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("not sound either"), "{told}");
    assert!(told.contains("the object is missing"), "{told}");
    assert!(!dir.join("binlog.000003").exists());
}

/// An entry of the same name that means another file is no copy.
#[test]
fn another_file_of_the_same_name_is_never_taken() {
    let twice = Twice::new();
    fs::remove_file(twice.object("archive", 3)).unwrap();
    let manifest = twice.folder("second").join(SOURCE).join("manifest");
    let entry = |sequence: u64| manifest.join(format!("{sequence:010}.json"));
    let other = fs::read(entry(4)).unwrap();
    overwrite(&entry(3), &other);
    let dir = twice.folder("fetched");
    let output = twice.restore(&["fetch", "--dir", dir.to_str().unwrap()]);
    assert_ne!(code(&output), 0);
    assert!(
        stderr(&output).contains("no sound copy"),
        "{}",
        stderr(&output)
    );
    assert!(!dir.join("binlog.000003").exists());
}
