//! `verify`: every harm is found, by its exit code and by the object's key.

use std::fs;

use engine::layout::ObjectKey;

use crate::archive::{Archive, binlogs, fixtures, shape};

fn archive() -> Archive {
    Archive::of(&binlogs("mysql-9.7"))
}

/// Runs `verify` on a harmed archive and asserts its exit code, and that a finding of this kind
/// names this object and gives a hint.
#[track_caller]
fn finds(archive: &Archive, code: i32, kind: &str, key: &ObjectKey) -> String {
    let ran = archive.run(&["verify", "--format", "json"]).exits(code);
    let report = ran.json();
    assert_eq!(report["exit_code"], code);
    let findings = report["findings"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|f| f["kind"] == kind && f["key"] == key.as_str());
    let found = found.unwrap_or_else(|| panic!("no {kind} about {key}: {findings:#?}"));
    assert!(
        found["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
        "{found}"
    );
    archive
        .run(&["verify"])
        .exits(code)
        .prints(&[key.as_str(), "hint: "]);
    found["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_sound_archive_is_found_sound() {
    archive()
        .run(&["verify"])
        .exits(0)
        .prints(&["14 of 14 files are sound", "errors: 0, notes: 0"]);
}

#[test]
fn a_flipped_bit_anywhere_in_an_object_is_found() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    let size = fs::read(archive.object(&archive.log(1))).unwrap().len();
    let flip = |at: usize| archive.harm(&archive.log(1), |object| object[at] ^= 0x10);
    for at in (0..size).step_by(size / 24).chain([size - 1]) {
        flip(at);
        finds(&archive, 4, "bad_object", &archive.log(1));
        flip(at);
    }
    archive.run(&["verify"]).exits(0);
}

#[test]
fn a_truncated_object_is_found() {
    let archive = archive();
    archive.harm(&archive.log(2), |object| object.truncate(object.len() - 1));
    let message = finds(&archive, 4, "bad_object", &archive.log(2));
    assert!(
        message.contains("bytes long, and its manifest entry says"),
        "{message}"
    );
    archive.harm(&archive.log(2), Vec::clear);
    finds(&archive, 4, "bad_object", &archive.log(2));
}

#[test]
fn bytes_behind_an_object_are_found() {
    let archive = archive();
    archive.harm(&archive.log(2), |object| object.push(0));
    finds(&archive, 4, "bad_object", &archive.log(2));
}

#[test]
fn two_swapped_objects_are_both_found() {
    let archive = archive();
    archive.swap(&archive.log(3), &archive.log(9));
    for sequence in [3, 9] {
        let message = finds(&archive, 4, "bad_object", &archive.log(sequence));
        assert!(message.contains("the object says that it is"), "{message}");
    }
}

/// Another sealing of the same file opens with the same key, yet is not the one in the entry.
#[test]
fn an_object_that_was_replaced_by_another_sealing_is_found() {
    let files = binlogs("mysql-9.7");
    let (archive, mut other) = (Archive::of(&files[..1]), Archive::empty());
    fs::copy(archive.path("key"), other.path("key")).unwrap();
    other.commit(&files[0].0, &files[0].1);
    let replacement = fs::read(other.object(&other.log(1))).unwrap();
    archive.harm(&archive.log(1), |object| *object = replacement);
    finds(&archive, 4, "bad_object", &archive.log(1));
}

#[test]
fn a_missing_entry_is_found_and_so_is_its_object_without_it() {
    let archive = archive();
    archive.remove(&archive.entry(5));
    finds(&archive, 3, "missing_entries", &archive.entry(5));
    finds(&archive, 3, "unrecorded_object", &archive.log(5));
}

#[test]
fn a_missing_first_entry_is_found() {
    let archive = archive();
    archive.remove(&archive.entry(1));
    finds(&archive, 3, "missing_entries", &archive.entry(1));
}

#[test]
fn a_missing_object_is_found() {
    let archive = archive();
    archive.remove(&archive.log(5));
    finds(&archive, 3, "missing_object", &archive.log(5));
}

#[test]
fn a_wrong_key_is_found_at_every_object() {
    let archive = archive();
    engine::keyring::create_key_file(&archive.path("other")).unwrap();
    archive.write_config("other");
    for sequence in [1, 14] {
        let message = finds(&archive, 4, "no_key", &archive.log(sequence));
        assert!(message.contains("is sealed with key "), "{message}");
        assert!(message.contains(", but at hand is "), "{message}");
    }
    let ran = archive.run(&["verify"]).exits(4).prints(&[
        "no key: ",
        "0 of 14 files are sound",
        "`old-keys` of [encryption]",
    ]);
    assert!(!ran.stdout.contains("corrupt"), "{}", ran.stdout);
    // The manifest and the store's own checksums need none.
    archive.run(&["verify", "--quick"]).exits(0);
}

/// Nothing is decrypted: what the store knows of its objects is compared with their entries.
#[test]
fn quick_finds_what_is_missing_cut_or_altered_and_reads_no_object_back() {
    let archive = archive();
    let quick = |code| archive.run(&["verify", "--quick"]).exits(code);
    quick(0).prints(&["14 of 14 files are there, none was read back; errors: 0"]);
    archive.harm(&archive.log(2), |object| object.truncate(object.len() - 1));
    quick(4).prints(&[archive.log(2).as_str(), "the size of the object is "]);
    archive.harm(&archive.log(2), |object| object.push(0xa5));
    quick(4).prints(&[archive.log(2).as_str(), "the CRC32C of the object is "]);
    archive.remove(&archive.log(2));
    quick(3).prints(&[
        "missing: ",
        archive.log(2).as_str(),
        "13 of 14 files are there",
    ]);
    archive.remove(&archive.entry(7));
    quick(3).prints(&[archive.entry(7).as_str()]);
    archive
        .run(&["verify", "--quick", "--sample", "1"])
        .exits(2);
}

#[test]
fn a_sample_reads_a_random_share_that_its_seed_repeats_and_asks_for_the_rest() {
    let archive = archive();
    let sample = |args: &[&str]| {
        let args = [&["verify", "--format", "json", "--sample"], args].concat();
        archive.run(&args).exits(0).json()
    };
    let whole = sample(&["100"]);
    assert_eq!(
        (&whole["sound_files"], &whole["present_files"]),
        (&14.into(), &0.into())
    );
    let some = sample(&["30"]);
    let seed = some["seed"].to_string();
    assert_eq!(some["depth"], "sample");
    let count = |field: &str| some[field].as_u64().unwrap();
    assert_eq!(count("sound_files") + count("present_files"), 14);
    assert_eq!(sample(&["30", "--seed", &seed]), some);
    // What is not in the sample is not opened, and what is, is.
    archive.harm(&archive.log(3), |object| object[100] ^= 1);
    archive
        .run(&["verify", "--sample", "50"])
        .exits(4)
        .prints(&[archive.log(3).as_str()]);
    archive.run(&["verify", "--seed", "1"]).exits(2);
    archive.run(&["verify", "--sample", "0"]).exits(2);
}

#[test]
fn an_entry_that_is_no_entry_is_found_and_its_neighbours_are_not_blamed() {
    let archive = archive();
    archive.harm(&archive.entry(6), |entry| entry[0] = b'[');
    finds(&archive, 4, "bad_entry", &archive.entry(6));
    let report = archive.run(&["verify", "--format", "json"]).exits(4).json();
    assert_eq!(
        report["findings"].as_array().unwrap().len(),
        1,
        "{report:#}"
    );
}

#[test]
fn an_entry_altered_in_the_middle_breaks_the_chain() {
    let archive = archive();
    archive.alter(6, "/writer", "someone else");
    finds(&archive, 4, "broken_link", &archive.entry(7));
}

#[test]
fn an_entry_that_tells_another_story_than_its_file_is_found() {
    let archive = archive();
    archive.alter(14, "/binlog/transactions", 99);
    let message = finds(&archive, 4, "bad_object", &archive.log(14));
    assert!(
        message.contains("transactions is ") && message.contains(", not 99"),
        "{message}"
    );
    archive.alter(14, "/object/key", archive.log(13).as_str());
    finds(&archive, 4, "bad_entry", &archive.entry(14));
}

#[test]
fn two_entries_that_changed_places_are_found() {
    let archive = archive();
    archive.swap(&archive.entry(3), &archive.entry(4));
    for sequence in [3, 4] {
        finds(&archive, 4, "bad_entry", &archive.entry(sequence));
    }
}

#[test]
fn files_that_were_never_archived_are_a_gap() {
    let mut files = binlogs("mysql-9.7");
    files.drain(4..6);
    let archive = Archive::of(&files);
    finds(&archive, 3, "gap", &archive.entry(5));
    finds(&archive, 3, "missing_gtids", &archive.entry(7));
}

#[test]
fn a_history_that_forgot_transactions_is_a_fork() {
    let files = binlogs("mysql-9.7");
    let mut archive = Archive::of(&files[..3]);
    archive.commit("binlog.000004", &files[0].1);
    finds(&archive, 5, "fork", &archive.entry(4));
}

#[test]
fn a_missing_layout_version_is_found() {
    let archive = archive();
    let layout = ObjectKey::layout_version(&archive.source.cluster);
    archive.remove(&layout);
    finds(&archive, 3, "missing_layout", &layout);
}

#[test]
fn notes_do_not_judge() {
    let mut archive = archive();
    let flipped = fs::read(fixtures().join("damaged/bit-flipped.000001")).unwrap();
    archive.reset();
    archive.commit("binlog.000001", &flipped);
    archive.put(&ObjectKey::from_listing("orders/notes.txt"), b"hands off");
    let report = archive.run(&["verify", "--format", "json"]).exits(0).json();
    let findings = report["findings"].as_array().unwrap();
    let kinds: Vec<_> = findings
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["unknown_object", "flawed_file"]);
    archive
        .run(&["verify"])
        .exits(0)
        .prints(&["note: orders/notes.txt: ", "errors: 0, notes: 2"]);
}

/// An entry that does not come is not on its way: the end of the chain was cut off.
#[test]
fn entries_deleted_from_the_end_are_found_by_their_objects() {
    let archive = archive();
    archive.remove(&archive.entry(14));
    finds(&archive, 3, "unrecorded_object", &archive.log(14));
    for sequence in 1..=13 {
        archive.remove(&archive.entry(sequence));
    }
    finds(&archive, 3, "unrecorded_object", &archive.log(1));
}

#[test]
fn everything_is_reported_and_the_gravest_decides() {
    let archive = archive();
    archive.remove(&archive.log(2));
    archive.harm(&archive.log(8), |object| object[40] ^= 1);
    archive.remove(&archive.entry(11));
    let ran = archive.run(&["verify"]).exits(4);
    let (missing, flipped, entry) = (archive.log(2), archive.log(8), archive.entry(11));
    ran.prints(&[
        missing.as_str(),
        flipped.as_str(),
        entry.as_str(),
        "11 of 13 files are sound",
    ]);
}

#[test]
fn only_the_range_is_judged() {
    let archive = archive();
    archive.remove(&archive.log(2));
    archive
        .run(&["verify", "--from-seq", "3"])
        .exits(0)
        .prints(&["12 of 12"]);
    archive
        .run(&["verify", "--to-seq", "1"])
        .exits(0)
        .prints(&["1 of 1"]);
    archive
        .run(&["verify", "--to-seq", "15"])
        .exits(3)
        .prints(&[archive.entry(15).as_str()]);
}

#[test]
fn the_json_report_keeps_its_shape() {
    let archive = archive();
    archive.remove(&archive.log(2));
    let report = archive.run(&["verify", "--format", "json"]).exits(3).json();
    insta::assert_json_snapshot!(shape(&report));
}
