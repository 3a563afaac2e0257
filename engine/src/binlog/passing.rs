//! The events of a binlog file one after another, for who hands them on as they are.
//!
//! # Invariants
//! - The pieces are the file's bytes, all of them and in order, but for the magic bytes.
//! - A piece is of one event. An event of at most [`MAX_WHOLE`] bytes is one piece; the first piece of a longer one
//!   holds its common header, and its length tells how much follows.
//!
//! # Limits
//! One push, and [`MAX_WHOLE`] bytes of an event that two pushes share. Only lengths are judged: whoever reads an
//! archive has authenticated the bytes, and [`Scanner`](super::Scanner) judged the file when it was archived.

use bytes::{Buf, Bytes, BytesMut};

use super::event::{
    self, CHECKSUM_LEN, Defect, FormatDescription, HEADER_LEN, Header, TransactionStart, kind,
};
use super::{ChecksumAlgorithm, MAGIC};
use crate::gtid::Gtid;

/// Events up to this length come in one piece, bytes: all that is looked into is far shorter.
pub const MAX_WHOLE: usize = 64 * 1024;

/// Bytes of the position before the name in a Rotate event (`ROTATE_HEADER_LEN`).
const ROTATE_POSITION_LEN: usize = 8;

/// What an event is to who hands it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first of every file.
    FormatDescription,
    /// The second.
    PreviousGtids,
    /// The first of a transaction that has a GTID, tagged or not.
    Gtid,
    /// The first of one that has none.
    AnonymousGtid,
    /// The last of a file: it names the next one.
    Rotate,
    /// Any other.
    Other,
}

/// What an event's common header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHead {
    /// What it is.
    pub kind: Kind,
    /// Of the whole event, bytes.
    pub length: u32,
    /// Offset behind the event in its file, modulo 2^32.
    pub end: u32,
}

impl EventHead {
    /// What these bytes, which an event begins with, say; none when they are fewer than a header.
    fn of(bytes: &[u8]) -> Option<Self> {
        let header = Header::parse(*bytes.first_chunk::<HEADER_LEN>()?);
        let kind = match header.kind {
            kind::FORMAT_DESCRIPTION => Kind::FormatDescription,
            kind::PREVIOUS_GTIDS => Kind::PreviousGtids,
            kind::GTID | kind::TAGGED_GTID => Kind::Gtid,
            kind::ANONYMOUS_GTID => Kind::AnonymousGtid,
            kind::ROTATE => Kind::Rotate,
            _ => Kind::Other,
        };
        Some(Self {
            kind,
            length: header.length,
            end: header.log_pos,
        })
    }
}

/// Some bytes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// What begins with them, if an event does.
    pub begins: Option<EventHead>,
}

/// Bytes that are no events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misframed {
    /// The file does not begin as one.
    #[error("no magic bytes of a binlog")]
    NoMagic,
    /// An event shorter than its header.
    #[error("an event of {0} bytes, which is less than its header")]
    TooShort(u32),
    /// An event that ends elsewhere than its file does.
    #[error("the last event is cut off")]
    CutOff,
    /// An event's body.
    #[error("{0}")]
    Body(String),
}

/// Takes a file's bytes and gives its events.
#[derive(Debug, Default)]
pub struct Passing {
    /// What was pushed and not given yet.
    pushed: Bytes,
    /// The beginning of an event that was not whole.
    held: BytesMut,
    /// Bytes still to come of a long event.
    rest: usize,
    past_magic: bool,
}

impl Passing {
    /// At the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, after the last ones were given out: until [`next`](Self::next) gave none.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.pushed.is_empty(), "not all was taken");
        self.pushed = bytes;
    }

    /// The next piece; none until more is pushed.
    ///
    /// # Errors
    /// When the bytes are no events: then nothing more comes.
    #[expect(clippy::should_implement_trait, reason = "none is not the end")]
    pub fn next(&mut self) -> Result<Option<Piece>, Misframed> {
        if !self.past_magic {
            if !self.gather(MAGIC.len()) {
                return Ok(None);
            }
            if self.held.split().as_ref() != MAGIC {
                return Err(Misframed::NoMagic);
            }
            self.past_magic = true;
        }
        if self.rest > 0 {
            return Ok(self.more_of_a_long_one());
        }
        self.event()
    }

    /// The bytes ended here.
    ///
    /// # Errors
    /// When an event did not.
    pub fn finish(&self) -> Result<(), Misframed> {
        let is_over = self.past_magic && self.rest == 0 && self.held.is_empty();
        if is_over {
            Ok(())
        } else {
            Err(Misframed::CutOff)
        }
    }

    fn more_of_a_long_one(&mut self) -> Option<Piece> {
        let bytes = self.pushed.split_to(self.rest.min(self.pushed.len()));
        self.rest -= bytes.len();
        let piece = Piece {
            bytes,
            begins: None,
        };
        (!piece.bytes.is_empty()).then_some(piece)
    }

    fn event(&mut self) -> Result<Option<Piece>, Misframed> {
        // Most lie whole in what was pushed, and are not copied.
        if self.held.is_empty()
            && let Some(head) = EventHead::of(&self.pushed)
            && let length = length_of(head)?
            && (length <= self.pushed.len() || length > MAX_WHOLE)
        {
            let bytes = self.pushed.split_to(length.min(self.pushed.len()));
            self.rest = length - bytes.len();
            return Ok(Some(Piece {
                bytes,
                begins: Some(head),
            }));
        }
        if !self.gather(HEADER_LEN) {
            return Ok(None);
        }
        let Some(head) = EventHead::of(&self.held) else {
            return Ok(None);
        };
        let length = length_of(head)?;
        if length <= MAX_WHOLE && !self.gather(length) {
            return Ok(None);
        }
        let bytes = self.held.split().freeze();
        self.rest = length - bytes.len();
        Ok(Some(Piece {
            bytes,
            begins: Some(head),
        }))
    }

    /// Whether `held` is this long now.
    fn gather(&mut self, length: usize) -> bool {
        let lacks = length
            .saturating_sub(self.held.len())
            .min(self.pushed.len());
        self.held
            .extend_from_slice(self.pushed.get(..lacks).unwrap_or_default());
        self.pushed.advance(lacks);
        self.held.len() >= length
    }
}

fn length_of(head: EventHead) -> Result<usize, Misframed> {
    let length = usize::try_from(head.length).unwrap_or(usize::MAX);
    if length < HEADER_LEN {
        return Err(Misframed::TooShort(head.length));
    }
    Ok(length)
}

/// The checksum that a `FormatDescription` event states, its own among them.
///
/// # Errors
/// When it is none.
pub fn checksum_algorithm(event: &[u8]) -> Result<ChecksumAlgorithm, Misframed> {
    // This event has a footer whether or not the others have.
    let description = FormatDescription::parse(body(event, ChecksumAlgorithm::Crc32));
    Ok(description.map_err(misread)?.checksum_algorithm)
}

/// The GTID in a whole event of [`Kind::Gtid`].
///
/// # Errors
/// When there is none.
pub fn gtid(event: &[u8], checksum: ChecksumAlgorithm) -> Result<Gtid, Misframed> {
    let kind = event.get(4).copied().unwrap_or_default();
    let start = TransactionStart::parse(kind, body(event, checksum)).map_err(misread)?;
    let missing = || Misframed::Body("a GTID event without a GTID".to_owned());
    start.gtid.ok_or_else(missing)
}

/// The file that a whole event of [`Kind::Rotate`] names.
///
/// # Errors
/// When there is none.
pub fn rotate_target(event: &[u8], checksum: ChecksumAlgorithm) -> Result<String, Misframed> {
    let name = body(event, checksum).get(ROTATE_POSITION_LEN..);
    event::rotate_target(name.unwrap_or_default()).map_err(misread)
}

fn body(event: &[u8], checksum: ChecksumAlgorithm) -> &[u8] {
    let footer = match checksum {
        ChecksumAlgorithm::None => 0,
        ChecksumAlgorithm::Crc32 => CHECKSUM_LEN,
    };
    let end = event.len().saturating_sub(footer);
    event.get(HEADER_LEN..end).unwrap_or_default()
}

fn misread(defect: Defect) -> Misframed {
    let (Defect::Malformed(why) | Defect::Unknown(why)) = defect;
    Misframed::Body(why)
}
