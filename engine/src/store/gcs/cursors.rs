//! How far uploads of this process have come, so that their state is not asked for before each part.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::store::UploadId;

/// Uploads that are remembered; of more, the one that was not used for the longest is forgotten, and asked for again.
const MAX_REMEMBERED: usize = 64;

/// The last bytes of an object, kept back until its upload is completed: at most 256 KiB.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    /// Where in the object they begin.
    pub(super) offset: u64,
    /// They themselves.
    pub(super) body: Bytes,
}

/// How far an upload has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    /// Bytes that the service has; `None`: it has to be asked.
    pub(super) persisted: Option<u64>,
    /// What is left to be sent, once the last part was given.
    pub(super) tail: Option<Tail>,
}

/// The cursors of all uploads, the last one used at the end.
#[derive(Debug, Default)]
pub(super) struct Cursors(Mutex<Vec<(UploadId, Cursor)>>);

impl Cursors {
    pub(super) fn of(&self, id: &UploadId) -> Cursor {
        let cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = cursors.iter().find(|(other, _)| other == id);
        found.map(|(_, cursor)| cursor.clone()).unwrap_or_default()
    }

    pub(super) fn set(&self, id: &UploadId, cursor: Cursor) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.retain(|(other, _)| other != id);
        if cursors.len() >= MAX_REMEMBERED {
            cursors.remove(0);
        }
        cursors.push((id.clone(), cursor));
    }

    pub(super) fn forget(&self, id: &UploadId) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.retain(|(other, _)| other != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_is_forgotten_and_asked_for_again() {
        let cursors = Cursors::default();
        let id = |n: usize| UploadId::new(format!("{n}"));
        for n in 0..=MAX_REMEMBERED {
            // The first one is used all the time.
            for n in [n, 0] {
                let cursor = Cursor {
                    persisted: Some(n as u64),
                    tail: None,
                };
                cursors.set(&id(n), cursor);
            }
        }
        assert_eq!(cursors.of(&id(0)).persisted, Some(0));
        assert_eq!(cursors.of(&id(1)).persisted, None);
        assert_eq!(
            cursors.of(&id(MAX_REMEMBERED)).persisted,
            Some(MAX_REMEMBERED as u64)
        );
        cursors.forget(&id(0));
        assert_eq!(cursors.of(&id(0)).persisted, None);
    }
}
