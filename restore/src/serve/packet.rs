//! Packets of the client/server protocol: a payload behind its length and a sequence number.
//!
//! MySQL internals manual, "MySQL Packets": three bytes of length, one of sequence, which counts within an exchange of
//! both sides and wraps; a payload of 2^24 - 1 bytes or more goes on in the next packet, and ends with a shorter one.
//!
//! # Limits
//! What is read has a limit that the reader names, and takes memory only as it comes. What is written is held up to
//! [`WRITE_BUFFER`] bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};

/// The longest payload of one packet, which another one follows.
const LONGEST: usize = 0xFF_FFFF;

/// Bytes that are written at once.
pub(super) const WRITE_BUFFER: usize = 128 * 1024;

/// Both directions of a connection, before and after it is encrypted.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Why an exchange ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum PacketError {
    /// The connection.
    #[error(transparent)]
    Connection(#[from] io::Error),
    /// A packet out of its turn.
    #[error("packet {found} came where packet {expected} was due")]
    Sequence {
        /// What was due.
        expected: u8,
        /// What came.
        found: u8,
    },
    /// A packet that nobody who is meant well sends.
    #[error("a packet of {length} bytes, and {limit} are the most here")]
    TooLong {
        /// What it says.
        length: usize,
        /// The most.
        limit: usize,
    },
}

/// A connection as packets.
pub(super) struct Packets {
    stream: BufWriter<Box<dyn Duplex>>,
    /// Of the packet that is due.
    sequence: u8,
}

impl std::fmt::Debug for Packets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packets").finish_non_exhaustive()
    }
}

impl Packets {
    /// At the beginning of a connection.
    pub(super) fn new(stream: Box<dyn Duplex>) -> Self {
        Self {
            stream: BufWriter::with_capacity(WRITE_BUFFER, stream),
            sequence: 0,
        }
    }

    /// The same exchange over another stream, which the former one was made into.
    pub(super) fn resume(stream: Box<dyn Duplex>, sequence: u8) -> Self {
        Self {
            sequence,
            ..Self::new(stream)
        }
    }

    /// The stream, all that was written having been sent, and the number that is due.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub(super) async fn into_stream(mut self) -> io::Result<(Box<dyn Duplex>, u8)> {
        self.stream.flush().await?;
        Ok((self.stream.into_inner(), self.sequence))
    }

    /// A new exchange begins with the next packet.
    pub(super) fn begin(&mut self) {
        self.sequence = 0;
    }

    /// The next payload, of at most `limit` bytes; none when the other side left between two packets.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn read(&mut self, limit: usize) -> Result<Option<Vec<u8>>, PacketError> {
        debug_assert!(limit < LONGEST, "a payload is in one packet");
        let mut first = [0];
        if self.stream.read(&mut first).await? == 0 {
            return Ok(None);
        }
        let mut others = [0; 3];
        self.stream.read_exact(&mut others).await?;
        let ([low], [middle, high, found]) = (first, others);
        let length = u32::from_le_bytes([low, middle, high, 0]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let expected = self.sequence;
        if found != expected {
            return Err(PacketError::Sequence { expected, found });
        }
        if length > limit {
            return Err(PacketError::TooLong { length, limit });
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut payload = Vec::new();
        let mut body = (&mut self.stream).take(length as u64);
        body.read_to_end(&mut payload).await?;
        if payload.len() < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(Some(payload))
    }

    /// Writes a whole payload.
    ///
    /// # Errors
    /// When the connection does not take it.
    pub(super) async fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut outgoing = self.outgoing(payload.len()).await?;
        outgoing.write(payload).await
    }

    /// Begins a payload of this length, which is written piece by piece.
    ///
    /// # Errors
    /// When the connection does not take it.
    pub(super) async fn outgoing(&mut self, length: usize) -> io::Result<Outgoing<'_>> {
        let mut outgoing = Outgoing {
            packets: self,
            rest: length,
            rest_of_packet: 0,
            is_continued: false,
        };
        outgoing.begin_packet().await?;
        Ok(outgoing)
    }

    /// Ends when the other side says anything, or leaves: nobody who waits for events has anything to say.
    pub(super) async fn left(&mut self) {
        let _ = self.stream.read(&mut [0]).await;
    }

    /// Sends what was written.
    ///
    /// # Errors
    /// When the connection does not take it.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }
}

/// A payload that is being written.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    packets: &'a mut Packets,
    /// Bytes of the payload behind this packet.
    rest: usize,
    rest_of_packet: usize,
    /// Another packet follows this one.
    is_continued: bool,
}

impl Outgoing<'_> {
    /// Bytes of the payload that are still to be written.
    pub(super) fn lacks(&self) -> usize {
        self.rest + self.rest_of_packet
    }

    /// Writes the next bytes, at most as many as it [lacks](Self::lacks).
    ///
    /// # Errors
    /// When the connection does not take them.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.rest_of_packet.min(bytes.len()));
            if now.is_empty() {
                return Err(io::Error::other("more bytes than the packet was begun for"));
            }
            self.packets.stream.write_all(now).await?;
            self.rest_of_packet -= now.len();
            // A packet of the greatest length is followed by another one, and be it empty.
            if self.rest_of_packet == 0 && self.is_continued {
                self.begin_packet().await?;
            }
            bytes = later;
        }
        Ok(())
    }

    async fn begin_packet(&mut self) -> io::Result<()> {
        self.rest_of_packet = self.rest.min(LONGEST);
        self.rest -= self.rest_of_packet;
        self.is_continued = self.rest_of_packet == LONGEST;
        let length = u32::try_from(self.rest_of_packet).unwrap_or(u32::MAX);
        let [low, middle, high, _] = length.to_le_bytes();
        let header = [low, middle, high, self.packets.sequence];
        self.packets.sequence = self.packets.sequence.wrapping_add(1);
        self.packets.stream.write_all(&header).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut wire: &[u8]) -> Vec<(usize, u8)> {
        let mut packets = Vec::new();
        while let Some((header, rest)) = wire.split_first_chunk::<4>() {
            let [low, middle, high, sequence] = *header;
            let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
            packets.push((length, sequence));
            wire = &rest[length..];
        }
        assert!(wire.is_empty());
        packets
    }

    #[tokio::test]
    async fn a_payload_of_the_greatest_length_is_followed_by_an_empty_packet() {
        for (length, expected) in [
            (0, vec![(0, 0)]),
            (5, vec![(5, 0)]),
            (LONGEST - 1, vec![(LONGEST - 1, 0)]),
            (LONGEST, vec![(LONGEST, 0), (0, 1)]),
            (LONGEST + 1, vec![(LONGEST, 0), (1, 1)]),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            let write = async {
                let mut packets = Packets::new(Box::new(ours));
                packets.write(&vec![7; length]).await.unwrap();
                packets.flush().await.unwrap();
            };
            let mut wire = Vec::new();
            let ((), read) = tokio::join!(write, theirs.read_to_end(&mut wire));
            read.unwrap();
            assert_eq!(read_all(&wire), expected);
        }
    }

    #[tokio::test]
    async fn a_packet_that_says_that_it_is_long_takes_no_memory_and_is_refused() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(&[0xFF, 0xFF, 0x01, 0]).await.unwrap();
        let refused = Packets::new(Box::new(ours)).read(1024).await.unwrap_err();
        assert!(matches!(refused, PacketError::TooLong { limit: 1024, .. }));
    }
}
