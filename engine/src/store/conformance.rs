//! The suite that every backend must pass: the contract of [`ObjectStore`], tried.
//!
//! It writes below the given prefix only, which must be empty, and leaves its objects there (the
//! contract has no deletion). Every rule is one function; a broken rule is a panic that names it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test suite, for the tests of any crate: it panics when a rule is broken"
)]

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::{ObjectStore, Part, PartReceipt, StoreError, UploadFacts, UploadId, read_all};
use crate::layout::ObjectKey;
use crate::retry::RetryClass;

/// Opens the store under test: another client of the same place each time.
pub type Connect<'a> = &'a (dyn Fn() -> Arc<dyn ObjectStore> + Sync);

/// More keys than one page of a listing has.
const MANY: usize = 1005;

/// All rules, below `prefix`, which ends in a slash.
pub async fn all(connect: Connect<'_>, prefix: &str) {
    let at = |rule: &str| Place {
        store: connect(),
        prefix: format!("{prefix}{rule}/"),
    };
    put_creates_once(&at("put-once")).await;
    of_racing_puts_one_wins(connect, &at("race")).await;
    what_is_absent_is_none(&at("absent")).await;
    an_empty_object_is_an_object(&at("empty")).await;
    ranges_are_exact(&at("ranges")).await;
    reading_all_is_bounded(&at("bounded")).await;
    odd_keys_survive(&at("odd keys")).await;
    impossible_keys_are_refused(&at("impossible")).await;
    listings_are_complete_and_ordered(&at("listing")).await;
    listings_order_by_bytes_within_a_folder(&at("order")).await;
    folders_are_listed(&at("folders")).await;
    an_upload_becomes_an_object(&at("upload")).await;
    an_upload_outlives_its_client(connect, &at("resume")).await;
    an_upload_never_overwrites(&at("upload-taken")).await;
    an_aborted_upload_is_gone(&at("abort")).await;
    wrong_bytes_are_refused(&at("wrong-bytes")).await;
    wrong_parts_are_refused(&at("wrong-parts")).await;
    pending_uploads_are_listed(&at("pending")).await;
}

/// A store and the prefix in it that one rule has to itself.
struct Place {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Place {
    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::from_listing(format!("{}{name}", self.prefix))
    }

    async fn put(&self, name: &str, body: &'static str) {
        let key = self.key(name);
        self.store
            .put_if_absent(&key, body.into())
            .await
            .unwrap_or_else(|error| panic!("put {key}: {error:?}"));
    }

    async fn content(&self, key: &ObjectKey) -> Bytes {
        read_all(self.store.as_ref(), key, 64 << 20).await.unwrap()
    }

    async fn names(&self, prefix: &str, start_after: Option<&ObjectKey>) -> Vec<String> {
        let listed = self
            .store
            .list(&format!("{}{prefix}", self.prefix), start_after);
        let keys: Vec<_> = listed
            .map_ok(|object| object.key)
            .try_collect()
            .await
            .unwrap();
        let strip = |key: ObjectKey| key.as_str().strip_prefix(&self.prefix).unwrap().to_owned();
        keys.into_iter().map(strip).collect()
    }

    async fn uploads(&self) -> Vec<(ObjectKey, UploadId)> {
        let pending = self.store.list_uploads(&self.prefix).await.unwrap();
        pending
            .into_iter()
            .map(|upload| (upload.key, upload.id))
            .collect()
    }
}

/// Bytes that are different everywhere and compress badly.
fn noise(size: u64, seed: u64) -> Bytes {
    let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    Bytes::from(bytes).slice(..usize::try_from(size).unwrap())
}

/// An object, cut as the store wants it.
struct Cut {
    body: Bytes,
    facts: UploadFacts,
    parts: Vec<Part>,
}

impl Cut {
    /// Two parts of the store's size and a short third one.
    fn three_parts(store: &dyn ObjectStore, seed: u64) -> Self {
        let part_size = store.part_size(1);
        let body = noise(part_size * 2 + 12_345, seed);
        assert_eq!(
            store.part_size(body.len() as u64),
            part_size,
            "small objects have one part size"
        );
        Self::new(body, part_size)
    }

    fn new(body: Bytes, part_size: u64) -> Self {
        let size = body.len() as u64;
        let offsets = (0..size).step_by(usize::try_from(part_size).unwrap());
        let parts = (1..).zip(offsets).map(|(number, offset)| {
            let end = size.min(offset + part_size);
            let range = usize::try_from(offset).unwrap()..usize::try_from(end).unwrap();
            let body = body.slice(range);
            Part {
                number,
                offset,
                crc32c: crc32c::crc32c(&body),
                body,
            }
        });
        Self {
            facts: UploadFacts {
                size,
                crc32c: crc32c::crc32c(&body),
            },
            parts: parts.collect(),
            body,
        }
    }

    async fn send(
        &self,
        store: &dyn ObjectStore,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Vec<PartReceipt> {
        let mut receipts = Vec::new();
        for part in &self.parts {
            let receipt = store.upload_part(key, id, part.clone()).await.unwrap();
            assert_eq!(receipt.number, part.number);
            assert_eq!(receipt.size, part.body.len() as u64);
            assert_eq!(receipt.crc32c, Some(part.crc32c));
            receipts.push(receipt);
        }
        receipts
    }

    async fn is_at(&self, place: &Place, key: &ObjectKey) {
        let meta = place.store.head(key).await.unwrap().unwrap();
        assert_eq!(meta.size, self.facts.size);
        assert_eq!(
            meta.crc32c,
            Some(self.facts.crc32c),
            "the store's CRC32C of the whole object"
        );
        assert_eq!(place.content(key).await, self.body);
    }
}

fn is_taken(result: &Result<(), StoreError>) -> bool {
    let taken = matches!(result, Err(StoreError::AlreadyExists { .. }));
    if let Err(error) = result {
        assert!(taken, "{error:?}");
        assert_eq!(error.retry_class(), RetryClass::Never);
    }
    taken
}

async fn put_creates_once(place: &Place) {
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

async fn of_racing_puts_one_wins(connect: Connect<'_>, place: &Place) {
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

async fn what_is_absent_is_none(place: &Place) {
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

async fn an_empty_object_is_an_object(place: &Place) {
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

async fn ranges_are_exact(place: &Place) {
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

async fn reading_all_is_bounded(place: &Place) {
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

async fn odd_keys_survive(place: &Place) {
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

async fn impossible_keys_are_refused(place: &Place) {
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

async fn listings_are_complete_and_ordered(place: &Place) {
    let names: Vec<String> = (0..MANY).map(|n| format!("log/{n:010}.gtb")).collect();
    // Not in order, and sixteen at a time.
    let puts = names.iter().rev().map(|name| place.put(name, "x"));
    futures::stream::iter(puts)
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    place.put("manifest/0000000001.json", "x").await;
    assert!(
        place.names("log/", None).await == names,
        "all, once, in order"
    );
    let after = place.key(&names[MANY - 3]);
    assert_eq!(place.names("log/", Some(&after)).await, names[MANY - 2..]);
    let after = place.key(&names[1]);
    assert!(
        place.names("log/", Some(&after)).await == names[2..],
        "pages behind the start"
    );
    let last = place.key(&names[MANY - 1]);
    assert_eq!(place.names("log/", Some(&last)).await, Vec::<String>::new());
    let sizes = place
        .store
        .list(&place.prefix, None)
        .map_ok(|object| object.size);
    let sizes: Vec<u64> = sizes.try_collect().await.unwrap();
    assert_eq!(sizes, vec![1; MANY + 1]);
}

async fn listings_order_by_bytes_within_a_folder(place: &Place) {
    let in_a = ["a/!", "a/-", "a/b/c", "a/b0", "a/é"];
    let all = ["a!", "a-b", "a.b", "a0", "ab/c", "b"];
    for name in in_a.iter().chain(&all).rev() {
        place.put(name, "x").await;
    }
    assert_eq!(place.names("a/", None).await, in_a);
    assert_eq!(place.names("a/b", None).await, in_a[2..4]);
    for (index, name) in in_a.iter().enumerate() {
        let after = place.key(name);
        assert_eq!(
            place.names("a/", Some(&after)).await,
            in_a[index + 1..],
            "{name}"
        );
    }
    // A key that is not there is a place to begin all the same.
    let after = place.key("a/.");
    assert_eq!(place.names("a/", Some(&after)).await, in_a[2..]);
    assert_eq!(place.names("a/", Some(&place.key("a/zz"))).await, in_a[4..]);
    assert_eq!(
        place.names("a/", Some(&place.key("b"))).await,
        Vec::<String>::new()
    );

    // Over all folders: everything once, each folder in its order.
    let every = place.names("", None).await;
    let mut sorted: Vec<&str> = in_a.iter().chain(&all).copied().collect();
    sorted.sort_unstable();
    let mut seen: Vec<&str> = every.iter().map(String::as_str).collect();
    let of_a: Vec<&str> = seen
        .iter()
        .filter(|name| name.starts_with("a/"))
        .copied()
        .collect();
    assert_eq!(of_a, in_a);
    seen.sort_unstable();
    assert_eq!(seen, sorted);
}

async fn folders_are_listed(place: &Place) {
    for name in [
        "orders/gtide.json",
        "orders/uuid/1/log/x",
        "billing/x",
        "at the top",
    ] {
        place.put(name, "x").await;
    }
    let under = |prefix: &str| format!("{}{prefix}", place.prefix);
    let folders = place.store.list_prefixes(&under("")).await.unwrap();
    assert_eq!(folders, [under("billing/"), under("orders/")]);
    let folders = place.store.list_prefixes(&under("orders/")).await.unwrap();
    assert_eq!(folders, [under("orders/uuid/")]);
    let none = place.store.list_prefixes(&under("nothing/")).await.unwrap();
    assert_eq!(none, Vec::<String>::new());
}

async fn an_upload_becomes_an_object(place: &Place) {
    let (store, key) = (place.store.as_ref(), place.key("object.gtb"));
    let cut = Cut::three_parts(store, 2);
    let id = store.begin_upload(&key, &cut.facts).await.unwrap();
    assert_eq!(store.uploaded_parts(&key, &id).await.unwrap(), Some(vec![]));
    let receipts = cut.send(store, &key, &id).await;
    assert_eq!(
        store.head(&key).await.unwrap(),
        None,
        "nothing is there before it is complete"
    );
    assert_eq!(place.names("", None).await, Vec::<String>::new());
    store
        .complete_upload(&key, &id, &receipts, &cut.facts)
        .await
        .unwrap();
    cut.is_at(place, &key).await;
    assert_eq!(place.names("", None).await, ["object.gtb"]);
    assert_eq!(
        place.uploads().await,
        [],
        "a completed upload is no longer pending"
    );

    // An answer may be lost: whoever completes again learns that an object is there.
    let again = store
        .complete_upload(&key, &id, &receipts, &cut.facts)
        .await;
    assert!(again.is_ok() || is_taken(&again), "{again:?}");
    cut.is_at(place, &key).await;
    store.abort_upload(&key, &id).await.unwrap();
    cut.is_at(place, &key).await;

    // One part alone may be small.
    let (key, small) = (place.key("small"), Cut::new(noise(100, 3), 100));
    let id = store.begin_upload(&key, &small.facts).await.unwrap();
    let receipts = small.send(store, &key, &id).await;
    store
        .complete_upload(&key, &id, &receipts, &small.facts)
        .await
        .unwrap();
    small.is_at(place, &key).await;
}

async fn an_upload_outlives_its_client(connect: Connect<'_>, place: &Place) {
    let key = place.key("object.gtb");
    let cut = Cut::three_parts(place.store.as_ref(), 4);
    let first = connect();
    let id = first.begin_upload(&key, &cut.facts).await.unwrap();
    // Out of order, and one of them twice.
    for number in [2, 0, 2] {
        first
            .upload_part(&key, &id, cut.parts[number].clone())
            .await
            .unwrap();
    }
    drop(first);

    let second = connect();
    let id = UploadId::new(id.as_str());
    let held = second.uploaded_parts(&key, &id).await.unwrap().unwrap();
    let numbers: Vec<u32> = held.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1, 3]);
    for receipt in &held {
        let part = &cut.parts[receipt.number as usize - 1];
        assert_eq!(receipt.size, part.body.len() as u64);
        assert!(receipt.crc32c.is_none_or(|crc32c| crc32c == part.crc32c));
    }
    let missing = second
        .upload_part(&key, &id, cut.parts[1].clone())
        .await
        .unwrap();
    let receipts = [held[0].clone(), missing, held[1].clone()];
    second
        .complete_upload(&key, &id, &receipts, &cut.facts)
        .await
        .unwrap();
    cut.is_at(place, &key).await;
}

async fn an_upload_never_overwrites(place: &Place) {
    let (store, key) = (place.store.as_ref(), place.key("object.gtb"));
    let (winner, loser) = (Cut::three_parts(store, 5), Cut::three_parts(store, 6));
    let losing = store.begin_upload(&key, &loser.facts).await.unwrap();
    let lost = loser.send(store, &key, &losing).await;
    let winning = store.begin_upload(&key, &winner.facts).await.unwrap();
    let won = winner.send(store, &key, &winning).await;
    store
        .complete_upload(&key, &winning, &won, &winner.facts)
        .await
        .unwrap();
    let refused = store
        .complete_upload(&key, &losing, &lost, &loser.facts)
        .await;
    assert!(is_taken(&refused), "{refused:?}");
    winner.is_at(place, &key).await;
    store.abort_upload(&key, &losing).await.unwrap();
    winner.is_at(place, &key).await;
    assert_eq!(place.uploads().await, []);
}

async fn an_aborted_upload_is_gone(place: &Place) {
    let (store, key) = (place.store.as_ref(), place.key("object.gtb"));
    let cut = Cut::three_parts(store, 7);
    let id = store.begin_upload(&key, &cut.facts).await.unwrap();
    let receipts = cut.send(store, &key, &id).await;
    store.abort_upload(&key, &id).await.unwrap();
    store.abort_upload(&key, &id).await.unwrap();
    assert_eq!(store.uploaded_parts(&key, &id).await.unwrap(), None);
    assert_eq!(place.uploads().await, []);
    let sent = store
        .upload_part(&key, &id, cut.parts[0].clone())
        .await
        .err();
    assert!(
        matches!(sent, Some(StoreError::UploadUnknown { .. })),
        "{sent:?}"
    );
    let completed = store
        .complete_upload(&key, &id, &receipts, &cut.facts)
        .await
        .err();
    assert!(
        matches!(completed, Some(StoreError::UploadUnknown { .. })),
        "{completed:?}"
    );
    assert_eq!(store.head(&key).await.unwrap(), None);
}

async fn wrong_bytes_are_refused(place: &Place) {
    let (store, key) = (place.store.as_ref(), place.key("object.gtb"));
    let cut = Cut::three_parts(store, 8);
    let id = store.begin_upload(&key, &cut.facts).await.unwrap();
    let mut flipped = cut.parts[0].clone();
    flipped.crc32c ^= 1;
    let sent = store.upload_part(&key, &id, flipped).await.err();
    assert!(
        matches!(sent, Some(StoreError::Mismatch { .. })),
        "{sent:?}"
    );
    assert_eq!(store.uploaded_parts(&key, &id).await.unwrap(), Some(vec![]));

    // Every part is what it says, but they are not the object that was meant.
    let receipts = cut.send(store, &key, &id).await;
    let meant = UploadFacts {
        crc32c: cut.facts.crc32c ^ 1,
        ..cut.facts
    };
    let completed = store
        .complete_upload(&key, &id, &receipts, &meant)
        .await
        .err();
    assert!(
        matches!(completed, Some(StoreError::Mismatch { .. })),
        "{completed:?}"
    );
    assert_eq!(
        store.head(&key).await.unwrap(),
        None,
        "and nothing became visible"
    );
    store.abort_upload(&key, &id).await.unwrap();
}

async fn wrong_parts_are_refused(place: &Place) {
    let (store, key) = (place.store.as_ref(), place.key("object.gtb"));
    let nothing = UploadFacts { size: 0, crc32c: 0 };
    let begun = store.begin_upload(&key, &nothing).await.err();
    assert!(
        matches!(begun, Some(StoreError::InvalidUpload { .. })),
        "{begun:?}"
    );

    let cut = Cut::three_parts(store, 9);
    let id = store.begin_upload(&key, &cut.facts).await.unwrap();
    let receipts = cut.send(store, &key, &id).await;
    let (first, second, third) = (&receipts[0], &receipts[1], &receipts[2]);
    for wrong in [vec![first, second], vec![first, third, second], vec![]] {
        let wrong: Vec<PartReceipt> = wrong.into_iter().cloned().collect();
        let completed = store
            .complete_upload(&key, &id, &wrong, &cut.facts)
            .await
            .err();
        assert!(
            matches!(completed, Some(StoreError::InvalidUpload { .. })),
            "{completed:?}"
        );
    }
    store
        .complete_upload(&key, &id, &receipts, &cut.facts)
        .await
        .unwrap();
    cut.is_at(place, &key).await;
}

async fn pending_uploads_are_listed(place: &Place) {
    let (store, facts) = (place.store.as_ref(), UploadFacts { size: 5, crc32c: 0 });
    let mut begun = Vec::new();
    for name in ["log/b", "log/a", "log/a", "other/c"] {
        let key = place.key(name);
        let id = store.begin_upload(&key, &facts).await.unwrap();
        begun.push((key, id));
    }
    let by_key_and_id = |(key, id): &(ObjectKey, UploadId)| (key.clone(), id.as_str().to_owned());
    begun.sort_by_key(by_key_and_id);
    let mut pending = place.uploads().await;
    assert!(pending.is_sorted_by_key(|(key, _)| key), "{pending:?}");
    pending.sort_by_key(by_key_and_id);
    assert_eq!(pending, begun);
    let listed = store
        .list_uploads(&format!("{}log/", place.prefix))
        .await
        .unwrap();
    assert_eq!(listed.len(), 3);
    for (key, id) in begun {
        store.abort_upload(&key, &id).await.unwrap();
    }
    assert_eq!(place.uploads().await, []);
}
