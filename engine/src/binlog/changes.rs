//! What the events of a file change: which tables, by what kind of event. For who looks for a transaction,
//! not for who executes one: rows are counted as bytes and never decoded.
//!
//! # Compressed transactions
//! A payload is decompressed as it comes, and its events are read like any others; their place is the
//! payload's, since no place inside can be named (TRAPS 7).
//!
//! # Limits
//! Of each event [`MAX_HEAD`] bytes are kept, of a statement [`MAX_STATEMENT`]; of the tables of one
//! transaction [`MAX_TABLES`] are known. Take the changes after each push: they are kept until then.

mod payload;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::payload::Payload;
use super::event::{Header, kind};
use super::fields::{Fields, Short};

/// Bytes of an event's body that are kept: status variables and the beginning of a statement.
pub const MAX_HEAD: usize = 8 * 1024;

/// Bytes of a statement that are kept.
pub const MAX_STATEMENT: usize = 1024;

/// Tables of one transaction whose names are kept.
pub const MAX_TABLES: usize = 4096;

/// What an event does to a table. Part of reports: additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Rows are added.
    Insert,
    /// Rows are changed.
    Update,
    /// Rows are removed.
    Delete,
    /// All rows are removed.
    Truncate,
    /// A table, schema or other object is removed.
    Drop,
    /// A table or other object is made.
    Create,
    /// A definition is changed.
    Alter,
    /// A table gets another name.
    Rename,
    /// Any other statement.
    Other,
}

/// One event that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// File offset of the event, or of the payload that it is in.
    pub offset: u64,
    /// What it does.
    pub kind: ChangeKind,
    /// The schema of the table, or the one that a statement was executed in.
    pub schema: String,
    /// The table; none for a statement, which may name several.
    pub table: Option<String>,
    /// The beginning of the statement, if it is one.
    pub statement: Option<String>,
    /// Bytes of the event.
    pub bytes: u64,
}

/// Lists the changes of a file's events.
#[derive(Debug, Clone, Default)]
pub(super) struct Lister {
    event: Option<Event>,
    tables: Tables,
    changes: Vec<Change>,
}

/// The event that is being read.
#[derive(Debug, Clone)]
enum Event {
    Plain(Head),
    Payload { offset: u64, payload: Box<Payload> },
}

/// The beginning of an event.
#[derive(Debug, Clone)]
struct Head {
    kind: u8,
    offset: u64,
    length: u32,
    bytes: Vec<u8>,
}

impl Head {
    fn new(header: &Header, offset: u64) -> Self {
        Self {
            kind: header.kind,
            offset,
            length: header.length,
            bytes: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = MAX_HEAD.saturating_sub(self.bytes.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.bytes.extend_from_slice(taken);
    }
}

impl Lister {
    /// An event begins.
    pub(super) fn begin(&mut self, header: &Header, offset: u64) {
        if header.is_gtid() {
            self.tables = Tables::default();
        }
        self.event = match header.kind {
            kind::TRANSACTION_PAYLOAD => Some(Event::Payload {
                offset,
                payload: Box::new(Payload::new()),
            }),
            kind if is_of_interest(kind) => Some(Event::Plain(Head::new(header, offset))),
            _ => None,
        };
    }

    /// Bytes of its body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        match &mut self.event {
            Some(Event::Plain(head)) => head.push(bytes),
            Some(Event::Payload { payload, .. }) => payload.push(bytes),
            None => {}
        }
    }

    /// It was whole.
    pub(super) fn end(&mut self) {
        match self.event.take() {
            Some(Event::Plain(head)) => self.changes.extend(self.tables.read(&head)),
            Some(Event::Payload { offset, payload }) => {
                let inner = payload.finish().into_iter();
                self.changes
                    .extend(inner.map(|change| Change { offset, ..change }));
            }
            None => {}
        }
    }

    /// It was damaged.
    pub(super) fn abandon(&mut self) {
        self.event = None;
    }

    pub(super) fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

/// Whether a type's body says what is changed.
fn is_of_interest(kind: u8) -> bool {
    kind == kind::QUERY || kind == kind::TABLE_MAP || rows(kind).is_some()
}

/// What a rows event does (`Log_event_type`, with those of MySQL 5.1 to 5.5).
fn rows(kind: u8) -> Option<ChangeKind> {
    match kind {
        23 | 30 => Some(ChangeKind::Insert),
        24 | 31 | 39 => Some(ChangeKind::Update),
        25 | 32 => Some(ChangeKind::Delete),
        _ => None,
    }
}

/// The tables that rows events call by number.
#[derive(Debug, Clone, Default)]
struct Tables(BTreeMap<u64, (String, String)>);

impl Tables {
    /// What an event changes. One that is not understood changes nothing that can be named.
    fn read(&mut self, head: &Head) -> Option<Change> {
        let mut fields = Fields(&head.bytes);
        match head.kind {
            kind::TABLE_MAP => {
                if let Ok((number, names)) = table_map(&mut fields)
                    && (self.0.len() < MAX_TABLES || self.0.contains_key(&number))
                {
                    self.0.insert(number, names);
                }
                None
            }
            kind::QUERY => query(head, &mut fields),
            kind => self.rows(head, rows(kind)?, &mut fields),
        }
    }

    fn rows(&self, head: &Head, kind: ChangeKind, fields: &mut Fields<'_>) -> Option<Change> {
        let number = fields.uint(6).ok()?;
        let (schema, table) = self.0.get(&number).cloned()?;
        Some(Change {
            offset: head.offset,
            kind,
            schema,
            table: Some(table),
            statement: None,
            bytes: u64::from(head.length),
        })
    }
}

/// A table's number, schema and name.
fn table_map(fields: &mut Fields<'_>) -> Result<(u64, (String, String)), Short> {
    let number = fields.uint(6)?;
    let _flags = fields.u16()?;
    let schema = name(fields)?;
    let table = name(fields)?;
    Ok((number, (schema, table)))
}

/// A name with its length before it and a NUL behind.
fn name(fields: &mut Fields<'_>) -> Result<String, Short> {
    let len = fields.packed()?;
    let name = fields.take(usize::try_from(len).map_err(|_| Short)?)?;
    let _nul = fields.u8()?;
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn query(head: &Head, fields: &mut Fields<'_>) -> Option<Change> {
    fields.take(8).ok()?;
    let schema_len = fields.u8().ok()?;
    fields.take(2).ok()?;
    let status_len = fields.u16().ok()?;
    fields.take(usize::from(status_len)).ok()?;
    let schema = fields.take(usize::from(schema_len)).ok()?;
    let _nul = fields.u8().ok()?;
    let statement = fields.0;
    let kind = kind_of(statement)?;
    let kept = statement.get(..MAX_STATEMENT.min(statement.len()));
    Some(Change {
        offset: head.offset,
        kind,
        schema: String::from_utf8_lossy(schema).into_owned(),
        table: None,
        statement: Some(String::from_utf8_lossy(kept?).into_owned()),
        bytes: u64::from(head.length),
    })
}

/// What a statement does; none for those that only hold a transaction together.
fn kind_of(statement: &[u8]) -> Option<ChangeKind> {
    let text = String::from_utf8_lossy(statement.get(..MAX_STATEMENT).unwrap_or(statement));
    let word = first_word(&text).to_ascii_uppercase();
    Some(match word.as_str() {
        "BEGIN" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "XA" => return None,
        "INSERT" | "REPLACE" | "LOAD" => ChangeKind::Insert,
        "UPDATE" => ChangeKind::Update,
        "DELETE" => ChangeKind::Delete,
        "TRUNCATE" => ChangeKind::Truncate,
        "DROP" => ChangeKind::Drop,
        "CREATE" => ChangeKind::Create,
        "ALTER" => ChangeKind::Alter,
        "RENAME" => ChangeKind::Rename,
        _ => ChangeKind::Other,
    })
}

/// The first word behind comments and white space; what stands in `/*! … */` is executed.
fn first_word(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        rest = if let Some(executed) = rest.strip_prefix("/*!") {
            executed.trim_start_matches(|c: char| c.is_ascii_digit())
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, behind)| behind)
        } else if rest.starts_with('#') || rest.starts_with("-- ") {
            rest.split_once('\n').map_or("", |(_, behind)| behind)
        } else {
            break;
        }
        .trim_start();
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic());
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statements_kind_is_its_first_word_behind_comments() {
        for (statement, kind) in [
            (
                "DROP TABLE `t` /* generated by server */",
                Some(ChangeKind::Drop),
            ),
            (
                "  /* app:shop */ -- by hand\n delete from t",
                Some(ChangeKind::Delete),
            ),
            (
                "/*!40000 ALTER TABLE t DISABLE KEYS */",
                Some(ChangeKind::Alter),
            ),
            ("# note\nTRUNCATE t", Some(ChangeKind::Truncate)),
            ("GRANT ALL ON *.* TO x", Some(ChangeKind::Other)),
            ("BEGIN", None),
            ("XA START X'01',X'',1", None),
            ("/* never closed", Some(ChangeKind::Other)),
        ] {
            assert_eq!(kind_of(statement.as_bytes()), kind, "{statement}");
        }
    }
}
