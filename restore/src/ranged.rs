//! Reads parts of one copy of an archived file, by the block index, with ranged GETs (FORMAT.md §10.2).
//!
//! # Invariants
//! - Every byte that is given out was authenticated and is in its place (I6). That the rest of the
//!   object is there is not proved; whoever reads a whole file uses [`crate::object`].
//! - The index is the one whose digest the manifest entry holds.
//!
//! # Limits
//! [`BLOCKS_IN_FLIGHT`] blocks of ciphertext and one of plaintext; an index is below
//! [`engine::archive::MAX_INDEX_PLAIN`].

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use engine::archive::{ArchiveError, Header, MAX_HEADER, ObjectIndex, RangedReader, Trailer};
use engine::layout::ObjectKey;
use engine::store::{ObjectStore, StoreError};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::history::ArchivedFile;
use crate::object::{Archive, ReadError};

/// Blocks that are asked for at once.
pub const BLOCKS_IN_FLIGHT: usize = 4;

/// Bytes read at an object's end in the hope that the index is among them: that of some 500 blocks.
const TAIL: u64 = 32 * 1024;

/// Bytes read at an object's beginning in the hope that they hold the header.
const HEAD: u64 = 4 * 1024;

/// Bytes of the prefix before the header (FORMAT.md §3.1).
const PREFIX: u64 = 16;

/// One copy of an archived file, opened for reading parts of it.
pub(crate) struct RangedCopy {
    store: Arc<dyn ObjectStore>,
    key: ObjectKey,
    reader: RangedReader,
    index: Arc<ObjectIndex>,
    /// Bytes of the object that were read to open it.
    opened: u64,
    /// Where reading ahead ends.
    end: usize,
    ahead: Option<Ahead>,
}

/// Blocks that were asked for.
struct Ahead {
    /// The number of the next one.
    next: usize,
    blocks: BoxStream<'static, Result<Bytes, ReadError>>,
}

impl Archive {
    /// Opens what lies here of `file` for reading parts of it: reads header and index.
    ///
    /// # Errors
    /// When the object is missing, is not what its entry says, or the key does not open it.
    pub(crate) async fn open_ranged_copy(
        &self,
        file: &ArchivedFile,
    ) -> Result<RangedCopy, ReadError> {
        let key = file.key();
        let object = |source| ReadError::Object {
            key: key.clone(),
            source,
        };
        let size = file.object.facts.size;
        let (header, mut opened) = self.header(file).await?;
        let tail_at = size.saturating_sub(TAIL);
        let tail = self.read(key, tail_at..size).await?;
        opened = opened.saturating_add(tail.len() as u64);
        let trailer = Trailer::parse(&tail, size).map_err(object)?;
        let facts = &file.object.facts;
        let data_key = self
            .data_keys
            .open(&facts.key_id, &facts.wrapped_key, header.identity())
            .await
            .map_err(|source| ReadError::Key {
                key: key.clone(),
                source,
            })?;
        let mut reader = RangedReader::new(&file.identity, &header, &data_key).map_err(object)?;
        let end = trailer.index_offset.saturating_add(trailer.index_size);
        let sealed = if let Some(sealed) = part_of(&tail, tail_at, trailer.index_offset..end) {
            sealed
        } else {
            let sealed = self.read(key, trailer.index_offset..end).await?;
            opened = opened.saturating_add(sealed.len() as u64);
            sealed
        };
        let index = reader.open_index(trailer, &sealed).map_err(object)?;
        file.same_index(&index)?;
        Ok(RangedCopy {
            end: index.blocks.len(),
            ahead: None,
            store: Arc::clone(&self.store),
            key: key.clone(),
            reader,
            index: Arc::new(index),
            opened,
        })
    }

    /// The header, and how many bytes were read for it.
    async fn header(&self, file: &ArchivedFile) -> Result<(Header, u64), ReadError> {
        let (key, size) = (file.key(), file.object.facts.size);
        let object = |source| ReadError::Object {
            key: key.clone(),
            source,
        };
        let head = self.read(key, 0..HEAD.min(size)).await?;
        let read = head.len() as u64;
        if let Some(header) = Header::parse(&head).map_err(object)? {
            return Ok((header, read));
        }
        let longest = (PREFIX + MAX_HEADER as u64).min(size);
        let head = self.read(key, 0..longest).await?;
        let header = Header::parse(&head).map_err(object)?;
        let header = header.ok_or_else(|| object(truncated(size)))?;
        Ok((header, read.saturating_add(head.len() as u64)))
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, ReadError> {
        read(self.store.as_ref(), key, range).await
    }
}

fn truncated(size: u64) -> ArchiveError {
    ArchiveError::Truncated {
        part: engine::archive::Part::Header,
        size,
    }
}

/// Those bytes of `tail`, which begins at `at`, if it has them all.
fn part_of(tail: &Bytes, at: u64, range: Range<u64>) -> Option<Bytes> {
    let from = usize::try_from(range.start.checked_sub(at)?).ok()?;
    let to = usize::try_from(range.end.checked_sub(at)?).ok()?;
    (from <= to && to <= tail.len()).then(|| tail.slice(from..to))
}

async fn read(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    range: Range<u64>,
) -> Result<Bytes, ReadError> {
    let size = range.end.saturating_sub(range.start);
    let mut stream = match store.get(key, Some(range)).await {
        Ok(stream) => stream,
        Err(StoreError::NotFound { .. }) => return Err(ReadError::Missing { key: key.clone() }),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = BytesMut::new();
    while let Some(more) = stream.try_next().await? {
        // A store that sends more than was asked for is not believed, and fills no memory.
        let room = size.saturating_sub(bytes.len() as u64);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        bytes.extend_from_slice(more.get(..room.min(more.len())).unwrap_or_default());
    }
    Ok(bytes.freeze())
}

impl RangedCopy {
    /// Its index.
    pub(crate) fn index(&self) -> &Arc<ObjectIndex> {
        &self.index
    }

    /// Bytes of the object that were read to open it: header, index, and what lay beside them.
    pub(crate) fn opened_bytes(&self) -> u64 {
        self.opened
    }

    /// Reads one block: its offset in the file, and its bytes. Blocks behind it are asked for at the same
    /// time, up to the [`end_at`](Self::end_at), so that reading on in order does not wait for each.
    ///
    /// # Errors
    /// When a block cannot be read or opened.
    pub(crate) async fn read_block(&mut self, number: usize) -> Result<(u64, Bytes), ReadError> {
        let mut ahead = match self.ahead.take() {
            Some(ahead) if ahead.next == number => ahead,
            _ => self.ask_from(number),
        };
        let mut sealed = ahead.blocks.next().await;
        if sealed.is_none() {
            // What was asked for ended at the `end_at`, and somebody wants more.
            ahead = self.ask_from(number);
            sealed = ahead.blocks.next().await;
        }
        let bytes = sealed.unwrap_or_else(|| Err(self.no_such_block()))?;
        ahead.next = number.saturating_add(1);
        self.ahead = Some(ahead);
        let opened = self.reader.open_block(&self.index, number, &bytes);
        let block = opened.map_err(|source| ReadError::Object {
            key: self.key.clone(),
            source,
        })?;
        Ok((block.offset, block.plain))
    }

    /// No block from this one on is asked for before somebody wants it.
    pub(crate) fn end_at(&mut self, block: usize) {
        self.end = block;
        self.ahead = None;
    }

    /// Bytes of the object that a block takes.
    pub(crate) fn block_size(&self, number: usize) -> u64 {
        let block = self.index.blocks.get(number);
        block.map_or(0, |block| block.object_size)
    }

    fn ask_from(&self, number: usize) -> Ahead {
        let end = self.end.max(number.saturating_add(1));
        let blocks = self.index.blocks.get(number..end).unwrap_or_default();
        let ranges: Vec<Range<u64>> = blocks
            .iter()
            .map(|block| block.object_offset..block.object_offset.saturating_add(block.object_size))
            .collect();
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let blocks = stream::iter(ranges)
            .map(move |range| {
                let (store, key) = (Arc::clone(&store), key.clone());
                async move { read(store.as_ref(), &key, range).await }
            })
            .buffered(BLOCKS_IN_FLIGHT);
        Ahead {
            next: number,
            blocks: blocks.boxed(),
        }
    }

    fn no_such_block(&self) -> ReadError {
        ReadError::Object {
            key: self.key.clone(),
            source: ArchiveError::Misuse("the index has no such block"),
        }
    }
}

impl std::fmt::Debug for RangedCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangedCopy")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use engine::archive::{BlockInfo, Content, ObjectIdentity, ObjectWriter};
    use engine::config::EncryptionConfig;
    use engine::digest::Digest;
    use engine::keyring::{self, Keyring};
    use engine::layout::{Sequence, SourceIdentity};
    use engine::manifest::StoredObject;
    use engine::store::{self, StoreConfig};
    use tempfile::TempDir;

    use super::*;

    /// Bytes of each block of the made file.
    const BLOCK: usize = 1000;

    /// A file of so many blocks, sealed in a folder; and what opens it.
    async fn made(folder: &TempDir, blocks: u8) -> (Archive, ArchivedFile) {
        let key = folder.path().join("key");
        keyring::create_key_file(&key).unwrap();
        let config = EncryptionConfig::new(format!("file:{}", key.display()));
        let keyring = Arc::new(Keyring::open(&config).unwrap());
        let source = SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "0d1a7e00-97a0-4000-8000-000000000001".parse().unwrap(),
            incarnation: 1,
        };
        let identity = ObjectIdentity {
            source: source.clone(),
            sequence: Sequence(1),
            file_name: "binlog.000001".to_owned(),
        };
        let data_key = keyring.new_data_key(&identity).await.unwrap();
        let mut writer = ObjectWriter::create(Vec::new(), &identity, data_key, 3).unwrap();
        let plain: Vec<u8> = (0..blocks).flat_map(|block| [block; BLOCK]).collect();
        for block in plain.chunks(BLOCK) {
            let info = BlockInfo {
                boundary: true,
                first_gtid: None,
                first_commit: None,
                last_commit: None,
            };
            writer.write_block(block, Content::Plain, info).unwrap();
        }
        let sha256 = Digest::of(&plain);
        let (object, facts) = writer.finish(sha256).unwrap();
        let url = format!("file://{}", folder.path().join("archive").display());
        let config = StoreConfig {
            url,
            ..StoreConfig::default()
        };
        let store = store::connect(&config).unwrap();
        let key = source.log_key(Sequence(1));
        store.put_if_absent(&key, object.into()).await.unwrap();
        let file = ArchivedFile {
            identity,
            size: plain.len() as u64,
            sha256,
            object: StoredObject { key, facts },
        };
        (Archive::new(store, keyring), file)
    }

    /// Where a cut is expected, the stream of blocks ends: whoever reads on gets the next ones all the same.
    #[tokio::test]
    async fn blocks_behind_the_expected_end_are_asked_for_when_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, file) = made(&folder, 9).await;
        let mut copy = archive.open_ranged_copy(&file).await.unwrap();
        copy.end_at(2);
        for number in 0..9 {
            let (offset, plain) = copy.read_block(number).await.unwrap();
            assert_eq!(offset, (number * BLOCK) as u64);
            assert_eq!(plain[..], [u8::try_from(number).unwrap(); BLOCK]);
        }
        assert!(copy.read_block(9).await.is_err());
    }
}
