//! Bytes that no server wrote: every truncation, flipped bits, mutations, noise, in any chunking.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Small files of each flavour; the one without checksums twice, since there each mutated body is
/// interpreted.
fn any_small_file() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "mysql-9.7/binlog.000006",
        "mysql-9.7/binlog.000008",
        "mysql-9.7/binlog.000008",
        "mysql-9.7/binlog.000012",
        "mysql-9.7-anonymous/binlog.000002",
        "mysql-9.7-crashed/binlog.000002",
        "refused/mariadb.000001",
        "refused/relay.000002",
    ];
    proptest::sample::select(names.to_vec()).prop_map(fixture)
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), 1..100_usize).prop_map(|(at, len)| Mutation::Remove(at, len)),
        (any::<Index>(), 1..100_usize).prop_map(|(at, len)| Mutation::Repeat(at, len)),
        (any::<Index>(), vec(any::<u8>(), 1..30)).prop_map(|(at, new)| Mutation::Insert(at, new)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: Mutation) {
    let (Mutation::Set(index, _)
    | Mutation::Flip(index, _)
    | Mutation::Cut(index)
    | Mutation::Remove(index, _)
    | Mutation::Repeat(index, _)
    | Mutation::Insert(index, _)) = &mutation;
    if bytes.is_empty() {
        return;
    }
    let at = index.index(bytes.len());
    let up_to = |len: usize| at..bytes.len().min(at + len);
    match mutation {
        Mutation::Set(_, byte) => bytes[at] = byte,
        Mutation::Flip(_, bit) => bytes[at] ^= 1 << bit,
        Mutation::Cut(_) => bytes.truncate(at),
        Mutation::Remove(_, len) => drop(bytes.drain(up_to(len))),
        Mutation::Repeat(_, len) => {
            let again = bytes[up_to(len)].to_vec();
            drop(bytes.splice(at..at, again));
        }
        Mutation::Insert(_, new) => drop(bytes.splice(at..at, new)),
    }
}

/// What holds of every scan of any bytes.
fn assert_sane(bytes: &[u8], scan: &Scan) {
    let Ok((summary, boundaries)) = scan else {
        return;
    };
    assert_eq!(summary.size, bytes.len() as u64);
    assert!(summary.last_position <= summary.size);
    assert!(
        boundaries.is_sorted_by(|a, b| a.offset < b.offset),
        "{boundaries:?}"
    );
    assert!(
        boundaries
            .iter()
            .all(|boundary| boundary.offset <= summary.last_position)
    );
    assert!(summary.anonymous_transactions <= summary.transactions);
    match &summary.damage {
        Some(damage) => assert_eq!(damage.offset, summary.last_position),
        None => assert_eq!(summary.last_position, summary.size),
    }
}

proptest! {
    #[test]
    fn any_chunking_of_a_file_reads_the_same(
        name in proptest::sample::select(chains().collect::<Vec<_>>()),
        sizes in vec(prop_oneof![1..40_usize, 1..10_000_usize], 1..20),
    ) {
        let bytes = fixture(&name);
        prop_assert_eq!(scan_in_chunks(&bytes, &sizes), scan(&bytes));
    }

    #[test]
    fn mutated_files_read_the_same_in_any_chunking_and_never_panic(
        file in any_small_file(),
        mutations in vec(any_mutation(), 1..6),
        sizes in vec(1..60_usize, 1..10),
    ) {
        let mut bytes = file;
        for mutation in mutations {
            mutate(&mut bytes, mutation);
        }
        let whole = scan(&bytes);
        assert_sane(&bytes, &whole);
        prop_assert_eq!(scan_in_chunks(&bytes, &sizes), whole);
    }

    #[test]
    fn noise_never_panics(noise in vec(any::<u8>(), 0..400), behind in 0..3_usize) {
        let real = fixture("mysql-9.7/binlog.000008");
        // Noise alone, behind the magic, and behind a FormatDescription without checksums.
        let head = &real[..[0, 4, event_offsets(&real)[1]][behind]];
        let bytes = [head, &noise].concat();
        let whole = scan(&bytes);
        assert_sane(&bytes, &whole);
        prop_assert_eq!(scan_in_chunks(&bytes, &[1]), whole);
    }
}

#[test]
fn every_truncation_is_a_shorter_file_or_damage_at_the_event_that_is_cut() {
    for name in chains() {
        let bytes = fixture(&name);
        let events = event_offsets(&bytes);
        assert_eq!(*events.last().unwrap(), bytes.len());
        let all = summary(&bytes);
        let mut scanner = Scanner::new();
        let mut begun = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let truncated = scanner.clone().finish();
            if at == 0 {
                assert_eq!(truncated, Err(Refusal::Empty));
            } else {
                begun += usize::from(events.get(begun + 1) == Some(&at));
                let truncated = truncated.unwrap();
                let whole = at == events[begun] && begun > 0;
                assert_eq!(truncated.damage.is_none(), whole, "{name} cut at {at}");
                if let Some(damage) = truncated.damage {
                    let start = if at < MAGIC.len() { 0 } else { events[begun] };
                    assert_eq!(damage.offset, start as u64, "{name} cut at {at}");
                    assert!(damage.reason.starts_with("cut off: "), "{}", damage.reason);
                }
                assert_eq!(truncated.size, at as u64);
                assert!(all.added_gtids.is_superset(&truncated.added_gtids));
                assert!(truncated.transactions <= all.transactions);
            }
            scanner.push(&[*byte]).unwrap();
            scanner.take_boundaries();
        }
        assert_eq!(scanner.finish(), Ok(all));
    }
}

#[test]
fn every_flipped_bit_is_found_at_its_event() {
    let bytes = fixture("mysql-9.7/binlog.000006");
    let events = event_offsets(&bytes);
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (bit % 8);
        if at < MAGIC.len() {
            assert!(
                matches!(scan(&flipped), Err(Refusal::NotABinlog(_))),
                "bit {bit}"
            );
            continue;
        }
        let summary = summary(&flipped);
        if at == MAGIC.len() + 17 && bit % 8 == 0 {
            assert_eq!((summary.in_use, summary.damage), (true, None), "TRAPS 1");
            continue;
        }
        let event = events.iter().rev().find(|&&event| event <= at).unwrap();
        assert_eq!(summary.damage.unwrap().offset, *event as u64, "bit {bit}");
    }
}
