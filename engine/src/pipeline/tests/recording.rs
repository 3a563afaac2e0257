//! A store that writes down what is asked of it, cuts objects into small parts, and fails as a test says.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::Notify;

use crate::layout::{ObjectKey, ProbeKey};
use crate::store::{
    ByteStream, ListedObject, ObjectMeta, ObjectStore, Part, PartReceipt, PendingUpload,
    StoreError, UploadFacts, UploadId,
};

/// Small, so that a fixture has many.
pub(super) const PART_SIZE: u64 = 4096;

/// What to do instead of just passing a call on.
#[derive(Clone)]
pub(super) enum Act {
    /// Says that the call has come, and waits until it may go on.
    Hold(Arc<Gate>),
    /// Fails without asking the store.
    Fail(fn() -> StoreError),
    /// Asks the store, and fails all the same.
    LoseReply(fn() -> StoreError),
}

/// A place where a call waits.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) reached: Notify,
    pub(super) open: Notify,
}

struct Rule {
    call: String,
    times: usize,
    act: Act,
}

/// A store before another one.
pub(super) struct Recording {
    inner: Arc<dyn ObjectStore>,
    calls: Mutex<Vec<String>>,
    rules: Mutex<Vec<Rule>>,
}

impl Recording {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            calls: Mutex::default(),
            rules: Mutex::default(),
        }
    }

    /// For the next `times` calls whose name is `call`.
    pub(super) fn on(&self, call: &str, times: usize, act: Act) {
        let call = call.to_owned();
        self.rules.lock().unwrap().push(Rule { call, times, act });
    }

    /// Every call since the last time, in order: its name, and the number of its part if it has one.
    pub(super) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    async fn call<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.calls.lock().unwrap().push(name.to_owned());
        match self.act(name) {
            None => work.await,
            Some(Act::Hold(gate)) => {
                gate.reached.notify_one();
                gate.open.notified().await;
                work.await
            }
            Some(Act::Fail(error)) => Err(error()),
            Some(Act::LoseReply(error)) => {
                work.await?;
                Err(error())
            }
        }
    }

    fn act(&self, name: &str) -> Option<Act> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.call == name && rule.times > 0)?;
        rule.times -= 1;
        Some(rule.act.clone())
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recording")
    }
}

/// `log` or `manifest`, by the key.
fn kind(key: &ObjectKey) -> &'static str {
    if key.as_str().contains("/manifest/") {
        "manifest"
    } else {
        "log"
    }
}

#[async_trait]
impl ObjectStore for Recording {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn put_if_absent(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        let name = format!("put {}", kind(key));
        self.call(&name, self.inner.put_if_absent(key, body)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        self.call("head", self.inner.head(key)).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<ByteStream, StoreError> {
        let name = format!("get {}", kind(key));
        self.call(&name, self.inner.get(key, range)).await
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ListedObject, StoreError>> {
        self.inner.list(prefix, start_after)
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.list_prefixes(prefix).await
    }

    async fn begin_upload(
        &self,
        key: &ObjectKey,
        facts: &UploadFacts,
    ) -> Result<UploadId, StoreError> {
        self.call("begin", self.inner.begin_upload(key, facts))
            .await
    }

    async fn uploaded_parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<Option<Vec<PartReceipt>>, StoreError> {
        self.call("parts", self.inner.uploaded_parts(key, id)).await
    }

    async fn upload_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        part: Part,
    ) -> Result<PartReceipt, StoreError> {
        let name = format!("part {}", part.number);
        self.call(&name, self.inner.upload_part(key, id, part))
            .await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[PartReceipt],
        facts: &UploadFacts,
    ) -> Result<(), StoreError> {
        let completed = self.inner.complete_upload(key, id, parts, facts);
        self.call("complete", completed).await
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError> {
        self.call("abort", self.inner.abort_upload(key, id)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        self.call("uploads", self.inner.list_uploads(prefix)).await
    }

    async fn remove_probe(&self, probe: &ProbeKey) -> Result<(), StoreError> {
        self.inner.remove_probe(probe).await
    }

    fn part_size(&self, _: u64) -> u64 {
        PART_SIZE
    }
}
