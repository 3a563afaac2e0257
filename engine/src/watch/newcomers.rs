//! Files of a numbering that began anew while the configuration still names the old incarnation.
//!
//! After `RESET BINARY LOGS AND GTIDS`, a restore or a clone, names that are archived become other files. That is a
//! conflict, and it is for a person to raise `incarnation`. What the server closes and expires until then must not be
//! lost: it is pinned at once under the incarnation that the hint tells to set, and found there when it is set.

use std::path::Path;

use super::Watch;
use super::error::WatchError;
use super::pins::{inode, present_inodes};
use super::server::read_index;
use crate::archive::ObjectIdentity;
use crate::layout::{Sequence, SourceIdentity};
use crate::ledger::{Fingerprint, KnownFile};
use crate::spool::{Spool, SpoolError};

/// How often a numbering may begin anew before someone raises `incarnation`: each time has pins of its own.
const MAX_UNNOTICED: u32 = 16;

/// Pins `path` under the first later incarnation where its name is free. One that cannot be pinned is told of when it
/// is archived.
pub(super) fn pin(spool: &Spool, file: &ObjectIdentity, path: &Path) {
    for incarnation in later(&file.source) {
        let newcomer = ObjectIdentity {
            source: incarnation,
            ..file.clone()
        };
        if !matches!(spool.pin(&newcomer, path), Err(SpoolError::Conflict { .. })) {
            return;
        }
    }
}

fn later(source: &SourceIdentity) -> impl Iterator<Item = SourceIdentity> {
    let steps = 1..=MAX_UNNOTICED;
    steps.filter_map(|step| {
        Some(SourceIdentity {
            incarnation: source.incarnation.checked_add(step)?,
            ..source.clone()
        })
    })
}

impl Watch {
    /// Pins the closed files that are not those that the ledger knows, and lets go of pins that
    /// [`pin_closed`](super::pin_closed) made of them under the present incarnation.
    pub(super) async fn hold_newcomers(&self) -> Result<(), WatchError> {
        let mut listed = read_index(&self.config)?;
        listed.pop();
        let from = listed.first().map_or(Sequence::MAX, |first| first.sequence);
        let ledger = self.pins.queue.ledger();
        let known = ledger.known_files(self.pins.source, from).await?;
        for entry in listed {
            let known = known.get(&entry.sequence);
            if known.is_some_and(|known| is_same(known, &entry.path)) {
                continue;
            }
            let file = self.pins.file(entry.sequence, &entry.file_name);
            pin(&self.pins.spool, &file, &entry.path);
            // One that waits for its turn is read from its pin, so that pin stays.
            if known.is_none_or(|known| known.sha256.is_some()) {
                self.unpin_if_same(&file, &entry.path)?;
            }
        }
        Ok(())
    }

    fn unpin_if_same(&self, file: &ObjectIdentity, path: &Path) -> Result<(), WatchError> {
        let pin = self.pins.spool.readable(file, path);
        if pin != path
            && let (Ok(pinned), Ok(listed)) = (inode(&pin), inode(path))
            && pinned == listed
        {
            self.pins.spool.unpin(file)?;
        }
        Ok(())
    }

    /// After a scan without a conflict: what was pinned for a later incarnation and is held for this one after all.
    pub(super) fn let_newcomers_go(&self) -> Result<(), WatchError> {
        let (identity, spool) = (&self.pins.identity, &self.pins.spool);
        for later in later(identity) {
            let pinned = spool.pinned(&later)?;
            if pinned.is_empty() {
                continue;
            }
            let present = present_inodes(&self.config, identity, spool)?;
            for pin in pinned {
                if inode(&pin.path).is_ok_and(|inode| present.contains(&inode)) {
                    spool.unpin(&ObjectIdentity {
                        source: later.clone(),
                        sequence: pin.sequence,
                        file_name: pin.file_name,
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Is the file at `path` the one that was found before? By inode, size and time: a device may be another after a
/// reboot.
fn is_same(known: &KnownFile, path: &Path) -> bool {
    let (Some(known), Ok(metadata)) = (known.fingerprint, std::fs::metadata(path)) else {
        return false;
    };
    let found = Fingerprint::of(&metadata);
    Fingerprint {
        device: found.device,
        ..known
    } == found
}
