//! Each standing, each cause, and that nothing but equality is parity.

use proptest::prelude::*;

use super::*;
use crate::layout::Sequence;
use crate::ledger::{Content, ParityRun, SourceId};
use crate::parity::verdict::{Word, judge};

const GRACE: SignedDuration = SignedDuration::from_hours(1);
const WINDOW: SignedDuration = SignedDuration::from_hours(72);

fn begun() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Timestamp {
    begun() + SignedDuration::from_hours(hours)
}

fn archived(number: u64, content: &str, at: Timestamp) -> ArchivedFile {
    ArchivedFile {
        sequence: Sequence(number),
        name: format!("binlog.{number:06}"),
        sha256: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        at,
    }
}

fn listed(number: u64, content: &str, seen_at: Timestamp) -> ListedFile {
    let sha256 = Digest::of(content.as_bytes());
    ListedFile {
        manifest: "SHA256SUMS".to_owned(),
        object: format!("binlog.{number:06}.gz"),
        listed: sha256,
        binlog: format!("binlog.{number:06}"),
        before_start: false,
        seen_at,
        content: Some(Content {
            sha256,
            size: Some(content.len() as u64),
        }),
        note: None,
    }
}

fn run() -> ParityRun {
    ParityRun {
        source: SourceId(1),
        started_at: begun(),
        window: WINDOW,
        grace: GRACE,
        manifests: Vec::new(),
        finished_at: None,
        scanned_at: Some(after(100)),
        scan_error: None,
        unread: Vec::new(),
    }
}

/// Standing and cause of the one file.
fn one(cron: &[ListedFile], gtide: &[ArchivedFile], now: Timestamp) -> (Standing, String) {
    let compared = compare(cron, gtide, &BTreeMap::new(), GRACE, now);
    assert_eq!(compared.len(), 1, "{compared:?}");
    (
        compared[0].standing,
        compared[0].cause.clone().unwrap_or_default(),
    )
}

#[test]
fn the_same_content_is_a_match_and_a_late_one_is_told() {
    let gtide = [archived(1, "abc", after(1))];
    let (standing, _) = one(&[listed(1, "abc", after(2))], &gtide, after(3));
    assert_eq!(standing, Standing::Matched);
    let (standing, cause) = one(&[listed(1, "abc", after(3))], &gtide, after(3));
    assert_eq!(standing, Standing::Late);
    assert!(cause.starts_with("the older job had it 2h"), "{cause}");
}

#[test]
fn one_side_alone_has_time_until_the_grace_is_over() {
    let cron = [listed(1, "abc", after(1))];
    assert_eq!(one(&cron, &[], after(2)).0, Standing::Pending);
    assert_eq!(one(&cron, &[], after(3)).0, Standing::OnlyCron);
    let gtide = [archived(1, "abc", after(1))];
    assert_eq!(one(&[], &gtide, after(2)).0, Standing::Pending);
    assert_eq!(one(&[], &gtide, after(3)).0, Standing::OnlyGtide);
}

#[test]
fn every_difference_is_explained() {
    let gtide = [archived(1, "abcdef", after(1))];
    for (content, words) in [
        ("abc", "holds 3 of 6 bytes"),
        ("abcdefghi", "holds 9 bytes, the file had 6"),
        ("ABCDEF", "another content"),
    ] {
        let (standing, cause) = one(&[listed(1, content, after(1))], &gtide, after(1));
        assert_eq!(standing, Standing::Mismatched);
        assert!(cause.contains(words), "{cause}");
    }
    let elsewhere = BTreeMap::from([(
        Digest::of(b"old"),
        "that file of another incarnation".to_owned(),
    )]);
    let compared = compare(
        &[listed(1, "old", after(1))],
        &gtide,
        &elsewhere,
        GRACE,
        after(1),
    );
    let cause = compared[0].cause.as_deref().unwrap();
    assert!(
        cause.ends_with("is that file of another incarnation"),
        "{cause}"
    );
    let mut unread = listed(1, "abcdef", after(1));
    (unread.content, unread.note) = (None, Some("cannot be unpacked".to_owned()));
    assert_eq!(
        one(&[unread], &gtide, after(1)),
        (Standing::Mismatched, "cannot be unpacked".to_owned())
    );
}

#[test]
fn listed_twice_is_a_match_only_if_both_are() {
    let gtide = [archived(1, "abc", after(1))];
    let twice = [listed(1, "abc", after(1)), listed(1, "abc", after(2))];
    assert_eq!(one(&twice, &gtide, after(3)).0, Standing::Matched);
    let changed = [listed(1, "abc", after(1)), listed(1, "abd", after(2))];
    assert_eq!(one(&changed, &gtide, after(3)).0, Standing::Mismatched);
}

#[test]
fn what_was_there_before_the_run_counts_only_where_both_have_it() {
    let mut old = listed(1, "abc", begun());
    old.before_start = true;
    assert_eq!(
        compare(&[old.clone()], &[], &BTreeMap::new(), GRACE, after(9)),
        []
    );
    let gtide = [archived(1, "abc", after(5))];
    assert_eq!(one(&[old], &gtide, after(9)).0, Standing::Matched);
}

#[test]
fn files_are_in_the_order_of_their_numbers() {
    let gtide = [
        archived(1_000_000, "b", after(1)),
        archived(999_999, "a", after(1)),
    ];
    let names: Vec<_> = compare(&[], &gtide, &BTreeMap::new(), GRACE, after(1))
        .into_iter()
        .map(|file| file.file_name)
        .collect();
    assert_eq!(names, ["binlog.999999", "binlog.1000000"]);
}

#[test]
fn parity_is_said_only_at_the_end_of_a_whole_window_with_a_match() {
    let files = |now| {
        let (cron, gtide) = ([listed(1, "a", after(1))], [archived(1, "a", after(1))]);
        compare(&cron, &gtide, &BTreeMap::new(), GRACE, now)
    };
    let word = |run: &ParityRun, now| judge(run, &files(now), now).verdict;
    assert_eq!(word(&run(), after(71)), Word::NotYet);
    assert_eq!(word(&run(), after(72)), Word::Parity);
    let early = ParityRun {
        scanned_at: Some(after(71)),
        ..run()
    };
    assert_eq!(word(&early, after(72)), Word::NotYet, "not looked at since");
    let unread = ParityRun {
        scan_error: Some("denied".to_owned()),
        ..run()
    };
    assert_eq!(word(&unread, after(72)), Word::NotYet);
    let nothing = judge(&run(), &[], after(72));
    assert_eq!(nothing.verdict, Word::NotYet, "nothing was compared");
    let line = ParityRun {
        unread: vec!["SHA256SUMS: line 7 is no sum".to_owned()],
        ..run()
    };
    assert_eq!(word(&line, after(72)), Word::NoParity);
}

fn a_side() -> impl Strategy<Value = BTreeMap<u64, u8>> {
    prop::collection::btree_map(1u64..6, 0u8..2, 0..6)
}

proptest! {
    /// Parity exactly when both sides have the same files with the same contents.
    #[test]
    fn parity_is_equality(cron in a_side(), gtide in a_side(), hours in 60i64..90) {
        let text = |content: u8| ["aaa", "bbb"][usize::from(content)];
        let ours: Vec<_> = gtide.iter().map(|(&n, &c)| archived(n, text(c), after(1))).collect();
        let theirs: Vec<_> = cron.iter().map(|(&n, &c)| listed(n, text(c), after(1))).collect();
        let now = after(hours);
        let files = compare(&theirs, &ours, &BTreeMap::new(), GRACE, now);
        let verdict = judge(&run(), &files, now);
        let is_equal = cron == gtide;
        let expected = match (is_equal, hours >= 72 && !cron.is_empty()) {
            (true, true) => Word::Parity,
            (true, false) => Word::NotYet,
            (false, _) => Word::NoParity,
        };
        prop_assert_eq!(verdict.verdict, expected);
        prop_assert_eq!(verdict.reasons.is_empty(), verdict.verdict == Word::Parity);
    }
}
