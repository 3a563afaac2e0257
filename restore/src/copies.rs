//! The same file at several destinations: where one lacks its object, does not give it, or has it damaged, it is read
//! from another.
//!
//! # Invariants
//! - A copy counts when the entry beside it names a file with the same SHA-256; it is opened by that entry, so it may
//!   have been sealed by itself.
//! - Who goes on in the middle of a file has compared what was given out with the beginning of the new copy, by digest.
//! - A switch is told of, with the reason; the first error is the one that is reported when no copy is sound.

use std::sync::Arc;

use bytes::Bytes;
use engine::archive::ObjectIndex;
use engine::digest::{Digest, Hasher};
use engine::exit;

use crate::entries::{self, EntryError};
use crate::history::{ArchivedFile, EntryFault};
use crate::object::{Archive, CopyReader, Prefetched, ReadError};
use crate::ranged::RangedCopy;

/// Why another destination's copy is of no use.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Fault(#[from] EntryFault),
    #[error("its entry names a file of another SHA-256")]
    OtherFile,
    #[error("it does not begin with what was read so far")]
    OtherBeginning,
    #[error("it was sealed by itself, and does not fit the index that was read")]
    OtherSeal,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A file being read back.
#[derive(Debug)]
pub struct FileReader {
    others: Others,
    /// None when it is over.
    copy: Option<CopyReader>,
    /// Of a copy that was switched to: what belongs behind what was given out.
    left: Bytes,
    /// What was given out.
    given: u64,
    digest: Hasher,
}

/// A file being read in parts.
#[derive(Debug)]
pub struct RangedFile {
    others: Others,
    copy: RangedCopy,
    /// Where reading ahead ends.
    end: Option<usize>,
}

/// The copies of a file that were not tried yet.
#[derive(Debug)]
struct Others {
    file: ArchivedFile,
    archives: Arc<[Archive]>,
    tried: usize,
    /// Why the copy that was begun with is of no use.
    first: Option<ReadError>,
}

impl Archive {
    /// As this one; what it lacks is read from the others.
    #[must_use]
    pub fn with_others(mut self, others: Vec<Archive>) -> Self {
        self.others = others.into();
        self
    }

    /// Begins to read `file`.
    ///
    /// # Errors
    /// When no copy of it can be opened: why the first one cannot.
    pub async fn open(&self, file: &ArchivedFile) -> Result<FileReader, ReadError> {
        let mut reader = FileReader {
            others: Others::of(self, file),
            copy: None,
            left: Bytes::new(),
            given: 0,
            digest: Hasher::default(),
        };
        match self.open_copy(file).await {
            Ok(copy) => reader.copy = Some(copy),
            Err(error) => reader.switch(error).await?,
        }
        Ok(reader)
    }

    /// Opens `file` for reading parts of it: reads header and index.
    ///
    /// # Errors
    /// When no copy of it can be opened: why the first one cannot.
    pub async fn open_ranged(&self, file: &ArchivedFile) -> Result<RangedFile, ReadError> {
        let mut others = Others::of(self, file);
        let copy = match self.open_ranged_copy(file).await {
            Ok(copy) => copy,
            Err(error) => others.ranged(error, None).await?,
        };
        let end = None;
        Ok(RangedFile { others, copy, end })
    }

    /// Reads `file` in a task of its own, a bounded way ahead of whoever takes the blocks.
    pub fn prefetch(&self, file: &ArchivedFile) -> Prefetched {
        let (archive, file) = (self.clone(), file.clone());
        Prefetched::spawn(move |sender| async move {
            let mut reader = archive.open(&file).await?;
            while let Some(block) = reader.next().await? {
                if sender.send(block).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// What this archive has of a file that another one has.
    async fn same_file(&self, file: &ArchivedFile) -> Result<ArchivedFile, CopyError> {
        let identity = &file.identity;
        let key = identity.source.manifest_key(identity.sequence);
        let stored = entries::read_one(self.store.as_ref(), key).await?;
        let copy = ArchivedFile::of(&stored)?;
        if (copy.sha256, copy.size) == (file.sha256, file.size) {
            Ok(copy)
        } else {
            Err(CopyError::OtherFile)
        }
    }
}

impl FileReader {
    /// The next bytes of the binlog file; `None` when all of it was given out, and proved.
    ///
    /// # Errors
    /// What is wrong with the copy that was begun with, when no other is sound. After an error nothing more comes out.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            if !self.left.is_empty() {
                let left = std::mem::take(&mut self.left);
                return Ok(Some(self.give(left)));
            }
            let Some(copy) = &mut self.copy else {
                return Ok(None);
            };
            match copy.next().await {
                Ok(Some(block)) => return Ok(Some(self.give(block))),
                Ok(None) => self.copy = None,
                Err(error) => self.switch(error).await?,
            }
        }
    }

    fn give(&mut self, bytes: Bytes) -> Bytes {
        self.given = self.given.saturating_add(bytes.len() as u64);
        // Only whoever may have to go on elsewhere needs it.
        if self.others.are_left() {
            self.digest.update(&bytes);
        }
        bytes
    }

    /// Goes on with another copy, or gives the error back.
    async fn switch(&mut self, error: ReadError) -> Result<(), ReadError> {
        self.copy = None;
        while let Some((other, url)) = self.others.next() {
            let digest = self.digest.clone().finish();
            match copy_behind(&other, &self.others.file, self.given, digest).await {
                Ok((copy, left)) => {
                    self.others.told(error, &url);
                    (self.copy, self.left) = (Some(copy), left);
                    return Ok(());
                }
                Err(why) => self.others.no_better(&url, &why),
            }
        }
        Err(self.others.none(error))
    }
}

/// A reader of another copy behind the first `given` bytes, whose digest is this, and what it has read already of what
/// follows.
async fn copy_behind(
    other: &Archive,
    file: &ArchivedFile,
    given: u64,
    digest: Digest,
) -> Result<(CopyReader, Bytes), CopyError> {
    let file = other.same_file(file).await?;
    let mut copy = other.open_copy(&file).await?;
    let mut beginning = Hasher::default();
    let mut missing = given;
    let mut rest = Bytes::new();
    while missing > 0 {
        rest = copy.next().await?.ok_or(CopyError::OtherBeginning)?;
        let known = usize::try_from(missing).unwrap_or(usize::MAX);
        let known = rest.split_to(known.min(rest.len()));
        beginning.update(&known);
        missing = missing.saturating_sub(known.len() as u64);
    }
    if beginning.finish() == digest {
        Ok((copy, rest))
    } else {
        Err(CopyError::OtherBeginning)
    }
}

impl RangedFile {
    /// Its index.
    pub fn index(&self) -> &Arc<ObjectIndex> {
        self.copy.index()
    }

    /// Bytes of the object that were read to open it: header, index, and what lay beside them.
    pub fn opened_bytes(&self) -> u64 {
        self.copy.opened_bytes()
    }

    /// Bytes of the object that a block takes.
    pub fn block_size(&self, number: usize) -> u64 {
        self.copy.block_size(number)
    }

    /// No block from this one on is asked for before somebody wants it.
    pub fn end_at(&mut self, block: usize) {
        self.end = Some(block);
        self.copy.end_at(block);
    }

    /// Reads one block: its offset in the file, and its bytes. Blocks behind it are asked for at the same
    /// time, up to the [`end_at`](Self::end_at), so that reading on in order does not wait for each.
    ///
    /// # Errors
    /// When a block cannot be read or opened, and no other copy has it in the same place.
    pub async fn read_block(&mut self, number: usize) -> Result<(u64, Bytes), ReadError> {
        loop {
            let error = match self.copy.read_block(number).await {
                Ok(block) => return Ok(block),
                Err(error) => error,
            };
            let index = Arc::clone(self.copy.index());
            self.copy = self.others.ranged(error, Some(&index)).await?;
            if let Some(end) = self.end {
                self.copy.end_at(end);
            }
        }
    }
}

impl Others {
    fn of(archive: &Archive, file: &ArchivedFile) -> Self {
        Self {
            file: file.clone(),
            archives: Arc::clone(&archive.others),
            tried: 0,
            first: None,
        }
    }

    fn are_left(&self) -> bool {
        self.tried < self.archives.len()
    }

    fn next(&mut self) -> Option<(Archive, String)> {
        let other = self.archives.get(self.tried)?.clone();
        self.tried = self.tried.saturating_add(1);
        let url = other.store.url().to_owned();
        Some((other, url))
    }

    /// Opens another copy; one with this index, where there is one already. Gives the error back when there is none.
    async fn ranged(
        &mut self,
        error: ReadError,
        index: Option<&ObjectIndex>,
    ) -> Result<RangedCopy, ReadError> {
        while let Some((other, url)) = self.next() {
            match ranged_copy(&other, &self.file, index).await {
                Ok(copy) => {
                    self.told(error, &url);
                    return Ok(copy);
                }
                Err(why) => self.no_better(&url, &why),
            }
        }
        Err(self.none(error))
    }

    fn told(&mut self, error: ReadError, url: &str) {
        let chain = exit::chain(&error);
        let file = &self.file.identity.file_name;
        tracing::warn!(file, error = chain, "read from {url} instead");
        self.first.get_or_insert(error);
    }

    /// The error to be reported when the last copy has this one.
    fn none(&mut self, last: ReadError) -> ReadError {
        let Some(first) = self.first.take() else {
            return last;
        };
        let error = exit::chain(&last);
        let file = &self.file.identity.file_name;
        tracing::warn!(file, error, "that copy is not sound either");
        first
    }

    fn no_better(&self, url: &str, why: &CopyError) {
        let error = exit::chain(why);
        let file = &self.file.identity.file_name;
        tracing::warn!(file, error, "no sound copy at {url}");
    }
}

async fn ranged_copy(
    other: &Archive,
    file: &ArchivedFile,
    index: Option<&ObjectIndex>,
) -> Result<RangedCopy, CopyError> {
    let file = other.same_file(file).await?;
    let copy = other.open_ranged_copy(&file).await?;
    match index {
        Some(index) if **copy.index() != *index => Err(CopyError::OtherSeal),
        _ => Ok(copy),
    }
}
