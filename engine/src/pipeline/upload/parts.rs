//! The parts of an upload, on their way.
//!
//! # Owns
//! How many parts are under way at once, in this process and of one upload.
//!
//! # How
//! There is a place for each upload that there may be at once: lanes, times sources, times destinations. Lanes that rest lend
//! theirs: a large file that is alone is sent by [`PARTS_AT_ONCE`] connections, not at the pace of one; where all lanes
//! upload, each has its own. Places are given in the order in which they were asked for.
//!
//! # Invariants
//! - A part is in memory while it has a place, so memory is bounded by the places, whoever uses them.
//! - Parts begin in ascending order. A store that takes them in no other ([`UploadKind::Stream`]) gets one at a time.
//! - After a failure one at a time, too: a store in trouble is not pressed.
//!
//! # Cancellation
//! Told to stop, it begins no part, and lets those under way arrive. A failed part ends its upload, and with it the others
//! under way, which are sent again at the next attempt: [`PARTS_AT_ONCE`] parts are the most that a kill or a failure costs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use crate::failpoint::failpoint;
use crate::layout::ObjectKey;
use crate::ledger::Route;
use crate::pipeline::PipelineError;
use crate::pipeline::progress::UnderWay;
use crate::pipeline::stop::check;
use crate::store::{Part, PartReceipt, UploadId, UploadKind};

use super::Upload;

/// Parts of one upload under way at once, at most.
const PARTS_AT_ONCE: usize = 4;

/// Room for parts under way. All clones are the same room.
#[derive(Debug, Clone)]
pub struct PartPlaces(Arc<Semaphore>);

impl PartPlaces {
    /// For so many parts at once, one at least.
    #[must_use]
    pub fn new(most: u64) -> Self {
        let most = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(
            most.clamp(1, Semaphore::MAX_PERMITS),
        )))
    }
}

/// Where a part lies in its object.
#[derive(Debug, Clone, Copy)]
struct Extent {
    number: u32,
    offset: u64,
    size: u64,
}

/// What an object is cut into.
fn extents(total: u64, part_size: u64) -> impl Iterator<Item = Extent> {
    let indices = 0..total.div_ceil(part_size);
    indices.zip(1u32..).map(move |(index, number)| {
        let offset = index.saturating_mul(part_size);
        let size = part_size.min(total.saturating_sub(offset));
        Extent {
            number,
            offset,
            size,
        }
    })
}

impl Upload<'_> {
    /// Sends the parts that the store does not hold, and says which ones make the object.
    pub(super) async fn send_missing_parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        held: &[PartReceipt],
        part_size: u64,
    ) -> Result<Vec<PartReceipt>, PipelineError> {
        let route = Route {
            source: self.file.source,
            destination: self.destination,
        };
        let (total, now) = (self.facts.size, self.clock.now());
        let progress = self.uploads.begin(route, self.file.sequence, total, now);
        let at_once = match self.store.upload_kind() {
            UploadKind::Parts if self.attempt <= 1 => PARTS_AT_ONCE,
            UploadKind::Parts | UploadKind::Stream => 1,
        };
        let parts = extents(total, part_size);
        let parts = parts.map(|extent| self.send_part(key, id, held, extent, &progress));
        futures::stream::iter(parts)
            .buffered(at_once)
            .try_collect()
            .await
    }

    /// Sends a part, unless the store holds it.
    async fn send_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        held: &[PartReceipt],
        extent: Extent,
        progress: &UnderWay,
    ) -> Result<PartReceipt, PipelineError> {
        let Extent {
            number,
            offset,
            size,
        } = extent;
        // The room is never closed.
        let _place = self.places.0.acquire().await;
        check(self.stop)?;
        let body = self.read_part(offset, size).await?;
        let crc32c = crc32c::crc32c(&body);
        if let Some(receipt) = held_as(held, number, size, crc32c) {
            progress.resumed(size);
            return Ok(receipt);
        }
        let part = Part {
            number,
            offset,
            body,
            crc32c,
        };
        failpoint!("before-part");
        let receipt = self.store.upload_part(key, id, part).await?;
        failpoint!("part-sent");
        progress.sent(size);
        Ok(receipt)
    }

    /// A sealed object of one part. What is put at its key stays there: it is compared before.
    pub(super) async fn read_whole(&self) -> Result<Bytes, PipelineError> {
        let body = self.read_part(0, self.facts.size).await?;
        if crc32c::crc32c(&body) == self.facts.crc32c {
            return Ok(body);
        }
        let reason = "its bytes are not those that were sealed: its CRC32C has changed";
        Err(PipelineError::Spooled {
            path: self.spooled.to_path_buf(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason),
        })
    }

    /// A piece of the sealed object.
    pub(super) async fn read_part(&self, offset: u64, size: u64) -> Result<Bytes, PipelineError> {
        let path: Arc<Path> = self.spooled.into();
        let read = {
            let path = Arc::clone(&path);
            move || -> std::io::Result<Bytes> {
                let len = usize::try_from(size).map_err(std::io::Error::other)?;
                let mut body = vec![0; len];
                File::open(&path)?.read_exact_at(&mut body, offset)?;
                Ok(body.into())
            }
        };
        let spooled = |source| PipelineError::Spooled {
            path: path.to_path_buf(),
            source,
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|join| spooled(std::io::Error::other(join)))?
            .map_err(spooled)
    }
}

/// The receipt of a part that the store holds already. A store that tells a part's checksum proves it; one that
/// does not is asked for the whole object's at the end.
fn held_as(held: &[PartReceipt], number: u32, size: u64, crc32c: u32) -> Option<PartReceipt> {
    let part = held
        .iter()
        .find(|part| part.number == number && part.size == size)
        .filter(|part| part.crc32c.is_none_or(|there| there == crc32c))?;
    Some(PartReceipt {
        crc32c: Some(crc32c),
        ..part.clone()
    })
}
