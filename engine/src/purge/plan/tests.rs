//! What goes, what stays, and that nothing that is needed ever goes.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

const KEEP: Duration = Duration::from_hours(1);

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn set(last: u64) -> GtidSet {
    format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{last}")
        .parse()
        .unwrap()
}

/// `count` files with ten transactions each, all archived and old; the last one is active.
fn files(count: u64) -> Vec<Candidate> {
    (1..=count)
        .map(|number| Candidate {
            sequence: Sequence(number),
            file_name: format!("binlog.{number:06}"),
            size: 1000,
            closed: Some(now() - SignedDuration::from_hours(2)),
            archived: Archived::Yes,
            gtids: Some(set(number * 10)),
        })
        .collect()
}

fn readers(open: u64) -> Readers {
    Readers {
        lowest_open: Some(Sequence(open)),
        replicas: Vec::new(),
    }
}

/// Why each file stays.
fn kept(files: &[Candidate], readers: &Readers) -> Vec<Option<Reason>> {
    let verdicts = plan(files, readers, KEEP, now());
    verdicts.into_iter().map(|verdict| verdict.kept).collect()
}

#[test]
fn all_but_the_active_file_go_when_nobody_needs_them() {
    assert_eq!(
        kept(&files(3), &readers(3)),
        [None, None, Some(Reason::Active)]
    );
    assert_eq!(kept(&files(1), &readers(1)), [Some(Reason::Active)]);
    assert_eq!(kept(&[], &readers(1)), []);
}

#[test]
fn nothing_goes_behind_a_file_that_is_not_archived() {
    let mut files = files(4);
    files[1].archived = Archived::No;
    let expected = [
        None,
        Some(Reason::NotArchived),
        Some(Reason::Behind),
        Some(Reason::Active),
    ];
    assert_eq!(kept(&files, &readers(4)), expected);
    files[1].archived = Archived::Changed;
    assert_eq!(kept(&files, &readers(4))[1], Some(Reason::Changed));
}

#[test]
fn what_a_dump_thread_reads_stays_with_all_behind_it() {
    let kept = kept(&files(4), &readers(2));
    assert_eq!(kept[..3], [None, Some(Reason::Read), Some(Reason::Read)]);
}

#[test]
fn who_cannot_see_the_readers_purges_nothing() {
    let kept = kept(&files(3), &Readers::default());
    assert!(matches!(kept[0], Some(Reason::Unknown { .. })), "{kept:?}");
}

#[test]
fn what_a_replica_lacks_stays() {
    let mut readers = readers(4);
    readers.replicas = vec![
        ("db2".to_owned(), Ok(set(99))),
        ("db3".to_owned(), Ok(set(14))),
    ];
    let kept = kept(&files(4), &readers);
    assert_eq!(kept[0], None);
    let Some(Reason::Lacking { replica, gtids }) = &kept[1] else {
        panic!("{kept:?}");
    };
    assert_eq!(replica, "db3");
    assert!(gtids.ends_with(":15-20"), "{gtids}");
}

#[test]
fn a_replica_that_cannot_be_asked_may_lack_anything() {
    let mut readers = readers(4);
    readers.replicas = vec![("db2".to_owned(), Err("no answer".to_owned()))];
    let unknown = Reason::Unknown {
        what: "db2: no answer".to_owned(),
    };
    assert_eq!(kept(&files(4), &readers)[0], Some(unknown));
    readers.replicas = vec![("db2".to_owned(), Ok(set(99)))];
    let mut files = files(4);
    files[0].gtids = None;
    assert!(matches!(
        kept(&files, &readers)[0],
        Some(Reason::Unknown { .. })
    ));
}

#[test]
fn young_files_stay_and_so_do_those_whose_age_is_unknown_or_in_the_future() {
    let mut files = files(5);
    files[1].closed = Some(now() - SignedDuration::from_mins(59));
    files[2].closed = None;
    files[3].closed = Some(now() + SignedDuration::from_hours(9));
    let kept = kept(&files, &readers(5));
    assert_eq!(kept[0], None);
    assert!(
        kept[1..4]
            .iter()
            .all(|reason| *reason == Some(Reason::Young))
    );
}

#[test]
fn a_batch_is_bounded_in_files_and_in_bytes() {
    let many = plan(
        &files(MAX_BATCH_FILES as u64 + 51),
        &readers(9999),
        KEEP,
        now(),
    );
    let cut = batches(&many);
    let counts: Vec<_> = cut.iter().map(|batch| batch.files).collect();
    assert_eq!(counts, [MAX_BATCH_FILES, 50]);
    assert_eq!(
        cut[0].up_to, "binlog.000201",
        "the first that stays for now"
    );
    assert_eq!(cut[1].up_to, "binlog.000251", "the active file");

    let mut large = files(4);
    for file in &mut large {
        file.size = MAX_BATCH_BYTES / 2;
    }
    large[2].size = MAX_BATCH_BYTES * 3;
    let cut = batches(&plan(&large, &readers(4), KEEP, now()));
    let counts: Vec<_> = cut.iter().map(|batch| batch.files).collect();
    assert_eq!(counts, [2, 1], "a file above the bound goes by itself");
}

fn a_file() -> impl Strategy<Value = Candidate> {
    let archived = prop_oneof![
        6 => Just(Archived::Yes),
        1 => Just(Archived::No),
        1 => Just(Archived::Changed),
    ];
    let age =
        prop_oneof![6 => Just(Some(120i64)), 1 => (-60i64..180).prop_map(Some), 1 => Just(None)];
    (archived, age, 0u64..MAX_BATCH_BYTES, any::<bool>()).prop_map(
        |(archived, age, size, known)| Candidate {
            sequence: Sequence(0),
            file_name: String::new(),
            size,
            closed: age.map(|minutes| now() - SignedDuration::from_mins(minutes)),
            archived,
            gtids: known.then(GtidSet::new),
        },
    )
}

fn an_index() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec(a_file(), 0..12).prop_map(|mut files| {
        let mut number = 0;
        for file in &mut files {
            number += 1;
            file.sequence = Sequence(number);
            file.file_name = format!("binlog.{number:06}");
            file.gtids = file.gtids.take().map(|_| set(number * 10));
        }
        files
    })
}

fn some_readers() -> impl Strategy<Value = Readers> {
    let replica = prop_oneof![
        (1u64..200).prop_map(|last| Ok(set(last))),
        Just(Err("away".to_owned())),
    ];
    let replicas = prop::collection::vec(replica, 0..3);
    (prop::option::of(1u64..13), replicas).prop_map(|(open, replicas)| Readers {
        lowest_open: open.map(Sequence),
        replicas: replicas
            .into_iter()
            .map(|set| ("r".to_owned(), set))
            .collect(),
    })
}

proptest! {
    /// The watermark is where the first file stands that is not archived: nothing from there on ever goes.
    #[test]
    fn nothing_that_is_needed_ever_goes(files in an_index(), readers in some_readers()) {
        let verdicts = plan(&files, &readers, KEEP, now());
        prop_assert_eq!(verdicts.len(), files.len());
        let watermark = files.iter().position(|file| file.archived != Archived::Yes);
        let gone: Vec<_> = (0..files.len()).filter(|&nth| verdicts[nth].kept.is_none()).collect();
        for &nth in &gone {
            prop_assert!(watermark.is_none_or(|first| nth < first), "above the watermark");
            prop_assert!(nth + 1 < files.len(), "the active file");
            prop_assert!(readers.lowest_open.is_some_and(|open| files[nth].sequence < open), "it is read");
            prop_assert!(files[nth].closed.is_some_and(|closed| closed <= now() - SignedDuration::from_hours(1)));
            for (_, received) in &readers.replicas {
                let needed = files[nth].gtids.as_ref().unwrap();
                prop_assert!(received.as_ref().unwrap().is_superset(needed), "a replica lacks it");
            }
        }
        // From the oldest on, none left out.
        prop_assert_eq!(&gone, &(0..gone.len()).collect::<Vec<_>>());

        let cut = batches(&verdicts);
        prop_assert_eq!(cut.iter().map(|batch| batch.files).sum::<usize>(), gone.len());
        for batch in &cut {
            prop_assert!(batch.files <= MAX_BATCH_FILES);
            prop_assert!(batch.bytes <= MAX_BATCH_BYTES || batch.files == 1);
        }
        let last = cut.last().map(|batch| batch.up_to.clone());
        prop_assert_eq!(last, gone.last().map(|nth| files[nth + 1].file_name.clone()));
    }
}
