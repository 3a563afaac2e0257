//! Uploads in parts, over a session that takes one stream.
//!
//! A part goes where the session stands: at its beginning, or inside it after a crash or a short write, since the
//! bytes are the same each time. Of the last part the end, at most [`GRAIN`] bytes, is kept back in memory: what
//! makes the object is the chunk that ends it, and that is [`complete`](GcsStore::complete)'s. So a session never has
//! all of an object before, and a process that resumes finds the last part not held and sends it again, which costs
//! those bytes only.
//!
//! # Unknown outcomes
//! After whatever went wrong the session itself is asked how far it is. One that says that it is done is believed when
//! size and CRC32C are those that were meant.

use bytes::Bytes;

use super::cursors::{Cursor, Tail};
use super::failure::Failing;
use super::resource::Resource;
use super::session::{GRAIN, Progress, Session};
use super::{GcsStore, retry};
use crate::layout::ObjectKey;
use crate::store::upload::{NO_BYTES, part_defect, part_size, receipts_defect};
use crate::store::{Operation, Part, PartReceipt, StoreError, UploadFacts, UploadId};

/// How a session gets on, while requests fail.
#[derive(Debug)]
struct Pace {
    /// Bytes that it has; `None`: it has to be asked.
    known: Option<u64>,
    /// The most that it ever had.
    best: Option<u64>,
    /// Requests in a row that brought it nowhere.
    barren: u32,
}

impl Pace {
    fn new(known: Option<u64>) -> Self {
        Self {
            known,
            best: known,
            barren: 0,
        }
    }

    /// Takes in what one request came to. The object, when it has become one.
    async fn after(
        &mut self,
        step: Result<Progress, StoreError>,
        failing: &Failing,
    ) -> Result<Option<Resource>, StoreError> {
        let asked = self.known.is_none();
        match step {
            Ok(Progress::Done(object)) => return Ok(Some(object)),
            Ok(Progress::Persisted(now)) => {
                let is_progress = self.best.is_none_or(|best| now > best);
                self.known = Some(now);
                self.best = self.best.max(Some(now));
                if is_progress {
                    self.barren = 0;
                } else if !asked {
                    let stuck = failing.oddly(format!("the session takes no byte behind {now}"));
                    self.barren = retry::after_failure(self.barren, stuck).await?;
                }
            }
            Err(error) if retry::may_pass(&error) => {
                self.known = None;
                self.barren = retry::after_failure(self.barren, error).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }
}

impl GcsStore {
    pub(super) async fn begin(
        &self,
        key: &ObjectKey,
        facts: &UploadFacts,
    ) -> Result<UploadId, StoreError> {
        let failing = self.failing(Operation::BeginUpload, key);
        if facts.size == 0 {
            return Err(failing.invalid(NO_BYTES));
        }
        let name = self.bucket.full_key(key);
        let id = self.start(&failing, &name, facts).await?.id();
        let persisted = Some(0);
        self.cursors.set(
            &id,
            Cursor {
                persisted,
                tail: None,
            },
        );
        Ok(id)
    }

    pub(super) async fn parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<Option<Vec<PartReceipt>>, StoreError> {
        let failing = self.failing(Operation::ListParts, key);
        self.cursors.forget(id);
        let Some(session) = Session::parse(id) else {
            return Ok(None);
        };
        let progress = retry::attempts(|| self.status(&failing, &session)).await;
        let persisted = match progress {
            Ok(Progress::Persisted(persisted)) => persisted,
            Ok(Progress::Done(_)) | Err(StoreError::UploadUnknown { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if persisted > session.size {
            return Err(failing.oddly(format!("the session has {persisted} bytes, too many")));
        }
        let cursor = Cursor {
            persisted: Some(persisted),
            tail: None,
        };
        self.cursors.set(id, cursor);
        let size = part_size(session.size);
        let held = (1..)
            .zip(0..persisted / size)
            .map(|(number, _)| PartReceipt {
                number,
                size,
                etag: String::new(),
                crc32c: None,
            });
        Ok(Some(held.collect()))
    }

    pub(super) async fn send_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        part: Part,
    ) -> Result<PartReceipt, StoreError> {
        let failing = self.failing(Operation::UploadPart, key);
        if let Some(reason) = part_defect(&part) {
            return Err(failing.invalid(reason));
        }
        let crc32c = crc32c::crc32c(&part.body);
        if crc32c != part.crc32c {
            let Failing { operation, object } = failing;
            return Err(StoreError::crc_mismatch(
                operation,
                object,
                crc32c,
                part.crc32c,
            ));
        }
        let session = Session::parse(id).ok_or_else(|| failing.unknown_upload())?;
        let (now, tail) = cut(&part, session.size).map_err(|reason| failing.invalid(reason))?;
        let known = self.cursors.of(id).persisted;
        // Asked anew when this ends early.
        self.cursors.forget(id);
        let persisted = self
            .bring(&failing, &session, known, part.offset, &now)
            .await?;
        let cursor = Cursor {
            persisted: Some(persisted),
            tail,
        };
        self.cursors.set(id, cursor);
        Ok(PartReceipt {
            number: part.number,
            size: part.body.len() as u64,
            etag: String::new(),
            crc32c: Some(crc32c),
        })
    }

    /// Brings the session behind `body`, which begins at `offset`, from wherever it stands.
    async fn bring(
        &self,
        failing: &Failing,
        session: &Session,
        known: Option<u64>,
        offset: u64,
        body: &Bytes,
    ) -> Result<u64, StoreError> {
        let end = offset.saturating_add(body.len() as u64);
        let mut pace = Pace::new(known);
        loop {
            let step = match pace.known {
                Some(at) if at >= end => return Ok(at),
                Some(at) => {
                    let Some(rest) = rest(offset, body, at) else {
                        let reason = format!("the session has {at} bytes, not the {offset} before");
                        return Err(failing.oddly(reason));
                    };
                    self.send_chunk(failing, session, at, rest).await
                }
                None => self.status(failing, session).await,
            };
            if pace.after(step, failing).await?.is_some() {
                // Somebody completed it.
                return Err(failing.unknown_upload());
            }
        }
    }

    pub(super) async fn complete(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[PartReceipt],
        facts: &UploadFacts,
    ) -> Result<(), StoreError> {
        let failing = self.failing(Operation::CompleteUpload, key);
        if let Some(reason) = receipts_defect(parts, facts) {
            return Err(failing.invalid(reason));
        }
        let session = Session::parse(id).ok_or_else(|| failing.unknown_upload())?;
        if session.size != facts.size {
            let begun = session.size;
            return Err(failing.invalid(format!(
                "it was begun for {begun} bytes, not {}",
                facts.size
            )));
        }
        match self
            .finish(&failing, &session, self.cursors.of(id), facts)
            .await
        {
            Ok(object) => {
                self.cursors.forget(id);
                object.is(facts.size, facts.crc32c, &failing)
            }
            // Completed, but the answer was lost? Then the object is there (TRAPS 29).
            Err(unknown @ StoreError::UploadUnknown { .. }) => match self.look(key).await? {
                Some(_) => {
                    let Failing { operation, object } = failing;
                    Err(StoreError::AlreadyExists { operation, object })
                }
                None => Err(unknown),
            },
            Err(error) => Err(error),
        }
    }

    /// Sends what is left, until the session has become an object.
    async fn finish(
        &self,
        failing: &Failing,
        session: &Session,
        cursor: Cursor,
        facts: &UploadFacts,
    ) -> Result<Resource, StoreError> {
        let size = session.size;
        let mut pace = Pace::new(cursor.persisted);
        loop {
            let step = match (pace.known, &cursor.tail) {
                (None, _) => self.status(failing, session).await,
                (Some(at), _) if at == size => {
                    self.send_last(failing, session, at, Bytes::new(), facts)
                        .await
                }
                (Some(at), tail) => {
                    let tail = tail.as_ref();
                    let rest = tail.and_then(|tail| rest(tail.offset, &tail.body, at));
                    let Some(rest) = rest else {
                        let reason = format!("the session has {at} of {size} bytes");
                        return Err(failing.oddly(format!("{reason}: send the rest again")));
                    };
                    self.send_last(failing, session, at, rest, facts).await
                }
            };
            if let Some(object) = pace.after(step, failing).await? {
                return Ok(object);
            }
        }
    }

    pub(super) async fn abort(&self, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError> {
        let failing = self.failing(Operation::AbortUpload, key);
        self.cursors.forget(id);
        match Session::parse(id) {
            Some(session) => self.cancel(&failing, &session).await,
            None => Ok(()),
        }
    }
}

/// What of a part is sent at once, and what is kept back, of an object of `size` bytes.
fn cut(part: &Part, size: u64) -> Result<(Bytes, Option<Tail>), String> {
    let Part { number, offset, .. } = *part;
    let len = part.body.len() as u64;
    let end = offset.checked_add(len).filter(|end| *end <= size);
    let end = end.ok_or_else(|| format!("part {number} reaches behind the object's end"))?;
    if !offset.is_multiple_of(GRAIN) || (end != size && !end.is_multiple_of(GRAIN)) {
        return Err(format!("part {number} is no multiple of 256 KiB"));
    }
    if end != size {
        return Ok((part.body.clone(), None));
    }
    // At least one byte.
    let kept = len.saturating_sub(1) / GRAIN * GRAIN;
    let at = usize::try_from(kept).map_err(|_| format!("part {number} is too large"))?;
    let tail = Tail {
        offset: offset.saturating_add(kept),
        // A copy: the part is not held in memory for it.
        body: Bytes::copy_from_slice(part.body.get(at..).unwrap_or_default()),
    };
    Ok((part.body.slice(..at), Some(tail)))
}

/// The bytes of `body`, which begins at `offset`, from `at` on; `None` when they are elsewhere.
fn rest(offset: u64, body: &Bytes, at: u64) -> Option<Bytes> {
    let skip = usize::try_from(at.checked_sub(offset)?).ok()?;
    (skip < body.len()).then(|| body.slice(skip..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: u64, len: u64) -> Part {
        Part {
            number: 1,
            offset,
            body: vec![7; usize::try_from(len).unwrap()].into(),
            crc32c: 0,
        }
    }

    #[test]
    fn the_end_of_the_last_part_is_kept_back_and_never_nothing() {
        for (offset, len, kept) in [
            (0, 100, 100),
            (GRAIN, 1, 1),
            (GRAIN, GRAIN, GRAIN),
            (GRAIN, GRAIN + 1, 1),
            (0, 3 * GRAIN - 1, GRAIN - 1),
        ] {
            let (now, tail) = cut(&part(offset, len), offset + len).unwrap();
            let tail = tail.unwrap();
            assert_eq!(tail.body.len() as u64, kept, "{offset} {len}");
            assert_eq!(tail.offset + kept, offset + len);
            assert_eq!(now.len() as u64, len - kept);
        }
        let (now, tail) = cut(&part(0, GRAIN), GRAIN + 1).unwrap();
        assert_eq!(now.len() as u64, GRAIN);
        assert!(tail.is_none());
    }

    #[test]
    fn parts_that_cannot_be_chunks_are_refused() {
        for (offset, len, size) in [
            (0, 100, 200),
            (1, GRAIN, GRAIN * 3),
            (0, 2, 1),
            (u64::MAX, 1, 5),
        ] {
            assert!(
                cut(&part(offset, len), size).is_err(),
                "{offset} {len} {size}"
            );
        }
    }

    #[test]
    fn what_is_left_begins_where_the_session_stands() {
        let body = Bytes::from_static(b"abcd");
        assert_eq!(rest(10, &body, 10).unwrap(), "abcd");
        assert_eq!(rest(10, &body, 13).unwrap(), "d");
        for elsewhere in [9, 14, 15, u64::MAX] {
            assert_eq!(rest(10, &body, elsewhere), None);
        }
    }
}
