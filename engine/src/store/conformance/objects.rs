//! Objects, one at a time.

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Connect, Place, is_taken, noise};
use crate::layout::ProbeKey;
use crate::store::{StoreError, read_all};

pub(super) async fn put_creates_once(place: &Place) {
    let key = place.key("entry.json");
    place.put("entry.json", "the first").await;
    for body in ["the second", "the first"] {
        let again = place.store.put_if_absent(&key, body.into()).await;
        assert!(is_taken(&again), "{again:?}");
    }
    assert_eq!(place.content(&key).await, "the first");
    let meta = place.store.head(&key).await.unwrap().unwrap();
    assert_eq!((meta.key, meta.size), (key, 9));
    assert_eq!(meta.crc32c, Some(crc32c::crc32c(b"the first")));
}

pub(super) async fn of_racing_puts_one_wins(connect: Connect<'_>, place: &Place) {
    for round in 0..5 {
        let key = place.key(&format!("entry-{round}"));
        let puts = (0..8).map(|racer| {
            let (store, key) = (connect(), key.clone());
            async move {
                let body = format!("racer {racer}");
                let result = store.put_if_absent(&key, body.clone().into()).await;
                (!is_taken(&result)).then_some(body)
            }
        });
        let winners: Vec<String> = futures::future::join_all(puts)
            .await
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(
            place.content(&key).await,
            winners[0],
            "the winner's bytes are what is there"
        );
    }
}

pub(super) async fn what_is_absent_is_none(place: &Place) {
    place.put("folder/object", "x").await;
    for name in ["nothing", "folder", "folder/object/below", "folder/obj"] {
        let key = place.key(name);
        assert_eq!(place.store.head(&key).await.unwrap(), None, "{key}");
        let got = place.store.get(&key, None).await.err();
        assert!(
            matches!(got, Some(StoreError::NotFound { .. })),
            "{key}: {got:?}"
        );
        let got = place.store.get(&key, Some(0..1)).await.err();
        assert!(
            matches!(got, Some(StoreError::NotFound { .. })),
            "{key}: {got:?}"
        );
    }
    assert_eq!(place.names("nothing/", None).await, Vec::<String>::new());
}

/// Beside the suite's prefix: a probe's key is the layout's to make.
pub(super) async fn a_probe_can_be_removed(place: &Place) {
    let cluster = "conformance".parse().unwrap();
    let probe = ProbeKey::new(&cluster, uuid::Uuid::new_v4());
    let (store, key) = (&place.store, probe.key());
    for _ in 0..2 {
        store.put_if_absent(key, "probe".into()).await.unwrap();
        store.remove_probe(&probe).await.unwrap();
        assert_eq!(store.head(key).await.unwrap(), None);
    }
    store.remove_probe(&probe).await.unwrap();
}

pub(super) async fn an_empty_object_is_an_object(place: &Place) {
    let key = place.key("empty");
    place.put("empty", "").await;
    let meta = place.store.head(&key).await.unwrap().unwrap();
    assert_eq!(meta.size, 0);
    assert_eq!(place.content(&key).await, "");
    assert_eq!(place.names("", None).await, ["empty"]);
    let got = place.store.get(&key, Some(0..1)).await.err();
    assert!(
        matches!(got, Some(StoreError::InvalidRange { .. })),
        "{got:?}"
    );
}

pub(super) async fn ranges_are_exact(place: &Place) {
    let key = place.key("object");
    let body = noise(3_000_000, 1);
    place.store.put_if_absent(&key, body.clone()).await.unwrap();
    let size = body.len() as u64;
    for (start, end) in [
        (0, 1),
        (0, size),
        (size - 1, size),
        (1_048_575, 1_048_577),
        (7, 2_500_000),
        (size - 10, size + 10),
        (0, u64::MAX),
    ] {
        let got = place.store.get(&key, Some(start..end)).await.unwrap();
        let chunks: Vec<Bytes> = got.try_collect().await.unwrap();
        let end = usize::try_from(end.min(size)).unwrap();
        let start = usize::try_from(start).unwrap();
        assert!(
            chunks.concat() == body[start..end],
            "bytes {start} to {end}"
        );
    }
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "refusing them is the rule under test"
    )]
    for range in [size..size + 1, size + 5..size + 9, 5..5, 9..5] {
        let got = place.store.get(&key, Some(range.clone())).await.err();
        assert!(
            matches!(got, Some(StoreError::InvalidRange { .. })),
            "{range:?}: {got:?}"
        );
    }
}

pub(super) async fn reading_all_is_bounded(place: &Place) {
    let key = place.key("object");
    place.put("object", "0123456789").await;
    assert_eq!(
        read_all(place.store.as_ref(), &key, 10).await.unwrap(),
        "0123456789"
    );
    for max in [9, 0] {
        let got = read_all(place.store.as_ref(), &key, max).await.err();
        assert!(matches!(got, Some(StoreError::TooLarge { .. })), "{got:?}");
    }
}

const ODD: &[&str] = &[
    "a b",
    "a+b",
    "ä€😀",
    "a=b&c=d",
    "%20",
    "100%",
    "#fragment?query",
    "'\"",
    "~tilde",
    "..dots..",
    ".hidden",
    "*",
    "<&>",
    "a:b@c",
    "[x]{y}|^`",
];

pub(super) async fn odd_keys_survive(place: &Place) {
    for name in ODD {
        place.put(name, "odd").await;
        assert_eq!(place.content(&place.key(name)).await, "odd");
    }
    let mut expected: Vec<String> = ODD.iter().map(ToString::to_string).collect();
    expected.sort_unstable();
    assert_eq!(place.names("", None).await, expected);
    let after = place.key(&expected[3]);
    assert_eq!(place.names("", Some(&after)).await, expected[4..]);
}

pub(super) async fn impossible_keys_are_refused(place: &Place) {
    for name in ["../../escaped", "a//b", "a/./b", "a/", "nul\0", ""] {
        let key = place.key(name);
        let put = place.store.put_if_absent(&key, "x".into()).await.err();
        assert!(
            matches!(put, Some(StoreError::InvalidKey { .. })),
            "{key:?}: {put:?}"
        );
        let got = place.store.get(&key, None).await.err();
        assert!(
            matches!(got, Some(StoreError::InvalidKey { .. })),
            "{key:?}: {got:?}"
        );
    }
    assert_eq!(place.names("", None).await, Vec::<String>::new());
}
