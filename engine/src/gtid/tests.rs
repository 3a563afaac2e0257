//! The algebra against a naive model, the text against MySQL's, the encoding against both.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::exit::Diagnose;

const A: &str = "0d1a7e00-97a0-4000-8000-000000000001";
const B: &str = "0d1a7e00-97a0-4000-8000-0000000000ff";

fn set(text: &str) -> GtidSet {
    text.replace('A', A).replace('B', B).parse().unwrap()
}

fn refusal(text: &str) -> String {
    text.replace('A', A).parse::<GtidSet>().unwrap_err().reason
}

/// Few TSIDs and small numbers, so that intervals touch and overlap often.
fn any_tsid() -> impl Strategy<Value = Tsid> {
    let uuids = prop_oneof![Just(A), Just(B)];
    let tags = prop_oneof![Just(None), Just(Some("a")), Just(Some("zebra_9"))];
    (uuids, tags).prop_map(|(uuid, tag)| Tsid {
        uuid: uuid.parse().unwrap(),
        tag: tag.map(|tag| tag.parse().unwrap()),
    })
}

fn any_ranges() -> impl Strategy<Value = Vec<(Tsid, u64, u64)>> {
    let range = (any_tsid(), 1_u64..60, 0_u64..6);
    proptest::collection::vec(
        range.prop_map(|(tsid, first, len)| (tsid, first, first + len)),
        0..40,
    )
}

type Model = BTreeSet<Gtid>;

fn build(ranges: &[(Tsid, u64, u64)]) -> (GtidSet, Model) {
    let mut set = GtidSet::new();
    let mut model = Model::new();
    for (tsid, first, last) in ranges {
        set.insert_range(tsid.clone(), *first, *last).unwrap();
        model.extend((*first..=*last).map(|gno| Gtid {
            tsid: tsid.clone(),
            gno,
        }));
    }
    (set, model)
}

fn members(set: &GtidSet) -> Model {
    let gtids = |(tsid, first, last): (&Tsid, u64, u64)| {
        let tsid = tsid.clone();
        (first..=last).map(move |gno| Gtid {
            tsid: tsid.clone(),
            gno,
        })
    };
    set.intervals().flat_map(gtids).collect()
}

/// Ascending, disjoint and with a gap between neighbours; no TSID without intervals.
fn assert_canonical(set: &GtidSet) {
    for intervals in set.by_tsid.values() {
        let intervals: Vec<_> = intervals.iter().collect();
        assert!(!intervals.is_empty());
        assert!(intervals.iter().all(|(first, last)| first <= last));
        assert!(
            intervals.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0),
            "{intervals:?}"
        );
    }
}

proptest! {
    #[test]
    fn inserting_ranges_equals_inserting_each_gtid(ranges in any_ranges()) {
        let (set, model) = build(&ranges);
        assert_canonical(&set);
        prop_assert_eq!(members(&set), model.clone());
        prop_assert_eq!(set.count(), model.len() as u128);
        prop_assert_eq!(set.is_empty(), model.is_empty());
        let mut one_by_one = GtidSet::new();
        for gtid in model {
            one_by_one.insert(gtid).unwrap();
        }
        prop_assert_eq!(set, one_by_one);
    }

    #[test]
    fn the_algebra_is_that_of_sets(a in any_ranges(), b in any_ranges()) {
        let ((a, model_a), (b, model_b)) = (build(&a), build(&b));
        for (ours, naive) in [
            (a.union(&b), &model_a | &model_b),
            (a.subtract(&b), &model_a - &model_b),
            (a.intersect(&b), &model_a & &model_b),
        ] {
            assert_canonical(&ours);
            prop_assert_eq!(members(&ours), naive);
        }
        prop_assert_eq!(a.is_superset(&b), model_a.is_superset(&model_b));
        prop_assert!(a.union(&b).is_superset(&b));
        prop_assert!(a.is_superset(&a.intersect(&b)));
        prop_assert_eq!(a.subtract(&b).union(&a.intersect(&b)), a.clone());
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert!(a.subtract(&b).intersect(&b).is_empty());
        for gtid in model_a.union(&model_b) {
            prop_assert_eq!(a.contains(gtid), model_a.contains(gtid));
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same(ranges in any_ranges()) {
        let (set, _) = build(&ranges);
        let text = set.to_string();
        prop_assert_eq!(text.parse::<GtidSet>().unwrap(), set.clone());
        let mut shuffled: Vec<_> = ranges.iter().map(|(t, a, b)| format!(" {t} : {a} - {b} ")).collect();
        shuffled.reverse();
        prop_assert_eq!(shuffled.join(",\n").parse::<GtidSet>().unwrap(), set.clone());
        for (tsid, first, _) in set.intervals() {
            let gtid = Gtid { tsid: tsid.clone(), gno: first };
            prop_assert_eq!(gtid.to_string().parse::<Gtid>().unwrap(), gtid);
            prop_assert_eq!(&tsid.to_string().parse::<Tsid>().unwrap(), tsid);
        }
    }

    #[test]
    fn what_is_encoded_decodes_the_same(ranges in any_ranges()) {
        let (set, _) = build(&ranges);
        prop_assert_eq!(GtidSet::decode(&set.encode()).unwrap(), set);
    }

    #[test]
    fn no_text_and_no_bytes_panic(
        text in "[0-9a-f:,_ \\-]{0,80}",
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ranges in any_ranges(),
        flip in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        _ = format!("{A}:{text}").parse::<GtidSet>();
        _ = text.parse::<GtidSet>();
        _ = GtidSet::decode(&bytes);
        let mut encoded = build(&ranges).0.encode();
        let cut = cut.index(encoded.len());
        prop_assert!(GtidSet::decode(&encoded[..cut]).is_err());
        let flip = flip.index(encoded.len());
        encoded[flip] ^= 0x41;
        if let Ok(set) = GtidSet::decode(&encoded) {
            assert_canonical(&set);
        }
    }
}

#[test]
fn adjacent_intervals_merge_however_they_come() {
    assert_eq!(set("A:1-3:4-6:8").to_string(), format!("{A}:1-6:8"));
    assert_eq!(set("A:4-6,A:1-3").to_string(), format!("{A}:1-6"));
    assert_eq!(set("A:1-3").union(&set("A:4")), set("A:1-4"));
    let mut grown = set("A:1-3:5:9");
    grown.insert(format!("{A}:4").parse().unwrap()).unwrap();
    assert_eq!(grown, set("A:1-5:9"));
}

#[test]
fn trap_8_a_tag_holds_for_the_intervals_behind_it_up_to_the_next_tag() {
    let text = format!("{A}:1-5:7:blue:1-3:9:tide:2,{B}:ebb:5");
    let parsed = set(&text);
    assert_eq!(parsed.to_string(), text);
    let tagged: Vec<_> = parsed
        .intervals()
        .map(|(t, a, b)| (t.tag.clone(), a, b))
        .collect();
    let tag = |tag: &str| Some(tag.parse::<Tag>().unwrap());
    let expected = [
        (None, 1, 5),
        (None, 7, 7),
        (tag("blue"), 1, 3),
        (tag("blue"), 9, 9),
        (tag("tide"), 2, 2),
        (tag("ebb"), 5, 5),
    ];
    assert_eq!(tagged, expected);
    assert_eq!(parsed.tsids().count(), 4);
}

#[test]
fn the_text_is_what_the_server_prints() {
    // @@gtid_executed of a MySQL 9.7 server (fixtures/binlog/mysql-9.7/expected.json).
    let printed = format!(
        "{A}:1-86:1000000:_:1:a_tag_of_thirty_two_characters_x:1:tide:1-5,\
         {B}:1:3:7:9223372036854775800:ebb:5"
    );
    assert_eq!(set(&printed).to_string(), printed);
    assert_eq!(set(&printed.replace(',', ",\n")).to_string(), printed);
    assert_eq!(set("").to_string(), "");
    assert_eq!(set(" , ,\n"), GtidSet::new());
}

#[test]
fn tags_and_uuids_are_read_in_any_case() {
    let text = format!("{}:BLUE:1", A.to_uppercase());
    assert_eq!(text.parse::<GtidSet>().unwrap(), set("A:blue:1"));
}

#[test]
fn text_that_the_server_would_guess_at_is_refused() {
    assert!(refusal("A").contains("without an interval"));
    assert!(refusal("A:").contains("a tag is"));
    assert!(refusal("A:1:tag").contains("without an interval"));
    assert!(refusal("A:tag:other:1").contains("without an interval"));
    assert!(refusal("A:010").contains("octal"));
    assert!(refusal("A:5-3").contains("ends before"));
    assert!(refusal("A:0").contains("begin at 1"));
    assert!(refusal("A:1-9223372036854775807").contains("last transaction number"));
    assert!(refusal("A:99999999999999999999").contains("last transaction number"));
    assert!(refusal("A:1-2-3").contains("digits"));
    assert!(refusal("A:9lives:1").contains("digits"));
    assert!(refusal("A:no-dash:1").contains("a tag is"));
    assert!(refusal(&format!("A:{}:1", "x".repeat(33))).contains("a tag is"));
    assert!(refusal("0d1a7e0097a040008000000000000001:1").contains("uuid"));
    assert!("".parse::<Gtid>().is_err());
    assert!(format!("{A}:1-2").parse::<Gtid>().is_err());
    assert!(format!("{A}:0").parse::<Gtid>().is_err());
}

#[test]
fn an_error_shows_a_bounded_excerpt() {
    let error = "é".repeat(1_000_000).parse::<GtidSet>().unwrap_err();
    assert!(error.to_string().len() < 300);
    assert_eq!(error.exit(), crate::exit::Exit::Usage);
}

#[test]
fn the_whole_range_of_numbers_is_held_without_overflow() {
    let all = set(&format!("A:1-{MAX_GNO}"));
    assert_eq!(all.count(), u128::from(MAX_GNO));
    let rest = all.subtract(&set("A:1-9:11"));
    assert_eq!(rest, set(&format!("A:10:12-{MAX_GNO}")));
    assert_eq!(rest.union(&set("A:1-11")), all);
    let mut end = set(&format!("A:{MAX_GNO}"));
    end.insert_range(A.parse().unwrap(), 1, MAX_GNO).unwrap();
    assert_eq!(end, all);
    assert_eq!(GtidSet::decode(&all.encode()), Ok(all));
}

#[test]
fn a_number_out_of_range_leaves_the_set_unchanged() {
    let mut unchanged = set("A:1-5");
    assert!(unchanged.insert_range(A.parse().unwrap(), 0, 3).is_err());
    assert!(unchanged.insert_range(B.parse().unwrap(), 9, 8).is_err());
    assert!(
        unchanged
            .insert(Gtid {
                tsid: B.parse().unwrap(),
                gno: MAX_GNO + 1
            })
            .is_err()
    );
    assert_eq!(unchanged, set("A:1-5"));
}

#[test]
fn a_claimed_count_allocates_nothing() {
    // 2^56 - 1 TSIDs; 2^60 intervals of one TSID.
    let mut claimed = [0xFF; 8];
    claimed[7] = 0;
    assert!(GtidSet::decode(&claimed).is_err());
    let mut encoded = set("A:1-5").encode();
    encoded[24..32].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let error = GtidSet::decode(&encoded).unwrap_err();
    assert_eq!(error.at, 32);
}

#[test]
fn encodings_that_the_server_would_not_write_are_refused() {
    let good = set("A:1-5:7").encode();
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        GtidSet::decode(&bad).unwrap_err()
    };
    assert_eq!(
        with(7, 2).to_string(),
        "malformed GTID set encoding at byte 0: unknown format 2"
    );
    assert_eq!(with(32, 0).at, 32, "transaction number 0");
    assert_eq!(with(48, 6).at, 48, "adjacent to the interval before");
    assert_eq!(with(56, 7).at, 48, "empty interval");
    assert_eq!(with(63, 0x80).at, 48, "beyond the last number");
    assert_eq!(with(0, 0).at, 8, "bytes left over");
    let mut marked_once = set("A:1,B:1").encode();
    marked_once[7] = 1;
    assert_eq!(
        GtidSet::decode(&marked_once).unwrap_err().at,
        0,
        "tagged, but not marked so below"
    );
    let tagged = set("A:ab:1").encode();
    for (at, byte) in [(24, 66), (24, 5), (25, b'-'), (25, b'1'), (25, 0xFF)] {
        let mut bad = tagged.clone();
        bad[at] = byte;
        assert!(GtidSet::decode(&bad).is_err(), "byte {at} = {byte}");
    }
}

#[test]
fn all_are_stored_as_text() {
    let stored = set("A:1-5:blue:1");
    let json = serde_json::to_string(&stored).unwrap();
    assert_eq!(json, format!("\"{A}:1-5:blue:1\""));
    assert_eq!(serde_json::from_str::<GtidSet>(&json).unwrap(), stored);
    let gtid: Gtid = serde_json::from_str(&format!("\"{A}:blue:7\"")).unwrap();
    assert_eq!(gtid.tsid.tag.unwrap().as_str(), "blue");
    assert!(serde_json::from_str::<Gtid>(&format!("\"{A}:0\"")).is_err());
}

#[test]
fn a_hundred_thousand_intervals_of_thousands_of_tsids_are_handled_in_linear_time() {
    let mut wide = GtidSet::new();
    for n in 0..2_000_u128 {
        for i in 0..50 {
            wide.insert_range(
                Tsid {
                    uuid: Uuid::from_u128(n),
                    tag: None,
                },
                i * 10 + 1,
                i * 10 + 4,
            )
            .unwrap();
        }
    }
    let text = wide.to_string();
    let parsed: GtidSet = text.parse().unwrap();
    assert_eq!(parsed, wide);
    assert_eq!(parsed.intervals().count(), 100_000);

    // One TSID, numbers in descending order: quadratic if each were inserted where it belongs.
    let descending: Vec<_> = (1..=100_000_u64)
        .rev()
        .map(|n| format!(":{}", n * 2))
        .collect();
    let holes: GtidSet = format!("{A}{}", descending.concat()).parse().unwrap();
    let odd = set("A:1-200000").subtract(&holes);
    assert_eq!(odd.intervals().count(), 100_000);
    assert_eq!(odd.union(&holes), set("A:1-200000"));
    assert!(odd.intersect(&holes).is_empty());
    assert!(!odd.is_superset(&holes));
}
