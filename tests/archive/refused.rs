//! Input that is no binlog to be archived: said with its name and what to do, and the rest goes on.

use std::fs;
use std::path::Path;

use crate::workspace::{Workspace, code, fixture, json, stderr};

/// Two good files, then `bad`, then the active one.
fn after_two_good_files(bad: impl FnOnce(&Path)) -> Workspace {
    let workspace = Workspace::empty();
    let datadir = workspace.datadir();
    for name in ["auto.cnf", "binlog.000001", "binlog.000002"] {
        fs::copy(fixture("binlog/mysql-9.7").join(name), datadir.join(name)).unwrap();
    }
    bad(&datadir.join("binlog.000003"));
    fs::copy(
        fixture("binlog/mysql-9.7/binlog.000004"),
        datadir.join("binlog.000004"),
    )
    .unwrap();
    let index = "./binlog.000001\n./binlog.000002\n./binlog.000003\n./binlog.000004\n";
    fs::write(datadir.join("binlog.index"), index).unwrap();
    workspace.init(&datadir.join("binlog.index"), &[]);
    workspace
}

/// The files before it are archived; the message names the file and what it is.
fn assert_refused(workspace: &Workspace, exit: i32, words: &str, hint: &str) {
    let output = workspace.run_once();
    let (report, text) = (json(&output), stderr(&output));
    assert_eq!(code(&output), exit, "{report} {text}");
    assert_eq!(report["sources"][0]["watermark"], 2);
    let problem = &report["sources"][0]["problems"][0];
    let error = problem["error"].as_str().unwrap();
    assert!(
        error.contains("binlog.000003") && error.contains(words),
        "{error}"
    );
    assert!(
        problem["hint"].as_str().unwrap().contains(hint),
        "{problem}"
    );
    assert!(
        text.contains("error:") && text.contains("hint:") && text.contains(words),
        "{text}"
    );
    assert_eq!(workspace.archived("manifest").len(), 2);
}

/// TRAPS 6.
#[test]
fn encrypted_by_the_server() {
    let workspace = after_two_good_files(|bad| {
        fs::copy(fixture("binlog/refused/encrypted.000001"), bad).unwrap();
    });
    assert_refused(
        &workspace,
        2,
        "encrypted",
        "--read-from-remote-server --raw",
    );
}

/// TRAPS 10.
#[test]
fn relay_log() {
    let workspace = after_two_good_files(|bad| {
        fs::copy(fixture("binlog/refused/relay.000002"), bad).unwrap();
    });
    assert_refused(&workspace, 2, "relay log", "index");
}

#[test]
fn mariadb() {
    let workspace = after_two_good_files(|bad| {
        fs::copy(fixture("binlog/refused/mariadb.000001"), bad).unwrap();
    });
    assert_refused(&workspace, 2, "MariaDB", "MySQL");
}

#[test]
fn empty_file() {
    let workspace = after_two_good_files(|bad| {
        fs::copy(fixture("binlog/refused/empty.000001"), bad).unwrap();
    });
    assert_refused(&workspace, 4, "empty", "");
}

#[test]
fn directory() {
    let workspace = after_two_good_files(|bad| fs::create_dir(bad).unwrap());
    assert_refused(&workspace, 2, "not a regular file", "index");
}

/// A pipe would be waited for.
#[test]
fn pipe() {
    let workspace = after_two_good_files(|bad| {
        let made = std::process::Command::new("mkfifo")
            .arg(bad)
            .status()
            .unwrap();
        assert!(made.success());
    });
    assert_refused(&workspace, 2, "not a regular file", "index");
}

/// The index of another server, or of none: said each time, and shown by status.
#[test]
fn a_source_that_cannot_be_opened_is_said_every_time() {
    let workspace = after_two_good_files(|_| {});
    let index = workspace.datadir().join("binlog.index");
    fs::remove_file(&index).unwrap();
    for _ in 0..5 {
        let output = workspace.run_once();
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("binlog.index"),
            "{}",
            stderr(&output)
        );
    }
    let status = workspace
        .gtide()
        .args(["status", "--format", "json"])
        .output()
        .unwrap();
    assert_eq!(code(&status), 2, "{}", stderr(&status));
    let error = json(&status)["sources"][0]["stopped"]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("binlog.index"), "{error}");

    fs::write(
        &index,
        "./binlog.000001\n./binlog.000002\n./binlog.000004\n",
    )
    .unwrap();
    workspace.run_once();
    let status = workspace
        .gtide()
        .args(["status", "--format", "json"])
        .output()
        .unwrap();
    assert_eq!(
        json(&status)["sources"][0]["stopped"],
        serde_json::Value::Null
    );
}

#[test]
fn the_same_server_under_two_names() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let index = workspace.datadir().join("binlog.index");
    let again = format!("[[source]]\nname = \"db2\"\nindex = {index:?}\n\n[queue]");
    workspace.edit("[queue]", &again);
    let output = workspace.run_once();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("archived as source \"db1\" already"),
        "{}",
        stderr(&output)
    );
    assert_eq!(workspace.archived("manifest").len(), 13);
}

#[test]
fn missing_file() {
    let workspace = after_two_good_files(|_| {});
    assert_refused(&workspace, 2, "No such file", "removed");
}

/// What a later version adds to a file, or what is no binlog at all.
#[test]
fn no_magic() {
    let workspace = after_two_good_files(|bad| {
        fs::copy(fixture("binlog/damaged/no-magic.000001"), bad).unwrap();
    });
    assert_refused(&workspace, 4, "not a binlog", "");
}

/// Damage stops nothing: the file is archived byte for byte, flagged, and the next one follows.
#[test]
fn damaged_files_are_archived_and_flagged() {
    for (name, offset) in [("truncated.000001", 3556), ("bit-flipped.000001", 3556)] {
        let workspace = after_two_good_files(|bad| {
            fs::copy(fixture("binlog/damaged").join(name), bad).unwrap();
        });
        let output = workspace.run_once();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(json(&output)["sources"][0]["watermark"], 3);
        let text = fs::read_to_string(find(&workspace.archive(), "0000000003.json")).unwrap();
        let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(entry["binlog"]["damage"]["offset"], offset, "{name}");
        let refused = workspace.restore().arg("cat").output().unwrap();
        assert_eq!(code(&refused), 4, "{}", stderr(&refused));
        let dir = workspace.path().join("fetched");
        // By itself: as a copy of the first file it does not follow the second one.
        let fetch = workspace
            .restore()
            .args([
                "fetch",
                "--accept-damage",
                "--from-seq",
                "3",
                "--to-seq",
                "3",
                "--dir",
            ])
            .arg(&dir)
            .output()
            .unwrap();
        assert_eq!(code(&fetch), 0, "{}", stderr(&fetch));
        assert_eq!(
            fs::read(dir.join("binlog.000003")).unwrap(),
            fs::read(fixture("binlog/damaged").join(name)).unwrap()
        );
    }
}

/// A file that cannot be read now is archived once it can.
#[test]
fn unreadable_file_is_archived_after_it_was_mended() {
    let workspace = after_two_good_files(|bad| {
        fs::copy(fixture("binlog/mysql-9.7/binlog.000003"), bad).unwrap();
    });
    let bad = workspace.datadir().join("binlog.000003");
    let aside = workspace.path().join("aside");
    fs::rename(&bad, &aside).unwrap();
    std::os::unix::fs::symlink("binlog.000003", &bad).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 2, "{}", stderr(&output));

    fs::remove_file(&bad).unwrap();
    fs::rename(&aside, &bad).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["watermark"], 3);
}

fn find(dir: &Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() == name {
                return path;
            }
        }
    }
    panic!("{name} is nowhere below {}", dir.display());
}
