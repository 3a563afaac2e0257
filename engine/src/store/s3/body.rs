//! Request bodies that can be sent again without being copied.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// What is handed to the connection at a time: small, so that the SDK's stalled-stream protection sees
/// the body move.
const FRAME_SIZE: usize = 64 * 1024;

/// A body of `bytes`; each attempt begins anew on the same memory. The SDK does not hash it (it
/// would hash a body that it knows to be in memory): the caller gives the checksum.
pub(super) fn retryable(bytes: Bytes) -> ByteStream {
    let body = SdkBody::retryable(move || SdkBody::from_body_1_x(Frames(bytes.clone())));
    ByteStream::new(body)
}

/// The bytes that are left to be sent.
struct Frames(Bytes);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.0.len().min(FRAME_SIZE);
        let frame = self.0.split_to(size);
        Poll::Ready((!frame.is_empty()).then_some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_attempt_sends_all_bytes_of_the_same_memory() {
        let bytes = Bytes::from(vec![7; FRAME_SIZE * 2 + 1]);
        let body = retryable(bytes.clone()).into_inner();
        assert_eq!(body.content_length(), Some(bytes.len() as u64));
        assert!(body.is_streaming());
        for attempt in [body.try_clone().unwrap(), body] {
            let sent = ByteStream::new(attempt).collect().await.unwrap();
            let segments: Vec<Bytes> = sent.into_segments().collect();
            let sizes: Vec<usize> = segments.iter().map(Bytes::len).collect();
            assert_eq!(sizes, [FRAME_SIZE, FRAME_SIZE, 1]);
            assert_eq!(segments[0].as_ptr(), bytes.as_ptr(), "copied");
        }
    }

    #[tokio::test]
    async fn an_empty_body_is_a_body() {
        let body = retryable(Bytes::new()).into_inner();
        assert_eq!(body.content_length(), Some(0));
        assert!(
            ByteStream::new(body)
                .collect()
                .await
                .unwrap()
                .into_bytes()
                .is_empty()
        );
    }
}
