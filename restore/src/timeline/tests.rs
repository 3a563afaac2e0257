use std::time::Instant;

use engine::manifest::chain::Finding;

use super::made::{Cluster, Server, entry, set};
use super::*;

/// Files 1 to 4 of `a`, ten transactions each.
fn server() -> Server {
    let mut server = Server::new("a", "");
    for file in 0..4 {
        server
            .execute_all("a", file * 10 + 1..=file * 10 + 10, file * 10)
            .flush();
    }
    server
}

fn runs(line: &Line) -> Vec<(usize, usize)> {
    line.runs()
        .iter()
        .map(|run| (*run.files.start(), *run.files.end()))
        .collect()
}

#[test]
fn files_that_follow_are_one_run() {
    let timeline = Cluster::of(&[&server()]).timeline();
    let line = timeline.line(0).unwrap();
    assert_eq!(runs(line), [(0, 3)]);
    assert_eq!(line.before(2), set("a:1-20"));
    assert_eq!(line.added_set(2), set("a:21-30"));
    assert_eq!(*line.known(), set("a:1-40"));
    assert!(line.adds_only(1, &set("a:5-20")) && !line.adds_only(1, &set("a:12-20")));
    assert_eq!(line.file_named("binlog.000003"), Some(2));
    assert_eq!(line.file_named("other.000003"), None);
}

#[test]
fn a_lost_entry_breaks_the_run_and_says_why() {
    let mut cluster = Cluster::of(&[&server()]);
    cluster.lost = vec![(0, 1)];
    let timeline = cluster.timeline();
    let line = timeline.line(0).unwrap();
    assert_eq!(runs(line), [(0, 0), (1, 2)]);
    let breaks = &line.runs()[1].breaks;
    assert!(
        matches!(breaks[0], Break::Finding(Finding::MissingEntries { .. })),
        "{breaks:?}"
    );
    assert!(
        matches!(&breaks[1], Break::Finding(Finding::MissingGtids { gtids, .. }) if *gtids == set("a:11-20"))
    );
    assert_eq!(line.before(1), set("a:1-20"));
    assert_eq!(line.run_of(2), Some(1));
    assert_eq!(line.run_of(3), None);
}

#[test]
fn a_damaged_file_and_a_missing_object_stand_apart() {
    let mut damaged = server();
    damaged.files[1].damaged = true;
    let mut timeline = Cluster::of(&[&damaged]).timeline();
    assert_eq!(runs(timeline.line(0).unwrap()), [(0, 0), (1, 1), (2, 3)]);
    let source = timeline.line(0).unwrap().source.clone();
    timeline.lose(&source, Sequence(4));
    timeline.lose(&source, Sequence(4));
    let line = timeline.line(0).unwrap();
    assert_eq!(runs(line), [(0, 0), (1, 1), (2, 2), (3, 3)]);
    assert_eq!(line.runs()[3].before, set("a:1-30"));
    assert!(timeline.is_lost(FileAt { line: 0, file: 3 }));
    assert!(!timeline.is_lost(FileAt { line: 0, file: 1 }));
    timeline.lose(&source, Sequence(3));
    assert_eq!(runs(timeline.line(0).unwrap()).len(), 4);
}

#[test]
fn losing_a_file_in_the_middle_of_a_run_leaves_what_is_before_and_behind_it() {
    let mut timeline = Cluster::of(&[&server()]).timeline();
    let source = timeline.line(0).unwrap().source.clone();
    timeline.lose(&source, Sequence(2));
    let line = timeline.line(0).unwrap();
    assert_eq!(runs(line), [(0, 0), (1, 1), (2, 3)]);
    assert_eq!(line.runs()[2].before, set("a:1-20"));
}

/// TRAPS 16: what only one server has is the set difference, both ways.
#[test]
fn two_lines_are_compared_by_their_sets() {
    let mut a = Server::new("a", "");
    a.execute_all("a", 1..=11, 0).flush();
    let mut b = Server::new("b", "");
    b.execute_all("a", 1..=10, 0)
        .execute_all("b", 1..=5, 20)
        .flush();
    let timeline = Cluster::of(&[&a, &b]).timeline();
    let relation = timeline.relation(0, 1).unwrap();
    assert_eq!(relation.common, set("a:1-10"));
    assert_eq!(relation.only_first, set("a:11"));
    assert_eq!(relation.only_second, set("b:1-5"));
    assert_eq!(timeline.known(), set("a:1-11,b:1-5"));
}

/// Entries come from listings of several sources, in whatever order those were read.
#[test]
fn lines_are_ordered_by_source() {
    let a = Cluster::of(&[&server()]);
    let mut b = Server::new("b", "");
    b.execute("b:1", 0).flush();
    let both = Cluster::of(&[&b, &server()]).timeline();
    assert_eq!(both.lines().len(), 2);
    assert_eq!(
        both.line(0).unwrap().source,
        a.timeline().line(0).unwrap().source
    );
    assert_eq!(both.line_of(&made::source("b")), Some(1));
    assert_eq!(both.line_of(&made::source("c")), None);
}

/// The scale: prints how long it takes and what it holds. A timed assertion would only fail on
/// a busy machine.
#[test]
fn half_a_million_entries_make_a_timeline() {
    const FILES: u64 = 500_000;
    let mut template = Server::new("a", "");
    template.execute("a:1", 0).flush();
    let file = Cluster::of(&[&template]);
    let summary = |number: u64| {
        let first = number * 100 + 1;
        let mut made = file.servers[0].files[0].clone();
        made.before = if number == 0 {
            set("")
        } else {
            set(&format!("a:1-{}", first - 1))
        };
        let mut stored = entry(
            "a",
            number + 1,
            engine::binlog::Summary {
                previous_gtids: made.before,
                added_gtids: set(&format!("a:{first}-{}", first + 99)),
                ..template_summary()
            },
            None,
        );
        stored.entry.previous = number
            .checked_sub(1)
            .map(|_| engine::manifest::Predecessor {
                sequence: Sequence(number),
                sha256: engine::digest::Digest::of(number.to_string().as_bytes()),
            });
        stored
    };
    let mut timeline = Timeline::default();
    let mut spent = std::time::Duration::ZERO;
    for number in 0..FILES {
        let stored = summary(number);
        let begin = Instant::now();
        timeline.push(&stored);
        spent += begin.elapsed();
    }
    let line = timeline.line(0).unwrap();
    assert_eq!(runs(line), [(0, 499_999)]);
    assert_eq!(*line.known(), set("a:1-50000000"));
    let begin = Instant::now();
    assert_eq!(line.before(499_999), set("a:1-49999900"));
    println!(
        "{FILES} entries: {spent:?}; GTIDs before the last file: {:?}; {} bytes for each file's record",
        begin.elapsed(),
        size_of::<FileRecord>()
    );
}

fn template_summary() -> engine::binlog::Summary {
    let mut server = Server::new("a", "");
    server.execute("a:1", 0).flush();
    let timeline_of_one = server.files[0].clone();
    timeline_of_one.summary()
}
