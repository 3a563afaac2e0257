//! Reading an object, across connections that break.
//!
//! A body that is cut, or stalls for [`Timeouts::idle`](crate::store::Timeouts::idle), is asked for
//! again from the byte behind the last one delivered, with `If-Match`, so that the rest is the rest of
//! the same content. The time that the reader takes between two chunks does not count.
//!
//! Bounds: [`MAX_BARREN`] resumptions in a row that bring no byte, [`MAX_RESUMES`] in all.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as SdkStream;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use super::S3Store;
use super::failure::Failing;
use crate::layout::ObjectKey;
use crate::retry::RetryClass;
use crate::store::{ByteStream, Operation, StoreError};

/// Resumptions in a row that bring nothing.
const MAX_BARREN: u32 = 5;

/// Resumptions of one read: a slow reader of a big object is cut off many times by stores that close
/// idle connections.
const MAX_RESUMES: u32 = 1000;

/// Before the first resumption; it doubles with each one that brings nothing.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Servers read positions as signed numbers.
const GREATEST_POSITION: u64 = i64::MAX as u64;

/// An object, or a range of it, being read.
#[derive(Debug)]
struct Download {
    store: S3Store,
    key: ObjectKey,
    failing: Failing,
    /// The next byte to come.
    next: u64,
    /// The byte behind the last one.
    end: u64,
    etag: Option<String>,
    /// `None` after it broke.
    body: Option<SdkStream>,
    /// Resumptions since the last byte.
    barren: u32,
    resumes: u32,
}

/// Sends the first request at once, so that its errors are the call's.
pub(super) async fn open(
    store: &S3Store,
    key: &ObjectKey,
    range: Option<Range<u64>>,
) -> Result<ByteStream, StoreError> {
    let failing = store.failing(Operation::Get, key);
    if let Some(Range { start, end }) = range
        && start >= end
    {
        let object = failing.object;
        return Err(StoreError::InvalidRange { object, start, end });
    }
    let answer = request(store, key, &failing, range.clone(), None).await?;
    let body = match &range {
        None => 0..length_of(&answer, &failing)?,
        Some(range) => range_of(&answer, range.start, &failing)?,
    };
    let download = Download {
        store: store.clone(),
        key: key.clone(),
        failing,
        next: body.start,
        end: body.end,
        etag: answer.e_tag,
        body: Some(answer.body),
        barren: 0,
        resumes: 0,
    };
    Ok(stream::try_unfold(download, Download::step).boxed())
}

impl Download {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        loop {
            if self.next == self.end {
                return Ok(None);
            }
            let broken = match self.read().await {
                Ok(bytes) => {
                    self.next = self.next.saturating_add(bytes.len() as u64);
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

    /// The next bytes, never none.
    async fn read(&mut self) -> Result<Bytes, StoreError> {
        let idle = self.store.connection.limits.timeouts.idle;
        if self.body.is_none() {
            self.body = Some(self.resume().await?);
        }
        let body = self
            .body
            .as_mut()
            .ok_or_else(|| self.failing.oddly("no body"))?;
        let (operation, object) = (self.failing.operation, self.failing.object.clone());
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
                Ok(Some(Err(source))) => {
                    return Err(StoreError::Transport {
                        operation,
                        object,
                        source: source.into(),
                    });
                }
                Ok(None) => {
                    let (next, end) = (self.next, self.end);
                    return Err(self.failing.oddly(format!("ended at byte {next} of {end}")));
                }
                Err(_) => {
                    return Err(StoreError::Stalled {
                        operation,
                        object,
                        at: self.next,
                        waited: idle,
                    });
                }
            }
        }
    }

    async fn resume(&self) -> Result<SdkStream, StoreError> {
        let Some(etag) = self.etag.clone() else {
            return Err(self.failing.oddly("no ETag by which to resume"));
        };
        let rest = self.next..self.end;
        let answer = request(
            &self.store,
            &self.key,
            &self.failing,
            Some(rest),
            Some(etag),
        )
        .await?;
        let body = range_of(&answer, self.next, &self.failing)?;
        if body.end != self.end {
            return Err(self
                .failing
                .oddly("the rest of the object has another size now"));
        }
        Ok(answer.body)
    }
}

async fn request(
    store: &S3Store,
    key: &ObjectKey,
    failing: &Failing,
    range: Option<Range<u64>>,
    if_match: Option<String>,
) -> Result<GetObjectOutput, StoreError> {
    let header = range.as_ref().map(|range| {
        let last = range.end.saturating_sub(1).min(GREATEST_POSITION);
        format!("bytes={}-{last}", range.start)
    });
    let answer = store
        .client()
        .await?
        .get_object()
        .bucket(store.bucket_name())
        .key(store.bucket.full_key(key))
        .set_range(header)
        .set_if_match(if_match)
        .send()
        .await;
    answer.map_err(
        |error| match (error.raw_response().map(|raw| raw.status().as_u16()), range) {
            (Some(416), Some(Range { start, end })) => StoreError::InvalidRange {
                object: failing.object.clone(),
                start,
                end,
            },
            _ => failing.by(error),
        },
    )
}

fn length_of(answer: &GetObjectOutput, failing: &Failing) -> Result<u64, StoreError> {
    let length = answer
        .content_length()
        .and_then(|length| u64::try_from(length).ok());
    length.ok_or_else(|| failing.oddly("no Content-Length"))
}

/// The bytes that the answer has, which must begin at `start`.
fn range_of(
    answer: &GetObjectOutput,
    start: u64,
    failing: &Failing,
) -> Result<Range<u64>, StoreError> {
    let header = answer.content_range().unwrap_or_default();
    match parse_content_range(header) {
        Some(range) if range.start == start => Ok(range),
        _ => Err(failing.oddly(format!(
            "asked for the bytes from {start}, answered with Content-Range {header:?}"
        ))),
    }
}

/// `bytes 0-9/100` (RFC 9110 §14.4).
fn parse_content_range(header: &str) -> Option<Range<u64>> {
    let (range, _) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last)
        .then(|| Some(first..last.checked_add(1)?))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_understood_or_refused() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some(0..10));
        assert_eq!(parse_content_range("bytes 5-5/*"), Some(5..6));
        let endless = format!("bytes 0-{}/*", u64::MAX);
        for odd in [
            "",
            "bytes */100",
            "bytes 9-0/100",
            "0-9/100",
            "bytes 0-9",
            &endless,
        ] {
            assert_eq!(parse_content_range(odd), None, "{odd}");
        }
    }
}
