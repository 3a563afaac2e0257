//! `ls`: what is archived. It informs, and exits 0.

use std::fs;

use serde_json::{Value, json};

use crate::archive::{Archive, binlogs, fixtures, shape};

fn expected() -> Value {
    let text = fs::read(fixtures().join("mysql-9.7/expected.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn the_whole_history_is_shown_and_agrees_with_the_servers_own_sets() {
    let files = binlogs("mysql-9.7");
    let archive = Archive::of(&files);
    let listing = archive.run(&["ls", "--format", "json"]).exits(0).json();
    let source = &listing["sources"][0];
    let plain: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(source["executed_after"], expected()["gtids_after"]);
    assert_eq!(source["executed_before"], "");
    assert_eq!(source["contiguous"], json!([[1, 14]]));
    assert_eq!(source["watermark"]["sequence"], 14);
    assert_eq!(source["plain_bytes"], plain);
    assert_eq!(source["findings"], json!([]));
    assert!(source["stored_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn people_see_the_same() {
    let archive = Archive::of(&binlogs("mysql-9.7"));
    let after = expected()["gtids_after"].as_str().unwrap().to_owned();
    let name = archive.source.to_string();
    archive.run(&["ls"]).exits(0).prints(&[
        &name,
        "14, sequences 1 to 14",
        "14 (binlog.000014)",
        &after,
    ]);
    archive
        .run(&["ls", "--files"])
        .exits(0)
        .prints(&["SEQUENCE", "binlog.000013"]);
}

/// I3: the watermark never passes a gap.
#[test]
fn a_gap_ends_the_watermark_and_begins_another_contiguous_run() {
    let mut files = binlogs("mysql-9.7");
    files.drain(4..6);
    let archive = Archive::of(&files);
    let listing = archive.run(&["ls", "--format", "json"]).exits(0).json();
    let source = &listing["sources"][0];
    assert_eq!(source["contiguous"], json!([[1, 4], [7, 14]]));
    assert_eq!(source["watermark"]["file_name"], "binlog.000004");
    assert_eq!(source["findings"][0]["finding"], "gap");
    assert_eq!(
        (
            &source["findings"][0]["first"],
            &source["findings"][0]["last"]
        ),
        (&json!(5), &json!(6))
    );
    archive
        .run(&["ls"])
        .exits(0)
        .prints(&["1 to 4 | 7 to 14", "4 (binlog.000004)"]);
}

#[test]
fn no_key_is_needed() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    fs::remove_file(archive.path("key")).unwrap();
    archive.run(&["ls"]).exits(0).prints(&["1, sequences 1"]);
}

#[test]
fn of_several_sources_a_command_about_one_asks_which() {
    let files = binlogs("mysql-9.7");
    let mut archive = Archive::of(&files[..2]);
    archive.reset();
    archive.commit(&files[0].0, &files[0].1);
    let (first, second) = (
        crate::archive::source(1).to_string(),
        archive.source.to_string(),
    );
    archive.run(&["ls"]).exits(0).prints(&[&first, &second]);
    archive
        .run(&["cat"])
        .exits(2)
        .complains(&[&first, &second, "--source"]);
    let second_alone = archive.run(&["cat", "--source", "0d1a7e00/2"]).exits(0);
    assert!(second_alone.bytes == files[0].1);
    archive.run(&["ls", "--cluster", "billing"]).exits(3);
    archive
        .run(&["ls", "--source", "ffff"])
        .exits(2)
        .complains(&[&first]);
}

#[test]
fn a_newer_layout_is_refused_and_an_absent_one_is_mentioned() {
    let archive = Archive::of(&binlogs("mysql-9.7")[..1]);
    let layout = engine::layout::ObjectKey::layout_version(&archive.source.cluster);
    archive.remove(&layout);
    let ran = archive.run(&["ls"]).exits(0);
    assert!(ran.stderr.contains("no layout version"), "{}", ran.stderr);
    archive.put(&layout, b"{\"layout_version\": 2}");
    for command in ["ls", "cat", "verify"] {
        archive
            .run(&[command])
            .exits(2)
            .complains(&["orders/gtide.json", "layout version 2"]);
    }
}

#[test]
fn an_empty_destination_and_an_unknown_one_are_told_apart() {
    let archive = Archive::empty();
    archive
        .run(&["ls"])
        .exits(3)
        .complains(&["holds no archive"]);
    let ran = archive
        .run(&["ls", "--destination", "file:///elsewhere"])
        .exits(2);
    ran.complains(&["file:///elsewhere", &archive.url()]);
    let url = format!("{}/", archive.url());
    archive.run(&["ls", "--destination", &url]).exits(3);
}

#[test]
fn without_a_configuration_the_places_that_were_looked_at_are_named() {
    let archive = Archive::empty();
    let mut command = archive.command(&["ls", "--config", "/nonexistent/gtide.toml"]);
    let ran = crate::archive::Ran::new(&["ls"], command.output().unwrap());
    ran.exits(2).complains(&["/nonexistent/gtide.toml"]);
}

#[test]
fn the_json_report_keeps_its_shape() {
    let mut files = binlogs("mysql-9.7");
    files.remove(4);
    let flipped = fs::read(fixtures().join("damaged/bit-flipped.000001")).unwrap();
    files.push(("binlog.000020".to_owned(), flipped));
    let archive = Archive::of(&files);
    let listing = archive
        .run(&["ls", "--files", "--format", "json"])
        .exits(0)
        .json();
    insta::assert_json_snapshot!(shape(&listing));
}
