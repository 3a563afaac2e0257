//! How far the uploads in parts are that are under way, for whoever watches.
//!
//! An upload counts its parts with an atomic addition each; a watcher reads. Nothing is kept of one that has ended.
//!
//! # Limits
//! A part is the least that is seen. What is put in one piece is not counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::layout::Sequence;
use crate::ledger::{MAX_UPLOADS_REPORTED, Route, UploadReport};

/// The uploads of a process. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Uploads(Arc<Mutex<Counted>>);

/// One file to one destination at a time.
type Counted = BTreeMap<(Route, Sequence), Arc<Counts>>;

#[derive(Debug)]
struct Counts {
    total: u64,
    started: Timestamp,
    resumed: AtomicU64,
    sent: AtomicU64,
}

/// One upload, for as long as it is under way.
#[derive(Debug)]
pub struct UnderWay {
    uploads: Uploads,
    key: (Route, Sequence),
    counts: Arc<Counts>,
}

impl Uploads {
    /// An upload of so many bytes begins.
    pub fn begin(&self, route: Route, sequence: Sequence, total: u64, now: Timestamp) -> UnderWay {
        let counts = Arc::new(Counts {
            total,
            started: now,
            resumed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        let key = (route, sequence);
        self.lock().insert(key, Arc::clone(&counts));
        UnderWay {
            uploads: self.clone(),
            key,
            counts,
        }
    }

    /// All that are under way, the oldest first; at most [`MAX_UPLOADS_REPORTED`].
    pub fn report(&self) -> Vec<UploadReport> {
        let mut reports: Vec<UploadReport> = self
            .lock()
            .iter()
            .map(|((route, sequence), counts)| {
                let resumed = counts.resumed.load(Ordering::Relaxed);
                UploadReport {
                    route: *route,
                    sequence: *sequence,
                    total: counts.total,
                    done: resumed.saturating_add(counts.sent.load(Ordering::Relaxed)),
                    resumed,
                    started: counts.started,
                }
            })
            .collect();
        reports.sort_by_key(|upload| upload.started);
        reports.truncate(MAX_UPLOADS_REPORTED);
        reports
    }

    /// Nothing panics while it holds it.
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    /// So many bytes were there from an earlier attempt.
    pub(super) fn resumed(&self, bytes: u64) {
        self.counts.resumed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes have been sent.
    pub(super) fn sent(&self, bytes: u64) {
        self.counts.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.uploads.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{DestinationId, SourceId};

    #[test]
    fn an_upload_is_told_of_from_its_beginning_to_its_end_however_it_ends() {
        let uploads = Uploads::default();
        let route = Route {
            source: SourceId::read(1).unwrap(),
            destination: DestinationId::read(1).unwrap(),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = uploads.begin(route, Sequence(9), 100, at(1));
        let second = uploads.begin(route, Sequence(8), 50, at(2));
        first.resumed(40);
        first.sent(8);
        first.sent(8);
        let seen = uploads.report();
        let sequences: Vec<u64> = seen.iter().map(|upload| upload.sequence.0).collect();
        assert_eq!(sequences, [9, 8], "the oldest first");
        assert_eq!(
            (seen[0].done, seen[0].resumed, seen[0].total),
            (56, 40, 100)
        );
        drop(first);
        assert_eq!(uploads.report().len(), 1);
        drop(second);
        assert_eq!(uploads.report(), []);
    }
}
