//! `plan`, and `cat` and `fetch` by a plan: the way to a moment, or a refusal that names what is missing.

use std::fs;

use engine::binlog::{Boundary, Scanner};
use engine::gtid::GtidSet;
use serde_json::Value;

use crate::archive::{Archive, binlogs, shape};

/// Where transactions begin and end in a file.
fn boundaries(bytes: &[u8]) -> Vec<Boundary> {
    let mut scanner = Scanner::new();
    scanner.push(bytes).unwrap();
    scanner.take_boundaries()
}

/// The boundary of the transaction with this number in the fixtures.
fn boundary(files: &[(String, Vec<u8>)], gno: u64) -> (usize, Boundary) {
    let of = |(number, (_, bytes)): (usize, &(String, Vec<u8>))| {
        let found = boundaries(bytes).into_iter().find(|boundary| {
            let gtid = boundary.gtid.as_ref();
            gtid.is_some_and(|gtid| gtid.gno == gno && gtid.tsid.tag.is_none())
        });
        found.map(|boundary| (number, boundary))
    };
    files.iter().enumerate().find_map(of).unwrap()
}

/// The fixtures begin with an empty server; one of their TSIDs begins at 5 all the same.
const EMPTY: [&str; 2] = ["--from-gtid-set", ""];

/// An archive of the fixtures, and its files.
fn archive() -> (Archive, Vec<(String, Vec<u8>)>) {
    let files = binlogs("mysql-9.7");
    (Archive::of(&files), files)
}

fn set(plan: &Value, field: &str) -> GtidSet {
    plan[field].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_plan_to_before_a_transaction_is_cut_there_and_its_stream_ends_there() {
    let (archive, files) = archive();
    let (number, target) = boundary(&files, 17);
    let gtid = target.gtid.unwrap().to_string();
    let save = archive.path("plan.json");
    let args = [
        "plan",
        "--from-gtid-set",
        "",
        "--before-gtid",
        &gtid,
        "--save",
        save.to_str().unwrap(),
    ];
    let ran = archive.run(&args).exits(0).prints(&[
        &format!("all before {gtid}"),
        &format!(
            "stops at      {} position {}",
            files[number].0, target.offset
        ),
        "a server that has executed what is stated",
        "mysqlbinlog --no-defaults - | mysql --binary-mode",
    ]);
    assert_eq!(ran.stderr, "");

    let stream = archive
        .run(&["cat", "--plan", save.to_str().unwrap()])
        .exits(0);
    let mut expected = Vec::new();
    for (_, bytes) in &files[..number] {
        expected.extend_from_slice(&bytes[if expected.is_empty() { 0 } else { 4 }..]);
    }
    let cut = usize::try_from(target.offset).unwrap();
    expected.extend_from_slice(&files[number].1[4..cut]);
    assert!(stream.bytes == expected);

    let dir = archive.path("fetched");
    let args = [
        "fetch",
        "--plan",
        save.to_str().unwrap(),
        "--dir",
        dir.to_str().unwrap(),
    ];
    archive.run(&args).exits(0);
    for (name, bytes) in &files[..=number] {
        assert!(fs::read(dir.join(name)).unwrap() == *bytes, "{name}");
    }
}

#[test]
fn a_start_in_the_middle_of_a_file_is_cut_there_and_has_its_header() {
    let (archive, files) = archive();
    let (number, first) = boundary(&files, 17);
    let before: GtidSet = {
        let mut scanner = Scanner::new();
        scanner.push(&files[number].1).unwrap();
        let summary = scanner.finish().unwrap();
        let mut before = summary.previous_gtids.clone();
        before.union_with(
            &"0d1a7e00-97a0-4000-8000-000000000001:15-16"
                .parse()
                .unwrap(),
        );
        before
    };
    let save = archive.path("plan.json");
    let next = files[number + 1].0.clone();
    let args = [
        "plan",
        "--from-gtid-set",
        &before.to_string(),
        "--to-position",
        &format!("{next}:4"),
    ];
    let args = [
        &args[..],
        &["--format", "json", "--save", save.to_str().unwrap()],
    ]
    .concat();
    let plan = archive.run(&args).exits(0).json();
    assert_eq!(plan["files"].as_array().unwrap().len(), 1, "{plan:#}");
    assert_eq!(plan["files"][0]["from"], first.offset);
    assert_eq!(set(&plan, "start"), before);
    assert_eq!(set(&plan, "executed"), before.union(&set(&plan, "adds")));

    let stream = archive
        .run(&["cat", "--plan", save.to_str().unwrap()])
        .exits(0);
    let bytes = &files[number].1;
    let header = usize::try_from(boundaries(bytes)[0].offset).unwrap();
    let cut = usize::try_from(first.offset).unwrap();
    assert!(stream.bytes == [&bytes[..header], &bytes[cut..]].concat());
}

#[test]
fn the_document_has_the_fields_that_scripts_rely_on() {
    let (archive, files) = archive();
    let (_, target) = boundary(&files, 17);
    let gtid = target.gtid.unwrap().to_string();
    let ran = archive
        .run(&[
            "plan",
            EMPTY[0],
            EMPTY[1],
            "--before-gtid",
            &gtid,
            "--format",
            "json",
        ])
        .exits(0);
    insta::assert_json_snapshot!(shape(&ran.json()));
}

#[test]
fn a_removed_entry_is_a_gap_that_names_its_transactions() {
    let (archive, _) = archive();
    archive.remove(&archive.entry(3));
    let ran = archive
        .run(&[
            "plan",
            EMPTY[0],
            EMPTY[1],
            "--to-latest",
            "--format",
            "json",
        ])
        .exits(3)
        .complains(&[
            "gap: nothing that is archived leads from",
            archive.entry(3).as_str(),
        ]);
    let report = ran.json();
    assert_eq!(report["refused"], "gap");
    assert_eq!(report["exit_code"], 3);
    assert!(!set(&report, "missing").is_empty());
    assert!(ran.stderr.contains(report["missing"].as_str().unwrap()));
    let accepted = archive.run(&["plan", EMPTY[0], EMPTY[1], "--to-latest", "--accept-damage"]);
    accepted.exits(3).complains(&["gap: "]);
}

#[test]
fn a_removed_object_is_a_gap_that_names_it() {
    let (archive, files) = archive();
    archive.remove(&archive.log(3));
    archive
        .run(&["plan", EMPTY[0], EMPTY[1], "--to-latest"])
        .exits(3)
        .complains(&["the object is missing", archive.log(3).as_str()]);
    // What lies before it is not touched by that.
    let (_, target) = boundary(&files, 17);
    let gtid = target.gtid.unwrap().to_string();
    archive
        .run(&["plan", EMPTY[0], EMPTY[1], "--before-gtid", &gtid])
        .exits(0);
}

#[test]
fn a_plan_of_other_files_is_refused() {
    let (archive, _) = archive();
    let save = archive.path("plan.json");
    let save = save.to_str().unwrap();
    archive
        .run(&["plan", EMPTY[0], EMPTY[1], "--to-latest", "--save", save])
        .exits(0);
    archive
        .run(&["plan", EMPTY[0], EMPTY[1], "--to-latest", "--save", save])
        .exits(5)
        .complains(&["plan.json"]);
    archive.alter(2, "/sha256", "00".repeat(32));
    archive
        .run(&["cat", "--plan", save])
        .exits(5)
        .complains(&["another file than when the plan was made"]);
    archive
        .run(&["cat", "--plan", "nowhere.json"])
        .exits(2)
        .complains(&["read nowhere.json"]);
}

#[test]
fn targets_that_the_archive_does_not_reach_are_refused() {
    let (archive, _) = archive();
    archive
        .run(&["plan", "--to-time", "2100-01-01T00:00:00Z"])
        .exits(3)
        .complains(&["is not in the archive", "ends with what was committed at"]);
    let unknown = "0d1a7e00-97a0-4000-8000-00000000ffff:7";
    archive
        .run(&["plan", "--to-gtid", unknown])
        .exits(3)
        .complains(&[unknown]);
    archive
        .run(&["plan", "--to-position", "binlog.000099:4"])
        .exits(3)
        .complains(&["no such file"]);
    archive
        .run(&["plan", "--to-latest", "--from-backup", "monday"])
        .exits(2)
        .complains(&["monday"]);
    archive.run(&["plan"]).exits(2);
    archive
        .run(&["plan", "--to-latest", "--to-gtid", unknown])
        .exits(2);
}

/// TRAPS 26: anonymous transactions go by position.
#[test]
fn anonymous_transactions_are_planned_by_position_with_a_warning() {
    let archive = Archive::of(&binlogs("mysql-9.7-anonymous"));
    let plan = archive
        .run(&["plan", "--to-latest", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(plan["base"]["kind"], "empty");
    let warnings = plan["warnings"].to_string();
    assert!(
        warnings.contains("anonymous transactions are replayed"),
        "{warnings}"
    );
    let set = "0d1a7e00-97a0-4000-8000-000000000001:1";
    let stated = archive.run(&["plan", "--to-latest", "--from-gtid-set", set]);
    stated.exits(3).complains(&["anonymous"]);
}

/// A server that was set up from a backup logs none of what it was set up with.
#[test]
fn a_history_that_seems_to_begin_in_the_middle_needs_a_base() {
    let (archive, _) = archive();
    archive.run(&["plan", "--to-latest"]).exits(3).complains(&[
        "no base backup to begin with",
        ":ebb:1-4",
        "--from-gtid-set",
    ]);
}
