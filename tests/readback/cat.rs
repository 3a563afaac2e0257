//! `cat`: one stream, or a refusal before its first byte.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::Stdio;

use crate::archive::{Archive, Ran, binlogs, fixtures, interrupt};

/// What `cat` of these files is to write: magic once (TRAPS 18).
fn stream(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (_, bytes) in files {
        let skip = if stream.is_empty() { 0 } else { 4 };
        stream.extend_from_slice(&bytes[skip..]);
    }
    stream
}

#[test]
fn the_stream_is_the_files_with_the_magic_bytes_once() {
    let files = binlogs("mysql-9.7");
    let ran = Archive::of(&files).run(&["cat"]).exits(0);
    assert_eq!(ran.stderr, "");
    assert!(ran.bytes == stream(&files));
}

#[test]
fn a_range_begins_with_its_own_magic_bytes() {
    let files = binlogs("mysql-9.7");
    let archive = Archive::of(&files);
    let ran = archive
        .run(&["cat", "--from-seq", "2", "--to-seq", "4"])
        .exits(0);
    assert!(ran.bytes == stream(&files[1..4]));
    let ran = archive.run(&["cat", "--from-seq", "13"]).exits(0);
    assert!(ran.bytes == stream(&files[12..]));
}

#[test]
fn a_gap_inside_the_range_is_refused_before_the_first_byte() {
    let mut files = binlogs("mysql-9.7");
    files.drain(4..6);
    let archive = Archive::of(&files);
    let ran = archive
        .run(&["cat"])
        .exits(3)
        .complains(&["gap: sequences 5 to 6 were never archived", "no file holds"]);
    assert_eq!(ran.bytes, b"");
    let before = archive.run(&["cat", "--to-seq", "4"]).exits(0);
    assert!(before.bytes == stream(&files[..4]));
    let behind = archive.run(&["cat", "--from-seq", "7"]).exits(0);
    assert!(behind.bytes == stream(&files[4..]));
}

#[test]
fn entries_that_are_gone_are_refused_by_their_key() {
    let archive = Archive::of(&binlogs("mysql-9.7"));
    archive.remove(&archive.entry(3));
    let ran = archive
        .run(&["cat"])
        .exits(3)
        .complains(&[archive.entry(3).as_str()]);
    assert_eq!(ran.bytes, b"");
}

#[test]
fn sequences_that_the_archive_does_not_reach_are_a_gap() {
    let archive = Archive::of(&binlogs("mysql-9.7")[2..5]);
    for (from, to, missing) in [
        ("1", "4", "sequences 1 to 2 are not archived"),
        ("3", "7", "sequences 6 to 7 are not archived"),
        ("9", "9", "sequence 9 is not archived"),
    ] {
        let ran = archive.run(&["cat", "--from-seq", from, "--to-seq", to]);
        let ran = ran.exits(3).complains(&[missing]);
        assert_eq!(ran.bytes, b"");
    }
}

#[test]
fn an_altered_entry_breaks_the_chain_before_the_first_byte() {
    let archive = Archive::of(&binlogs("mysql-9.7"));
    archive.alter(6, "/writer", "someone else");
    let ran = archive
        .run(&["cat"])
        .exits(4)
        .complains(&["broken chain: sequence 7"]);
    assert_eq!(ran.bytes, b"");
    archive.run(&["cat", "--from-seq", "7"]).exits(0);
}

#[test]
fn a_damaged_binlog_is_refused_by_file_and_offset_unless_accepted() {
    let flipped = std::fs::read(fixtures().join("damaged/bit-flipped.000001")).unwrap();
    let archive = Archive::of(&[("binlog.000001".to_owned(), flipped.clone())]);
    let ran = archive.run(&["cat"]).exits(4).complains(&[
        archive.log(1).as_str(),
        "binlog.000001 was damaged before it was archived, from offset ",
        "--accept-damage",
    ]);
    assert_eq!(ran.bytes, b"");
    let ran = archive.run(&["cat", "--accept-damage"]).exits(0);
    assert!(ran.bytes == flipped);
    assert!(
        ran.stderr.contains("binlog.000001 was damaged"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_tampered_object_ends_the_stream_at_the_last_authentic_block() {
    let files = binlogs("mysql-9.7");
    let archive = Archive::of(&files);
    archive.harm(&archive.log(2), |object| {
        let middle = object.len() / 2;
        object[middle] ^= 1;
    });
    let ran = archive
        .run(&["cat"])
        .exits(4)
        .complains(&[archive.log(2).as_str()]);
    let whole = stream(&files);
    assert!(ran.bytes.len() >= files[0].1.len() && ran.bytes.len() < whole.len());
    assert!(whole.starts_with(&ran.bytes));
}

#[test]
fn the_next_file_does_not_begin_before_this_ones_digest_was_compared() {
    let files = binlogs("mysql-9.7");
    let archive = Archive::of(&files[..3]);
    // The last entry: no other names its digest, so that only the object can contradict it.
    archive.alter(3, "/sha256", "00".repeat(32));
    let ran = archive.run(&["cat"]).exits(4);
    ran.complains(&[archive.log(3).as_str(), "SHA-256", &"00".repeat(32)]);
}

#[test]
fn a_missing_object_and_a_wrong_key_are_named() {
    let archive = Archive::of(&binlogs("mysql-9.7"));
    engine::keyring::create_key_file(&archive.path("other")).unwrap();
    archive.write_config("other");
    let ran = archive
        .run(&["cat"])
        .exits(4)
        .complains(&[archive.log(1).as_str(), "key"]);
    assert_eq!(ran.bytes, b"");
    archive.write_config("key");
    archive.remove(&archive.log(1));
    archive
        .run(&["cat"])
        .exits(3)
        .complains(&[archive.log(1).as_str(), "missing"]);
}

#[test]
fn a_consumer_that_goes_away_is_no_error_and_no_success() {
    let archive = Archive::of(&binlogs("mysql-9.7"));
    let mut command = archive.command(&["cat"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut beginning = [0; 100];
    child
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut beginning)
        .unwrap();
    let ran = Ran::new(&["cat"], child.wait_with_output().unwrap());
    assert_eq!(ran.exits(130).stderr, "");
}

#[test]
fn an_interrupt_ends_a_stream_that_nobody_reads() {
    let archive = Archive::of(&binlogs("mysql-9.7"));
    let mut command = archive.command(&["cat"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // One byte: it writes. The rest does not fit into the pipe, which stays open.
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut [0]).unwrap();
    assert_eq!(interrupt(&mut child), Some(130));
}

#[test]
fn binary_logs_are_not_written_to_a_terminal() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    let (_controller, terminal) = open_terminal();
    let mut command = archive.command(&["cat"]);
    let output = command
        .stdout(terminal)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    Ran::new(&["cat"], output)
        .exits(2)
        .complains(&["terminal", "mysqlbinlog -"]);
}

fn open_terminal() -> (rustix::fd::OwnedFd, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (controller, terminal)
}

#[test]
fn a_range_that_ends_before_it_begins_is_wrong_usage() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    archive
        .run(&["cat", "--from-seq", "3", "--to-seq", "2"])
        .exits(2)
        .complains(&["sequence 2"]);
    archive.run(&["cat", "--from-seq", "0"]).exits(2);
}
