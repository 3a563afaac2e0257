//! What Google's crate sends: memory, in pieces when each waits for its turn.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use google_cloud_storage::streaming_source::{Seek, SizeHint, StreamingSource};

use crate::store::bandwidth::{Bandwidth, PIECE};

/// A body that can be sent again.
pub(super) struct Source {
    bytes: Bytes,
    left: Bytes,
    bandwidth: Option<Arc<Bandwidth>>,
}

impl Source {
    pub(super) fn new(bytes: Bytes, bandwidth: Option<Arc<Bandwidth>>) -> Self {
        Self {
            left: bytes.clone(),
            bytes,
            bandwidth,
        }
    }
}

impl StreamingSource for Source {
    type Error = Infallible;

    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        let size = match &self.bandwidth {
            Some(_) => self.left.len().min(PIECE),
            None => self.left.len(),
        };
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.turn(size).await;
        }
        let piece = self.left.split_to(size);
        (!piece.is_empty()).then_some(Ok(piece))
    }

    async fn size_hint(&self) -> Result<SizeHint, Infallible> {
        Ok(SizeHint::with_exact(self.left.len() as u64))
    }
}

impl Seek for Source {
    type Error = Infallible;

    async fn seek(&mut self, offset: u64) -> Result<(), Infallible> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.left = self.bytes.slice(offset.min(self.bytes.len())..);
        Ok(())
    }
}
