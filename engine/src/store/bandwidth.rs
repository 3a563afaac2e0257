//! How fast all uploads of a process may go together.
//!
//! Each piece of a body waits for its turn before it is handed to the connection. Turns are given in the order in which
//! they are asked for, so uploads side by side share the line evenly, and one that stands still holds up no other.
//! (Token buckets on crates.io either let the waiters race, or have one of them drive all others: here that one may
//! be a connection whose peer went silent.)
//!
//! # After a cancel
//! A turn that was given and not used is lost: less is sent than allowed, by one piece.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// What is handed to a connection at a time: small, so that the guards against a stalled body see it move.
pub(super) const PIECE: usize = 64 * 1024;

/// The least that a limit must leave for each upload, in bytes per second: a body that moves more slowly cannot be told
/// from one that has stopped.
pub const LEAST_FOR_EACH: u64 = PIECE as u64;

const NANOS: u64 = 1_000_000_000;

/// A limit, and the uploads that share it.
#[derive(Debug)]
pub struct Bandwidth {
    per_second: u64,
    for_each: u64,
    /// When what was sent so far is over.
    free: Mutex<Option<Instant>>,
}

impl Bandwidth {
    /// So many bytes per second for at most so many uploads at once. `None` when that leaves less than
    /// [`LEAST_FOR_EACH`] for each.
    #[must_use]
    pub fn new(per_second: u64, uploads: u64) -> Option<Self> {
        let for_each = per_second.checked_div(uploads)?;
        (for_each >= LEAST_FOR_EACH).then_some(Self {
            per_second,
            for_each,
            free: Mutex::new(None),
        })
    }

    /// The speed below which an upload counts as stopped.
    pub(super) fn slowest(&self) -> u64 {
        self.for_each / 2
    }

    /// Waits until so many bytes may be sent.
    pub(super) async fn turn(&self, bytes: usize) {
        sleep_until(self.reserve(bytes)).await;
    }

    /// When so many bytes may be sent.
    fn reserve(&self, bytes: usize) -> Instant {
        let nanos = (bytes as u64).saturating_mul(NANOS) / self.per_second.max(1);
        let takes = Duration::from_nanos(nanos);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let turn = free.map_or(now, |free| free.max(now));
        *free = Some(turn + takes);
        turn
    }
}

/// A request's body: pieces of memory that is shared, each in its turn.
pub(super) struct Pieces {
    left: Bytes,
    bandwidth: Option<Arc<Bandwidth>>,
    /// The turn of the next piece.
    turn: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    pub(super) fn new(bytes: Bytes, bandwidth: Option<Arc<Bandwidth>>) -> Self {
        Self {
            left: bytes,
            bandwidth,
            turn: None,
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let size = this.left.len().min(PIECE);
        if size == 0 {
            return Poll::Ready(None);
        }
        if let Some(bandwidth) = &this.bandwidth {
            let turn = this
                .turn
                .get_or_insert_with(|| Box::pin(sleep_until(bandwidth.reserve(size))));
            ready!(turn.as_mut().poll(context));
            this.turn = None;
        }
        let piece = this.left.split_to(size);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const MIB: usize = 1 << 20;

    async fn send(bytes: usize, bandwidth: Option<Arc<Bandwidth>>) -> Duration {
        let begin = Instant::now();
        let body = Pieces::new(Bytes::from(vec![7; bytes]), bandwidth);
        assert_eq!(body.size_hint().exact(), Some(bytes as u64));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), bytes);
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        assert_eq!(send(8 * MIB, None).await, Duration::ZERO);
        assert_eq!(send(0, None).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_share_the_limit_evenly() {
        let bandwidth = Arc::new(Bandwidth::new(MIB as u64, 4).unwrap());
        let uploads = (0..4).map(|_| send(4 * MIB, Some(Arc::clone(&bandwidth))));
        let took = futures::future::join_all(uploads).await;
        for took in took {
            // 16 MiB in all: the last piece of each goes out shortly before the end.
            let took = took.as_secs_f64();
            assert!((15.5..=16.0).contains(&took), "{took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_stands_still_holds_up_no_other() {
        let bandwidth = Arc::new(Bandwidth::new(MIB as u64, 2).unwrap());
        let mut still = Pieces::new(Bytes::from(vec![7; MIB]), Some(Arc::clone(&bandwidth)));
        // It has asked for its second turn, and nobody asks it again.
        still.frame().await.unwrap().unwrap();
        let waits = futures::poll!(still.frame());
        assert!(waits.is_pending());
        let took = send(MIB, Some(bandwidth)).await.as_secs_f64();
        assert!((1.0..=1.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_sent_in_a_quiet_hour_is_not_caught_up() {
        let bandwidth = Arc::new(Bandwidth::new(MIB as u64, 1).unwrap());
        send(MIB, Some(Arc::clone(&bandwidth))).await;
        tokio::time::sleep(Duration::from_hours(1)).await;
        let took = send(2 * MIB, Some(bandwidth)).await.as_secs_f64();
        assert!((1.9..=2.0).contains(&took), "{took}");
    }

    #[test]
    fn a_limit_leaves_each_upload_enough_to_be_seen_moving() {
        assert!(Bandwidth::new(4 * LEAST_FOR_EACH, 4).is_some());
        assert!(Bandwidth::new(4 * LEAST_FOR_EACH - 1, 4).is_none());
        assert!(Bandwidth::new(MIB as u64, 0).is_none());
    }
}
