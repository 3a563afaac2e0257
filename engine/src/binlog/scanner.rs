//! The one pass over a binlog file: framing and checksums.
//!
//! # Invariants
//! - Any chunking of the same bytes gives the same boundaries, refusal and summary: the state changes
//!   only where a header, a body or a checksum is complete.
//! - Offsets are counted here, in 64 bits; an event's own position wraps at 4 GiB (TRAPS 9).
//! - An event is interpreted only when its CRC is right, or the file has none.
//!
//! # What is damage
//! An event length below the header's, a wrong CRC, a body that no server writes, an event cut off by
//! the end of the file, a first event that is no `FormatDescription` or a later one that is, and an
//! event that says it ends elsewhere than it does: bytes before it are missing, or its length is
//! wrong. Reading stops there.

use super::changes::{Change, Lister};
use super::contents::{Contents, Shape, Trouble};
use super::event::{CHECKSUM_LEN, FLAG_IN_USE, FLAGS_OFFSET, HEADER_LEN, Header, kind};
use super::{Boundary, Damage, ENCRYPTED_MAGIC, MAGIC, Refusal, Summary};
use crate::gtid::GtidSet;

pub use super::contents::{MAX_PREVIOUS_GTIDS, MAX_SMALL_EVENT};

/// `FormatDescription` and `PREVIOUS_GTIDS`.
const HEAD_EVENTS: u64 = 2;

/// Reads one binlog file, pushed to it in pieces.
///
/// Take the boundaries after each push: they are kept until then.
#[derive(Debug, Clone, Default)]
pub struct Scanner {
    /// Bytes pushed.
    offset: u64,
    /// Where the event that is being read begins; behind the last whole one.
    event_start: u64,
    state: State,
    contents: Contents,
    /// Bytes of `TRANSACTION_PAYLOAD` events' bodies among them.
    compressed: u64,
    /// For who asks what is changed.
    lister: Option<Lister>,
}

#[derive(Debug, Clone)]
enum State {
    Magic(Partial<4>),
    Header(Partial<HEADER_LEN>),
    Body(Body),
    Damaged(Damage),
    Refused(Refusal),
}

impl Default for State {
    fn default() -> Self {
        Self::Magic(Partial::EMPTY)
    }
}

impl Scanner {
    /// At the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which also lists what each event changes: take the [changes](Self::take_changes), too, after
    /// each push.
    pub fn with_changes() -> Self {
        Self {
            lister: Some(Lister::default()),
            ..Self::default()
        }
    }

    /// The number of bytes pushed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many of the bytes pushed so far the server has compressed (`binlog_transaction_compression`).
    pub fn compressed(&self) -> u64 {
        self.compressed
    }

    /// Reads the next bytes of the file. Damage is no error: it is told by
    /// [`finish`](Self::finish), and bytes behind it are only counted.
    ///
    /// # Errors
    /// When the file is not to be archived; every later call then answers the same.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.offset += bytes.len() as u64;
        let mut input = bytes;
        while !input.is_empty() {
            match &mut self.state {
                State::Magic(magic) => {
                    if let Some(magic) = magic.fill(&mut input) {
                        self.begin_file(magic);
                    }
                }
                State::Header(header) => {
                    if let Some(header) = header.fill(&mut input) {
                        self.begin_event(header);
                    }
                }
                State::Body(body) => {
                    if let Some(lister) = &mut self.lister {
                        lister.push(body.of(input));
                    }
                    if body.header.kind == kind::TRANSACTION_PAYLOAD {
                        self.compressed += body.of(input).len() as u64;
                    }
                    body.read(&mut input);
                    self.end_event_if_whole();
                }
                State::Damaged(_) | State::Refused(_) => break,
            }
        }
        match &self.state {
            State::Refused(refusal) => Err(refusal.clone()),
            _ => Ok(()),
        }
    }

    /// Goes on at `offset`, as if the bytes between had been read and nothing were in them: for who
    /// reads parts of a file. An event MUST begin there, or the bytes behind look damaged. What
    /// [`finish`](Self::finish) tells is then of the parts that were read.
    ///
    /// Returns whether that is possible: the first event was read, the last one that was pushed is
    /// whole, no transaction is open, and `offset` is not behind.
    pub fn skip_to(&mut self, offset: u64) -> bool {
        let between_events = matches!(&self.state, State::Header(header) if header.len == 0);
        let possible = between_events
            && offset >= self.offset
            && self.contents.is_begun()
            && self.contents.is_between_transactions();
        if possible {
            self.offset = offset;
            self.event_start = offset;
        }
        possible
    }

    /// GTIDs in all files before this one, once they were read.
    pub fn previous_gtids(&self) -> Option<&GtidSet> {
        self.contents.previous_gtids_read()
    }

    /// Has nothing been pushed behind the two events that every file begins with?
    pub fn is_at_end_of_head(&self) -> bool {
        let between_events = matches!(&self.state, State::Header(header) if header.len == 0);
        between_events && self.previous_gtids().is_some() && self.contents.events() == HEAD_EVENTS
    }

    /// The boundaries found since the last call, by ascending offset: the start of each transaction,
    /// and the end of one that no other follows at once.
    ///
    /// A start is known when its GTID event has been read, an end when the event behind it has, so
    /// both come up to that much later than their bytes. There is none behind the damage, and none at
    /// the end of the file itself.
    pub fn take_boundaries(&mut self) -> Vec<Boundary> {
        self.contents.take_boundaries()
    }

    /// What the events changed that were whole since the last call, in their order. None unless the scanner was
    /// made [with changes](Self::with_changes).
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.lister.as_mut().map(Lister::take).unwrap_or_default()
    }

    /// What was found, the end of the file being where the last push ended.
    ///
    /// # Errors
    /// When the file is not to be archived.
    pub fn finish(self) -> Result<Summary, Refusal> {
        let damage = self.damage_at_the_end()?;
        Ok(self.contents.summary(self.offset, self.event_start, damage))
    }

    fn damage_at_the_end(&self) -> Result<Option<Damage>, Refusal> {
        let cut_off = |of: String| {
            let reason = format!("cut off: {} of {of} bytes", self.offset - self.event_start);
            Some(Damage {
                offset: self.event_start,
                reason,
            })
        };
        match &self.state {
            State::Refused(refusal) => Err(refusal.clone()),
            State::Damaged(damage) => Ok(Some(damage.clone())),
            State::Magic(magic) if magic.len == 0 => Err(Refusal::Empty),
            State::Magic(magic) if MAGIC.starts_with(magic.so_far()) => Ok(cut_off("4".to_owned())),
            State::Magic(magic) => Err(not_a_binlog(magic.so_far())),
            State::Header(header) if header.len == 0 && self.contents.is_begun() => Ok(None),
            State::Header(_) => Ok(cut_off(format!("at least {HEADER_LEN}"))),
            State::Body(body) => Ok(cut_off(body.header.length.to_string())),
        }
    }

    fn begin_file(&mut self, magic: [u8; 4]) {
        self.state = match magic {
            MAGIC => State::Header(Partial::EMPTY),
            ENCRYPTED_MAGIC => State::Refused(Refusal::Encrypted),
            other => State::Refused(not_a_binlog(&other)),
        };
        self.event_start = MAGIC.len() as u64;
    }

    /// The header is whole: decides whether its event can be read, and how.
    fn begin_event(&mut self, bytes: [u8; HEADER_LEN]) {
        let header = Header::parse(bytes);
        let shape = self.contents.shape(&header).and_then(|shape| {
            self.check_extent(&header, shape)?;
            Ok(shape)
        });
        match shape {
            Ok(shape) => {
                if let Some(lister) = &mut self.lister {
                    lister.begin(&header, self.event_start);
                }
                self.state = State::Body(Body::new(header, bytes, shape));
                self.end_event_if_whole();
            }
            Err(reason) => self.damage(reason),
        }
    }

    fn check_extent(&self, header: &Header, shape: Shape) -> Result<(), String> {
        let shortest = HEADER_LEN + if shape.has_footer { CHECKSUM_LEN } else { 0 };
        if (header.length as usize) < shortest {
            return Err(format!(
                "event length {} is below {shortest}",
                header.length
            ));
        }
        // 0 stands for no position, in events that some tool made. A server's events have one.
        let end = self.event_start + u64::from(header.length);
        if header.log_pos != 0 && u64::from(header.log_pos) != end % (1 << 32) {
            return Err(format!(
                "the event says that it ends at {}, not {end}",
                header.log_pos
            ));
        }
        Ok(())
    }

    fn end_event_if_whole(&mut self) {
        let State::Body(body) = &self.state else {
            return;
        };
        if !body.is_whole() {
            return;
        }
        let (header, start) = (body.header, self.event_start);
        let end = start + u64::from(header.length);
        let read = match body.crc_mismatch() {
            None => self
                .contents
                .event(&header, start..end, body.kept.as_deref()),
            Some(reason) => Err(Contents::mismatched(&header, body.kept.as_deref(), reason)),
        };
        if let Some(lister) = &mut self.lister {
            match read {
                Ok(()) => lister.end(),
                Err(_) => lister.abandon(),
            }
        }
        match read {
            Ok(()) => {
                self.state = State::Header(Partial::EMPTY);
                self.event_start = end;
            }
            Err(Trouble::Refused(refusal)) => self.state = State::Refused(refusal),
            Err(Trouble::Damaged(reason)) => self.damage(reason),
        }
    }

    fn damage(&mut self, reason: String) {
        self.contents.stop();
        self.state = State::Damaged(Damage {
            offset: self.event_start,
            reason,
        });
    }
}

/// The event that is being read, behind its header.
#[derive(Debug, Clone)]
struct Body {
    header: Header,
    /// Bytes of the body that are still to come.
    left: u64,
    /// Over header and body, when a checksum follows them.
    crc: crc32fast::Hasher,
    /// The body, when it is going to be interpreted.
    kept: Option<Vec<u8>>,
    has_footer: bool,
    footer: Partial<CHECKSUM_LEN>,
}

impl Body {
    fn new(header: Header, mut bytes: [u8; HEADER_LEN], shape: Shape) -> Self {
        // The server computes the FormatDescription's checksum as if it were not in use, so that it
        // can clear the flag in place (TRAPS 1).
        if header.kind == kind::FORMAT_DESCRIPTION
            && let Some(flags) = bytes.get_mut(FLAGS_OFFSET)
        {
            *flags &= !FLAG_IN_USE;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        let around = HEADER_LEN + if shape.has_footer { CHECKSUM_LEN } else { 0 };
        Self {
            header,
            left: u64::from(header.length).saturating_sub(around as u64),
            crc,
            kept: shape.keep.then(Vec::new),
            has_footer: shape.has_footer,
            footer: Partial::EMPTY,
        }
    }

    /// What of the input is of the body.
    fn of<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX);
        input.get(..len).unwrap_or(input)
    }

    fn read(&mut self, input: &mut &[u8]) {
        let len = self.of(input).len();
        let (bytes, rest) = input.split_at(len);
        if self.has_footer {
            self.crc.update(bytes);
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        self.left -= len as u64;
        *input = rest;
        if self.left == 0 && self.has_footer {
            self.footer.fill(input);
        }
    }

    fn is_whole(&self) -> bool {
        self.left == 0 && (!self.has_footer || self.footer.len == CHECKSUM_LEN)
    }

    fn crc_mismatch(&self) -> Option<String> {
        let stored = u32::from_le_bytes(self.footer.bytes);
        let computed = self.crc.clone().finalize();
        (self.has_footer && stored != computed)
            .then(|| format!("CRC32 is {computed:#010x}, the event states {stored:#010x}"))
    }
}

/// The first bytes of `N`.
#[derive(Debug, Clone, Copy)]
struct Partial<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Partial<N> {
    const EMPTY: Self = Self {
        bytes: [0; N],
        len: 0,
    };

    /// Takes what is missing from the front of `input`; all bytes once none is missing.
    fn fill(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let missing = self.bytes.get_mut(self.len..).unwrap_or_default();
        let taken = missing.len().min(input.len());
        let (head, rest) = input.split_at(taken);
        missing
            .iter_mut()
            .zip(head)
            .for_each(|(to, from)| *to = *from);
        *input = rest;
        self.len += taken;
        (self.len == N).then_some(self.bytes)
    }

    fn so_far(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn not_a_binlog(begin: &[u8]) -> Refusal {
    Refusal::NotABinlog(format!("\"{}\"", begin.escape_ascii()))
}
