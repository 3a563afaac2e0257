//! `file://`: a directory as a store.
//!
//! # Owns
//! The directory in the URL, made on the first write. A key is the path of a file below it. All that is
//! unfinished lives in `.gtide-uploads/` at its root; an object enters the visible tree whole, by a
//! rename or a link that never replaces. The whole tree must be on one file system.
//!
//! A sealed object of a spool on that file system gets a second name in the tree, and its bytes are written once. Only
//! the first directory gets it so: two of them never share an object's bytes.
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
#[cfg(test)]
mod tests;
mod tree;
mod walk;

use std::ops::Range;
use std::path::{Path, PathBuf};
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

    async fn link_if_absent(&self, key: &ObjectKey, path: &Path) -> Result<bool, StoreError> {
        let path = path.to_owned();
        self.on_key(Operation::Put, key, move |tree, key| tree.link(key, &path))
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

    fn lists_from_the_middle(&self) -> bool {
        false
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
