//! What `verify` finds, and its report.

use anstyle::{AnsiColor, Style};
use engine::data_keys::{DataKeyError, RewrappedError};
use engine::exit::{self, Diagnose, Exit};
use engine::layout::{ObjectKey, Sequence, SourceIdentity};
use engine::manifest::chain;
use engine::store::StoreError;
use serde::Serialize;

use crate::entries::EntryError;
use crate::object::ReadError;
use crate::output::{self, REPORT_VERSION, Report, printable};

use super::depth::Depth;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Something that is not as it should be, about one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: Kind,
    /// The exit code that it alone would cause; 0 for a note.
    pub exit_code: u8,
    #[serde(skip)]
    exit: Exit,
    /// Whose file it is about, if anyone's.
    pub source: Option<String>,
    /// Which file it is about, if any.
    pub sequence: Option<Sequence>,
    /// The object to look at.
    pub key: ObjectKey,
    /// What is wrong with it, without its key.
    pub message: String,
    /// What to check or run.
    pub hint: Option<String>,
}

/// Kinds of findings. Part of `verify --format json`: additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Files that were never archived.
    Gap,
    /// Entries that were written and are gone.
    MissingEntries,
    /// An entry does not follow from the one before it.
    BrokenLink,
    /// Transactions that no file holds.
    MissingGtids,
    /// Two histories.
    Fork,
    /// An entry that cannot be read or contradicts itself.
    BadEntry,
    /// An entry's object is not there.
    MissingObject,
    /// An object is not what its entry says.
    BadObject,
    /// The key that an object was sealed with is not at hand, or may not be used. It says nothing about the object.
    NoKey,
    /// Data keys that were wrapped anew, and are not what they should be.
    BadKeys,
    /// A rollup that is not whole, or holds other entries than those that are there.
    BadRollup,
    /// An object or entry that the store did not give, or a key that could not be asked for.
    Unreadable,
    /// An object whose entry is not there.
    UnrecordedObject,
    /// The cluster's layout version is not there.
    MissingLayout,
    /// Note: a file was damaged before it was archived, or holds what a replay must not pass
    /// unasked; it is archived as it was.
    FlawedFile,
    /// Note: an object whose entry is probably about to be written.
    InFlight,
    /// Note: an object that is not gtide's.
    UnknownObject,
}

/// Whose file a finding is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The source.
    pub source: &'a SourceIdentity,
    /// The file.
    pub sequence: Sequence,
}

impl Finding {
    /// A finding about an object, its words and its weight.
    pub fn new(kind: Kind, exit: Exit, key: ObjectKey, message: impl Into<String>) -> Self {
        Self {
            kind,
            exit_code: exit as u8,
            exit,
            source: None,
            sequence: None,
            key,
            message: message.into(),
            hint: None,
        }
    }

    /// The same, about a file.
    pub fn about(mut self, subject: Subject<'_>) -> Self {
        self.source = Some(subject.source.to_string());
        self.sequence = Some(subject.sequence);
        self
    }

    /// The same, with advice.
    pub fn advise(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What an error is, when it is about one object.
    fn of_error(kind: Kind, key: ObjectKey, error: &(impl Diagnose + 'static)) -> Self {
        let message = exit::chain(error);
        // The key stands before the message already.
        let message = match message.strip_prefix(&format!("{key}: ")) {
            Some(rest) => rest.to_owned(),
            None => message,
        };
        Self {
            hint: error.hint(),
            ..Self::new(kind, error.exit(), key, message)
        }
    }

    /// What keeps an entry from being read.
    pub fn of_entry(key: ObjectKey, error: &EntryError) -> Self {
        let kind = match error {
            EntryError::Manifest(_) if error.exit() == Exit::Corrupt => Kind::BadEntry,
            EntryError::Store(_) | EntryError::Manifest(_) => Kind::Unreadable,
        };
        Self::of_error(kind, key, error)
    }

    /// What keeps re-wrapped data keys from being read.
    pub fn of_rewrapped(key: ObjectKey, error: &RewrappedError) -> Self {
        let kind = match error {
            RewrappedError::Manifest(_) if error.exit() == Exit::Corrupt => Kind::BadKeys,
            RewrappedError::Store(_) | RewrappedError::Manifest(_) => Kind::Unreadable,
        };
        Self::of_error(kind, key, error)
    }

    /// What keeps a rollup from being read.
    pub fn of_rollup(key: ObjectKey, error: &StoreError) -> Self {
        Self::of_error(Kind::Unreadable, key, error)
    }

    /// What keeps an object from being read back.
    pub fn of_object(key: ObjectKey, error: &ReadError) -> Self {
        let kind = match error {
            ReadError::Missing { .. } => Kind::MissingObject,
            ReadError::Key {
                source: DataKeyError::Keyring(error),
                ..
            } if error.lacks_key() => Kind::NoKey,
            _ if error.exit() == Exit::Corrupt => Kind::BadObject,
            _ => Kind::Unreadable,
        };
        Self::of_error(kind, key, error)
    }

    /// What an entry that contradicts itself is.
    pub fn of_fault(key: ObjectKey, fault: &crate::history::EntryFault) -> Self {
        Self::of_error(Kind::BadEntry, key, fault)
    }

    /// What the chain proves.
    pub fn of_chain(source: &SourceIdentity, finding: &chain::Finding) -> Self {
        use chain::Finding as Chain;
        let (kind, sequence, hint) = match finding {
            Chain::Gap { first, .. } => (
                Kind::Gap,
                *first,
                "a base backup taken behind the gap, or another server's binlogs, bridges it",
            ),
            Chain::MissingEntries { first, .. } => (
                Kind::MissingEntries,
                *first,
                "restore the entries from another destination or the bucket's older versions",
            ),
            Chain::BrokenLink { sequence, .. } => (
                Kind::BrokenLink,
                *sequence,
                "this entry or the one before it was altered: compare both with another destination's",
            ),
            Chain::MissingGtids { sequence, .. } => (
                Kind::MissingGtids,
                *sequence,
                "look for the transactions in the binlogs of another server of the cluster",
            ),
            Chain::Fork { sequence, .. } => (
                Kind::Fork,
                *sequence,
                "GTIDs were reset, or the server was restored: archive it under a new incarnation",
            ),
        };
        let text = finding.to_string();
        // The first word is the kind's.
        let message = text
            .split_once(": ")
            .map_or(text.as_str(), |(_, message)| message);
        Self::new(kind, finding.exit(), source.manifest_key(sequence), message)
            .about(Subject { source, sequence })
            .advise(hint)
    }

    /// The exit code that it alone would cause.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    fn word(&self) -> &'static str {
        match self.kind {
            Kind::Gap | Kind::MissingGtids => "gap",
            Kind::MissingEntries
            | Kind::MissingObject
            | Kind::MissingLayout
            | Kind::UnrecordedObject => "missing",
            Kind::BrokenLink => "broken chain",
            Kind::Fork => "fork",
            Kind::BadEntry | Kind::BadObject | Kind::BadKeys | Kind::BadRollup => "corrupt",
            Kind::NoKey => "no key",
            Kind::Unreadable => "unreadable",
            Kind::FlawedFile | Kind::InFlight | Kind::UnknownObject => "note",
        }
    }
}

/// What `verify` reports. `--format json` is this document: additive changes only.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// Where the archive lies.
    pub destination: String,
    /// How much of each object was read.
    pub depth: Depth,
    /// What decided which were read, of a sample.
    pub seed: Option<u64>,
    /// The sources that were read.
    pub sources: Vec<String>,
    /// Files that were read back whole and are right.
    pub sound_files: u64,
    /// Files whose object is there with the size and the CRC32C of its entry, and was not read back.
    pub present_files: u64,
    /// Files that have an entry.
    pub files: u64,
    /// Bytes of binlog that were read back.
    pub plain_bytes: u64,
    /// Everything found, by source and sequence.
    pub findings: Vec<Finding>,
    /// The exit code: the gravest finding's.
    pub exit_code: u8,
}

impl Verification {
    /// An empty report.
    pub fn new(destination: String, depth: Depth) -> Self {
        Self {
            report_version: REPORT_VERSION,
            destination,
            depth,
            seed: match depth {
                Depth::Sample { seed, .. } => Some(seed),
                Depth::Full | Depth::Quick => None,
            },
            sources: Vec::new(),
            sound_files: 0,
            present_files: 0,
            files: 0,
            plain_bytes: 0,
            findings: Vec::new(),
            exit_code: Exit::Ok as u8,
        }
    }

    /// Orders the findings and draws the conclusion.
    pub fn conclude(&mut self) -> Exit {
        self.findings
            .sort_by(|a, b| (&a.source, a.sequence, &a.key).cmp(&(&b.source, b.sequence, &b.key)));
        let exit = self
            .findings
            .iter()
            .map(Finding::exit)
            .fold(Exit::Ok, Exit::graver);
        self.exit_code = exit as u8;
        exit
    }
}

impl Verification {
    /// How many files are as they should be, and how that is known.
    fn judged(&self) -> String {
        let (sound, files) = (self.sound_files, self.files);
        let (present, read) = (self.present_files, output::bytes(self.plain_bytes));
        match self.seed {
            _ if self.depth == Depth::Full => {
                format!("{sound} of {files} files are sound, {read} read back")
            }
            None => format!("{present} of {files} files are there, none was read back"),
            Some(seed) => format!(
                "{sound} of {files} files are sound, {read} read back; {present} more are there, and were not read; --seed {seed} \
                 reads the same ones"
            ),
        }
    }
}

impl Report for Verification {
    fn human(&self) -> String {
        let mut lines = Vec::new();
        let mut advice = None;
        for finding in &self.findings {
            let style = if finding.exit == Exit::Ok {
                NOTE
            } else {
                ERROR
            };
            let what = format!("{}: {}", finding.key, finding.message);
            lines.push(format!(
                "{style}{}:{style:#} {}",
                finding.word(),
                printable(&what)
            ));
            // Many findings of one cause share their advice.
            if let Some(hint) = finding.hint.as_ref().filter(|&hint| Some(hint) != advice) {
                advice = Some(hint);
                lines.push(format!("  {HINT}hint:{HINT:#} {}", printable(hint)));
            }
        }
        let errors = self
            .findings
            .iter()
            .filter(|finding| finding.exit != Exit::Ok)
            .count();
        let notes = self.findings.len().saturating_sub(errors);
        lines.push(format!(
            "{}: {}; errors: {errors}, notes: {notes}\n",
            self.destination,
            self.judged(),
        ));
        lines.join("\n")
    }
}
