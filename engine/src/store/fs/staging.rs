//! Uploads in parts, resumable after `kill -9` and after a power cut. Blocking.
//!
//! ```text
//! .gtide-uploads/<uuid>/upload.json   key and facts, written once
//!                       data          the object; every part is written at its offset
//!                       parts         journal: one receipt a line, appended when the part is on disk
//! ```
//!
//! A receipt is written only after the bytes it speaks of were synced, so what the journal says is
//! true. A line that a crash tore is no JSON and counts as not written: its part is sent again.
//! Completion reads all of `data` back and compares its CRC32C before anything becomes visible.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::tree::{Tree, measure, write_synced};
use crate::clock::{Clock, SystemClock};
use crate::durable_fs;
use crate::layout::ObjectKey;
use crate::store::upload::{MAX_PARTS, NO_BYTES, part_defect, receipts_defect};
use crate::store::{
    Operation, Part, PartReceipt, PendingUpload, StoreError, UploadFacts, UploadId,
};

const FACTS: &str = "upload.json";
const DATA: &str = "data";
const JOURNAL: &str = "parts";

/// More than this of a journal is not read: [`MAX_PARTS`] lines are a tenth of it.
const MAX_JOURNAL: u64 = 16 << 20;

/// What is unfinished, has no id and is older than this belongs to nobody.
const SWEEP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// `upload.json`. Stored; additive changes only.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    key: ObjectKey,
    #[serde(flatten)]
    facts: UploadFacts,
}

/// The folder of an upload that has begun.
struct Upload {
    folder: PathBuf,
    begun: Begun,
}

pub(super) fn begin(
    tree: &Tree,
    key: &ObjectKey,
    facts: UploadFacts,
) -> Result<UploadId, StoreError> {
    let io = tree.io(Operation::BeginUpload, key);
    if facts.size == 0 {
        return Err(StoreError::InvalidUpload {
            operation: Operation::BeginUpload,
            object: tree.url_of(key),
            reason: NO_BYTES.to_owned(),
        });
    }
    let id = Uuid::new_v4();
    let staging = tree.staging();
    let (hidden, folder) = (
        staging.join(format!("new-{id}")),
        staging.join(id.to_string()),
    );
    let begun = Begun {
        key: key.clone(),
        facts,
    };
    let json = serde_json::to_vec(&begun).map_err(|error| io(error.into()))?;
    let create = || {
        durable_fs::create_dir_all(&hidden)?;
        write_synced(&hidden.join(FACTS), &json)?;
        write_synced(&hidden.join(DATA), b"")?;
        write_synced(&hidden.join(JOURNAL), b"")?;
        durable_fs::sync_dir(&hidden)?;
        // From here on it is an upload.
        durable_fs::rename_new(&hidden, &folder)
    };
    create().map_err(io)?;
    Ok(UploadId::new(id.to_string()))
}

pub(super) fn parts(
    tree: &Tree,
    key: &ObjectKey,
    id: &UploadId,
) -> Result<Option<Vec<PartReceipt>>, StoreError> {
    let io = tree.io(Operation::ListParts, key);
    match find(tree, key, id).map_err(&io)? {
        Some(upload) => upload.receipts().map(Some).map_err(io),
        None => Ok(None),
    }
}

pub(super) fn add(
    tree: &Tree,
    key: &ObjectKey,
    id: &UploadId,
    part: &Part,
) -> Result<PartReceipt, StoreError> {
    let operation = Operation::UploadPart;
    let io = tree.io(operation, key);
    let upload = find(tree, key, id).map_err(&io)?;
    let upload = upload.ok_or_else(|| unknown(tree, operation, key))?;
    let size = part.body.len() as u64;
    let end = part.offset.checked_add(size);
    let is_outside = end.is_none_or(|end| end > upload.begun.facts.size);
    let defect = part_defect(part).or_else(|| {
        is_outside.then(|| format!("part {} reaches behind the object's end", part.number))
    });
    if let Some(reason) = defect {
        return Err(StoreError::InvalidUpload {
            operation,
            object: tree.url_of(key),
            reason,
        });
    }
    let crc32c = crc32c::crc32c(&part.body);
    if crc32c != part.crc32c {
        let object = tree.url_of(key);
        return Err(StoreError::crc_mismatch(
            operation,
            object,
            crc32c,
            part.crc32c,
        ));
    }
    let receipt = PartReceipt {
        number: part.number,
        size,
        etag: format!("{crc32c:08x}"),
        crc32c: Some(crc32c),
    };
    upload.write(part, &receipt).map_err(io)?;
    Ok(receipt)
}

pub(super) fn complete(
    tree: &Tree,
    key: &ObjectKey,
    id: &UploadId,
    parts: &[PartReceipt],
    facts: &UploadFacts,
) -> Result<(), StoreError> {
    let operation = Operation::CompleteUpload;
    let io = tree.io(operation, key);
    let object = tree.url_of(key);
    if let Some(reason) = receipts_defect(parts, facts) {
        return Err(StoreError::InvalidUpload {
            operation,
            object,
            reason,
        });
    }
    let Some(upload) = find(tree, key, id).map_err(&io)? else {
        return match tree.head(key)? {
            Some(_) => Err(StoreError::AlreadyExists { operation, object }),
            None => Err(unknown(tree, operation, key)),
        };
    };
    let data = upload.folder.join(DATA);
    let mut file = File::open(&data).map_err(&io)?;
    let (size, crc32c) = measure(&mut file).map_err(&io)?;
    if size != facts.size {
        let reason = format!("its parts have {size} bytes, not {}", facts.size);
        return Err(StoreError::Mismatch {
            operation,
            object,
            reason,
        });
    }
    if crc32c != facts.crc32c {
        return Err(StoreError::crc_mismatch(
            operation,
            object,
            crc32c,
            facts.crc32c,
        ));
    }
    file.sync_all().map_err(&io)?;
    tree.publish(operation, &data, key)?;
    // The object stands. What is left of the upload no longer matters: an abort removes it too.
    let _ = std::fs::remove_dir_all(&upload.folder);
    Ok(())
}

pub(super) fn abort(tree: &Tree, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError> {
    let Some(folder) = folder_of(tree, id) else {
        return Ok(());
    };
    let remove = || match read_begun(&folder)? {
        // Another object's: this key has no such upload.
        Some(begun) if begun.key != *key => Ok(()),
        _ => match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => durable_fs::sync_dir(&tree.staging()),
        },
    };
    remove().map_err(tree.io(Operation::AbortUpload, key))
}

pub(super) fn list(tree: &Tree, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
    let listed = list_folders(tree, prefix);
    let mut pending = listed.map_err(|source| StoreError::Io {
        operation: Operation::ListUploads,
        object: tree.url().to_owned(),
        source,
    })?;
    pending.sort_unstable_by(PendingUpload::by_key_and_age);
    Ok(pending)
}

fn list_folders(tree: &Tree, prefix: &str) -> io::Result<Vec<PendingUpload>> {
    let entries = match std::fs::read_dir(tree.staging()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut pending = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name.starts_with("new-") {
            sweep(&entry.path());
        }
        let id = UploadId::new(name);
        if let Some(folder) = folder_of(tree, &id) {
            pending.extend(read_pending(&folder, id)?);
        }
    }
    pending.retain(|upload| upload.key.as_str().starts_with(prefix));
    Ok(pending)
}

fn read_pending(folder: &Path, id: UploadId) -> io::Result<Option<PendingUpload>> {
    let Some(Begun { key, .. }) = read_begun(folder)? else {
        return Ok(None);
    };
    match folder
        .join(FACTS)
        .metadata()
        .and_then(|facts| facts.modified())
    {
        Ok(modified) => {
            let started = Timestamp::try_from(modified).map_err(io::Error::other)?;
            let age = SystemClock.now().duration_since(started);
            Ok(Some(PendingUpload {
                key,
                id,
                started,
                age: Duration::try_from(age).unwrap_or_default(),
            }))
        }
        // Ended this moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what an interrupted call left long ago. Best effort: the next listing tries again.
fn sweep(path: &Path) {
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    let modified = metadata
        .modified()
        .ok()
        .and_then(|modified| Timestamp::try_from(modified).ok());
    let age = modified.map(|modified| SystemClock.now().duration_since(modified));
    if age.is_none_or(|age| age < SWEEP_AFTER) {
        return;
    }
    let _ = if metadata.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
}

fn unknown(tree: &Tree, operation: Operation, key: &ObjectKey) -> StoreError {
    StoreError::UploadUnknown {
        operation,
        object: tree.url_of(key),
    }
}

/// `None` for an id that this store never gave: it may be anything, and must not become a path.
fn folder_of(tree: &Tree, id: &UploadId) -> Option<PathBuf> {
    let uuid: Uuid = id.as_str().parse().ok()?;
    Some(tree.staging().join(uuid.to_string()))
}

/// The upload, if it was begun for this key and not completed.
fn find(tree: &Tree, key: &ObjectKey, id: &UploadId) -> io::Result<Option<Upload>> {
    let Some(folder) = folder_of(tree, id) else {
        return Ok(None);
    };
    let begun = read_begun(&folder)?.filter(|begun| begun.key == *key);
    // Completed, but its folder was not yet removed: its data is the object now.
    let begun = begun.filter(|_| folder.join(DATA).exists());
    Ok(begun.map(|begun| Upload { folder, begun }))
}

fn read_begun(folder: &Path) -> io::Result<Option<Begun>> {
    match std::fs::read(folder.join(FACTS)) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Upload {
    /// The part's bytes, then its receipt; each on disk before the next step.
    fn write(&self, part: &Part, receipt: &PartReceipt) -> io::Result<()> {
        let data = OpenOptions::new()
            .write(true)
            .open(self.folder.join(DATA))?;
        data.write_all_at(&part.body, part.offset)?;
        data.sync_data()?;
        // A line of its own even behind one that a crash tore.
        let line = format!("\n{}\n", serde_json::to_string(receipt)?);
        let journal = self.folder.join(JOURNAL);
        let mut journal = OpenOptions::new().append(true).open(journal)?;
        journal.write_all(line.as_bytes())?;
        journal.sync_data()
    }

    /// The newest receipt of each part, ascending.
    fn receipts(&self) -> io::Result<Vec<PartReceipt>> {
        let mut journal = Vec::new();
        File::open(self.folder.join(JOURNAL))?
            .take(MAX_JOURNAL)
            .read_to_end(&mut journal)?;
        let receipts = journal
            .split(|&byte| byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<PartReceipt>(line).ok())
            .filter(|receipt| (1..=MAX_PARTS).contains(&u64::from(receipt.number)))
            .map(|receipt| (receipt.number, receipt));
        let newest: std::collections::BTreeMap<u32, PartReceipt> = receipts.collect();
        Ok(newest.into_values().collect())
    }
}
