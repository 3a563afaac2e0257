//! The events that are interpreted, from the bytes of their bodies.
//!
//! Layouts after the server's `libs/mysql/binlog/event/` (`binlog_event.h`, `control_events.h`,
//! `statement_events.h`). A body is what stands between the 19 bytes of the common header and the
//! checksum.

use jiff::Timestamp;
use uuid::Uuid;

use super::fields::{Fields, Short};
use super::{ChecksumAlgorithm, tagged};
use crate::gtid::{EncodingError, Gtid, MAX_GNO, Tag, Tsid};

/// Length of the common header (`LOG_EVENT_HEADER_LEN`).
pub(super) const HEADER_LEN: usize = 19;

/// Length of the checksum behind an event (`BINLOG_CHECKSUM_LEN`).
pub(super) const CHECKSUM_LEN: usize = 4;

/// The one version of the binlog format since MySQL 5.0 (`BINLOG_VERSION`).
const BINLOG_VERSION: u16 = 4;

/// Length of the server version's field (`ST_SERVER_VER_LEN`).
const SERVER_VERSION_LEN: usize = 50;

/// Where the flags stand in the common header (`FLAGS_OFFSET`).
pub(super) const FLAGS_OFFSET: usize = 17;

/// `LOG_EVENT_BINLOG_IN_USE_F` (TRAPS 1).
pub(super) const FLAG_IN_USE: u8 = 0x01;

/// `LOG_EVENT_RELAY_LOG_F` (TRAPS 10).
const FLAG_RELAY_LOG: u16 = 0x40;

/// `LOG_EVENT_IGNORABLE_F` (TRAPS 9).
const FLAG_IGNORABLE: u16 = 0x80;

/// Type codes that are told apart (`Log_event_type`).
pub(super) mod kind {
    pub(in super::super) const QUERY: u8 = 2;
    pub(in super::super) const STOP: u8 = 3;
    pub(in super::super) const ROTATE: u8 = 4;
    pub(in super::super) const FORMAT_DESCRIPTION: u8 = 15;
    pub(in super::super) const XID: u8 = 16;
    pub(in super::super) const TABLE_MAP: u8 = 19;
    pub(in super::super) const INCIDENT: u8 = 26;
    pub(in super::super) const GTID: u8 = 33;
    pub(in super::super) const ANONYMOUS_GTID: u8 = 34;
    pub(in super::super) const PREVIOUS_GTIDS: u8 = 35;
    pub(in super::super) const XA_PREPARE: u8 = 38;
    pub(in super::super) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(in super::super) const TAGGED_GTID: u8 = 42;
    /// The first type code that only MariaDB uses (its `ANNOTATE_ROWS_EVENT`).
    pub(in super::super) const MARIADB_FIRST: u8 = 160;
}

/// Why a body was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// It is not what a server writes.
    Malformed(String),
    /// It is of a newer server.
    Unknown(String),
}

impl From<Short> for Defect {
    fn from(_: Short) -> Self {
        Self::Malformed("the event is shorter than its fields".to_owned())
    }
}

impl From<EncodingError> for Defect {
    fn from(error: EncodingError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The common header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) server_id: u32,
    /// Of the whole event, header and checksum included.
    pub(super) length: u32,
    /// Offset behind the event, modulo 2^32 (TRAPS 9).
    pub(super) log_pos: u32,
    pub(super) flags: u16,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        // Seconds since the epoch at which the *statement* began: of no use here (TRAPS 17).
        let [
            _,
            _,
            _,
            _,
            kind,
            s0,
            s1,
            s2,
            s3,
            l0,
            l1,
            l2,
            l3,
            p0,
            p1,
            p2,
            p3,
            f0,
            f1,
        ] = bytes;
        Self {
            kind,
            server_id: u32::from_le_bytes([s0, s1, s2, s3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            log_pos: u32::from_le_bytes([p0, p1, p2, p3]),
            flags: u16::from_le_bytes([f0, f1]),
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.flags & u16::from(FLAG_IN_USE) != 0
    }

    pub(super) fn is_relay_log(&self) -> bool {
        self.flags & FLAG_RELAY_LOG != 0
    }

    pub(super) fn is_ignorable(&self) -> bool {
        self.flags & FLAG_IGNORABLE != 0
    }

    pub(super) fn is_gtid(&self) -> bool {
        matches!(
            self.kind,
            kind::GTID | kind::ANONYMOUS_GTID | kind::TAGGED_GTID
        )
    }

    /// Whether it is the last event of a file.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.kind, kind::ROTATE | kind::STOP)
    }

    /// Whether servers that log GTID events write this type within transactions only.
    pub(super) fn is_part_of_a_transaction(&self) -> bool {
        matches!(self.kind, 2 | 5 | 9 | 11 | 13 | 14 | 16..=19 | 23..=25 | 30..=32 | 38..=40)
    }

    /// Whether the type is one of MySQL 5.6 to 9.7.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.kind, 2..=5 | 9 | 11 | 13..=19 | 23..=42)
    }
}

/// What the first event of every file says of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FormatDescription {
    pub(super) server_version: String,
    pub(super) checksum_algorithm: ChecksumAlgorithm,
    post_header_lengths: Vec<u8>,
}

impl FormatDescription {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Defect> {
        let mut fields = Fields(body);
        let version = fields.u16()?;
        if version != BINLOG_VERSION {
            return Err(Defect::Malformed(format!(
                "binlog format version {version}, not 4"
            )));
        }
        let server_version = text(fields.take(SERVER_VERSION_LEN)?);
        let _created = fields.take(4)?;
        let header_len = fields.u8()?;
        if usize::from(header_len) != HEADER_LEN {
            return Err(Defect::Malformed(format!(
                "event headers of {header_len} bytes, not 19"
            )));
        }
        let (algorithm, post_header_lengths) = fields.0.split_last().ok_or(Short)?;
        let checksum_algorithm = match algorithm {
            0 => ChecksumAlgorithm::None,
            1 => ChecksumAlgorithm::Crc32,
            other => {
                return Err(Defect::Malformed(format!(
                    "unknown checksum algorithm {other}"
                )));
            }
        };
        Ok(Self {
            server_version,
            checksum_algorithm,
            post_header_lengths: post_header_lengths.to_vec(),
        })
    }

    /// What is known of it in a file that is damaged there.
    pub(super) fn unread() -> Self {
        Self {
            server_version: String::new(),
            checksum_algorithm: ChecksumAlgorithm::None,
            post_header_lengths: Vec::new(),
        }
    }

    /// Whether it speaks of MariaDB, in words or by its longer list of event types.
    pub(super) fn is_mariadb(&self) -> bool {
        says_mariadb(&self.server_version)
            || self.post_header_lengths.len() >= usize::from(kind::MARIADB_FIRST)
    }

    /// The body of an event behind the part of fixed length.
    pub(super) fn behind_post_header<'a>(
        &self,
        header: &Header,
        body: &'a [u8],
    ) -> Result<&'a [u8], Defect> {
        let listed = usize::from(header.kind).checked_sub(1);
        let len = listed.and_then(|listed| self.post_header_lengths.get(listed));
        let len = len.copied().unwrap_or_default();
        Ok(body.get(usize::from(len)..).ok_or(Short)?)
    }
}

/// The server version in the body of a `FormatDescription` event that is not to be trusted otherwise.
pub(super) fn server_version(body: &[u8]) -> Option<String> {
    let mut fields = Fields(body);
    fields.u16().ok()?;
    fields.take(SERVER_VERSION_LEN).ok().map(text)
}

/// Whether a server version names MariaDB.
pub(super) fn says_mariadb(server_version: &str) -> bool {
    server_version.to_ascii_lowercase().contains("mariadb")
}

/// Text up to the first NUL.
fn text(field: &[u8]) -> String {
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// What the event at a transaction's start says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TransactionStart {
    /// None for an anonymous transaction.
    pub(super) gtid: Option<Gtid>,
    pub(super) commit: Option<Timestamp>,
    /// From the first byte of the GTID event; None before MySQL 8.0.2.
    pub(super) length: Option<u64>,
}

impl TransactionStart {
    /// The body of any of the three GTID events.
    pub(super) fn parse(kind: u8, body: &[u8]) -> Result<Self, Defect> {
        if kind == kind::TAGGED_GTID {
            tagged::parse(body)
        } else {
            Self::parse_classic(kind, body)
        }
    }

    /// Types 33 and 34 (`Gtid_event`): fields were added at the end over time, so it may end early.
    fn parse_classic(kind: u8, body: &[u8]) -> Result<Self, Defect> {
        /// Type code before the two logical timestamps, since 5.7.
        const LOGICAL_TIMESTAMPS: u8 = 2;
        /// Bit 55 of the immediate commit timestamp: the original one follows.
        const HAS_ORIGINAL: u64 = 1 << 55;

        let mut fields = Fields(body);
        let _flags = fields.u8()?;
        let uuid = Uuid::from_bytes(fields.array()?);
        let gno = fields.u64()?;
        let gtid = match (kind, gno) {
            (kind::ANONYMOUS_GTID, 0) => None,
            (kind::ANONYMOUS_GTID, _) => {
                return Err(Defect::Malformed(format!("anonymous, yet number {gno}")));
            }
            _ => Some(gtid(uuid, None, gno)?),
        };
        let mut start = Self {
            gtid,
            ..Self::default()
        };
        if fields.len() == 0 || fields.u8()? != LOGICAL_TIMESTAMPS {
            return Ok(start);
        }
        let _last_committed_and_sequence_number = fields.take(16)?;
        if fields.len() == 0 {
            return Ok(start);
        }
        let immediate = fields.uint(7)?;
        if immediate & HAS_ORIGINAL != 0 {
            let _original = fields.take(7)?;
        }
        start.commit = commit_time(immediate & !HAS_ORIGINAL)?;
        if fields.len() > 0 {
            start.length = Some(fields.packed()?);
        }
        Ok(start)
    }
}

/// A GTID from its parts.
pub(super) fn gtid(uuid: Uuid, tag: Option<Tag>, gno: u64) -> Result<Gtid, Defect> {
    if (1..=MAX_GNO).contains(&gno) {
        Ok(Gtid {
            tsid: Tsid { uuid, tag },
            gno,
        })
    } else {
        Err(Defect::Malformed(format!(
            "transaction number {gno} is out of range"
        )))
    }
}

/// A commit timestamp in µs since the epoch; 0 is none.
pub(super) fn commit_time(micros: u64) -> Result<Option<Timestamp>, Defect> {
    if micros == 0 {
        return Ok(None);
    }
    let time = i64::try_from(micros)
        .ok()
        .and_then(|t| Timestamp::from_microsecond(t).ok());
    let error = || Defect::Malformed(format!("commit timestamp {micros} is out of range"));
    time.map(Some).ok_or_else(error)
}

/// The successor's name, from what stands behind a Rotate event's post-header.
pub(super) fn rotate_target(name: &[u8]) -> Result<String, Defect> {
    if name.is_empty() {
        return Err(Defect::Malformed(
            "a Rotate event without a file name".to_owned(),
        ));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// The statement of a Query event, after its thread id, duration, lengths, status variables and
/// database.
pub(super) fn statement(body: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(body);
    fields.take(8).ok()?;
    let database_len = fields.u8().ok()?;
    fields.take(2).ok()?;
    let status_len = fields.u16().ok()?;
    fields.take(usize::from(status_len)).ok()?;
    fields.take(usize::from(database_len) + 1).ok()?;
    Some(fields.0)
}
