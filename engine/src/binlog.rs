//! MySQL's binary log format, as far as an archiver needs it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gtid::GtidSet;

/// The four bytes that every plain binlog file begins with.
pub const MAGIC: [u8; 4] = [0xFE, b'b', b'i', b'n'];

/// Input that is not to be archived as a binlog of this server. Nothing is read as empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `binlog_encryption=ON` (TRAPS 6).
    #[error("encrypted by the server (binlog_encryption=ON)")]
    Encrypted,
    /// Flag 0x40 of the FormatDescription event (TRAPS 10).
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

/// What one pass over a file found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Bytes in the file.
    pub size: u64,
    /// GTIDs in all files before this one.
    pub previous_gtids: GtidSet,
    /// GTIDs of the transactions in this file.
    pub added_gtids: GtidSet,
    /// `immediate_commit_timestamp` of the first transaction, µs (TRAPS 17).
    pub first_commit: Option<Timestamp>,
    /// The same of the last one in file order.
    pub last_commit: Option<Timestamp>,
    /// Transactions, GTID or anonymous.
    pub transactions: u64,
    /// Of those, the anonymous ones (TRAPS 26).
    pub anonymous_transactions: u64,
    /// File offset behind the last whole event.
    pub last_position: u64,
    /// How the file ends.
    pub end: End,
    /// The IN_USE flag was set (TRAPS 1).
    pub in_use: bool,
    /// From the FormatDescription event.
    pub server_version: String,
    /// From the FormatDescription event's header.
    pub server_id: u32,
    /// From the FormatDescription event.
    pub checksum_algorithm: ChecksumAlgorithm,
    /// The last transaction is cut off by the end of the file.
    pub open_transaction: bool,
    /// None when every event was whole and its CRC right.
    pub damage: Option<Damage>,
}

/// The start of a transaction, or the end of the last one: a place where a block may be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// File offset.
    pub offset: u64,
    /// The transaction that begins here, if one does and it has a GTID.
    pub gtid: Option<crate::gtid::Gtid>,
    /// Its `immediate_commit_timestamp`, µs.
    pub commit: Option<Timestamp>,
}
