//! The suite that every backend must pass: the contract of [`ObjectStore`], tried.
//!
//! It writes below the given prefix only, which must be empty, and leaves its objects there (the
//! contract has no deletion). Every rule is one function; a broken rule is a panic that names it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test suite, for the tests of any crate: it panics when a rule is broken"
)]

mod listings;
mod objects;
mod uploads;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{ObjectStore, StoreError, UploadId, read_all};
use crate::layout::ObjectKey;
use crate::retry::RetryClass;

/// Opens the store under test: another client of the same place each time.
pub type Connect<'a> = &'a (dyn Fn() -> Arc<dyn ObjectStore> + Sync);

/// All rules' names, in the order in which they are tried.
pub const RULES: [&str; 20] = [
    "put-once",
    "race",
    "absent",
    "empty",
    "ranges",
    "bounded",
    "odd keys",
    "impossible",
    "probe",
    "listing",
    "order",
    "folders",
    "upload",
    "resume",
    "stream",
    "upload-taken",
    "abort",
    "wrong-bytes",
    "wrong-parts",
    "pending",
];

/// All rules, below `prefix`, which ends in a slash.
pub async fn all(connect: Connect<'_>, prefix: &str) {
    for rule in RULES {
        one(rule, connect, prefix).await;
    }
}

/// One of [`RULES`], below `prefix`, which ends in a slash.
///
/// # Panics
/// When the rule is broken, or there is none of that name.
pub async fn one(rule: &str, connect: Connect<'_>, prefix: &str) {
    let at = Place {
        store: connect(),
        prefix: format!("{prefix}{rule}/"),
    };
    match rule {
        "put-once" => objects::put_creates_once(&at).await,
        "race" => objects::of_racing_puts_one_wins(connect, &at).await,
        "absent" => objects::what_is_absent_is_none(&at).await,
        "empty" => objects::an_empty_object_is_an_object(&at).await,
        "ranges" => objects::ranges_are_exact(&at).await,
        "bounded" => objects::reading_all_is_bounded(&at).await,
        "odd keys" => objects::odd_keys_survive(&at).await,
        "impossible" => objects::impossible_keys_are_refused(&at).await,
        "probe" => objects::a_probe_can_be_removed(&at).await,
        "listing" => listings::listings_are_complete_and_ordered(&at).await,
        "order" => listings::listings_order_by_bytes_within_a_folder(&at).await,
        "folders" => listings::folders_are_listed(&at).await,
        "upload" => uploads::an_upload_becomes_an_object(&at).await,
        "resume" => uploads::an_upload_outlives_its_client(connect, &at).await,
        "stream" => uploads::a_stream_goes_on_where_it_ended(connect, &at).await,
        "upload-taken" => uploads::an_upload_never_overwrites(&at).await,
        "abort" => uploads::an_aborted_upload_is_gone(&at).await,
        "wrong-bytes" => uploads::wrong_bytes_are_refused(&at).await,
        "wrong-parts" => uploads::wrong_parts_are_refused(&at).await,
        "pending" => uploads::pending_uploads_are_listed(&at).await,
        _ => panic!("there is no rule {rule:?}"),
    }
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

fn is_taken(result: &Result<(), StoreError>) -> bool {
    let taken = matches!(result, Err(StoreError::AlreadyExists { .. }));
    if let Err(error) = result {
        assert!(taken, "{error:?}");
        assert_eq!(error.retry_class(), RetryClass::Never);
    }
    taken
}
