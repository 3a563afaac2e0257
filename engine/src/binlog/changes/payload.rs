//! A compressed transaction, decompressed as it comes.
//!
//! Layout after the server's `libs/mysql/binlog/event/codecs/binary.cpp`: fields, each a type, a length and
//! a value, all packed integers, up to a type of 0; then the payload. Its events have no checksums.

use std::io::{self, Write};

use super::{Change, Head, Tables, is_of_interest};
use crate::binlog::event::{HEADER_LEN, Header};
use crate::binlog::fields::{Fields, Short};

/// The fields before a payload are shorter: five at most, of some bytes each.
const MAX_FIELDS: usize = 128;

/// The field that says how it is compressed.
const COMPRESSION: u64 = 2;

/// The value that says zstd (`compression::type::ZSTD`).
const ZSTD: u64 = 0;

/// The value that says not at all (`compression::type::NONE`).
const NONE: u64 = 255;

/// A payload that is being read.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    state: State,
}

enum State {
    /// Before the payload.
    Fields(Vec<u8>),
    Plain(Events),
    Zstd(zstd::stream::write::Decoder<'static, Events>),
    /// Not understood, or damaged: what was found in it before is not given out.
    Broken,
}

impl Clone for State {
    /// A scanner is cloned between events, if ever.
    fn clone(&self) -> Self {
        match self {
            Self::Fields(bytes) => Self::Fields(bytes.clone()),
            Self::Plain(events) => Self::Plain(events.clone()),
            Self::Zstd(_) | Self::Broken => Self::Broken,
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fields(_) => "Fields",
            Self::Plain(_) => "Plain",
            Self::Zstd(_) => "Zstd",
            Self::Broken => "Broken",
        })
    }
}

impl Payload {
    pub(super) fn new() -> Self {
        Self {
            state: State::Fields(Vec::new()),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let written = match &mut self.state {
            State::Fields(before) => {
                before.extend_from_slice(bytes);
                let before = std::mem::take(before);
                return self.begin(before);
            }
            State::Plain(events) => events.write_all(bytes),
            State::Zstd(decoder) => decoder.write_all(bytes),
            State::Broken => Ok(()),
        };
        if written.is_err() {
            self.state = State::Broken;
        }
    }

    /// Looks whether the fields are whole.
    fn begin(&mut self, before: Vec<u8>) {
        let mut fields = Fields(&before);
        self.state = match compression(&mut fields) {
            Err(Short) if before.len() < MAX_FIELDS => {
                self.state = State::Fields(before);
                return;
            }
            Ok(Some(ZSTD)) => match zstd::stream::write::Decoder::new(Events::default()) {
                Ok(decoder) => State::Zstd(decoder),
                Err(_) => State::Broken,
            },
            Ok(Some(NONE)) => State::Plain(Events::default()),
            Ok(_) | Err(Short) => State::Broken,
        };
        self.push(fields.0);
    }

    /// What the payload changes.
    pub(super) fn finish(self) -> Vec<Change> {
        match self.state {
            State::Plain(events) => events.changes,
            State::Zstd(mut decoder) => match decoder.flush() {
                Ok(()) => decoder.into_inner().changes,
                Err(_) => Vec::new(),
            },
            State::Fields(_) | State::Broken => Vec::new(),
        }
    }
}

/// How the payload behind the fields is compressed.
fn compression(fields: &mut Fields<'_>) -> Result<Option<u64>, Short> {
    let mut compression = None;
    loop {
        let field = fields.packed()?;
        if field == 0 {
            return Ok(compression);
        }
        let len = usize::try_from(fields.packed()?).map_err(|_| Short)?;
        let value = fields.take(len)?;
        if field == COMPRESSION {
            compression = Some(Fields(value).packed()?);
        }
    }
}

/// The events in a payload, one after the other.
#[derive(Debug, Clone, Default)]
struct Events {
    header: Vec<u8>,
    /// The event whose header was read, and how much of its body is to come.
    event: Option<(Head, u64)>,
    tables: Tables,
    changes: Vec<Change>,
}

impl Events {
    fn begin(&mut self, bytes: [u8; HEADER_LEN]) -> io::Result<()> {
        let header = Header::parse(bytes);
        let body = u64::from(header.length).checked_sub(HEADER_LEN as u64);
        let body = body.ok_or(io::ErrorKind::InvalidData)?;
        self.event = Some((Head::new(&header, 0), body));
        self.header.clear();
        self.end_if_whole();
        Ok(())
    }

    fn end_if_whole(&mut self) {
        if let Some((head, _)) = self.event.take_if(|(_, left)| *left == 0)
            && is_of_interest(head.kind)
        {
            self.changes.extend(self.tables.read(&head));
        }
    }
}

impl Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((head, left)) = &mut self.event {
            let len = usize::try_from(*left)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            head.push(bytes.get(..len).unwrap_or_default());
            *left = left.saturating_sub(len as u64);
            self.end_if_whole();
            return Ok(len);
        }
        let missing = HEADER_LEN.saturating_sub(self.header.len());
        let taken = bytes.get(..missing.min(bytes.len())).unwrap_or_default();
        self.header.extend_from_slice(taken);
        if let Ok(header) = self.header.as_slice().try_into() {
            self.begin(header)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
