//! Request bodies that can be sent again without being copied.

use std::sync::Arc;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;

use crate::store::bandwidth::{Bandwidth, Pieces};

/// A body of `bytes`; each attempt begins anew on the same memory. The SDK does not hash it (it
/// would hash a body that it knows to be in memory): the caller gives the checksum.
pub(super) fn retryable(bytes: Bytes, bandwidth: Option<Arc<Bandwidth>>) -> ByteStream {
    let pieces = move || Pieces::new(bytes.clone(), bandwidth.clone());
    let body = SdkBody::retryable(move || SdkBody::from_body_1_x(pieces()));
    ByteStream::new(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_attempt_sends_all_bytes_of_the_same_memory() {
        let bytes = Bytes::from(vec![7; 128 * 1024 + 1]);
        let body = retryable(bytes.clone(), None).into_inner();
        assert_eq!(body.content_length(), Some(bytes.len() as u64));
        assert!(body.is_streaming());
        for attempt in [body.try_clone().unwrap(), body] {
            let sent = ByteStream::new(attempt).collect().await.unwrap();
            let segments: Vec<Bytes> = sent.into_segments().collect();
            let sizes: Vec<usize> = segments.iter().map(Bytes::len).collect();
            assert_eq!(sizes, [64 * 1024, 64 * 1024, 1]);
            assert_eq!(segments[0].as_ptr(), bytes.as_ptr(), "copied");
        }
    }

    #[tokio::test]
    async fn an_empty_body_is_a_body() {
        let body = retryable(Bytes::new(), None).into_inner();
        assert_eq!(body.content_length(), Some(0));
        let sent = ByteStream::new(body).collect().await.unwrap();
        assert!(sent.into_bytes().is_empty());
    }
}
