//! `s3://`: AWS S3 and what speaks its protocol, through the AWS SDK.
//!
//! # How the contract is kept
//! - *Nothing is overwritten*: `If-None-Match: *` on every `PutObject` and `CompleteMultipartUpload`. A store
//!   that does not know it must answer 501; one that silently ignores it is no place for an archive.
//! - *Bytes are checked*: a CRC32C computed here goes in a header with each body, and the CRC32C of the
//!   whole object with the completion (checksum type `FULL_OBJECT`), so the store refuses what does not fit.
//!   Announced beforehand, it also spares the `aws-chunked` trailers that many stores cannot read.
//!
//! # Retries
//! The SDK's standard mode: [`ATTEMPTS`] attempts within seconds. A body is made anew for each attempt
//! from the caller's `Bytes`, without a copy. A lost answer to a create is sent again and then comes
//! back as [`StoreError::AlreadyExists`] though the first attempt had succeeded: callers compare.
//!
//! # Time-outs
//! The SDK has none but for connecting; each attempt gets [`Timeouts::attempt`] or what its body needs
//! at the slowest tolerable speed. Its stalled-stream protection guards bodies on the way up; on the
//! way down it would take a slow reader for a slow peer, so [`download`] has its own guard.
//!
//! # Limits
//! An object of more than 5 TiB, or a put of more than 5 GiB, is refused by the service.

mod body;
#[cfg(test)]
mod canned;
mod connection;
mod date;
mod download;
mod failure;
mod multipart;
mod options;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use self::connection::Connection;
use self::date::AnsweredAt;
use self::failure::Failing;
use self::options::Options;
use super::location::{Bucket, object_url};
use super::{
    ByteStream, Limits, ListedObject, ObjectMeta, ObjectStore, Operation, Part, PartReceipt,
    PendingUpload, StoreConfig, StoreError, UploadFacts, UploadId, crc32c_from_base64,
    crc32c_to_base64,
};
use crate::cloud::Lifetime;
use crate::layout::{ObjectKey, ProbeKey};

/// Attempts of one request, the first included.
const ATTEMPTS: u32 = 3;

/// A bucket, or a prefix in one.
#[derive(Debug, Clone)]
pub(super) struct S3Store {
    bucket: Bucket,
    connection: Arc<Connection>,
    options: Options,
}

impl S3Store {
    pub(super) fn new(
        bucket: Bucket,
        config: &StoreConfig,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let connection = Arc::new(Connection::new(config, limits)?);
        let options = Options::new(&config.s3)?;
        Ok(Self {
            bucket,
            connection,
            options,
        })
    }

    async fn client(&self) -> Result<Client, StoreError> {
        self.connection.client(&self.bucket.url).await
    }

    fn bucket_name(&self) -> &str {
        &self.bucket.name
    }

    fn failing(&self, operation: Operation, key: &ObjectKey) -> Failing {
        Failing {
            operation,
            object: object_url(&self.bucket.url, key),
            connection: Arc::clone(&self.connection),
        }
    }

    fn failing_at(&self, operation: Operation, prefix: &str) -> Failing {
        Failing {
            operation,
            object: format!("{}/{prefix}", self.bucket.url),
            connection: Arc::clone(&self.connection),
        }
    }

    /// One page of a listing, and where the next one begins.
    async fn list_page(
        &self,
        prefix: &str,
        from: Option<PageStart>,
    ) -> Result<(Vec<ListedObject>, Option<PageStart>), StoreError> {
        let failing = self.failing_at(Operation::List, prefix);
        let request = self.client().await?.list_objects_v2();
        let request = request
            .bucket(self.bucket_name())
            .prefix(self.bucket.full_prefix(prefix));
        let request = match from {
            None => request,
            Some(PageStart::After(key)) => request.start_after(self.bucket.full_key(&key)),
            Some(PageStart::Token(token)) => request.continuation_token(token),
        };
        let page = request.send().await.map_err(|error| failing.by(error))?;
        let next = page.next_continuation_token.clone().map(PageStart::Token);
        if page.is_truncated() == Some(true) && next.is_none() {
            return Err(failing.oddly("a truncated listing without a continuation token"));
        }
        let objects = page.contents().iter().filter_map(|object| {
            Some(ListedObject {
                key: self.bucket.key_of(object.key()?)?,
                size: object.size().and_then(|size| u64::try_from(size).ok())?,
            })
        });
        Ok((
            objects.collect(),
            next.filter(|_| page.is_truncated() == Some(true)),
        ))
    }
}

/// Where a page of a listing begins.
#[derive(Debug)]
enum PageStart {
    After(ObjectKey),
    Token(String),
}

#[async_trait]
impl ObjectStore for S3Store {
    fn url(&self) -> &str {
        &self.bucket.url
    }

    async fn put_if_absent(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        self.bucket.check(key)?;
        let failing = self.failing(Operation::Put, key);
        let size = body.len();
        let timeout = self.connection.limits.attempt_for(size as u64);
        let request = self.client().await?.put_object();
        self.options
            .put(request, key)
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(key))
            .if_none_match("*")
            .content_length(length(size as u64, &failing)?)
            .checksum_crc32_c(crc32c_to_base64(crc32c::crc32c(&body)))
            .body(self.connection.body(body))
            .customize()
            .config_override(self.connection.attempt_timeout(timeout))
            .send()
            .await
            .map_err(|error| failing.by(error))?;
        Ok(())
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        self.bucket.check(key)?;
        let failing = self.failing(Operation::Head, key);
        let request = self.client().await?.head_object();
        let request = request
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(key));
        let answer = match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(answer) => answer,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(HeadObjectError::is_not_found) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failing.by(error)),
        };
        let size = answer
            .content_length()
            .and_then(|size| u64::try_from(size).ok());
        Ok(Some(ObjectMeta {
            key: key.clone(),
            size: size.ok_or_else(|| failing.oddly("no Content-Length"))?,
            crc32c: answer.checksum_crc32_c().and_then(crc32c_from_base64),
        }))
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
        let prefix = prefix.to_owned();
        let first = start_after.cloned().map(PageStart::After);
        // The state: where the next page begins, or that there is none.
        stream::try_unfold(Some(first), move |from| {
            let prefix = prefix.clone();
            async move {
                let Some(from) = from else { return Ok(None) };
                let (objects, next) = self.list_page(&prefix, from).await?;
                Ok::<_, StoreError>(Some((objects, next.map(Some))))
            }
        })
        .map_ok(|objects| stream::iter(objects).map(Ok))
        .try_flatten()
        .boxed()
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let failing = self.failing_at(Operation::List, prefix);
        let request = self.client().await?.list_objects_v2();
        let request = request.bucket(self.bucket_name()).delimiter("/");
        let mut pages = request
            .prefix(self.bucket.full_prefix(prefix))
            .into_paginator()
            .send();
        let mut prefixes = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failing.by(error))?;
            let folders = page
                .common_prefixes()
                .iter()
                .filter_map(|folder| folder.prefix());
            let folders = folders.filter_map(|full| full.strip_prefix(&self.bucket.prefix));
            prefixes.extend(folders.map(str::to_owned));
        }
        // SeaweedFS orders folders without their slash.
        prefixes.sort_unstable();
        Ok(prefixes)
    }

    async fn begin_upload(
        &self,
        key: &ObjectKey,
        facts: &UploadFacts,
    ) -> Result<UploadId, StoreError> {
        self.begin(key, facts).await
    }

    async fn uploaded_parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<Option<Vec<PartReceipt>>, StoreError> {
        self.parts(key, id).await
    }

    async fn upload_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        part: Part,
    ) -> Result<PartReceipt, StoreError> {
        self.send_part(key, id, part).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[PartReceipt],
        facts: &UploadFacts,
    ) -> Result<(), StoreError> {
        let result = self.complete(key, id, parts, facts).await;
        if let Err(StoreError::AlreadyExists { .. } | StoreError::Mismatch { .. }) = &result {
            // Best effort: what is left is listed, and completing it again ends here again.
            let _ = self.abort(key, id).await;
        }
        result
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError> {
        self.abort(key, id).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        self.pending(prefix).await
    }

    async fn remove_probe(&self, probe: &ProbeKey) -> Result<(), StoreError> {
        let failing = self.failing(Operation::Remove, probe.key());
        let request = self.client().await?.delete_object();
        request
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(probe.key()))
            .send()
            .await
            .map_err(|error| failing.by(error))?;
        Ok(())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let failing = self.failing_at(Operation::List, "");
        let request = self.client().await?.list_objects_v2();
        let answered = AnsweredAt::default();
        request
            .bucket(self.bucket_name())
            .prefix(self.bucket.full_prefix(""))
            .max_keys(1)
            .customize()
            .interceptor(answered.clone())
            .send()
            .await
            .map_err(|error| failing.by(error))?;
        Ok(answered.time())
    }

    fn credentials(&self) -> Lifetime {
        self.connection.credentials()
    }
}

/// A size as the SDK wants it.
fn length(bytes: u64, failing: &Failing) -> Result<i64, StoreError> {
    i64::try_from(bytes).map_err(|_| failing.invalid(format!("{bytes} bytes are too many")))
}
