//! Blocks on their way into the object: compressed in several threads, sealed and written in their order.
//!
//! A file takes the places that no other file wants (`pace`), one for each block at a time: alone it has all of them, and
//! beside enough others only its own.
//!
//! # Invariants
//! - Blocks are sealed and written by the file's own thread, in the order in which they were cut.
//! - What is kept for the next block is given back when another file wants the place.
//!
//! # After an error or a stop
//! Threads that are left end with the block that they compress; their work is dropped.
//!
//! # Limits
//! As many blocks as there are places are on their way, and of those that wait for one before them one was compressed by
//! the file's own thread.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

use tokio::sync::OwnedSemaphorePermit;

use crate::archive::{
    ArchiveError, BlockCompressor, BlockInfo, CompressedBlock, Content, MAX_BLOCK_PLAIN,
    ObjectFacts, ObjectWriter,
};
use crate::digest::Digest;
use crate::pipeline::pace::Pace;

/// The object, and the blocks before it.
pub(super) struct Line<W: Write> {
    writer: ObjectWriter<W>,
    /// Whose places there are. Without it all is done by the file's own thread.
    pace: Option<Arc<Pace>>,
    ahead: VecDeque<(BlockInfo, Block)>,
    /// Empty ones, for the next blocks.
    buffers: Vec<Vec<u8>>,
}

/// A block that is not sealed yet.
enum Block {
    Here(CompressedBlock),
    Elsewhere(JoinHandle<Done>),
}

/// What a thread gives back: the buffer, too.
type Done = (Result<CompressedBlock, ArchiveError>, Vec<u8>);

/// A block that is to be compressed.
struct Work {
    compressor: BlockCompressor,
    plain: Vec<u8>,
    content: Content,
}

impl Work {
    fn run(self) -> Done {
        let compressed = self.compressor.compress(&self.plain, self.content);
        (compressed, self.plain)
    }
}

impl<W: Write> Line<W> {
    pub(super) fn new(writer: ObjectWriter<W>, pace: Option<Arc<Pace>>) -> Self {
        Self {
            writer,
            pace,
            ahead: VecDeque::new(),
            buffers: Vec::new(),
        }
    }

    /// Takes the next block, and gives an empty buffer for the one behind it.
    pub(super) fn push(
        &mut self,
        plain: Vec<u8>,
        content: Content,
        info: BlockInfo,
    ) -> Result<Vec<u8>, ArchiveError> {
        let work = Work {
            compressor: self.writer.compressor()?,
            plain,
            content,
        };
        let place = self.pace.as_ref().and_then(|pace| pace.free_place());
        if place.is_none() {
            self.writer.drop_spare();
            self.buffers.clear();
        }
        let work = match place {
            Some(place) => hand_over(work, place),
            None => Err(work),
        };
        let block = match work {
            Ok(thread) => Block::Elsewhere(thread),
            Err(work) => Block::Here(self.take_back(work.run())?),
        };
        self.ahead.push_back((info, block));
        self.write_what_is_ready()?;
        let buffer = self.buffers.pop();
        Ok(buffer.unwrap_or_else(|| Vec::with_capacity(MAX_BLOCK_PLAIN)))
    }

    /// From now on all is done by this thread: no other one is worth its while for what is left.
    pub(super) fn go_on_alone(&mut self) {
        self.pace = None;
    }

    /// Writes all that is left, and ends the object.
    pub(super) fn finish(mut self, sha256: Digest) -> Result<(W, ObjectFacts), ArchiveError> {
        while let Some((info, block)) = self.ahead.pop_front() {
            self.write(block, info)?;
        }
        self.writer.finish(sha256)
    }

    fn write_what_is_ready(&mut self) -> Result<(), ArchiveError> {
        loop {
            let waits = self.must_wait();
            let next = self.ahead.pop_front_if(|(_, block)| match block {
                Block::Here(_) => true,
                Block::Elsewhere(thread) => waits || thread.is_finished(),
            });
            let Some((info, block)) = next else {
                return Ok(());
            };
            self.write(block, info)?;
        }
    }

    fn must_wait(&self) -> bool {
        let here = |(_, block): &&(BlockInfo, Block)| matches!(block, Block::Here(_));
        let most = self.pace.as_ref().map_or(0, |pace| pace.most());
        self.ahead.len() > most || self.ahead.iter().filter(here).count() > 1
    }

    fn write(&mut self, block: Block, info: BlockInfo) -> Result<(), ArchiveError> {
        let block = match block {
            Block::Here(block) => block,
            Block::Elsewhere(thread) => match thread.join() {
                Ok(done) => self.take_back(done)?,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        };
        self.writer.write_compressed(block, info)
    }

    fn take_back(&mut self, done: Done) -> Result<CompressedBlock, ArchiveError> {
        let (compressed, mut buffer) = done;
        buffer.clear();
        self.buffers.push(buffer);
        compressed
    }
}

/// Has a block compressed by a thread of its own, which gives the place back. The work comes back when there can be no
/// other thread.
fn hand_over(work: Work, place: OwnedSemaphorePermit) -> Result<JoinHandle<Done>, Work> {
    let (give, take) = mpsc::channel::<Work>();
    let run = move || {
        let _place = place;
        let work = take.recv();
        work.expect("who started this thread gives it its work")
            .run()
    };
    match Builder::new().name("seal-block".to_owned()).spawn(run) {
        Ok(thread) => match give.send(work) {
            Ok(()) => Ok(thread),
            Err(mpsc::SendError(work)) => Err(work),
        },
        Err(_) => Err(work),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::archive::tests::{identity, key_encryption_key, open};

    const BLOCKS: usize = 9;

    /// Large blocks that take long, and small ones that are ready before them.
    fn blocks() -> Vec<Vec<u8>> {
        let size = |n: usize| {
            if n.is_multiple_of(3) {
                MAX_BLOCK_PLAIN
            } else {
                1000
            }
        };
        let words = |n: usize| {
            let word = move |i: usize| format!("{} ", (n + i).wrapping_mul(0x9E37_79B9) >> 7);
            let text: String = (0..size(n)).map(word).collect();
            text.into_bytes()[..size(n)].to_vec()
        };
        (0..BLOCKS).map(words).collect()
    }

    fn line<W: Write>(out: W, pace: Option<Arc<Pace>>) -> Line<W> {
        let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
        Line::new(
            ObjectWriter::create(out, &identity(1), key, 3).unwrap(),
            pace,
        )
    }

    /// The file, and the blocks' sizes in the object.
    fn sealed(pace: Option<Arc<Pace>>) -> (Vec<u8>, Vec<u64>) {
        let blocks = blocks();
        let mut line = line(Vec::new(), pace);
        for block in &blocks {
            let info = BlockInfo::default();
            let next = line.push(block.clone(), Content::Plain, info).unwrap();
            assert!(next.is_empty());
        }
        let (object, facts) = line.finish(Digest::of(&blocks.concat())).unwrap();
        assert_eq!(facts.blocks, BLOCKS as u64);
        let (plain, index) = open(&object, 1 << 20).unwrap();
        assert!(plain == blocks.concat());
        let sizes = index.blocks.iter().map(|block| block.object_size);
        (plain, sizes.collect())
    }

    #[test]
    fn however_many_threads_compress_the_object_is_the_same() {
        let alone = sealed(None);
        for places in [1, 2, 5] {
            let pace = Arc::new(Pace::new(places, 0));
            assert!(sealed(Some(Arc::clone(&pace))) == alone, "{places}");
            // Each place was given back.
            let free: Vec<_> = std::iter::from_fn(|| pace.free_place()).collect();
            assert_eq!(free.len() as u64, places);
        }
    }

    #[test]
    fn where_all_places_are_taken_a_file_keeps_to_its_own_thread() {
        let pace = Arc::new(Pace::new(1, 0));
        let _place = pace.free_place().unwrap();
        let mut line = line(Vec::new(), Some(pace));
        for block in blocks() {
            line.push(block, Content::Plain, BlockInfo::default())
                .unwrap();
            assert!(line.ahead.is_empty());
            assert!(line.buffers.is_empty());
        }
    }

    #[test]
    fn no_more_blocks_are_on_their_way_than_there_are_places() {
        let pace = Arc::new(Pace::new(3, 0));
        let mut line = line(Vec::new(), Some(pace));
        for block in blocks() {
            line.push(block, Content::Plain, BlockInfo::default())
                .unwrap();
            assert!(line.ahead.len() <= 3);
        }
    }

    #[test]
    fn a_disk_that_is_full_ends_it_and_leaves_no_thread_that_holds_a_place() {
        /// Has room for the header alone.
        struct Full(usize);

        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self
                    .0
                    .checked_sub(bytes.len())
                    .ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let pace = Arc::new(Pace::new(2, 0));
        let mut line = line(Full(1000), Some(Arc::clone(&pace)));
        let mut push = |block| line.push(block, Content::Plain, BlockInfo::default());
        let failed = blocks().into_iter().find_map(|block| push(block).err());
        assert!(matches!(failed, Some(ArchiveError::Write(_))), "{failed:?}");
        drop(line);
        let both = || {
            let places: Vec<_> = std::iter::from_fn(|| pace.free_place()).collect();
            places.len() == 2
        };
        while !both() {
            std::thread::yield_now();
        }
    }
}
