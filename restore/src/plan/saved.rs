//! A planned file as a saved plan holds it: with the key of its object, so that whoever reads the plan need not know
//! the archive's layout.

use engine::digest::Digest;
use engine::layout::{ObjectKey, Sequence, SourceIdentity};
use serde::{Deserialize, Serialize};

use super::PlannedFile;

/// [`PlannedFile`]. Stored: additive changes only.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedFile {
    #[serde(flatten)]
    source: SourceIdentity,
    sequence: Sequence,
    file_name: Box<str>,
    key: ObjectKey,
    sha256: Digest,
    size: u64,
    stored_bytes: u64,
    from: Option<u64>,
    to: Option<u64>,
    fetch_bytes: u64,
}

impl From<PlannedFile> for SavedFile {
    fn from(file: PlannedFile) -> Self {
        Self {
            key: file.source.log_key(file.sequence),
            source: file.source,
            sequence: file.sequence,
            file_name: (&*file.file_name).into(),
            sha256: file.sha256,
            size: file.size,
            stored_bytes: file.stored_bytes,
            from: file.from,
            to: file.to,
            fetch_bytes: file.fetch_bytes,
        }
    }
}

impl TryFrom<SavedFile> for PlannedFile {
    type Error = OtherObject;

    fn try_from(file: SavedFile) -> Result<Self, OtherObject> {
        if file.key != file.source.log_key(file.sequence) {
            return Err(OtherObject(file.key));
        }
        Ok(Self {
            source: file.source,
            sequence: file.sequence,
            file_name: file.file_name.into(),
            sha256: file.sha256,
            size: file.size,
            stored_bytes: file.stored_bytes,
            from: file.from,
            to: file.to,
            fetch_bytes: file.fetch_bytes,
        })
    }
}

/// A plan in which a file has another file's object.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not the key of the file that it stands beside")]
pub(super) struct OtherObject(ObjectKey);
