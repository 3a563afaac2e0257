//! What was found, and the report.

use std::fmt::Write as _;

use engine::binlog::{Boundary, Change, ChangeKind};
use engine::gtid::Gtid;
use engine::layout::{Sequence, SourceIdentity};
use jiff::Timestamp;
use serde::Serialize;

use crate::history::ArchivedFile;
use crate::output::{self, REPORT_VERSION, Report, printable};

/// Changes of one transaction that are kept.
pub const MAX_TOUCHES: usize = 16;

/// Events of one kind on one table, or a statement. Part of `find --format json`: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Touch {
    /// What is done.
    pub kind: ChangeKind,
    /// The table's schema, or the one that the statement was executed in.
    pub schema: String,
    /// The table; null for a statement.
    pub table: Option<String>,
    /// The beginning of the statement, or null.
    pub statement: Option<String>,
    /// How many events.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A transaction that was found. Part of `find --format json`: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// Whose file.
    #[serde(flatten)]
    pub source: SourceIdentity,
    /// The file's sequence.
    pub sequence: Sequence,
    /// Its name.
    pub file_name: String,
    /// Where the transaction begins.
    pub position: u64,
    /// None for an anonymous one.
    pub gtid: Option<Gtid>,
    /// When it was committed.
    pub commit: Option<Timestamp>,
    /// Those of its changes that were sought.
    pub changes: Vec<Touch>,
    /// How many more kinds of changes it has of them.
    pub more_changes: u64,
    /// The command that plans to before it.
    pub plan: Option<String>,
}

impl Hit {
    /// The transaction that begins at a boundary of `file`.
    pub fn new(file: &ArchivedFile, boundary: &Boundary) -> Self {
        Self {
            source: file.identity.source.clone(),
            sequence: file.sequence(),
            file_name: file.file_name().to_owned(),
            position: boundary.offset,
            gtid: boundary.gtid.clone(),
            commit: boundary.commit,
            changes: Vec::new(),
            more_changes: 0,
            plan: None,
        }
    }

    /// Takes a change of it.
    pub fn add(&mut self, change: Change) {
        let same = |touch: &&mut Touch| {
            touch.kind == change.kind
                && touch.schema == change.schema
                && touch.table == change.table
                && touch.statement == change.statement
        };
        if let Some(touch) = self.changes.iter_mut().find(same) {
            touch.events = touch.events.saturating_add(1);
            touch.bytes = touch.bytes.saturating_add(change.bytes);
        } else if self.changes.len() < MAX_TOUCHES {
            self.changes.push(Touch {
                kind: change.kind,
                schema: change.schema,
                table: change.table,
                statement: change.statement,
                events: 1,
                bytes: change.bytes,
            });
        } else {
            self.more_changes = self.more_changes.saturating_add(1);
        }
    }
}

/// What `find` reports. `--format json` is this document: additive changes only.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// Where the archive lies.
    pub destination: String,
    /// How many files were looked at, if only at their entries.
    pub files: u64,
    /// Of those, how many were read.
    pub read_files: u64,
    /// Bytes of objects that were read.
    pub fetched_bytes: u64,
    /// The transactions, by source, in the order of its log.
    pub transactions: Vec<Hit>,
    /// There are more than were asked for.
    pub more: bool,
}

impl Found {
    /// Nothing yet.
    pub fn new(destination: String) -> Self {
        Self {
            report_version: REPORT_VERSION,
            destination,
            files: 0,
            read_files: 0,
            fetched_bytes: 0,
            transactions: Vec::new(),
            more: false,
        }
    }

    /// Takes what was found in a file.
    pub fn take(&mut self, scanned: super::scan::Scanned, limit: usize) {
        self.read_files = self.read_files.saturating_add(1);
        self.fetched_bytes = self.fetched_bytes.saturating_add(scanned.fetched);
        self.transactions.extend(scanned.hits);
        self.more = self.transactions.len() > limit;
        self.transactions.truncate(limit);
    }
}

impl Report for Found {
    fn human(&self) -> String {
        let mut text = String::new();
        for hit in &self.transactions {
            text.push_str(&hit_text(hit));
        }
        if let Some(plan) = self.transactions.iter().find_map(|hit| hit.plan.as_ref()) {
            let _ = write!(text, "\nTo just before the first of them:\n  {plan}\n\n");
        }
        let more = if self.more { ", and more" } else { "" };
        let _ = writeln!(
            text,
            "{} found{more}; {} of {} files read, {}",
            self.transactions.len(),
            self.read_files,
            self.files,
            output::bytes(self.fetched_bytes)
        );
        text
    }
}

fn hit_text(hit: &Hit) -> String {
    let gtid = hit
        .gtid
        .as_ref()
        .map_or_else(|| "anonymous".to_owned(), ToString::to_string);
    let mut text = format!(
        "{}  {} position {}  {gtid}\n",
        output::time(hit.commit),
        printable(&hit.file_name),
        hit.position
    );
    for touch in &hit.changes {
        let what = match (&touch.table, &touch.statement) {
            (Some(table), _) => format!(
                "{}.{table}: {} events, {}",
                touch.schema,
                touch.events,
                output::bytes(touch.bytes)
            ),
            (None, Some(statement)) if touch.schema.is_empty() => one_line(statement),
            (None, Some(statement)) => format!("in {}: {}", touch.schema, one_line(statement)),
            (None, None) => touch.schema.clone(),
        };
        let kind = format!("{:?}", touch.kind).to_lowercase();
        let _ = writeln!(text, "    {kind} {}", printable(&what));
    }
    if hit.more_changes > 0 {
        let _ = writeln!(text, "    and {} more changes", hit.more_changes);
    }
    text
}

/// A statement without its line breaks.
fn one_line(statement: &str) -> String {
    statement.split_whitespace().collect::<Vec<_>>().join(" ")
}
