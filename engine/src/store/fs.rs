//! `file://`: a directory as a store.
//!
//! # Owns
//! The directory in the URL, made on the first write. A key is the path of a file below it. All that is
//! unfinished lives in `.gtide-uploads/` at its root; an object enters the visible tree whole, by a
//! rename that never replaces. The whole tree must be on one file system.
//!
//! # After a crash
//! | killed | left behind | swept by |
//! |---|---|---|
//! | while an object was put | `.gtide-uploads/new-…` | `list_uploads`, a day later |
//! | during an upload | `.gtide-uploads/<id>/` with the parts in its journal | the caller resumes or aborts |
//! | between rename and sync | the object, perhaps not yet durable | whoever meets it next: `head`, and a refused create, sync before they answer |
//!
//! # Cancellation
//! Work is done on the blocking pool and runs to its end even when nobody waits for it any more.
//!
//! # Foreign files
//! Whatever else lies in the directory does no harm: files are listed as objects (they are keys that
//! are not ours), names that are not UTF-8, symbolic links, pipes and sockets are passed over.

mod staging;
mod tree;
mod walk;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use self::tree::{Reader, Tree};
use self::walk::Walk;
use super::bandwidth::Bandwidth;
use super::location::check_key;
use super::{
    ByteStream, ListedObject, ObjectMeta, ObjectStore, Operation, Part, PartReceipt, PendingUpload,
    StoreError, UploadFacts, UploadId,
};
use crate::layout::{ObjectKey, ProbeKey};

/// Entries of a listing that are fetched at a time, as many as on S3.
const LIST_PAGE: usize = 1000;

/// A store in a directory.
#[derive(Debug)]
pub(super) struct FsStore {
    tree: Arc<Tree>,
    bandwidth: Option<Arc<Bandwidth>>,
}

impl FsStore {
    pub(super) fn new(root: PathBuf, url: String, bandwidth: Option<Arc<Bandwidth>>) -> Self {
        Self {
            tree: Arc::new(Tree::new(root, url)),
            bandwidth,
        }
    }

    /// Waits until a body of this size may be written: the directory may be another machine's.
    async fn turn(&self, body: &Bytes) {
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.turn(body.len()).await;
        }
    }

    /// Runs `work` on the blocking pool, after a look at the key.
    async fn on_key<T: Send + 'static>(
        &self,
        operation: Operation,
        key: &ObjectKey,
        work: impl FnOnce(&Tree, &ObjectKey) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        check_key(key)?;
        let (tree, key) = (Arc::clone(&self.tree), key.clone());
        let object = tree.url_of(&key);
        blocking(operation, object, move || work(&tree, &key)).await
    }
}

async fn blocking<T: Send + 'static>(
    operation: Operation,
    object: String,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime is shutting down, or `work` panicked: either way the outcome is unknown.
        Err(source) => Err(StoreError::Transport {
            operation,
            object,
            source: Box::new(source),
        }),
    }
}

#[async_trait]
impl ObjectStore for FsStore {
    fn url(&self) -> &str {
        self.tree.url()
    }

    async fn put_if_absent(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        self.turn(&body).await;
        self.on_key(Operation::Put, key, move |tree, key| tree.put(key, &body))
            .await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        self.on_key(Operation::Head, key, Tree::head).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<ByteStream, StoreError> {
        let reader = self
            .on_key(Operation::Get, key, move |tree, key| tree.open(key, range))
            .await?;
        Ok(stream::try_unfold(reader, next_chunk).boxed())
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ListedObject, StoreError>> {
        let start_after = start_after.map(|key| key.as_str().to_owned());
        let walk = Walk::new(Arc::clone(&self.tree), prefix.to_owned(), start_after);
        stream::try_unfold(walk, |mut walk| async move {
            let object = walk.url();
            let (walk, page) = blocking(Operation::List, object, move || {
                let page: Result<Vec<_>, _> = walk.by_ref().take(LIST_PAGE).collect();
                Ok((walk, page?))
            })
            .await?;
            Ok::<_, StoreError>((!page.is_empty()).then_some((page, walk)))
        })
        .map_ok(|page| stream::iter(page).map(Ok))
        .try_flatten()
        .boxed()
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (tree, prefix) = (Arc::clone(&self.tree), prefix.to_owned());
        blocking(
            Operation::List,
            format!("{}/{prefix}", tree.url()),
            move || walk::folders(&tree, &prefix),
        )
        .await
    }

    async fn begin_upload(
        &self,
        key: &ObjectKey,
        facts: &UploadFacts,
    ) -> Result<UploadId, StoreError> {
        let facts = *facts;
        self.on_key(Operation::BeginUpload, key, move |tree, key| {
            staging::begin(tree, key, facts)
        })
        .await
    }

    async fn uploaded_parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<Option<Vec<PartReceipt>>, StoreError> {
        let id = id.clone();
        self.on_key(Operation::ListParts, key, move |tree, key| {
            staging::parts(tree, key, &id)
        })
        .await
    }

    async fn upload_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        part: Part,
    ) -> Result<PartReceipt, StoreError> {
        self.turn(&part.body).await;
        let id = id.clone();
        self.on_key(Operation::UploadPart, key, move |tree, key| {
            staging::add(tree, key, &id, &part)
        })
        .await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[PartReceipt],
        facts: &UploadFacts,
    ) -> Result<(), StoreError> {
        let (id, parts, facts) = (id.clone(), parts.to_vec(), *facts);
        self.on_key(Operation::CompleteUpload, key, move |tree, key| {
            let result = staging::complete(tree, key, &id, &parts, &facts);
            if let Err(StoreError::AlreadyExists { .. } | StoreError::Mismatch { .. }) = &result {
                // Best effort: what is left is listed, and completing it again ends here again.
                let _ = staging::abort(tree, key, &id);
            }
            result
        })
        .await
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError> {
        let id = id.clone();
        self.on_key(Operation::AbortUpload, key, move |tree, key| {
            staging::abort(tree, key, &id)
        })
        .await
    }

    async fn remove_probe(&self, probe: &ProbeKey) -> Result<(), StoreError> {
        self.on_key(Operation::Remove, probe.key(), Tree::remove)
            .await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        let (tree, prefix) = (Arc::clone(&self.tree), prefix.to_owned());
        blocking(Operation::ListUploads, tree.url().to_owned(), move || {
            staging::list(&tree, &prefix)
        })
        .await
    }
}

async fn next_chunk(reader: Reader) -> Result<Option<(Bytes, Reader)>, StoreError> {
    let object = reader.object().to_owned();
    blocking(Operation::Get, object, move || reader.read()).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::durable_fs;
    use crate::store::{StoreConfig, conformance, connect, read_all};

    fn open(root: &Path) -> Arc<dyn ObjectStore> {
        let url = url::Url::from_file_path(root).unwrap().to_string();
        connect(&StoreConfig {
            url,
            ..StoreConfig::default()
        })
        .unwrap()
    }

    fn key(key: &str) -> ObjectKey {
        ObjectKey::from_listing(key)
    }

    async fn keys(store: &dyn ObjectStore) -> Vec<String> {
        let listed = store.list("", None).map_ok(|object| object.key.to_string());
        listed.try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn a_directory_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("my archive");
        conformance::all(&|| open(&root), "").await;
        conformance::all(&|| open(&root), "below/").await;
    }

    #[tokio::test]
    async fn a_store_that_was_never_written_is_empty_and_reading_does_not_make_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("not/yet");
        let store = open(&root);
        assert_eq!(keys(store.as_ref()).await, Vec::<String>::new());
        assert_eq!(store.head(&key("a")).await.unwrap(), None);
        assert_eq!(store.list_uploads("").await.unwrap(), []);
        assert_eq!(store.list_prefixes("").await.unwrap(), Vec::<String>::new());
        assert!(!dir.path().join("not").exists());
    }

    #[tokio::test]
    async fn a_listing_is_in_byte_order_over_all_folders() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let sorted = [
            "a!", "a-b", "a.b", "a/a", "a/b/c", "a/b0", "a0", "ab/c", "b",
        ];
        for name in sorted.iter().rev() {
            store.put_if_absent(&key(name), "x".into()).await.unwrap();
        }
        let list = async |prefix: &str, after: Option<&str>| -> Vec<String> {
            let after = after.map(key);
            let listed = store.list(prefix, after.as_ref());
            listed
                .map_ok(|object| object.key.to_string())
                .try_collect()
                .await
                .unwrap()
        };
        assert_eq!(list("", None).await, sorted);
        assert_eq!(list("a", None).await, sorted[..8]);
        for (index, name) in sorted.iter().enumerate() {
            assert_eq!(list("", Some(name)).await, sorted[index + 1..], "{name}");
        }
        assert_eq!(list("", Some("a/b/")).await, sorted[4..]);
        assert_eq!(list("", Some("a/b/zz")).await, sorted[5..]);
        assert_eq!(list("", Some("zz")).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn foreign_files_do_no_harm() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let store = open(root);
        store
            .put_if_absent(&key("a/object"), "mine".into())
            .await
            .unwrap();
        durable_fs::replace(&root.join("README.txt"), b"foreign").unwrap();
        durable_fs::replace(&root.join(std::ffi::OsStr::from_bytes(b"\xFF\xFE")), b"").unwrap();
        symlink("/etc/passwd", root.join("link")).unwrap();
        symlink(root, root.join("a/loop")).unwrap();
        durable_fs::create_dir_all(&root.join("a/empty")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let pipe = root.join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();

        assert_eq!(keys(store.as_ref()).await, ["README.txt", "a/object"]);
        for foreign in [
            "link",
            "pipe",
            "socket",
            "a/loop",
            "a/empty",
            "README.txt/below",
        ] {
            assert_eq!(store.head(&key(foreign)).await.unwrap(), None, "{foreign}");
            let put = store
                .put_if_absent(&key(foreign), "x".into())
                .await
                .unwrap_err();
            assert!(matches!(put, StoreError::Io { .. }), "{foreign}: {put:?}");
            assert_eq!(
                put.retry_class(),
                crate::retry::RetryClass::Never,
                "{put:?}"
            );
        }
        assert_eq!(store.list_uploads("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_torn_journal_line_costs_one_part_and_no_truth() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (key, body) = (key("object"), Bytes::from_static(b"0123456789"));
        let facts = UploadFacts {
            size: 10,
            crc32c: crc32c::crc32c(&body),
        };
        let id = store.begin_upload(&key, &facts).await.unwrap();
        let part = |number: u32, range: Range<usize>| Part {
            number,
            offset: range.start as u64,
            body: body.slice(range.clone()),
            crc32c: crc32c::crc32c(&body[range]),
        };
        store.upload_part(&key, &id, part(1, 0..4)).await.unwrap();
        store.upload_part(&key, &id, part(2, 4..10)).await.unwrap();
        let journal = dir
            .path()
            .join(".gtide-uploads")
            .join(id.as_str())
            .join("parts");
        let whole = std::fs::read(&journal).unwrap();
        let torn = whole.strip_suffix(b"}\n").unwrap();
        durable_fs::replace(&journal, torn).unwrap();

        let held = store.uploaded_parts(&key, &id).await.unwrap().unwrap();
        assert_eq!(held.iter().map(|part| part.number).collect::<Vec<_>>(), [1]);
        let again = store.upload_part(&key, &id, part(2, 4..10)).await.unwrap();
        let held = store.uploaded_parts(&key, &id).await.unwrap().unwrap();
        assert_eq!(held.last(), Some(&again));
        store
            .complete_upload(&key, &id, &held, &facts)
            .await
            .unwrap();
        assert_eq!(read_all(store.as_ref(), &key, 10).await.unwrap(), body);
    }

    #[tokio::test]
    async fn an_upload_id_is_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("root"));
        durable_fs::create_dir_all(&dir.path().join("root/.gtide-uploads")).unwrap();
        durable_fs::create_dir_all(&dir.path().join("outside")).unwrap();
        let facts = br#"{"key": "object", "size": 1, "crc32c": 0}"#;
        durable_fs::replace(&dir.path().join("outside/upload.json"), facts).unwrap();
        durable_fs::replace(&dir.path().join("outside/data"), b"x").unwrap();
        for id in ["../../outside", "", ".", "/etc"] {
            let id = UploadId::new(id);
            assert_eq!(
                store.uploaded_parts(&key("object"), &id).await.unwrap(),
                None
            );
            store.abort_upload(&key("object"), &id).await.unwrap();
        }
        assert!(dir.path().join("outside/data").exists());
    }

    #[tokio::test]
    async fn an_upload_belongs_to_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store
            .put_if_absent(&key("other"), "x".into())
            .await
            .unwrap();
        let facts = UploadFacts { size: 1, crc32c: 0 };
        let id = store.begin_upload(&key("object"), &facts).await.unwrap();
        let parts = [PartReceipt {
            number: 1,
            size: 1,
            etag: String::new(),
            crc32c: None,
        }];
        let refused = store
            .complete_upload(&key("other"), &id, &parts, &facts)
            .await;
        assert!(
            matches!(refused, Err(StoreError::AlreadyExists { .. })),
            "{refused:?}"
        );
        store.abort_upload(&key("other"), &id).await.unwrap();
        let held = store.uploaded_parts(&key("object"), &id).await.unwrap();
        assert_eq!(held, Some(vec![]), "untouched");
    }

    #[tokio::test]
    async fn a_part_behind_the_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let facts = UploadFacts {
            size: 10,
            crc32c: 0,
        };
        let id = store.begin_upload(&key("object"), &facts).await.unwrap();
        for offset in [8, u64::MAX] {
            let part = Part {
                number: 1,
                offset,
                body: Bytes::from_static(b"abc"),
                crc32c: crc32c::crc32c(b"abc"),
            };
            let refused = store
                .upload_part(&key("object"), &id, part)
                .await
                .unwrap_err();
            assert!(
                matches!(refused, StoreError::InvalidUpload { .. }),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn killed_between_publishing_and_cleaning_up_the_object_stands() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let facts = UploadFacts {
            size: 3,
            crc32c: crc32c::crc32c(b"abc"),
        };
        let part = Part {
            number: 1,
            offset: 0,
            body: Bytes::from_static(b"abc"),
            crc32c: facts.crc32c,
        };
        let id = store.begin_upload(&key("object"), &facts).await.unwrap();
        let receipt = store
            .upload_part(&key("object"), &id, part.clone())
            .await
            .unwrap();
        let upload = dir.path().join(".gtide-uploads").join(id.as_str());
        durable_fs::rename_new(&upload.join("data"), &dir.path().join("object")).unwrap();

        let completed = store
            .complete_upload(&key("object"), &id, &[receipt], &facts)
            .await;
        assert!(
            matches!(completed, Err(StoreError::AlreadyExists { .. })),
            "{completed:?}"
        );
        assert_eq!(
            store.uploaded_parts(&key("object"), &id).await.unwrap(),
            None
        );
        let late = store.upload_part(&key("object"), &id, part).await;
        assert!(
            matches!(late, Err(StoreError::UploadUnknown { .. })),
            "{late:?}"
        );
        assert!(!upload.exists(), "what was left is gone");
        assert_eq!(keys(store.as_ref()).await, ["object"]);
    }

    #[tokio::test]
    async fn what_an_interrupted_put_left_is_swept_a_day_later() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store
            .put_if_absent(&key("object"), "x".into())
            .await
            .unwrap();
        let staging = dir.path().join(".gtide-uploads");
        let (old, new) = (staging.join("new-old"), staging.join("new-new"));
        durable_fs::replace(&old, b"x").unwrap();
        durable_fs::replace(&new, b"x").unwrap();
        let day = jiff::SignedDuration::from_hours(25);
        let yesterday = jiff::Timestamp::now().checked_sub(day).unwrap();
        let file = std::fs::File::options().write(true).open(&old).unwrap();
        file.set_modified(yesterday.into()).unwrap();
        assert_eq!(store.list_uploads("").await.unwrap(), []);
        assert!(!old.exists() && new.exists());
    }
}
