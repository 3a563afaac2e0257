//! Reading an object, across connections that break.
//!
//! Google's crate sends the requests. It could resume by itself as well, but not after a peer that falls silent, which
//! it waits for without end; so one resumption is enough, ours: a body that is cut, or stalls for
//! [`Timeouts::idle`](crate::store::Timeouts::idle), is asked for again from the byte behind the last one delivered,
//! of the same generation. The time that the reader takes between two chunks does not count. The CRC32C over all
//! of an object is compared here, since it spans resumptions.
//!
//! Bounds: [`MAX_BARREN`] resumptions in a row that bring no byte, [`MAX_RESUMES`] in all.
//!
//! # Limits
//! The crate does not tell which range an answer has. A service that ignored `Range` would be found out by the number
//! of bytes only; Google's does so for objects stored as gzip, of which an archive has none.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::model_ext::ReadRange;
use google_cloud_storage::read_object::ReadObjectResponse;
use google_cloud_storage::read_resume_policy::NeverResume;
use reqwest::StatusCode;

use super::failure::Failing;
use super::{GcsStore, retry};
use crate::layout::ObjectKey;
use crate::retry::RetryClass;
use crate::store::{ByteStream, Operation, StoreError};

/// Resumptions in a row that bring nothing.
const MAX_BARREN: u32 = 5;

/// Resumptions of one read: a slow reader of a big object is cut off many times by services that close idle
/// connections.
const MAX_RESUMES: u32 = 1000;

/// Before the first resumption; it doubles with each one that brings nothing.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The service reads positions as signed numbers.
const GREATEST_POSITION: u64 = i64::MAX as u64;

/// An object, or a range of it, being read.
#[derive(Debug)]
struct Download {
    store: GcsStore,
    key: ObjectKey,
    failing: Failing,
    /// The next byte to come.
    next: u64,
    /// The byte behind the last one.
    end: u64,
    generation: i64,
    /// For a whole object: the CRC32C that it has, and that of what came.
    checksum: Option<(u32, u32)>,
    /// `None` after it broke.
    body: Option<ReadObjectResponse>,
    /// Resumptions since the last byte.
    barren: u32,
    resumes: u32,
}

/// Sends the first request at once, so that its errors are the call's.
pub(super) async fn open(
    store: &GcsStore,
    key: &ObjectKey,
    range: Option<Range<u64>>,
) -> Result<ByteStream, StoreError> {
    let failing = store.failing(Operation::Get, key);
    if let Some(Range { start, end }) = range
        && (start >= end || start >= GREATEST_POSITION)
    {
        let object = failing.object;
        return Err(StoreError::InvalidRange { object, start, end });
    }
    let body = retry::attempts(|| request(store, key, &failing, range.clone(), None)).await?;
    let object = body.object();
    let size = u64::try_from(object.size).map_err(|_| failing.oddly("a negative size"))?;
    let stored = object.checksums.and_then(|checksums| checksums.crc32c);
    let (next, end) = match &range {
        None => (0, size),
        Some(range) => (range.start, range.end.min(size)),
    };
    // An answer without a size looks as if the object were empty.
    let is_sized = size > 0 || (range.is_none() && stored.is_none_or(|crc32c| crc32c == 0));
    if !is_sized || next > end {
        return Err(failing.oddly(format!("an object of {size} bytes for bytes from {next}")));
    }
    let download = Download {
        store: store.clone(),
        key: key.clone(),
        failing,
        next,
        end,
        generation: object.generation,
        checksum: stored.filter(|_| range.is_none()).map(|stored| (stored, 0)),
        body: Some(body),
        barren: 0,
        resumes: 0,
    };
    Ok(stream::try_unfold(download, Download::step).boxed())
}

impl Download {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        loop {
            if self.next == self.end {
                return self.check().map(|()| None);
            }
            let broken = match self.read().await {
                Ok(bytes) => {
                    self.next = self.next.saturating_add(bytes.len() as u64);
                    if let Some((_, came)) = &mut self.checksum {
                        *came = crc32c::crc32c_append(*came, &bytes);
                    }
                    self.barren = 0;
                    return Ok(Some((bytes, self)));
                }
                Err(error) => error,
            };
            self.body = None;
            if broken.retry_class() == RetryClass::Never
                || self.barren >= MAX_BARREN
                || self.resumes >= MAX_RESUMES
            {
                return Err(broken);
            }
            tracing::debug!(object = %self.failing.object, at = self.next, error = %broken, "resuming a read");
            let delay = FIRST_DELAY.saturating_mul(1 << self.barren.min(MAX_BARREN));
            self.barren = self.barren.saturating_add(1);
            self.resumes = self.resumes.saturating_add(1);
            tokio::time::sleep(delay).await;
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.checksum {
            Some((stored, came)) if stored != came => {
                let Failing { operation, object } = self.failing.clone();
                Err(StoreError::crc_mismatch(operation, object, came, stored))
            }
            _ => Ok(()),
        }
    }

    /// The next bytes, never none.
    async fn read(&mut self) -> Result<Bytes, StoreError> {
        let idle = self.store.connection.limits.timeouts.idle;
        if self.body.is_none() {
            let rest = self.next..self.end;
            let (store, key, failing) = (&self.store, &self.key, &self.failing);
            let body = request(store, key, failing, Some(rest), Some(self.generation)).await;
            self.body = Some(body.map_err(|error| match error {
                // This generation is there no more.
                StoreError::NotFound { object } => StoreError::Changed { object },
                other => other,
            })?);
        }
        let body = self
            .body
            .as_mut()
            .ok_or_else(|| self.failing.oddly("no body"))?;
        loop {
            match tokio::time::timeout(idle, body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.is_empty() => {}
                Ok(Some(Ok(bytes))) => {
                    let left = self.end.saturating_sub(self.next);
                    if bytes.len() as u64 > left {
                        return Err(self.failing.oddly("more bytes came than were announced"));
                    }
                    return Ok(bytes);
                }
                Ok(Some(Err(error))) => return Err(self.failing.by_crate(&error)),
                Ok(None) => {
                    let (next, end) = (self.next, self.end);
                    return Err(self.failing.oddly(format!("ended at byte {next} of {end}")));
                }
                Err(_) => {
                    return Err(StoreError::Stalled {
                        operation: self.failing.operation,
                        object: self.failing.object.clone(),
                        at: self.next,
                        waited: idle,
                    });
                }
            }
        }
    }
}

async fn request(
    store: &GcsStore,
    key: &ObjectKey,
    failing: &Failing,
    range: Option<Range<u64>>,
    generation: Option<i64>,
) -> Result<ReadObjectResponse, StoreError> {
    let client = store.connection.client(failing).await?;
    let mut read = client
        .read_object(store.resource_name(), store.bucket.full_key(key))
        // The checksum spans resumptions, see above.
        .compute_crc32c(false)
        .with_retry_policy(NeverRetry)
        .with_read_resume_policy(NeverResume);
    if let Some(generation) = generation {
        read = read.set_generation(generation);
    }
    if let Some(Range { start, end }) = range {
        let most = GREATEST_POSITION.saturating_sub(start);
        let limit = end.saturating_sub(start).min(most);
        read = read.set_read_range(ReadRange::segment(start, limit));
    }
    let patience = store.connection.limits.timeouts.attempt;
    let answer = tokio::time::timeout(patience, read.send()).await;
    let answer = answer.map_err(|_| failing.silent_for(patience))?;
    answer.map_err(|error| {
        let is_unsatisfiable =
            error.http_status_code() == Some(StatusCode::RANGE_NOT_SATISFIABLE.as_u16());
        match range {
            Some(Range { start, end }) if is_unsatisfiable => StoreError::InvalidRange {
                object: failing.object.clone(),
                start,
                end,
            },
            _ => store.refused(failing, &error),
        }
    })
}
