//! Uploads in parts.

use std::time::Duration;

use bytes::Bytes;

use super::{Connect, Place, is_taken, noise};
use crate::layout::ObjectKey;
use crate::store::{ObjectStore, Part, PartReceipt, StoreError, UploadFacts, UploadId};

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

pub(super) async fn an_upload_becomes_an_object(place: &Place) {
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

pub(super) async fn an_upload_outlives_its_client(connect: Connect<'_>, place: &Place) {
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

pub(super) async fn an_upload_never_overwrites(place: &Place) {
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
    assert_eq!(place.uploads().await, [], "the loser has ended");
}

pub(super) async fn an_aborted_upload_is_gone(place: &Place) {
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

pub(super) async fn wrong_bytes_are_refused(place: &Place) {
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
    assert_eq!(store.uploaded_parts(&key, &id).await.unwrap(), None);
    assert_eq!(place.uploads().await, [], "the upload has ended");
}

pub(super) async fn wrong_parts_are_refused(place: &Place) {
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

pub(super) async fn pending_uploads_are_listed(place: &Place) {
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
    let is_new = |age: Duration| age < Duration::from_mins(5);
    assert!(listed.iter().all(|upload| is_new(upload.age)), "{listed:?}");
    for (key, id) in begun {
        store.abort_upload(&key, &id).await.unwrap();
    }
    assert_eq!(place.uploads().await, []);
}
