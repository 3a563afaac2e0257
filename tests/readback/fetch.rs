//! `fetch`: whole files under their own names, and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::archive::{Archive, Ran, binlogs, fixtures, interrupt, shape, write};

/// The directory's files, hidden ones among them.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (name(&entry), fs::read(entry.path()).unwrap()))
        .collect()
}

fn fetch(archive: &Archive, more: &[&str]) -> Ran {
    let dir = archive.path("out");
    let args = ["fetch", "--dir", dir.to_str().unwrap()];
    archive.run(&[&args, more].concat())
}

fn outcomes(report: &Value) -> Vec<&str> {
    let files = report["files"].as_array().unwrap();
    files
        .iter()
        .map(|file| file["outcome"].as_str().unwrap())
        .collect()
}

#[test]
fn files_come_back_byte_for_byte_under_their_own_names() {
    let files = binlogs("mysql-9.7");
    let archive = Archive::of(&files);
    fetch(&archive, &[])
        .exits(0)
        .prints(&["14 files fetched", "0 already there"]);
    assert!(contents(&archive.path("out")) == files.into_iter().collect());
}

#[test]
fn a_fetch_that_was_killed_is_resumed_and_what_it_left_is_cleared() {
    let files = binlogs("mysql-9.7");
    let archive = Archive::of(&files);
    fetch(&archive, &["--to-seq", "2"]).exits(0);
    write(
        &archive.path("out/.binlog.000003.x1y2z3.gtide-partial"),
        b"half",
    );
    let ran = fetch(&archive, &["--to-seq", "3", "--format", "json"]).exits(0);
    assert_eq!(outcomes(&ran.json()), ["present", "present", "fetched"]);
    assert!(contents(&archive.path("out")) == files[..3].iter().cloned().collect());
}

#[test]
fn other_content_in_the_way_is_a_conflict_found_before_anything_is_written() {
    let files = binlogs("mysql-9.7");
    let archive = Archive::of(&files[..4]);
    let mut other = files[2].1.clone();
    other[100] ^= 1;
    fs::create_dir(archive.path("out")).unwrap();
    fs::create_dir(archive.path("out/binlog.000002")).unwrap();
    write(&archive.path("out/binlog.000003"), &other);
    fetch(&archive, &[])
        .exits(5)
        .complains(&["out/binlog.000002", "out/binlog.000003"]);
    assert_eq!(fs::read_dir(archive.path("out")).unwrap().count(), 2);
    assert!(fs::read(archive.path("out/binlog.000003")).unwrap() == other);
}

#[test]
fn a_tampered_object_leaves_no_file() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    archive.harm(&archive.log(1), |object| {
        let at = object.len() - 100;
        object[at] ^= 1;
    });
    fetch(&archive, &[])
        .exits(4)
        .complains(&[archive.log(1).as_str()]);
    assert!(contents(&archive.path("out")).is_empty());
}

#[test]
fn a_file_name_in_the_archive_cannot_lead_out_of_the_directory() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..2]);
    archive.alter(2, "/file_name", "../binlog.000002");
    let ran = fetch(&archive, &[]).exits(4);
    ran.complains(&[
        archive.entry(2).as_str(),
        "\"../binlog.000002\" is not the name",
    ]);
    assert!(!archive.path("binlog.000002").exists() && !archive.path("out").exists());
}

#[test]
fn a_gap_and_a_damaged_binlog_are_refused_as_by_cat() {
    let mut files = binlogs("mysql-9.7");
    files.remove(4);
    let archive = Archive::of(&files);
    fetch(&archive, &[])
        .exits(3)
        .complains(&["gap: sequences 5 to 5 were never archived"]);

    let flipped = fs::read(fixtures().join("damaged/bit-flipped.000001")).unwrap();
    let archive = Archive::of(&[("binlog.000001".to_owned(), flipped.clone())]);
    fetch(&archive, &[])
        .exits(4)
        .complains(&["binlog.000001 was damaged"]);
    fetch(&archive, &["--accept-damage"]).exits(0);
    assert!(fs::read(archive.path("out/binlog.000001")).unwrap() == flipped);
}

#[test]
fn an_interrupt_leaves_no_half_file() {
    // Zeros behind a binary log: cheap to seal, and long to fetch.
    let mut bytes = binlogs("mysql-9.7")[0].1.clone();
    bytes.resize(128 * 1024 * 1024, 0);
    let archive = Archive::of(&[("binlog.000001".to_owned(), bytes)]);
    let out = archive.path("out");
    let args = ["fetch", "--accept-damage", "--dir", out.to_str().unwrap()];
    let mut child = archive.command(&args).spawn().unwrap();
    while !fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(interrupt(&mut child), Some(130));
    assert!(contents(&out).is_empty());
}

#[test]
fn one_fetch_at_a_time_writes_to_a_directory() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    fs::create_dir(archive.path("out")).unwrap();
    let other = File::open(archive.path("out")).unwrap();
    other.try_lock().unwrap();
    fetch(&archive, &[])
        .exits(6)
        .complains(&["another gtide-restore is fetching"]);
    drop(other);
    fetch(&archive, &[]).exits(0);
}

#[test]
fn a_path_that_is_no_directory_is_wrong_usage() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    write(&archive.path("out"), b"a file");
    fetch(&archive, &[]).exits(2).complains(&["out"]);
}

#[test]
fn the_json_report_keeps_its_shape() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    let ran = fetch(&archive, &["--format", "json"]).exits(0);
    insta::assert_json_snapshot!(shape(&ran.json()));
}
