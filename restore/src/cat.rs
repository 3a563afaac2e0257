//! `cat`: the files of a selection, or the parts of a plan, as one stream that `mysqlbinlog -` reads.
//!
//! # Invariants
//! - The stream is a binlog: the 4 magic bytes of every file but the first are dropped (TRAPS 18).
//! - A whole file's digest was compared before the next file's first byte is written. Within a file, each
//!   block was authenticated before it is written, so that a stream that ends early is a true
//!   beginning of the whole, and the exit code says that it is no more.
//!
//! # Limits
//! Two files are open: the one being written and, to hide the store's latency, the next.

use std::io;

use bytes::{Buf, Bytes};
use engine::binlog::MAGIC;
use engine::exit::{Diagnose, Exit};
use engine::layout::ObjectKey;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::object::{Archive, ReadError};
use crate::part::Part;
use crate::progress::Progress;

/// Why the stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum CatError {
    /// A file could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file that cannot be joined to the one before it.
    #[error("{key}: {file_name} does not begin with the magic bytes of a binlog")]
    NoMagic {
        /// The archive object.
        key: ObjectKey,
        /// The file in it.
        file_name: String,
    },
    /// The consumer closed its end. Nobody needs to be told.
    #[error("the consumer of the stream went away")]
    Closed,
    /// The stream could not be written.
    #[error("write to stdout")]
    Write(#[source] io::Error),
}

impl Diagnose for CatError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read(error) => error.exit(),
            Self::NoMagic { .. } => Exit::Corrupt,
            Self::Closed => Exit::Interrupted,
            Self::Write(_) => Exit::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            Self::NoMagic { .. } => {
                Some("take this file alone, with --from-seq and --to-seq, to look at it".to_owned())
            }
            Self::Closed => None,
            Self::Write(_) => Some("check what stdout is connected to".to_owned()),
        }
    }
}

impl From<io::Error> for CatError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Write(error)
        }
    }
}

/// Writes `parts` to `out` as one binlog, and counts their bytes in `progress`.
///
/// # Errors
/// When a file cannot be read back or `out` cannot be written: what was written until then is a
/// true beginning of the stream.
pub async fn cat(
    archive: &Archive,
    parts: &[Part],
    out: &mut (impl AsyncWrite + Unpin),
    progress: &Progress,
) -> Result<(), CatError> {
    let mut following = parts.first().map(|part| archive.prefetch_part(part));
    for (index, part) in parts.iter().enumerate() {
        let Some(mut current) = following.take() else {
            break;
        };
        following = parts
            .get(index.saturating_add(1))
            .map(|next| archive.prefetch_part(next));
        let mut joint = Joint::new(index == 0);
        while let Some(mut block) = current.next().await? {
            joint
                .trim(&mut block)
                .map_err(|NoMagic| CatError::NoMagic {
                    key: part.file.key().clone(),
                    file_name: part.file.file_name().to_owned(),
                })?;
            out.write_all(&block).await?;
            progress.add(block.len() as u64);
        }
    }
    Ok(out.flush().await?)
}

/// Where a file is joined to what precedes it.
struct Joint {
    /// Magic bytes that are still to be dropped.
    magic: &'static [u8],
}

struct NoMagic;

impl Joint {
    fn new(first_file: bool) -> Self {
        Self {
            magic: if first_file { &[] } else { &MAGIC },
        }
    }

    /// Drops what is left of the magic bytes from the next bytes of the file.
    fn trim(&mut self, block: &mut Bytes) -> Result<(), NoMagic> {
        let take = self.magic.len().min(block.len());
        let (expected, rest) = self.magic.split_at(take);
        if !block.starts_with(expected) {
            return Err(NoMagic);
        }
        block.advance(take);
        self.magic = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(first_file: bool, pieces: &[&'static [u8]]) -> Option<Vec<u8>> {
        let mut joint = Joint::new(first_file);
        let mut stream = Vec::new();
        for piece in pieces {
            let mut block = Bytes::from_static(piece);
            joint.trim(&mut block).ok()?;
            stream.extend_from_slice(&block);
        }
        Some(stream)
    }

    /// TRAPS 18: magic once, however the file is cut.
    #[test]
    fn the_magic_bytes_of_every_file_but_the_first_are_dropped() {
        assert_eq!(join(true, &[b"\xfebinxyz"]).unwrap(), b"\xfebinxyz");
        assert_eq!(join(false, &[b"\xfebinxyz"]).unwrap(), b"xyz");
        assert_eq!(
            join(false, &[b"\xfeb", b"inx", b"\xfebin"]).unwrap(),
            b"x\xfebin"
        );
        assert_eq!(join(false, &[]).unwrap(), b"");
    }

    #[test]
    fn a_file_without_magic_bytes_is_not_joined_to_another() {
        assert_eq!(join(false, &[b"\xfdbinxyz"]), None);
        assert_eq!(join(false, &[b"\xfeb", b"xx"]), None);
    }
}
