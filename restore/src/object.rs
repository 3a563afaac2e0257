//! Reads one copy of an archived file back: every byte authenticated before it is given out, and at the end
//! compared with what the manifest entry says.
//!
//! # Invariants
//! - No plaintext leaves before its block's tag was checked (I6).
//! - A copy says that the file is over only when the object was whole and its digest
//!   is the entry's; whoever stops earlier knows nothing about the rest.
//! - The data key is the entry's, not the header's; where its key is not at hand, the one that was wrapped anew.
//!
//! # Limits
//! One block of ciphertext and one of plaintext, and what the store sends in one piece. A
//! [`Prefetched`] file holds [`PREFETCHED_BLOCKS`] more.

use std::sync::Arc;

use bytes::Bytes;
use engine::archive::{ArchiveError, LockedReader, ObjectIndex, ObjectReader};
use engine::data_keys::{DataKeyError, DataKeys};
use engine::exit::{Diagnose, Exit};
use engine::keyring::Keyring;
use engine::layout::ObjectKey;
use engine::store::{ByteStream, ObjectStore, StoreError};
use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::history::ArchivedFile;

/// Blocks that a [`Prefetched`] file is ahead of its reader.
pub const PREFETCHED_BLOCKS: usize = 2;

/// What opening objects takes.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Where they lie.
    pub store: Arc<dyn ObjectStore>,
    /// What opens them.
    pub data_keys: Arc<DataKeys>,
    /// Where a file is read from that is not to be had here, in this order.
    pub(crate) others: Arc<[Archive]>,
}

/// Why an archived file could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry names it, and it is not there.
    #[error("{key}: the object is missing, and its manifest entry is there")]
    Missing {
        /// The object.
        key: ObjectKey,
    },
    /// Its data key could not be opened.
    #[error("{key}")]
    Key {
        /// The object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: DataKeyError,
    },
    /// The object is not what was sealed.
    #[error("{key}")]
    Object {
        /// The object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The object is authentic, but not the one that its entry describes.
    #[error("{key}: {what} is {found}, and the manifest entry says {recorded}")]
    Contradiction {
        /// The object.
        key: ObjectKey,
        /// What of it.
        what: &'static str,
        /// As it is.
        found: String,
        /// As the entry has it.
        recorded: String,
    },
}

impl Diagnose for ReadError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Missing { .. } => Exit::Gap,
            Self::Key { source, .. } => source.exit(),
            Self::Object { source, .. } => source.exit(),
            Self::Contradiction { .. } => Exit::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Store(error) => return error.hint(),
            Self::Key { source, .. } => return source.hint(),
            Self::Object { source, .. } => return source.hint(),
            Self::Missing { .. } => {
                "look for it at another destination or in the bucket's older versions"
            }
            Self::Contradiction { .. } => {
                "the object or its entry was replaced: compare both with another destination's"
            }
        };
        Some(hint.to_owned())
    }
}

impl Archive {
    /// The objects in `store`, opened with the keys in `keyring`.
    pub fn new(store: Arc<dyn ObjectStore>, keyring: Arc<Keyring>) -> Self {
        let data_keys = Arc::new(DataKeys::new(Arc::clone(&store), keyring));
        Self {
            store,
            data_keys,
            others: Arc::default(),
        }
    }

    /// Begins to read what lies here of `file`.
    ///
    /// # Errors
    /// When the object is missing, is another file's, or the key does not open it.
    pub(crate) async fn open_copy(&self, file: &ArchivedFile) -> Result<CopyReader, ReadError> {
        let key = file.key();
        let object = |source| ReadError::Object {
            key: key.clone(),
            source,
        };
        let body = match self.store.get(key, None).await {
            Ok(body) => body,
            Err(StoreError::NotFound { .. }) => {
                return Err(ReadError::Missing { key: key.clone() });
            }
            Err(error) => return Err(error.into()),
        };
        let mut body = Body {
            stream: body,
            size: 0,
            crc32c: 0,
        };
        let mut locked = LockedReader::new(file.identity.clone());
        while !locked.has_header() {
            let Some(bytes) = body.next().await? else {
                break;
            };
            locked.push(&bytes).map_err(object)?;
        }
        let header = locked.header().map_err(object)?;
        let facts = &file.object.facts;
        let data_key = self
            .data_keys
            .open(&facts.key_id, &facts.wrapped_key, header.identity())
            .await
            .map_err(|source| ReadError::Key {
                key: key.clone(),
                source,
            })?;
        let reader = locked.unlock(&data_key).map_err(object)?;
        Ok(CopyReader {
            file: file.clone(),
            body,
            reader: Some(reader),
        })
    }
}

impl ArchivedFile {
    /// Compares an object's index, however it was read, with what the entry says.
    pub(crate) fn same_index(&self, index: &ObjectIndex) -> Result<(), ReadError> {
        let facts = &self.object.facts;
        self.same("the SHA-256 of the file", &index.plain_sha256, &self.sha256)?;
        self.same("the size of the file", &index.plain_size, &self.size)?;
        self.same(
            "the SHA-256 of the index",
            &index.sealed_sha256,
            &facts.index_sha256,
        )?;
        self.same(
            "the number of blocks",
            &(index.blocks.len() as u64),
            &facts.blocks,
        )
    }

    /// Compares something of the object with what the entry says.
    pub(crate) fn same<T: PartialEq + ToString>(
        &self,
        what: &'static str,
        found: &T,
        recorded: &T,
    ) -> Result<(), ReadError> {
        if found == recorded {
            return Ok(());
        }
        Err(ReadError::Contradiction {
            key: self.key().clone(),
            what,
            found: found.to_string(),
            recorded: recorded.to_string(),
        })
    }
}

/// An object's bytes as they come, counted.
struct Body {
    stream: ByteStream,
    size: u64,
    crc32c: u32,
}

impl Body {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let bytes = self.stream.try_next().await?;
        if let Some(bytes) = &bytes {
            self.size = self.size.saturating_add(bytes.len() as u64);
            self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        }
        Ok(bytes)
    }
}

/// One copy of a file being read back.
pub(crate) struct CopyReader {
    file: ArchivedFile,
    body: Body,
    /// None when it is over.
    reader: Option<ObjectReader>,
}

impl CopyReader {
    /// The next bytes of the binlog file; `None` when all of it was given out, and proved.
    ///
    /// # Errors
    /// All that is wrong with the object. After an error nothing more comes out.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        loop {
            if let Some(block) = reader
                .next_block()
                .map_err(|source| self.object_error(source))?
            {
                self.reader = Some(reader);
                return Ok(Some(block.plain));
            }
            match self.body.next().await? {
                Some(bytes) => reader.push(&bytes),
                None => break,
            }
        }
        self.prove(reader).map(|()| None)
    }

    fn prove(&self, reader: ObjectReader) -> Result<(), ReadError> {
        let index = reader
            .finish()
            .map_err(|source| self.object_error(source))?;
        let facts = &self.file.object.facts;
        self.file.same_index(&index)?;
        self.same("the size of the object", &self.body.size, &facts.size)?;
        self.same("the CRC32C of the object", &self.body.crc32c, &facts.crc32c)
    }

    fn same<T: PartialEq + ToString>(
        &self,
        what: &'static str,
        found: &T,
        recorded: &T,
    ) -> Result<(), ReadError> {
        self.file.same(what, found, recorded)
    }

    fn object_error(&self, source: ArchiveError) -> ReadError {
        ReadError::Object {
            key: self.file.key().clone(),
            source,
        }
    }
}

impl std::fmt::Debug for CopyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.file.key();
        f.debug_struct("CopyReader")
            .field("key", key)
            .finish_non_exhaustive()
    }
}

/// A file that is read ahead. Dropping it ends the reading.
#[derive(Debug)]
pub struct Prefetched {
    blocks: mpsc::Receiver<Bytes>,
    task: JoinHandle<Result<(), ReadError>>,
}

impl Prefetched {
    /// Runs `read` in a task of its own; what it sends can be taken, [`PREFETCHED_BLOCKS`] at most are
    /// waiting.
    pub(crate) fn spawn<F>(read: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> Self
    where
        F: Future<Output = Result<(), ReadError>> + Send + 'static,
    {
        let (sender, blocks) = mpsc::channel(PREFETCHED_BLOCKS);
        let task = tokio::spawn(read(sender));
        Self { blocks, task }
    }

    /// As [`FileReader::next`](crate::copies::FileReader::next).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// When the reading task panicked.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if let Some(block) = self.blocks.recv().await {
            return Ok(Some(block));
        }
        // The channel also closes when reading failed: only the task's result tells.
        match (&mut self.task).await {
            Ok(outcome) => outcome.map(|()| None),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

impl Drop for Prefetched {
    fn drop(&mut self) {
        self.task.abort();
    }
}
