//! The stored form, frozen; and what a chain proves when something is missing, replaced or forked.

use proptest::prelude::*;

use super::chain::{Auditor, Finding};
use super::{Entry, ManifestError, Predecessor};
use crate::digest::Digest;
use crate::layout::{ObjectKey, Sequence};

const GOLDEN: &[u8] = include_bytes!("../../../fixtures/manifest/v1/entry.json");

fn golden() -> Entry {
    Entry::parse(&key(7), GOLDEN).unwrap()
}

fn key(sequence: u64) -> ObjectKey {
    let uuid = "0d1a7e00-97a0-4000-8000-000000000001";
    ObjectKey::from_listing(format!("demo/{uuid}/1/manifest/{sequence:010}.json"))
}

/// Version 1 is read for ever, and written byte for byte as it was: the bytes are the chain's links.
#[test]
fn version_1_is_read_and_written_as_ever() {
    assert_eq!(
        String::from_utf8(golden().to_bytes().unwrap()).unwrap(),
        String::from_utf8_lossy(GOLDEN)
    );
}

#[test]
fn fields_of_a_later_gtide_do_not_stop_this_one() {
    let text = String::from_utf8_lossy(GOLDEN).replacen('{', "{\n  \"later\": [1, 2],", 1);
    assert_eq!(Entry::parse(&key(7), text.as_bytes()).unwrap(), golden());
}

#[test]
fn what_cannot_be_read_is_refused_by_its_key() {
    let newer = String::from_utf8_lossy(GOLDEN).replace("\"version\": 1", "\"version\": 2");
    let error = Entry::parse(&key(7), newer.as_bytes()).unwrap_err();
    assert!(matches!(error, ManifestError::Version { found: 2, .. }));
    for (key, bytes) in [
        (key(7), &b"{}"[..]),
        (key(7), b""),
        (key(7), &GOLDEN[..GOLDEN.len() / 2]),
    ] {
        let error = Entry::parse(&key, bytes).unwrap_err();
        assert!(matches!(error, ManifestError::Malformed { .. }));
        assert!(error.to_string().contains("0000000007.json"));
    }
    let error = Entry::parse(&key(8), GOLDEN).unwrap_err();
    assert!(matches!(
        error,
        ManifestError::Misplaced {
            sequence: Sequence(7),
            ..
        }
    ));
}

/// A whole chain: file n adds GTID n.
fn chain(length: u64) -> Vec<(Entry, Digest)> {
    let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let mut entries: Vec<(Entry, Digest)> = Vec::new();
    for n in 1..=length {
        let mut entry = golden();
        entry.sequence = Sequence(n);
        entry.binlog.previous_gtids = if n == 1 {
            String::new()
        } else {
            format!("{uuid}:1-{}", n - 1)
        }
        .parse()
        .unwrap();
        entry.binlog.added_gtids = format!("{uuid}:{n}").parse().unwrap();
        entry.previous = entries.last().map(link);
        entries.push(sealed(entry));
    }
    entries
}

fn sealed(entry: Entry) -> (Entry, Digest) {
    let digest = Digest::of(&entry.to_bytes().unwrap());
    (entry, digest)
}

fn link((entry, sha256): &(Entry, Digest)) -> Predecessor {
    Predecessor {
        sequence: entry.sequence,
        sha256: *sha256,
    }
}

fn audit(entries: &[(Entry, Digest)]) -> Vec<Finding> {
    let mut auditor = Auditor::default();
    entries
        .iter()
        .flat_map(|(entry, digest)| auditor.push(entry, *digest))
        .collect()
}

proptest! {
    #[test]
    fn a_whole_chain_has_no_findings(length in 1..40u64) {
        prop_assert_eq!(audit(&chain(length)), []);
    }

    /// TRAPS 4: also the GTIDs tell that a file is missing.
    #[test]
    fn removed_entries_are_missing_by_key_and_by_gtid(length in 3..20u64, at in 1..18u64) {
        let at = 1 + at % (length - 2);
        let mut entries = chain(length);
        entries.remove(usize::try_from(at).unwrap());
        let findings = audit(&entries);
        let gone = Sequence(at + 1);
        let is_missing = |f: &Finding| matches!(f, Finding::MissingEntries { first, last, .. } if (*first, *last) == (gone, gone));
        prop_assert!(findings.iter().any(is_missing), "{findings:?}");
        let is_hole = |f: &Finding| matches!(f, Finding::MissingGtids { sequence, .. } if sequence.0 == at + 2);
        prop_assert!(findings.iter().any(is_hole), "{findings:?}");
    }

    #[test]
    fn a_replaced_entry_breaks_the_link_behind_it(length in 2..20u64, at in 0..18u64) {
        let at = usize::try_from(at % (length - 1)).unwrap();
        let mut entries = chain(length);
        let mut other = entries[at].0.clone();
        other.writer.push('!');
        entries[at] = sealed(other);
        let findings = audit(&entries);
        prop_assert_eq!(findings.len(), 1);
        let is_broken = matches!(findings[0], Finding::BrokenLink { sequence, .. } if sequence.0 == at as u64 + 2);
        prop_assert!(is_broken, "{findings:?}");
    }
}

#[test]
fn a_chain_that_lost_its_beginning_says_so() {
    let findings = audit(&chain(5)[2..]);
    assert!(matches!(
        &findings[..],
        [Finding::MissingEntries {
            first: Sequence(2),
            last: Sequence(2),
            ..
        }]
    ));
}

/// The server had lost files before they were archived: the entry behind them says what it follows.
#[test]
fn files_that_were_never_archived_are_a_gap() {
    let mut entries = chain(2);
    let mut later = chain(5).pop().unwrap().0;
    later.previous = entries.last().map(link);
    entries.push(sealed(later));
    let findings = audit(&entries);
    assert_eq!(
        findings[0],
        Finding::Gap {
            first: Sequence(3),
            last: Sequence(4)
        }
    );
    let Finding::MissingGtids { gtids, .. } = &findings[1] else {
        panic!("{findings:?}")
    };
    assert_eq!(
        gtids.to_string(),
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:3-4"
    );
}

/// TRAPS 16: a server that does not know what an earlier file holds is another history.
#[test]
fn a_file_that_does_not_know_earlier_transactions_is_a_fork() {
    let mut entries = chain(2);
    let mut other = chain(3).pop().unwrap().0;
    other.previous = entries.last().map(link);
    other.binlog.previous_gtids = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1".parse().unwrap();
    entries.push(sealed(other));
    let findings = audit(&entries);
    let [
        Finding::Fork {
            sequence: Sequence(3),
            gtids,
        },
    ] = &findings[..]
    else {
        panic!("{findings:?}")
    };
    assert_eq!(gtids.to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:2");
}
