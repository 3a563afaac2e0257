//! One source's history as its manifest tells it: entries in ascending sequence, and what is wrong
//! between neighbours.

use std::fmt;
use std::path::{Component, Path};

use bytes::Bytes;

use engine::archive::ObjectIdentity;
use engine::digest::Digest;
use engine::exit::{Diagnose, Exit};
use engine::layout::{ObjectKey, Sequence};
use engine::manifest::chain::{Auditor, Finding};
use engine::manifest::{Entry, StoredObject};
use serde::Serialize;

use crate::range::SequenceRange;

/// A manifest entry as it lies in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Where it was read.
    pub key: ObjectKey,
    /// SHA-256 of its bytes: what the next entry names as its predecessor's.
    pub sha256: Digest,
    /// What it says.
    pub entry: Entry,
    /// The bytes themselves.
    pub bytes: Bytes,
}

impl StoredEntry {
    /// Compares what the entry says with itself.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn check(&self) -> Result<(), EntryFault> {
        let entry = &self.entry;
        if !names_file(&entry.file_name, entry.sequence) {
            return Err(EntryFault::FileName {
                key: self.key.clone(),
                file_name: entry.file_name.clone(),
                sequence: entry.sequence,
            });
        }
        if entry.object.key != entry.source.log_key(entry.sequence) {
            let (key, named) = (self.key.clone(), entry.object.key.clone());
            return Err(EntryFault::Object { key, named });
        }
        Ok(())
    }
}

/// Compares each entry with the one before, within a range.
///
/// What precedes the range is not looked at: a range that begins in the middle has no findings
/// about its first entry's predecessor.
#[derive(Debug)]
pub struct ChainWalk {
    auditor: Auditor,
    beginning: bool,
}

impl ChainWalk {
    /// A walk over the entries in `range`.
    pub fn new(range: SequenceRange) -> Self {
        Self {
            auditor: Auditor::default(),
            beginning: range.from().is_some(),
        }
    }

    /// Takes the next entry; they MUST come in ascending sequence and from one source.
    pub fn push(&mut self, stored: &StoredEntry) -> Vec<Finding> {
        let findings = self.auditor.push(&stored.entry, stored.sha256);
        if std::mem::take(&mut self.beginning) {
            Vec::new()
        } else {
            findings
        }
    }

    /// Begins anew behind an entry that could not be read, which is a finding of its own.
    pub fn skip_unreadable(&mut self) {
        *self = Self {
            auditor: Auditor::default(),
            beginning: true,
        };
    }
}

/// What reading one archived file takes: the entry without its GTID sets, so that a selection of
/// very many files stays small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedFile {
    /// What the object must say that it is.
    pub identity: ObjectIdentity,
    /// Bytes of the binlog file.
    pub size: u64,
    /// SHA-256 of the binlog file.
    pub sha256: Digest,
    /// The archive object.
    pub object: StoredObject,
}

/// A place in a binlog file that a replay must not pass unasked. The archive holds it as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// The file's sequence.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: String,
    /// What kind of flaw.
    pub kind: FlawKind,
    /// File offset of the event.
    pub offset: u64,
    /// What is the matter with it.
    pub reason: String,
}

/// Kinds of flaws. Part of the JSON reports: additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlawKind {
    /// From here on the bytes made no sense when the file was archived.
    Damage,
    /// An event that was whole, but not understood or not in its place.
    Obstacle,
}

impl Flaw {
    /// The flaws of an entry's file, ascending by offset.
    pub fn of(entry: &Entry) -> Vec<Self> {
        let flaw = |kind, offset, reason: &str| Self {
            sequence: entry.sequence,
            file_name: entry.file_name.clone(),
            kind,
            offset,
            reason: reason.to_owned(),
        };
        let obstacle = entry.binlog.obstacle.as_ref();
        let damage = entry.binlog.damage.as_ref();
        let mut flaws: Vec<Self> = obstacle
            .map(|obstacle| flaw(FlawKind::Obstacle, obstacle.offset, &obstacle.reason))
            .into_iter()
            .chain(damage.map(|damage| flaw(FlawKind::Damage, damage.offset, &damage.reason)))
            .collect();
        flaws.sort_by_key(|flaw| flaw.offset);
        flaws
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file_name,
            offset,
            reason,
            ..
        } = self;
        match self.kind {
            FlawKind::Damage => {
                write!(
                    f,
                    "{file_name} was damaged before it was archived, from offset {offset} on: {reason}"
                )
            }
            FlawKind::Obstacle => {
                write!(
                    f,
                    "{file_name} has an event at offset {offset} that a replay must not pass unasked: {reason}"
                )
            }
        }
    }
}

/// An entry that contradicts itself: nobody's gtide wrote it so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// A name that is no name of this sequence's binlog file; it may even lead out of a directory.
    #[error("{key}: {file_name:?} is not the name of the binlog file with sequence {sequence}")]
    FileName {
        /// The entry.
        key: ObjectKey,
        /// The name in it.
        file_name: String,
        /// Its sequence.
        sequence: Sequence,
    },
    /// Another object than the one that the layout gives to its sequence.
    #[error("{key}: names the object {named}, not its own")]
    Object {
        /// The entry.
        key: ObjectKey,
        /// The object's key in it.
        named: ObjectKey,
    },
}

impl Diagnose for EntryFault {
    fn exit(&self) -> Exit {
        Exit::Corrupt
    }

    fn hint(&self) -> Option<String> {
        Some(
            "the entry was altered: compare it with the same key at another destination".to_owned(),
        )
    }
}

impl ArchivedFile {
    /// The file that an entry describes.
    ///
    /// # Errors
    /// When the entry contradicts itself.
    pub fn of(stored: &StoredEntry) -> Result<Self, EntryFault> {
        stored.check()?;
        let entry = &stored.entry;
        Ok(Self {
            identity: entry.object_identity(),
            size: entry.binlog.size,
            sha256: entry.sha256,
            object: entry.object.clone(),
        })
    }

    /// Its name on the server.
    pub fn file_name(&self) -> &str {
        &self.identity.file_name
    }

    /// Its sequence.
    pub fn sequence(&self) -> Sequence {
        self.identity.sequence
    }

    /// The key of its archive object.
    pub fn key(&self) -> &ObjectKey {
        &self.object.key
    }
}

/// Whether `name` is a plain file name that ends in `sequence`.
fn names_file(name: &str, sequence: Sequence) -> bool {
    let mut components = Path::new(name).components();
    let plain = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(only)), None) if only == name
    );
    plain
        && !name.contains(char::is_control)
        && Sequence::of_file_name(name).is_ok_and(|named| named == sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_in_the_archive_cannot_lead_out_of_a_directory() {
        assert!(names_file("binlog.000007", Sequence(7)));
        assert!(names_file("db1.example.bin.1000000", Sequence(1_000_000)));
        for name in [
            "../binlog.000007",
            "/etc/binlog.000007",
            "a/binlog.000007",
            "./binlog.000007",
            "binlog.000007/",
            "binlog.000008",
            "binlog\n.000007",
            "binlog\0.000007",
            "..",
            "",
        ] {
            assert!(!names_file(name, Sequence(7)), "{name:?}");
        }
    }
}
