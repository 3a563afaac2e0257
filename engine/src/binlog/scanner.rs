//! The one pass over a binlog file.
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
//!
//! # Behind the end
//! Rotate and Stop are a file's last events. Events behind one are read on, and the first of them is
//! an obstacle; the file's end is then what the last event is.

use super::event::{
    self, CHECKSUM_LEN, Defect, FLAG_IN_USE, FLAGS_OFFSET, FormatDescription, HEADER_LEN, Header,
    TransactionStart, kind,
};
use super::transaction::{Step, Transactions};
use super::{
    Boundary, ChecksumAlgorithm, Damage, ENCRYPTED_MAGIC, End, MAGIC, Obstacle, Refusal, Summary,
};
use crate::gtid::GtidSet;

/// The longest event that is buffered to be interpreted, in bytes, but for `PREVIOUS_GTIDS`. The
/// greatest that servers write are Rotate with its file name of 512 bytes (`FN_REFLEN`), and
/// `FormatDescription` with one byte for each of up to 255 event types.
pub const MAX_SMALL_EVENT: u32 = 4096;

/// The longest `PREVIOUS_GTIDS` event that is buffered, in bytes: about a million intervals.
pub const MAX_PREVIOUS_GTIDS: u32 = 16 * 1024 * 1024;

/// Reads one binlog file, pushed to it in pieces.
///
/// Take the boundaries after each push: they are kept until then.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// Bytes pushed.
    offset: u64,
    /// Where the event that is being read begins; behind the last whole one.
    event_start: u64,
    state: State,
    format: Option<FormatDescription>,
    server_id: u32,
    in_use: bool,
    previous_gtids: Option<GtidSet>,
    transactions: Transactions,
    events: u64,
    end: End,
    obstacle: Option<Obstacle>,
}

#[derive(Debug, Clone)]
enum State {
    Magic(Partial<4>),
    Header(Partial<HEADER_LEN>),
    Body(Body),
    Damaged(Damage),
    Refused(Refusal),
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

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// At the start of a file.
    pub fn new() -> Self {
        Self {
            offset: 0,
            event_start: 0,
            state: State::Magic(Partial::EMPTY),
            format: None,
            server_id: 0,
            in_use: false,
            previous_gtids: None,
            transactions: Transactions::default(),
            events: 0,
            end: End::None,
            obstacle: None,
        }
    }

    /// The number of bytes pushed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next bytes of the file. Damage is no error: it is told by
    /// [`finish`](Self::finish), and bytes behind it are only counted.
    ///
    /// # Errors
    /// When the file is not to be archived; every later call then answers the same.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut input = bytes;
        while !input.is_empty() {
            match &mut self.state {
                State::Magic(magic) => {
                    if let Some(magic) = magic.fill(&mut input) {
                        self.magic(magic);
                    }
                }
                State::Header(header) => {
                    if let Some(header) = header.fill(&mut input) {
                        self.begin_event(header);
                    }
                }
                State::Body(body) => {
                    body.read(&mut input);
                    self.end_event_if_whole();
                }
                State::Damaged(_) => break,
                State::Refused(refusal) => return Err(refusal.clone()),
            }
        }
        self.offset += bytes.len() as u64;
        match &self.state {
            State::Refused(refusal) => Err(refusal.clone()),
            _ => Ok(()),
        }
    }

    /// The boundaries found since the last call, by ascending offset: the start of each transaction,
    /// and the end of one that no other follows at once.
    ///
    /// A start is known when its GTID event has been read, an end when the event behind it has, so
    /// both come up to that much later than their bytes. There is none behind the damage, and none at
    /// the end of the file itself.
    pub fn take_boundaries(&mut self) -> Vec<Boundary> {
        self.transactions.take_boundaries()
    }

    /// What was found, the end of the file being where the last push ended.
    ///
    /// # Errors
    /// When the file is not to be archived.
    pub fn finish(mut self) -> Result<Summary, Refusal> {
        let damage = self.damage_at_the_end()?;
        if damage.is_none() && self.previous_gtids.is_none() {
            let reason = "the file has no PREVIOUS_GTIDS event";
            self.obstacle(self.event_start, kind::PREVIOUS_GTIDS, reason);
        }
        let (server_version, checksum_algorithm) = match self.format {
            Some(format) => (format.server_version, format.checksum_algorithm),
            None => (String::new(), ChecksumAlgorithm::None),
        };
        Ok(Summary {
            size: self.offset,
            events: self.events,
            previous_gtids: self.previous_gtids.unwrap_or_default(),
            open_transaction: self.transactions.is_open(),
            added_gtids: self.transactions.added_gtids,
            first_commit: self.transactions.first_commit,
            last_commit: self.transactions.last_commit,
            transactions: self.transactions.count,
            anonymous_transactions: self.transactions.anonymous,
            last_position: self.event_start,
            end: self.end,
            in_use: self.in_use,
            server_version,
            server_id: self.server_id,
            checksum_algorithm,
            damage,
            obstacle: self.obstacle,
        })
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
            State::Header(header) if header.len == 0 && self.format.is_some() => Ok(None),
            State::Header(_) => Ok(cut_off(format!("at least {HEADER_LEN}"))),
            State::Body(body) => Ok(cut_off(body.header.length.to_string())),
        }
    }

    fn magic(&mut self, magic: [u8; 4]) {
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
        match self.check_header(&header) {
            Ok(has_footer) => {
                let keep = self.keeps(&header);
                self.state = State::Body(Body::new(header, bytes, has_footer, keep));
                self.end_event_if_whole();
            }
            Err(reason) => self.damage(reason),
        }
    }

    /// Returns whether a checksum follows the body.
    fn check_header(&self, header: &Header) -> Result<bool, String> {
        let is_format = header.kind == kind::FORMAT_DESCRIPTION;
        let has_footer = match &self.format {
            None if is_format => true,
            None => {
                return Err(format!(
                    "the first event is of type {}, not 15",
                    header.kind
                ));
            }
            Some(_) if is_format => return Err("a second FormatDescription event".to_owned()),
            Some(format) => format.checksum_algorithm == ChecksumAlgorithm::Crc32,
        };
        let shortest = HEADER_LEN + if has_footer { CHECKSUM_LEN } else { 0 };
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
        let interpreted = is_format || header.is_gtid() || header.kind == kind::ROTATE;
        if interpreted && header.length > MAX_SMALL_EVENT {
            return Err(format!(
                "event length {} of type {}",
                header.length, header.kind
            ));
        }
        Ok(has_footer)
    }

    /// Whether this event's body is to be interpreted.
    fn keeps(&self, header: &Header) -> bool {
        match header.kind {
            kind::PREVIOUS_GTIDS => header.length <= MAX_PREVIOUS_GTIDS,
            kind::QUERY => self.transactions.wants_statement() && header.length <= MAX_SMALL_EVENT,
            kind::ROTATE | kind::FORMAT_DESCRIPTION => true,
            _ => header.is_gtid(),
        }
    }

    fn end_event_if_whole(&mut self) {
        let State::Body(body) = &mut self.state else {
            return;
        };
        if !body.is_whole() {
            return;
        }
        let (header, kept) = (body.header, body.kept.take());
        let body_bytes = kept.as_deref().unwrap_or_default();
        if let Some(reason) = body.crc_mismatch() {
            let refusal = (header.kind == kind::FORMAT_DESCRIPTION)
                .then(|| mariadb_in_damage(body_bytes))
                .flatten();
            match refusal {
                Some(refusal) => self.state = State::Refused(refusal),
                None => self.damage(reason),
            }
            return;
        }
        self.state = State::Header(Partial::EMPTY);
        let end = self.event_start + u64::from(header.length);
        match self.interpret(&header, end, body_bytes, kept.is_some()) {
            Ok(()) => {}
            Err(Defect::Unknown(reason)) => self.obstacle(self.event_start, header.kind, &reason),
            Err(Defect::Malformed(reason)) => return self.damage(reason),
        }
        self.events += 1;
        self.event_start = end;
    }

    fn interpret(
        &mut self,
        header: &Header,
        end: u64,
        body: &[u8],
        kept: bool,
    ) -> Result<(), Defect> {
        if self.end != End::None {
            self.obstacle(
                self.event_start,
                header.kind,
                "an event behind the end of the file",
            );
            self.end = End::None;
        }
        match header.kind {
            kind::FORMAT_DESCRIPTION => return self.format_description(header, body),
            kind::PREVIOUS_GTIDS => return self.previous_gtids(header, body, kept),
            _ => {}
        }
        if self.previous_gtids.is_none() && header.is_gtid() {
            self.obstacle(
                self.event_start,
                header.kind,
                "no PREVIOUS_GTIDS event before it",
            );
        }
        let matter = if header.is_gtid() {
            let start = TransactionStart::parse(header.kind, body)?;
            self.transactions.begin(self.event_start, end, start)
        } else if matches!(header.kind, kind::ROTATE | kind::STOP) {
            self.end = self.end_of_file(header, body)?;
            self.transactions.file_ends(self.event_start)
        } else {
            let statement = if kept { event::statement(body) } else { None };
            let matter = self.transactions.step(Step {
                header,
                end,
                statement,
            });
            matter.or_else(|| standing_in_the_way(header))
        };
        if let Some(reason) = matter {
            self.obstacle(self.event_start, header.kind, &reason);
        }
        Ok(())
    }

    fn format_description(&mut self, header: &Header, body: &[u8]) -> Result<(), Defect> {
        let format = FormatDescription::parse(body)?;
        if format.is_mariadb() {
            self.state = State::Refused(Refusal::MariaDb(format.server_version));
        } else if header.is_relay_log() {
            self.state = State::Refused(Refusal::RelayLog);
        } else {
            self.format = Some(format);
            self.server_id = header.server_id;
            self.in_use = header.is_in_use();
        }
        Ok(())
    }

    fn previous_gtids(&mut self, header: &Header, body: &[u8], kept: bool) -> Result<(), Defect> {
        if self.previous_gtids.is_some() {
            return Err(Defect::Malformed(
                "a second PREVIOUS_GTIDS event".to_owned(),
            ));
        }
        if kept {
            self.previous_gtids = Some(GtidSet::decode(self.behind_post_header(header, body)?)?);
        } else {
            self.previous_gtids = Some(GtidSet::new());
            let reason = format!("{} bytes of GTIDs are not read", header.length);
            self.obstacle(self.event_start, header.kind, &reason);
        }
        Ok(())
    }

    fn end_of_file(&self, header: &Header, body: &[u8]) -> Result<End, Defect> {
        if header.kind == kind::STOP {
            return Ok(End::Stop);
        }
        let next = event::rotate_target(self.behind_post_header(header, body)?)?;
        Ok(End::Rotate { next })
    }

    fn behind_post_header<'a>(&self, header: &Header, body: &'a [u8]) -> Result<&'a [u8], Defect> {
        match &self.format {
            Some(format) => format.behind_post_header(header, body),
            None => Ok(body),
        }
    }

    fn damage(&mut self, reason: String) {
        self.transactions.stop();
        self.state = State::Damaged(Damage {
            offset: self.event_start,
            reason,
        });
    }

    /// The first one counts.
    fn obstacle(&mut self, offset: u64, event_type: u8, reason: &str) {
        self.obstacle.get_or_insert_with(|| Obstacle {
            offset,
            event_type,
            reason: reason.to_owned(),
        });
    }
}

impl Body {
    fn new(header: Header, mut bytes: [u8; HEADER_LEN], has_footer: bool, keep: bool) -> Self {
        // The server computes the FormatDescription's checksum as if it were not in use, so that it
        // can clear the flag in place (TRAPS 1).
        if header.kind == kind::FORMAT_DESCRIPTION
            && let Some(flags) = bytes.get_mut(FLAGS_OFFSET)
        {
            *flags &= !FLAG_IN_USE;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        let footer_len = if has_footer { CHECKSUM_LEN } else { 0 };
        let around = (HEADER_LEN + footer_len) as u64;
        Self {
            header,
            left: u64::from(header.length).saturating_sub(around),
            crc,
            kept: keep.then(Vec::new),
            has_footer,
            footer: Partial::EMPTY,
        }
    }

    fn read(&mut self, input: &mut &[u8]) {
        let len = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(input.len());
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

/// An event that is whole and in its place, and yet not to be passed unasked.
fn standing_in_the_way(header: &Header) -> Option<String> {
    if header.kind == kind::INCIDENT {
        Some("an incident: the server says that changes are missing from its log".to_owned())
    } else if header.is_known() || header.is_ignorable() {
        None
    } else {
        Some(format!(
            "event type {} is unknown to this version",
            header.kind
        ))
    }
}

/// A checksum of another dialect is no damage, if the event names the dialect.
fn mariadb_in_damage(body: &[u8]) -> Option<Refusal> {
    let version = body.get(2..52)?.split(|&byte| byte == 0).next()?;
    let version = String::from_utf8_lossy(version);
    event::says_mariadb(&version).then(|| Refusal::MariaDb(version.into_owned()))
}

fn not_a_binlog(begin: &[u8]) -> Refusal {
    Refusal::NotABinlog(format!("\"{}\"", begin.escape_ascii()))
}
