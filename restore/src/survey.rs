//! What one source's manifest adds up to: the contents of `ls`, computed without a key.

use engine::binlog::End;
use engine::gtid::GtidSet;
use engine::layout::{Sequence, SourceIdentity};
use engine::manifest::chain::Finding;
use jiff::Timestamp;
use serde::Serialize;

use crate::history::{ChainWalk, Flaw, StoredEntry};
use crate::range::SequenceRange;

/// One source of the archive. Part of `ls --format json`: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceSurvey {
    /// Whose files.
    #[serde(flatten)]
    pub source: SourceIdentity,
    /// First sequence that is archived.
    pub first_sequence: Sequence,
    /// Last sequence that is archived.
    pub last_sequence: Sequence,
    /// How many files are.
    pub files: u64,
    /// Ranges of sequences, `[first, last]` each, inside which nothing is missing or broken.
    pub contiguous: Vec<(Sequence, Sequence)>,
    /// Where the first of them ends: the highest file that stands on everything before it.
    pub watermark: Watermark,
    /// `previous_gtids` of the first file: a server that has executed exactly these can be rolled
    /// forward from the beginning.
    pub executed_before: GtidSet,
    /// Union of `added_gtids`: what the archive can replay.
    pub added: GtidSet,
    /// GTIDs executed at the end of the last file.
    pub executed_after: GtidSet,
    /// Transactions in all files.
    pub transactions: u64,
    /// Of those, the anonymous ones: they can be replayed by position only.
    pub anonymous_transactions: u64,
    /// Earliest `immediate_commit_timestamp`.
    pub first_commit: Option<Timestamp>,
    /// Latest `immediate_commit_timestamp`.
    pub last_commit: Option<Timestamp>,
    /// Bytes of the binlog files.
    pub plain_bytes: u64,
    /// Bytes of the archive objects.
    pub stored_bytes: u64,
    /// What the chain proves to be wrong, in order of sequence.
    pub findings: Vec<DescribedFinding>,
    /// Places that a replay must not pass unasked.
    pub flaws: Vec<Flaw>,
    /// Every file, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_list: Option<Vec<FileSurvey>>,
}

/// The highest file that stands on everything before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Watermark {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its name.
    pub file_name: String,
    /// GTIDs executed at its end.
    pub executed: GtidSet,
}

/// A finding and its words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DescribedFinding {
    /// What it is.
    #[serde(flatten)]
    pub finding: Finding,
    /// The same for people.
    pub message: String,
}

impl From<Finding> for DescribedFinding {
    fn from(finding: Finding) -> Self {
        Self {
            message: finding.to_string(),
            finding,
        }
    }
}

/// One file. Part of `ls --files --format json`: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSurvey {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: String,
    /// Bytes of the binlog file.
    pub plain_bytes: u64,
    /// Bytes of the archive object.
    pub stored_bytes: u64,
    /// Transactions in it.
    pub transactions: u64,
    /// GTIDs of its transactions.
    pub added: GtidSet,
    /// Commit time of its first transaction.
    pub first_commit: Option<Timestamp>,
    /// Commit time of its last one.
    pub last_commit: Option<Timestamp>,
    /// How it ends: `rotate`, `stop`, or `none` when the server crashed.
    pub end: &'static str,
    /// It has a flaw: see [`SourceSurvey::flaws`].
    pub flawed: bool,
    /// When it was committed to the archive.
    pub archived_at: Timestamp,
}

/// Adds up entries in ascending sequence.
#[derive(Debug)]
pub struct Surveyor {
    walk: ChainWalk,
    survey: Option<SourceSurvey>,
    with_files: bool,
}

impl Surveyor {
    /// A surveyor of one source; `with_files` keeps every file too.
    pub fn new(with_files: bool) -> Self {
        Self {
            walk: ChainWalk::new(SequenceRange::default()),
            survey: None,
            with_files,
        }
    }

    /// Takes the next entry.
    pub fn push(&mut self, stored: &StoredEntry) {
        let findings = self.walk.push(stored);
        let with_files = self.with_files;
        let survey = self.survey.get_or_insert_with(|| begin(stored, with_files));
        survey.take(stored, findings);
    }

    /// The sum, or none when the source has no entries.
    pub fn finish(self) -> Option<SourceSurvey> {
        self.survey
    }
}

fn begin(stored: &StoredEntry, with_files: bool) -> SourceSurvey {
    let entry = &stored.entry;
    SourceSurvey {
        source: entry.source.clone(),
        first_sequence: entry.sequence,
        last_sequence: entry.sequence,
        files: 0,
        contiguous: vec![(entry.sequence, entry.sequence)],
        watermark: Watermark {
            sequence: entry.sequence,
            file_name: entry.file_name.clone(),
            executed: GtidSet::default(),
        },
        executed_before: entry.binlog.previous_gtids.clone(),
        added: GtidSet::default(),
        executed_after: GtidSet::default(),
        transactions: 0,
        anonymous_transactions: 0,
        first_commit: None,
        last_commit: None,
        plain_bytes: 0,
        stored_bytes: 0,
        findings: Vec::new(),
        flaws: Vec::new(),
        file_list: with_files.then(Vec::new),
    }
}

impl SourceSurvey {
    fn take(&mut self, stored: &StoredEntry, findings: Vec<Finding>) {
        let entry = &stored.entry;
        let binlog = &entry.binlog;
        let first = self.files == 0;
        self.files = self.files.saturating_add(1);
        self.last_sequence = entry.sequence;
        self.added.union_with(&binlog.added_gtids);
        self.executed_after = binlog.previous_gtids.union(&binlog.added_gtids);
        self.transactions = self.transactions.saturating_add(binlog.transactions);
        self.anonymous_transactions = self
            .anonymous_transactions
            .saturating_add(binlog.anonymous_transactions);
        self.first_commit = self
            .first_commit
            .into_iter()
            .chain(binlog.first_commit)
            .min();
        self.last_commit = self.last_commit.max(binlog.last_commit);
        self.plain_bytes = self.plain_bytes.saturating_add(binlog.size);
        self.stored_bytes = self.stored_bytes.saturating_add(entry.object.facts.size);
        self.extend_run(entry.sequence, !first && !findings.is_empty());
        if self.contiguous.len() == 1 {
            self.watermark = Watermark {
                sequence: entry.sequence,
                file_name: entry.file_name.clone(),
                executed: self.executed_after.clone(),
            };
        }
        self.findings
            .extend(findings.into_iter().map(DescribedFinding::from));
        self.flaws.extend(Flaw::of(entry));
        if let Some(files) = &mut self.file_list {
            files.push(FileSurvey::of(stored));
        }
    }

    fn extend_run(&mut self, sequence: Sequence, broken: bool) {
        match self.contiguous.last_mut() {
            Some((_, last)) if !broken => *last = sequence,
            _ => self.contiguous.push((sequence, sequence)),
        }
    }
}

impl FileSurvey {
    fn of(stored: &StoredEntry) -> Self {
        let entry = &stored.entry;
        Self {
            sequence: entry.sequence,
            file_name: entry.file_name.clone(),
            plain_bytes: entry.binlog.size,
            stored_bytes: entry.object.facts.size,
            transactions: entry.binlog.transactions,
            added: entry.binlog.added_gtids.clone(),
            first_commit: entry.binlog.first_commit,
            last_commit: entry.binlog.last_commit,
            end: match entry.binlog.end {
                End::Rotate { .. } => "rotate",
                End::Stop => "stop",
                End::None => "none",
            },
            flawed: entry.binlog.damage.is_some() || entry.binlog.obstacle.is_some(),
            archived_at: entry.written_at,
        }
    }
}
