//! Uploads in parts.

use std::time::Duration;

use bytes::Bytes;

use super::{Connect, Place, is_taken, noise};
use crate::layout::ObjectKey;
use crate::retry::RetryClass;
use crate::store::{ObjectStore, Part, PartReceipt, StoreError, UploadFacts, UploadId, UploadKind};

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
    // One of them twice; out of order, where that is allowed.
    let (sent, missing) = match first.upload_kind() {
        UploadKind::Parts => ([2, 0, 2], 1),
        UploadKind::Stream => ([0, 1, 1], 2),
    };
    for number in sent {
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
    let expected: Vec<u32> = (1..=3).filter(|number| number - 1 != missing).collect();
    assert_eq!(numbers, expected);
    for receipt in &held {
        let part = &cut.parts[receipt.number as usize - 1];
        assert_eq!(receipt.size, part.body.len() as u64);
        assert!(receipt.crc32c.is_none_or(|crc32c| crc32c == part.crc32c));
    }
    let missing = cut.parts[missing as usize].clone();
    let mut receipts = held;
    receipts.push(second.upload_part(&key, &id, missing).await.unwrap());
    receipts.sort_by_key(|receipt| receipt.number);
    second
        .complete_upload(&key, &id, &receipts, &cut.facts)
        .await
        .unwrap();
    cut.is_at(place, &key).await;
}

/// The end of the last part is the sender's until the upload is complete: another process has to send that part again.
pub(super) async fn a_stream_goes_on_where_it_ended(connect: Connect<'_>, place: &Place) {
    let key = place.key("object.gtb");
    let first = connect();
    if first.upload_kind() != UploadKind::Stream {
        return;
    }
    let cut = Cut::three_parts(first.as_ref(), 10);
    let id = first.begin_upload(&key, &cut.facts).await.unwrap();
    let skipped = first.upload_part(&key, &id, cut.parts[1].clone()).await;
    assert!(
        skipped.is_err(),
        "the part before it was not sent: {skipped:?}"
    );
    let receipts = cut.send(first.as_ref(), &key, &id).await;
    drop(first);

    let second = connect();
    let completed = second.complete_upload(&key, &id, &receipts, &cut.facts);
    let error = completed.await.unwrap_err();
    assert_eq!(error.retry_class(), RetryClass::Backoff, "{error:?}");
    let held = second.uploaded_parts(&key, &id).await.unwrap().unwrap();
    assert_eq!(held.len(), 2, "{held:?}");
    let last = cut.parts[2].clone();
    let last = second.upload_part(&key, &id, last).await.unwrap();
    let receipts = [held, vec![last]].concat();
    let completed = second.complete_upload(&key, &id, &receipts, &cut.facts);
    completed.await.unwrap();
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
    if store.upload_kind() == UploadKind::Stream {
        assert_eq!(place.uploads().await, [], "they cannot be listed");
        for (key, id) in begun {
            store.abort_upload(&key, &id).await.unwrap();
        }
        return;
    }
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
