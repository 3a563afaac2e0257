//! `gs://`: Google Cloud Storage, by its JSON protocol.
//!
//! Bodies of reads and small writes go through Google's own crate; uploads in parts, listings and metadata through a
//! small client of ours, because the crate keeps an upload's session to itself: another process could not go on with
//! it (`engine/ARCHITECTURE.md`, "Decisions").
//!
//! # How the contract is kept
//! - *Nothing is overwritten*: `ifGenerationMatch=0` on every write, which the service looks at again when the object
//!   is made.
//! - *Bytes are checked*: the CRC32C of the whole object goes with the metadata when a write begins and in
//!   `x-goog-hash` with an upload's last bytes, so the service refuses what does not fit; what it then says of the
//!   object is compared again.
//! - *Whole or not at all*: [`upload`] keeps the last bytes of an upload back until it is completed.
//!
//! # Sessions
//! An upload is a *resumable session*. Its URI is the permission to write (no other credentials are sent with it), is
//! tied to the region in which it was begun, cannot be listed, and expires after a week, at no cost. It takes bytes in
//! order, and may keep any multiple of 256 KiB of what was sent: the service's own count decides where to go on.
//!
//! # Retries
//! [`ATTEMPTS`] attempts within seconds. A lost answer to a create is sent again and then comes back as
//! [`StoreError::AlreadyExists`] though the first attempt had succeeded: callers compare.
//!
//! # Time-outs
//! Every request has one of its own: [`Timeouts::attempt`], or what its body needs at the slowest tolerable speed.
//! [`download`] guards what comes down.
//!
//! # Limits
//! An object of more than 5 TiB is refused by the service. Only the universe `googleapis.com` is known.

mod connection;
mod cursors;
mod download;
mod failure;
mod listing;
mod payload;
mod resource;
mod retry;
mod session;
mod upload;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use google_cloud_gax::retry_policy::NeverRetry;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use url::Url;

use self::connection::Connection;
use self::cursors::Cursors;
use self::failure::Failing;
use self::resource::Resource;
use super::location::{Bucket, object_url};
use super::{
    ByteStream, Limits, ListedObject, ObjectMeta, ObjectStore, Operation, Part, PartReceipt,
    PendingUpload, StoreConfig, StoreError, UploadFacts, UploadId, UploadKind,
};
use crate::cloud::Lifetime;
use crate::layout::{ObjectKey, ProbeKey};

/// Attempts of one request, the first included; of an upload, those in a row that bring it nowhere.
const ATTEMPTS: u32 = 3;

/// The key is free.
const NO_GENERATION: i64 = 0;

/// Everything in a name that means something in a URL's path, the slash included ("Encoding URI path parts" in the
/// service's documentation).
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A bucket, or a prefix in one.
#[derive(Debug, Clone)]
pub(super) struct GcsStore {
    bucket: Bucket,
    connection: Arc<Connection>,
    cursors: Arc<Cursors>,
}

impl GcsStore {
    pub(super) fn new(
        bucket: Bucket,
        config: &StoreConfig,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            bucket,
            connection: Arc::new(Connection::new(config, limits)?),
            cursors: Arc::default(),
        })
    }

    /// The bucket as Google's crate calls it.
    fn resource_name(&self) -> String {
        format!("projects/_/buckets/{}", self.bucket.name)
    }

    fn failing(&self, operation: Operation, key: &ObjectKey) -> Failing {
        Failing {
            operation,
            object: object_url(&self.bucket.url, key),
        }
    }

    /// `…/storage/v1/b/BUCKET/o`, and what follows.
    fn objects_url(&self, rest: &str) -> Result<Url, StoreError> {
        let path = format!("/storage/v1/b/{}/o{rest}", self.bucket.name);
        self.connection.url(&path)
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        let failing = self.failing(Operation::Put, key);
        let timeout = self.connection.limits.attempt_for(body.len() as u64);
        let client = self.connection.client(&failing).await?;
        let (size, crc32c) = (body.len() as u64, crc32c::crc32c(&body));
        retry::attempts(|| async {
            let write = client
                .write_object(
                    self.resource_name(),
                    self.bucket.full_key(key),
                    self.connection.source(body.clone()),
                )
                .set_if_generation_match(NO_GENERATION)
                .with_known_crc32c(crc32c)
                // In one request, whatever its size.
                .with_resumable_upload_threshold(usize::MAX)
                .with_retry_policy(NeverRetry)
                .send_unbuffered();
            let written = tokio::time::timeout(timeout, Box::pin(write)).await;
            let written = written.map_err(|_| failing.silent_for(timeout))?;
            let object = written.map_err(|error| self.refused(&failing, &error))?;
            let stored = object.checksums.and_then(|checksums| checksums.crc32c);
            Resource::new(u64::try_from(object.size).ok(), stored).is(size, crc32c, &failing)
        })
        .await
    }

    async fn look(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        let failing = self.failing(Operation::Head, key);
        let name = self.bucket.full_key(key);
        let mut url = self.objects_url(&format!("/{}", utf8_percent_encode(&name, IN_A_PATH)))?;
        url.query_pairs_mut()
            .append_pair("fields", resource::FIELDS);
        let answer = retry::attempts(|| async {
            let request = self.connection.request(Method::GET, &url);
            let answer = self.connection.authorized(request, &failing).await?;
            match answer.status {
                StatusCode::OK => Ok(Some(answer)),
                StatusCode::NOT_FOUND if !answer.names_the_bucket() => Ok(None),
                _ => Err(self.connection.refusal(&failing, &answer)),
            }
        });
        let Some(answer) = answer.await? else {
            return Ok(None);
        };
        let found = Resource::parse(&answer.body, &failing)?;
        Ok(Some(ObjectMeta {
            key: key.clone(),
            size: found.size,
            crc32c: found.crc32c,
        }))
    }

    async fn remove(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let failing = self.failing(Operation::Remove, key);
        let name = self.bucket.full_key(key);
        let url = self.objects_url(&format!("/{}", utf8_percent_encode(&name, IN_A_PATH)))?;
        retry::attempts(|| async {
            let request = self.connection.request(Method::DELETE, &url);
            let answer = self.connection.authorized(request, &failing).await?;
            match answer.status {
                StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
                StatusCode::NOT_FOUND if !answer.names_the_bucket() => Ok(()),
                _ => Err(self.connection.refusal(&failing, &answer)),
            }
        })
        .await
    }

    /// What an error of Google's crate means.
    fn refused(&self, failing: &Failing, error: &google_cloud_storage::Error) -> StoreError {
        if error.http_status_code() == Some(StatusCode::UNAUTHORIZED.as_u16()) {
            self.connection.renew_credentials();
        }
        failing.by_crate(error)
    }
}

#[async_trait]
impl ObjectStore for GcsStore {
    fn url(&self) -> &str {
        &self.bucket.url
    }

    fn upload_kind(&self) -> UploadKind {
        UploadKind::Stream
    }

    async fn put_if_absent(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        self.bucket.check(key)?;
        self.put(key, body).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        self.bucket.check(key)?;
        self.look(key).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<ByteStream, StoreError> {
        self.bucket.check(key)?;
        download::open(self, key, range).await
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ListedObject, StoreError>> {
        self.objects(prefix, start_after)
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.folders(prefix).await
    }

    async fn begin_upload(
        &self,
        key: &ObjectKey,
        facts: &UploadFacts,
    ) -> Result<UploadId, StoreError> {
        self.bucket.check(key)?;
        self.begin(key, facts).await
    }

    async fn uploaded_parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<Option<Vec<PartReceipt>>, StoreError> {
        self.bucket.check(key)?;
        self.parts(key, id).await
    }

    async fn upload_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        part: Part,
    ) -> Result<PartReceipt, StoreError> {
        self.bucket.check(key)?;
        self.send_part(key, id, part).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[PartReceipt],
        facts: &UploadFacts,
    ) -> Result<(), StoreError> {
        self.bucket.check(key)?;
        let result = self.complete(key, id, parts, facts).await;
        if let Err(StoreError::AlreadyExists { .. } | StoreError::Mismatch { .. }) = &result {
            // Best effort: what is left expires, and completing it again ends here again.
            let _ = self.abort(key, id).await;
        }
        result
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError> {
        self.bucket.check(key)?;
        self.abort(key, id).await
    }

    /// None: the service has no list of sessions. Nothing is lost by it: one that nobody goes on with expires after a
    /// week, and is not paid for.
    async fn list_uploads(&self, _: &str) -> Result<Vec<PendingUpload>, StoreError> {
        Ok(Vec::new())
    }

    async fn remove_probe(&self, probe: &ProbeKey) -> Result<(), StoreError> {
        self.remove(probe.key()).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.told_time().await
    }

    fn credentials(&self) -> Lifetime {
        self.connection.credentials()
    }
}
