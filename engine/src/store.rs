//! Where archives live: one contract, one suite that proves it (`conformance`), a backend per scheme.
//!
//! # Owns
//! Keys and bytes, nothing of their meaning. Every key is relative to the prefix in the store's URL.
//!
//! # Invariants
//! - **Objects are immutable.** No call overwrites an object, nor deletes one that is not a probe ([`ProbeKey`]); creation is conditional on the
//!   key being free, decided by the store, not by a look beforehand. Two writers: exactly one wins.
//! - **Bytes are checked on both sides.** Whatever is sent carries its CRC32C and is refused by the store
//!   when it does not fit; [`head`](ObjectStore::head) reports the store's own CRC32C of the whole object.
//! - **An object is there whole or not at all**, whatever crashed: only then does `head` show it.
//!
//! # Unknown outcomes
//! After an error whose [`retry_class`](StoreError::retry_class) is not `Never`, and after a call that
//! was cancelled (its future dropped), a write may or may not have happened, and may even happen a
//! little later. Both kinds of write answer this alike: **call again; on
//! [`StoreError::AlreadyExists`], `head` and compare size and CRC32C with your own: equal means that it
//! was your own write, or one just like it, and is success; different is a conflict.**
//!
//! # Retries and time-outs
//! A backend retries by itself a little, within seconds; anything longer is the caller's policy. No
//! call waits for ever on a silent peer: see [`Timeouts`].
//!
//! # Limits
//! No key may be another key's folder (`a` and `a/b`): a directory cannot hold both. Concurrency and memory are the caller's: a store holds no more than the bodies it was given.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cloud::Lifetime;
use crate::layout::{ObjectKey, ProbeKey};

mod bandwidth;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
mod fs;
mod gcs;
mod http_time;
mod location;
mod s3;
mod upload;

pub use bandwidth::{Bandwidth, LEAST_FOR_EACH};
pub use error::{Operation, ServiceFailure, StoreError};
use location::Location;
pub use upload::part_size;

/// The longest key, prefix included, in bytes (S3 user guide, "Naming Amazon S3 objects"; the same at GCS).
pub const MAX_KEY_LEN: usize = 1024;

/// The bytes of an object as they arrive, in order.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// What a store knows of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: ObjectKey,
    /// Bytes in it.
    pub size: u64,
    /// CRC32C of all of it, as the store itself computed it. `None`: this store does not tell.
    pub crc32c: Option<u32>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: ObjectKey,
    /// Bytes in it.
    pub size: u64,
}

/// The object that an upload will become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadFacts {
    /// Bytes in all parts, at least one.
    pub size: u64,
    /// CRC32C of all of them.
    pub crc32c: u32,
}

/// A store's name for an upload that has begun. It outlives the process: keep it to resume.
///
/// To some stores it is also the permission to write, so it is not shown.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(String);

impl UploadId {
    /// An id as a store gave it earlier.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id, to be kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadId(…)")
    }
}

/// A part to be sent.
#[derive(Debug, Clone)]
pub struct Part {
    /// Counts from 1, without a hole.
    pub number: u32,
    /// Where in the object it begins.
    pub offset: u64,
    /// Its bytes: [`ObjectStore::part_size`] of them, the last part what is left.
    pub body: Bytes,
    /// CRC32C of `body`.
    pub crc32c: u32,
}

/// A part that a store holds. Stored by callers; additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReceipt {
    /// The part's number.
    pub number: u32,
    /// Bytes in it.
    pub size: u64,
    /// The store's name for this content; opaque.
    pub etag: String,
    /// Its CRC32C. `None`: listed by a store that keeps none per part (the whole object's still
    /// decides when the upload completes).
    pub crc32c: Option<u32>,
}

/// How a store takes an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadKind {
    /// In parts, in any order and side by side. The store has a part whole or not at all. Begun uploads are listed,
    /// and never expire by themselves (TRAPS 29).
    Parts,
    /// As one stream, part by part in their order. A part may be there to some extent; sent again, it goes on there.
    /// The end of the last part waits in memory for [`complete_upload`](ObjectStore::complete_upload) (so that nothing
    /// becomes visible before): another process sends that part again. Begun uploads cannot be listed, and expire by
    /// themselves.
    Stream,
}

/// An upload that was begun, and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingUpload {
    /// The object it would become.
    pub key: ObjectKey,
    /// Its name.
    pub id: UploadId,
    /// When it was begun, by the store's clock.
    pub started: Timestamp,
    /// How long ago that is, by the same clock: this machine's may be wrong. Zero when the store does not tell the
    /// time.
    pub age: Duration,
}

impl PendingUpload {
    fn by_key_and_age(&self, other: &Self) -> Ordering {
        (&self.key, self.started).cmp(&(&other.key, other.started))
    }
}

/// A place for objects. See the [module](self) for what all backends promise.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// The store's URL in canonical form, for messages.
    fn url(&self) -> &str;

    /// Creates the object `key` with all of `body`, if the key is free.
    ///
    /// MUST NOT change an existing object. When it returns `Ok` the object is durable.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when an object is there, by whoever's hand: this call's own
    /// first attempt included, when its answer was lost. Compare (see [module](self)). After any
    /// other error it is unknown whether the object is there.
    async fn put_if_absent(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError>;

    /// What is at `key`; `None` when nothing is. What it shows is durable.
    ///
    /// `file://` reads the object back to answer; a cloud store answers from what it computed when it
    /// took the bytes.
    ///
    /// # Errors
    /// Those of the service. On S3 a missing bucket looks like a missing object here (the answer to a
    /// HEAD has no body that could tell).
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError>;

    /// Reads the object, or of it `range` as far as the object reaches.
    ///
    /// A connection that breaks in the middle is resumed behind the last byte that was delivered,
    /// within bounds, on the same content only. Bytes are never delivered twice.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::InvalidRange`] when `range` is empty or begins behind
    /// the last byte. The stream ends with its first error: what came before it are true bytes.
    async fn get(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<ByteStream, StoreError>;

    /// All objects whose key begins with `prefix` and is greater than `start_after`. Pages are fetched
    /// as the stream is read (1,000 keys each: TRAPS 31); what is created meanwhile may or may not be
    /// seen.
    ///
    /// Those of one folder MUST come ascending by the bytes of their keys. S3 and `file://` keep that
    /// order over all folders; stores that are file systems within (SeaweedFS) sort a folder by its name
    /// without the slash, so that there `a/x` comes before `a-b`, and `start_after` follows that order.
    /// Whoever begins in the middle names one folder as `prefix`.
    fn list(
        &self,
        prefix: &str,
        start_after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ListedObject, StoreError>>;

    /// Whether a listing that begins in the middle of a folder costs no more than what it tells. Where the folder is a
    /// directory, all its names are read before the first is told.
    fn lists_from_the_middle(&self) -> bool {
        true
    }

    /// The "folders" directly below `prefix` (which is empty or ends in a slash), each a prefix that
    /// ends in a slash, ascending. `file://` may show folders that hold no object.
    ///
    /// # Errors
    /// Those of the service.
    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// Makes the file at `path` the object `key`, if the key is free, without its bytes being written once more: a second
    /// name for them, where the store is a directory on the file's filesystem. `false`: it cannot, and nothing has changed;
    /// send it. The file MUST be whole and synced, and never be written again.
    ///
    /// # Errors
    /// As [`put_if_absent`](Self::put_if_absent).
    async fn link_if_absent(&self, _key: &ObjectKey, _path: &Path) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// How it takes an upload.
    fn upload_kind(&self) -> UploadKind {
        UploadKind::Parts
    }

    /// Begins an upload of what will be `key`. Costs storage until it is completed or aborted.
    ///
    /// # Errors
    /// Those of the service; [`StoreError::AlreadyExists`] where it looks at the key that early. After an error an upload may have begun whose id nobody knows:
    /// [`list_uploads`](Self::list_uploads) finds it.
    async fn begin_upload(
        &self,
        key: &ObjectKey,
        facts: &UploadFacts,
    ) -> Result<UploadId, StoreError>;

    /// The parts that the store holds, ascending by number; `None` when it knows no such upload: it
    /// was completed, aborted or expired. Then `head` the key, and begin again if nothing is there.
    ///
    /// # Errors
    /// Those of the service.
    async fn uploaded_parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<Option<Vec<PartReceipt>>, StoreError>;

    /// Sends one part; parts may be sent in any order and side by side ([`UploadKind::Stream`]: in their order, one
    /// after the other), but not one part twice at the same time.
    ///
    /// A part that is sent again MUST have the same bytes (TRAPS 30).
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when the bytes do not have the CRC32C: they then count as not sent.
    /// [`StoreError::UploadUnknown`]. After any other error it is unknown whether the store has the part:
    /// send it again, or ask [`uploaded_parts`](Self::uploaded_parts).
    async fn upload_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        part: Part,
    ) -> Result<PartReceipt, StoreError>;

    /// Makes the object of its parts, if the key is free, and ends the upload.
    ///
    /// MUST NOT change an existing object. When it returns `Ok` the object is durable and has the
    /// size and CRC32C in `facts`.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when an object is there, by whoever's hand: compare (see
    /// [module](self)). [`StoreError::Mismatch`] when the parts do not add up to `facts`. Neither can
    /// ever become an object, so the upload was aborted, as far as that was possible: begin again where
    /// there is need. [`StoreError::UploadUnknown`]: neither upload nor object are there, begin again.
    /// After any other error it is unknown whether the object is there.
    async fn complete_upload(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[PartReceipt],
        facts: &UploadFacts,
    ) -> Result<(), StoreError>;

    /// Ends the upload and drops its parts. That it is unknown is no error.
    ///
    /// # Errors
    /// Those of the service; call again.
    async fn abort_upload(&self, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError>;

    /// All uploads of keys that begin with `prefix` that have begun and not ended, ascending by key, then
    /// age. They never expire by themselves (TRAPS 29), so whoever begins uploads looks here for what
    /// it has forgotten. [`UploadKind::Stream`]: none is shown.
    ///
    /// # Errors
    /// Those of the service.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError>;

    /// Deletes a probe. That nothing is there is no error. Where objects have versions, the older one stays.
    ///
    /// # Errors
    /// Those of the service; an identity that may not delete is a good one for an archive.
    async fn remove_probe(&self, probe: &ProbeKey) -> Result<(), StoreError>;

    /// What time the service says that it is, to the second; `None` where there is nobody but this machine to ask.
    ///
    /// # Errors
    /// Those of a listing.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// How long the credentials last that were used last. Asks nobody.
    fn credentials(&self) -> Lifetime {
        Lifetime::None
    }

    /// The size of every part but the last for an object of `size` bytes: the same for the same size,
    /// at least 8 MiB, and at most 10,000 parts.
    fn part_size(&self, size: u64) -> u64 {
        upload::part_size(size)
    }
}

/// Reads the object at `key` into memory, if it has no more than `max` bytes.
///
/// # Errors
/// [`StoreError::TooLarge`] as soon as more than `max` bytes have come; those of [`ObjectStore::get`].
pub async fn read_all(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    max: usize,
) -> Result<Bytes, StoreError> {
    let mut body = store.get(key, None).await?;
    let mut all = BytesMut::new();
    while let Some(bytes) = body.try_next().await? {
        if bytes.len() > max.saturating_sub(all.len()) {
            return Err(StoreError::TooLarge {
                object: location::object_url(store.url(), key),
                max,
            });
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all.freeze())
}

/// Which store, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreConfig {
    /// `file:///directory`, `s3://bucket/prefix` or `gs://bucket/prefix`. Special characters may be percent-encoded, as in
    /// any URL: `file:///srv/my%20archive`; `%`, `?` and `#` must be.
    pub url: String,
    /// S3 and GCS: `http(s)://host:port` of a store that is not AWS or Google. Buckets are then addressed by path.
    pub endpoint: Option<String>,
    /// S3 only. Unset: from the SDK's default chain (environment, profile, instance metadata), and
    /// `us-east-1` where an endpoint is set.
    pub region: Option<String>,
    /// S3: `profile:NAME` or `file:PATH` (a shared credentials file in AWS's format, its default
    /// profile; read again when the credentials are renewed). Unset: the SDK's default chain.
    ///
    /// GCS: `default` (as unset: Google's Application Default Credentials), `file:PATH` (a key or a workload identity
    /// configuration in Google's JSON format; read again when the credentials are renewed), or `anonymous`, for an
    /// emulator at an `endpoint`.
    pub credentials: Option<String>,
    /// What no other kind of store has.
    pub s3: S3Settings,
}

/// Settings of `s3://` destinations alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Settings {
    /// The ARN of a role to assume with the credentials.
    pub role: Option<String>,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// Credentials are renewed so long before they expire, at most half their lifetime. Unset: 5 minutes.
    pub renew_ahead: Option<Duration>,
    /// How buckets are addressed: `path` or `virtual-host`. Unset: by path where there is an endpoint, else by host.
    pub addressing: Option<String>,
    /// Use AWS's endpoints that have IPv6 addresses too.
    pub dual_stack: bool,
    /// How the service encrypts what it stores, beside our own encryption: `AES256`, `aws:kms`, `aws:kms:KEY`.
    pub encryption: Option<String>,
    /// The storage class of archive objects.
    pub storage_class: Option<String>,
    /// Tags of every object, ten at most.
    pub tags: BTreeMap<String, String>,
    /// `governance` or `compliance`, in a bucket that was made with object lock.
    pub object_lock: Option<String>,
    /// How long objects are locked, from when they are written.
    pub retain_days: Option<u32>,
}

/// How long a store waits. The default is for production; tests shorten it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to be made.
    pub connect: Duration,
    /// For one attempt of a request, body and answer, at least.
    pub attempt: Duration,
    /// A body may take longer than `attempt` if it moves at this speed at least.
    pub slowest_bytes_per_second: u64,
    /// For the answer to a completed upload; stores may assemble the object first.
    pub complete: Duration,
    /// Between two pieces of a body: nothing in this time means that the peer is gone.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(30),
            slowest_bytes_per_second: 256 * 1024,
            // "Processing of a CompleteMultipartUpload request could take several minutes" (S3 API reference).
            complete: Duration::from_mins(5),
            idle: Duration::from_secs(20),
        }
    }
}

/// How long a store waits, and how fast it sends.
#[derive(Debug, Clone, Default)]
struct Limits {
    timeouts: Timeouts,
    /// Shared with the other stores of the process.
    bandwidth: Option<Arc<Bandwidth>>,
}

impl Limits {
    /// For one attempt that moves `bytes` one way.
    fn attempt_for(&self, bytes: u64) -> Duration {
        let slowest = self.timeouts.slowest_bytes_per_second;
        let allowed = self.bandwidth.as_ref().map(|limit| limit.slowest());
        let slowest = allowed.map_or(slowest, |allowed| allowed.min(slowest));
        let moving = Duration::from_secs(bytes / slowest.max(1));
        self.timeouts.attempt.max(moving)
    }
}

/// Opens the store. Nothing is contacted yet.
///
/// # Errors
/// [`StoreError::Config`] when the configuration cannot be meant.
pub fn connect(config: &StoreConfig) -> Result<Arc<dyn ObjectStore>, StoreError> {
    open(config, Limits::default())
}

/// As [`connect`]; all uploads share `bandwidth`, where there is one, with those of other stores.
///
/// # Errors
/// As [`connect`].
pub fn connect_within(
    config: &StoreConfig,
    bandwidth: Option<Arc<Bandwidth>>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let timeouts = Timeouts::default();
    open(
        config,
        Limits {
            timeouts,
            bandwidth,
        },
    )
}

/// As [`connect`], with other time-outs.
///
/// # Errors
/// As [`connect`].
pub fn connect_with_timeouts(
    config: &StoreConfig,
    timeouts: Timeouts,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    open(
        config,
        Limits {
            timeouts,
            bandwidth: None,
        },
    )
}

fn open(config: &StoreConfig, limits: Limits) -> Result<Arc<dyn ObjectStore>, StoreError> {
    match Location::parse(&config.url)? {
        Location::Directory { path, url } => {
            location::refuse_cloud_settings(config)?;
            Ok(Arc::new(fs::FsStore::new(path, url, limits.bandwidth)))
        }
        Location::S3(bucket) => Ok(Arc::new(s3::S3Store::new(bucket, config, limits)?)),
        Location::Gcs(bucket) => {
            location::refuse_region(config)?;
            Ok(Arc::new(gcs::GcsStore::new(bucket, config, limits)?))
        }
    }
}

/// The CRC32C as the cloud stores write it: base64 of its four bytes, the high one first.
fn crc32c_to_base64(crc32c: u32) -> String {
    data_encoding::BASE64.encode(&crc32c.to_be_bytes())
}

/// `None` for anything else, such as the checksum of checksums that S3 calls COMPOSITE.
fn crc32c_from_base64(text: &str) -> Option<u32> {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32/ISCSI over "123456789", RFC 3720 appendix B.4's polynomial.
    #[test]
    fn crc32c_is_written_as_the_stores_write_it() {
        let crc32c = crc32c::crc32c(b"123456789");
        assert_eq!(crc32c, 0xE306_9283);
        assert_eq!(crc32c_to_base64(crc32c), "4waSgw==");
        assert_eq!(crc32c_from_base64("4waSgw=="), Some(crc32c));
        for composite in ["4waSgw==-3", "4waSgw", "", "AAAAAAAA"] {
            assert_eq!(crc32c_from_base64(composite), None, "{composite}");
        }
    }

    #[test]
    fn a_slow_but_moving_body_gets_the_time_it_needs() {
        let limits = Limits::default();
        assert_eq!(limits.attempt_for(0), Duration::from_secs(30));
        assert_eq!(limits.attempt_for(8 << 20), Duration::from_secs(32));
        assert_eq!(limits.attempt_for(256 << 20), Duration::from_secs(1024));
    }

    #[test]
    fn a_body_that_shares_a_limit_gets_twice_its_share_of_time() {
        let limit = Bandwidth::new(1 << 20, 8).map(Arc::new);
        let limits = Limits {
            bandwidth: Some(limit.unwrap()),
            ..Limits::default()
        };
        assert_eq!(limits.attempt_for(8 << 20), Duration::from_secs(128));
    }

    #[test]
    fn an_upload_id_is_not_shown() {
        let id = UploadId::new("secret-session");
        assert!(!format!("{id:?}").contains("secret"));
    }
}
