//! The digest of a packed file, and of what is in it, in one read and in bounded memory.

use std::io::{self, Read, Write};

use futures::TryStreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::sums::Packing;
use crate::digest::{Digest, Hasher};
use crate::store::ByteStream;

const PIECE: usize = 64 * 1024;

/// What a file is, packed and unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contents {
    /// Of the file as it lies there.
    pub(super) packed: Digest,
    /// Bytes of it.
    pub(super) packed_size: u64,
    /// Of what it unpacks to.
    pub(super) plain: Digest,
    /// Bytes of that.
    pub(super) plain_size: u64,
}

/// Reads a file to its end.
///
/// # Errors
/// What store and unpacker say: a file that is cut, or no such file.
pub(super) async fn digest(stream: ByteStream, packing: Packing) -> io::Result<Contents> {
    let reader = StreamReader::new(stream.map_err(io::Error::other));
    let reader = SyncIoBridge::new(reader);
    let reading = tokio::task::spawn_blocking(move || read(reader, packing));
    reading.await.map_err(io::Error::other)?
}

/// Unpacks a file to its end into `out`.
///
/// # Errors
/// What store, unpacker and `out` say: a file that is cut, or no such file.
pub(super) async fn unpack(
    stream: ByteStream,
    packing: Packing,
    out: std::fs::File,
) -> io::Result<Contents> {
    let reader = StreamReader::new(stream.map_err(io::Error::other));
    let reader = SyncIoBridge::new(reader);
    let reading = tokio::task::spawn_blocking(move || read_into(reader, packing, out));
    reading.await.map_err(io::Error::other)?
}

fn read(reader: impl Read, packing: Packing) -> io::Result<Contents> {
    read_into(reader, packing, io::sink())
}

fn read_into(reader: impl Read, packing: Packing, mut out: impl Write) -> io::Result<Contents> {
    let mut counted = Counted::new(reader);
    let (plain, plain_size) = match packing {
        Packing::Plain => copy(&mut counted, &mut out)?,
        // Several members one behind the other are one file, as `gzip` and `pigz` have it.
        Packing::Gzip => copy(flate2::read::MultiGzDecoder::new(&mut counted), &mut out)?,
        Packing::Zstd => copy(zstd::Decoder::new(&mut counted)?, &mut out)?,
        Packing::Lz4 => copy(lz4_flex::frame::FrameDecoder::new(&mut counted), &mut out)?,
    };
    // What an unpacker did not want is part of the file all the same.
    let (_, rest) = copy(&mut counted, io::sink())?;
    if rest > 0 && packing == Packing::Lz4 {
        return Err(io::Error::other("bytes behind the end of the lz4 frame"));
    }
    Ok(Contents {
        packed: counted.hasher.finish(),
        packed_size: counted.size,
        plain,
        plain_size,
    })
}

/// Digest and size of what was copied.
fn copy(mut reader: impl Read, mut out: impl Write) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        let read = reader.read(&mut piece)?;
        if read == 0 {
            return Ok((hasher.finish(), size));
        }
        let (bytes, _) = piece.split_at(read);
        hasher.update(bytes);
        out.write_all(bytes)?;
        size += read as u64;
    }
}

/// Hashes what passes.
struct Counted<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R> Counted<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
            size: 0,
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let (bytes, _) = buffer.split_at(read);
        self.hasher.update(bytes);
        self.size += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(packing: Packing, plain: &[u8]) -> Vec<u8> {
        match packing {
            Packing::Plain => plain.to_vec(),
            Packing::Gzip => {
                let mut writer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(plain).unwrap();
                writer.finish().unwrap()
            }
            Packing::Zstd => zstd::encode_all(plain, 1).unwrap(),
            Packing::Lz4 => {
                let mut writer = lz4_flex::frame::FrameEncoder::new(Vec::new());
                writer.write_all(plain).unwrap();
                writer.finish().unwrap()
            }
        }
    }

    const ALL: [Packing; 4] = [Packing::Plain, Packing::Gzip, Packing::Zstd, Packing::Lz4];

    #[test]
    fn a_file_and_what_is_in_it_are_hashed_in_one_read() {
        let plain = b"binlog".repeat(50_000);
        for packing in ALL {
            let file = packed(packing, &plain);
            let found = read(file.as_slice(), packing).unwrap();
            let expected = Contents {
                packed: Digest::of(&file),
                packed_size: file.len() as u64,
                plain: Digest::of(&plain),
                plain_size: plain.len() as u64,
            };
            assert_eq!(found, expected, "{packing:?}");
        }
    }

    #[test]
    fn members_that_were_appended_are_one_file() {
        for packing in [Packing::Gzip, Packing::Zstd] {
            let file = [packed(packing, b"one"), packed(packing, b"two")].concat();
            let found = read(file.as_slice(), packing).unwrap();
            assert_eq!(found.plain, Digest::of(b"onetwo"), "{packing:?}");
            assert_eq!(found.packed, Digest::of(&file));
        }
    }

    #[test]
    fn a_file_that_is_cut_is_an_error() {
        let plain = b"binlog".repeat(50_000);
        for packing in [Packing::Gzip, Packing::Zstd, Packing::Lz4] {
            let file = packed(packing, &plain);
            let cut = file.split_at(file.len() - 5).0;
            assert!(read(cut, packing).is_err(), "{packing:?}");
        }
    }
}
