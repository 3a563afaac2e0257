//! MySQL's binary log format, as far as an archiver needs it.
//!
//! # Owns
//! What one pass over a file tells ([`Scanner`], [`Summary`]), which files are not binlogs of a MySQL
//! server at all ([`Refusal`]), and the binlog index file ([`index`]). Pure: bytes in, values out.
//!
//! # Three grades of trouble
//! - [`Refusal`]: the file is something else. It is not archived, and the error says what to do.
//! - [`Damage`]: bytes stop making sense. The file is archived byte for byte; what stands behind the
//!   first bad event is not read.
//! - [`Obstacle`]: all bytes are whole, yet a replay must not pass unasked, because an event is
//!   unknown to this version, contradicts its neighbours, or is the server's own note of a loss.
//!
//! # Limits
//! Only events that are interpreted are buffered, up to [`scanner::MAX_SMALL_EVENT`] or, for the one
//! `PREVIOUS_GTIDS` event, [`scanner::MAX_PREVIOUS_GTIDS`]; rows of any size are streamed through their
//! CRC. What events change is listed for who asks ([`changes`]). Who hands events on as they are takes them from
//! [`passing`], and makes others of its own with [`artificial`].

pub mod artificial;
pub mod changes;
mod contents;
mod event;
mod fields;
pub mod index;
pub mod passing;
pub mod scanner;
mod tagged;
mod transaction;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::changes::{Change, ChangeKind};
pub use self::scanner::Scanner;
use crate::exit::{Diagnose, Exit};
use crate::gtid::{Gtid, GtidSet};
use crate::retry::RetryClass;

/// The four bytes that every plain binlog file begins with.
pub const MAGIC: [u8; 4] = [0xFE, b'b', b'i', b'n'];

/// The four bytes that a file begins with which the server encrypted (TRAPS 6).
pub const ENCRYPTED_MAGIC: [u8; 4] = [0xFD, b'b', b'i', b'n'];

/// Input that is not to be archived as a binlog of this server. Nothing is read as empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `binlog_encryption=ON` (TRAPS 6).
    #[error("encrypted by the server (binlog_encryption=ON)")]
    Encrypted,
    /// Flag 0x40 of the `FormatDescription` event (TRAPS 10).
    #[error("a relay log, not a binary log")]
    RelayLog,
    /// MariaDB's own dialect.
    #[error("written by MariaDB ({0})")]
    MariaDb(String),
    /// Zero bytes long.
    #[error("empty: not even the 4 magic bytes of a binlog are there")]
    Empty,
    /// Anything else.
    #[error("not a binlog: it begins with {0}")]
    NotABinlog(String),
}

impl Refusal {
    /// The same bytes are refused again.
    pub fn retry_class(&self) -> RetryClass {
        RetryClass::Never
    }
}

impl Diagnose for Refusal {
    fn exit(&self) -> Exit {
        match self {
            Self::Encrypted | Self::RelayLog | Self::MariaDb(_) => Exit::Usage,
            Self::Empty | Self::NotABinlog(_) => Exit::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Encrypted => {
                "only the server can read it: fetch plain copies through the server with \
                 `mysqlbinlog --read-from-remote-server --raw`, and archive those"
            }
            Self::RelayLog => {
                "point the source's `index` at the binary log's index (@@log_bin_index), not at the \
                 relay log's (@@relay_log_index)"
            }
            Self::MariaDb(_) => {
                "MariaDB's binary logs and GTIDs are of another format; only MySQL's can be archived"
            }
            Self::Empty => {
                "check whether the disk was full when the server made it, and whether another copy \
                 of it exists"
            }
            Self::NotABinlog(_) => {
                "check that the binlog index names binary logs, and compare with another copy of it"
            }
        };
        Some(hint.to_owned())
    }
}

/// How a file ends (TRAPS 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// A Rotate event that names the successor.
    Rotate {
        /// The successor's file name.
        next: String,
    },
    /// A Stop event: clean shutdown.
    Stop,
    /// Neither: the server crashed, or still writes.
    None,
}

/// The checksum that each event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChecksumAlgorithm {
    /// No footer.
    None,
    /// A CRC32 footer of four bytes.
    Crc32,
}

/// The first place where the bytes stop making sense. All after it is archived unread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// File offset of the first bad event.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// The first event that is whole in its bytes but that a replay must not pass unasked. Reading goes
/// on behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// File offset of the event.
    pub offset: u64,
    /// Its type code.
    pub event_type: u8,
    /// What is the matter with it.
    pub reason: String,
}

/// What one pass over a file found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Bytes in the file.
    pub size: u64,
    /// Whole events, the `FormatDescription` included; a compressed transaction's payload is one.
    pub events: u64,
    /// GTIDs in all files before this one.
    pub previous_gtids: GtidSet,
    /// GTIDs of the whole transactions in this file. One that is cut off is not in it: the server
    /// drops it in crash recovery, and the next file's `previous_gtids` do not have it either.
    pub added_gtids: GtidSet,
    /// `immediate_commit_timestamp` of the first transaction, µs (TRAPS 17).
    pub first_commit: Option<Timestamp>,
    /// The same of the last one in file order.
    pub last_commit: Option<Timestamp>,
    /// The earliest of all transactions, where that is not `first_commit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_commit: Option<Timestamp>,
    /// The latest of all transactions, where that is not `last_commit`: commit times need not ascend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_commit: Option<Timestamp>,
    /// Whole transactions, GTID or anonymous.
    pub transactions: u64,
    /// Of those, the anonymous ones (TRAPS 26).
    pub anonymous_transactions: u64,
    /// File offset behind the last whole event.
    pub last_position: u64,
    /// How the file ends.
    pub end: End,
    /// The `IN_USE` flag was set (TRAPS 1).
    pub in_use: bool,
    /// From the `FormatDescription` event; empty when that one is damaged.
    pub server_version: String,
    /// From the `FormatDescription` event's header; 0 when that one is damaged.
    pub server_id: u32,
    /// From the `FormatDescription` event; `None` when that one is damaged.
    pub checksum_algorithm: ChecksumAlgorithm,
    /// The last transaction is cut off, by the end of the file or by the damage.
    pub open_transaction: bool,
    /// None when every event was whole and its CRC right.
    pub damage: Option<Damage>,
    /// None when every event was understood, and in its place.
    pub obstacle: Option<Obstacle>,
}

impl Summary {
    /// The earliest and the latest commit time in the file; none when no transaction states one.
    pub fn commit_times(&self) -> Option<(Timestamp, Timestamp)> {
        let earliest = self.earliest_commit.or(self.first_commit)?;
        let latest = self.latest_commit.or(self.last_commit)?;
        Some((earliest, latest))
    }
}

/// The start of a transaction, or the end of the last one: a place where a block may be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// File offset.
    pub offset: u64,
    /// The transaction that begins here, if one does and it has a GTID.
    pub gtid: Option<Gtid>,
    /// Its `immediate_commit_timestamp`, µs.
    pub commit: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
