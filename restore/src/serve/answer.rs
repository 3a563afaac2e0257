//! What is answered to a request, as payloads.
//!
//! MySQL internals manual, "Generic Response Packets" and "Text Resultset". Pure.

use super::payload::put_with_length;

/// Bytes of a message at most (`MYSQL_ERRMSG_SIZE`).
pub(super) const LONGEST_MESSAGE: usize = 512;

/// `SERVER_STATUS_AUTOCOMMIT`.
const STATUS: [u8; 2] = [2, 0];

/// `utf8mb4_0900_ai_ci`.
const CHARACTER_SET: [u8; 2] = [255, 0];

/// `MYSQL_TYPE_VAR_STRING`.
const TEXT: u8 = 253;

/// It is done.
pub(super) const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];

/// Nothing more comes.
pub(super) const EOF: [u8; 5] = [0xFE, 0, 0, STATUS[0], STATUS[1]];

/// A refusal, as a server of MySQL would have put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Its number (`share/messages_to_clients.txt`).
    pub(super) code: u16,
    /// Its SQLSTATE.
    pub(super) state: &'static str,
    /// What is wrong.
    pub(super) message: String,
}

impl Refusal {
    /// `ER_SOURCE_FATAL_ERROR_READING_BINLOG`: a replica stops at it, and shows the message.
    pub(super) fn fatal(message: impl Into<String>) -> Self {
        Self::new(1236, "HY000", message)
    }

    /// Any other.
    pub(super) fn new(code: u16, state: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            state,
            message: message.into(),
        }
    }

    /// As a payload. The message is cut where clients would cut it.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = vec![0xFF];
        payload.extend(self.code.to_le_bytes());
        payload.push(b'#');
        payload.extend(self.state.as_bytes());
        let end = self.message.floor_char_boundary(LONGEST_MESSAGE - 1);
        payload.extend(self.message.get(..end).unwrap_or_default().as_bytes());
        payload
    }
}

/// Rows of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    /// The columns' names.
    pub(super) columns: Vec<String>,
    /// As many values each; none is NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// The payloads, in order.
    pub(super) fn payloads(&self) -> Vec<Vec<u8>> {
        let count = u8::try_from(self.columns.len()).unwrap_or(u8::MAX);
        let mut payloads = vec![vec![count]];
        payloads.extend(self.columns.iter().map(|name| column(name)));
        payloads.push(EOF.to_vec());
        payloads.extend(self.rows.iter().map(|values| row(values)));
        payloads.push(EOF.to_vec());
        payloads
    }
}

fn column(name: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    // Catalog, schema, table and the table's own name; then the column's and its own.
    for field in ["def", "", "", "", name, ""] {
        put_with_length(&mut payload, field.as_bytes());
    }
    payload.push(0x0C);
    payload.extend(CHARACTER_SET);
    payload.extend(1024_u32.to_le_bytes());
    payload.push(TEXT);
    // Flags, decimals, filler.
    payload.extend([0; 5]);
    payload
}

fn row(values: &[Option<String>]) -> Vec<u8> {
    const NULL: u8 = 0xFB;
    let mut payload = Vec::new();
    for value in values {
        match value {
            Some(value) => put_with_length(&mut payload, value.as_bytes()),
            None => payload.push(NULL),
        }
    }
    payload
}
