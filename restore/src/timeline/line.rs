//! The files of one source.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use engine::binlog::ChecksumAlgorithm;
use engine::digest::Digest;
use engine::gtid::{GtidSet, Tsid};
use engine::layout::{ObjectKey, Sequence, SourceIdentity};
use engine::manifest::Entry;
use engine::manifest::chain::{Auditor, Finding};
use jiff::Timestamp;

use crate::history::{Flaw, FlawKind};

/// The files of one source, in ascending sequence.
#[derive(Debug, Clone)]
pub struct Line {
    /// Whose files.
    pub source: SourceIdentity,
    files: Vec<FileRecord>,
    /// Every TSID that the files add to, once.
    tsids: Vec<Tsid>,
    /// What the files add, one after the other.
    spans: Vec<Span>,
    runs: Vec<Run>,
    known: GtidSet,
    auditor: Auditor,
    /// The next file begins a run whatever its entry says: the one before must not be passed.
    apart: bool,
}

/// What a plan needs to know of a file.
#[derive(Debug, Clone)]
pub struct FileRecord {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: Arc<str>,
    /// Bytes of the binlog file.
    pub size: u64,
    /// Bytes of the archive object.
    pub object_size: u64,
    /// SHA-256 of the binlog file.
    pub sha256: Digest,
    /// Whole transactions in it.
    pub transactions: u64,
    /// Of those, the anonymous ones.
    pub anonymous: u64,
    /// The earliest and the latest commit time in it.
    pub commits: Option<(Timestamp, Timestamp)>,
    /// File offset behind the last whole event.
    pub last_position: u64,
    /// The last transaction is cut off: the server dropped it, and a replay must not begin it.
    pub open_transaction: bool,
    /// Whether its events have checksums.
    pub checksums: bool,
    /// What must not be passed unasked, ascending by offset.
    pub flaws: Vec<Flaw>,
    /// Where its spans end in [`Line::spans`].
    spans_end: usize,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    tsid: u32,
    first: u64,
    last: u64,
}

/// Files that follow from one another, with nothing missing.
#[derive(Debug, Clone)]
pub struct Run {
    /// The first and the last file, counted from 0.
    pub files: RangeInclusive<usize>,
    /// GTIDs executed before the first file.
    pub before: GtidSet,
    /// Why it does not follow the run before; empty when that one is a file which must not be passed,
    /// and for the first run of a whole archive.
    pub breaks: Vec<Break>,
    /// Why this run, which then is one file, must not be passed unasked.
    pub flaws: Vec<Break>,
}

/// Why a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Break {
    /// The manifest proves that something is wrong.
    Finding(Finding),
    /// A file was damaged before it was archived, or holds an event that is not understood.
    Flaw(Flaw),
    /// The entry is there, the object is not.
    MissingObject(ObjectKey),
}

impl Break {
    /// Whether the bytes are there at all, so that `--accept-damage` can mean something.
    pub fn is_readable(&self) -> bool {
        !matches!(self, Self::MissingObject(_))
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finding(finding) => finding.fmt(f),
            Self::Flaw(flaw) => flaw.fmt(f),
            Self::MissingObject(key) => write!(
                f,
                "{key}: the object is missing, and its manifest entry is there"
            ),
        }
    }
}

impl FileRecord {
    fn of(entry: &Entry, spans_end: usize) -> Self {
        let binlog = &entry.binlog;
        Self {
            sequence: entry.sequence,
            file_name: entry.file_name.as_str().into(),
            size: binlog.size,
            object_size: entry.object.facts.size,
            sha256: entry.sha256,
            transactions: binlog.transactions,
            anonymous: binlog.anonymous_transactions,
            commits: binlog.commit_times(),
            last_position: binlog.last_position,
            open_transaction: binlog.open_transaction,
            checksums: binlog.checksum_algorithm == ChecksumAlgorithm::Crc32,
            flaws: Flaw::of(entry),
            spans_end,
        }
    }

    /// Where replaying the whole file must end, if before its end: a transaction that was cut off
    /// begins somewhere, or bytes make no sense from there on.
    pub fn is_torn(&self) -> bool {
        self.open_transaction || self.flaws.iter().any(|flaw| flaw.kind == FlawKind::Damage)
    }
}

impl Line {
    /// A line without files.
    pub fn new(source: SourceIdentity) -> Self {
        Self {
            source,
            files: Vec::new(),
            tsids: Vec::new(),
            spans: Vec::new(),
            runs: Vec::new(),
            known: GtidSet::new(),
            auditor: Auditor::default(),
            apart: false,
        }
    }

    pub(super) fn push(&mut self, entry: &Entry, sha256: Digest) {
        let number = self.files.len();
        let findings = self.auditor.push(entry, sha256);
        let flaws: Vec<Break> = Flaw::of(entry).into_iter().map(Break::Flaw).collect();
        let begins = number == 0 || self.apart || !findings.is_empty() || !flaws.is_empty();
        self.apart = !flaws.is_empty();
        if begins {
            self.known.union_with(&entry.binlog.previous_gtids);
            self.runs.push(Run {
                files: number..=number,
                before: entry.binlog.previous_gtids.clone(),
                breaks: findings.into_iter().map(Break::Finding).collect(),
                flaws,
            });
        } else if let Some(run) = self.runs.last_mut() {
            run.files = *run.files.start()..=number;
        }
        self.known.union_with(&entry.binlog.added_gtids);
        self.push_spans(&entry.binlog.added_gtids);
        self.files.push(FileRecord::of(entry, self.spans.len()));
    }

    fn push_spans(&mut self, added: &GtidSet) {
        for (tsid, first, last) in added.intervals() {
            let place = self.tsids.iter().position(|known| known == tsid);
            let place = place.unwrap_or_else(|| {
                self.tsids.push(tsid.clone());
                self.tsids.len().saturating_sub(1)
            });
            // One source cannot have 2^32 TSIDs: each takes a server or a tag of its own.
            let tsid = u32::try_from(place).unwrap_or(u32::MAX);
            self.spans.push(Span { tsid, first, last });
        }
    }

    /// The numbers below the first of each TSID: what the server was set up with, or what never existed.
    pub fn holes(&self) -> GtidSet {
        let mut holes = GtidSet::new();
        let mut last = None;
        for (tsid, first, _) in self.known.intervals() {
            if last.replace(tsid) != Some(tsid) && first > 1 {
                let fits = holes.insert_range(tsid.clone(), 1, first.saturating_sub(1));
                debug_assert!(fits.is_ok(), "{fits:?}");
            }
        }
        holes
    }

    /// Adds those holes of which others know a part: they existed, so the server has executed them.
    pub(super) fn settle(&mut self, elsewhere: &GtidSet) {
        let mut set_up_with = GtidSet::new();
        let holes = self.holes();
        let known = holes.intersect(elsewhere);
        let known: Vec<&Tsid> = known.tsids().collect();
        for (tsid, first, last) in holes.intervals() {
            if known.contains(&tsid) {
                let fits = set_up_with.insert_range(tsid.clone(), first, last);
                debug_assert!(fits.is_ok(), "{fits:?}");
            }
        }
        self.known.union_with(&set_up_with);
        for run in &mut self.runs {
            run.before.union_with(&set_up_with);
        }
    }

    /// The earliest commit time in its files.
    pub fn earliest(&self) -> Option<Timestamp> {
        let commits = self.files.iter().filter_map(|file| file.commits);
        commits.map(|(earliest, _)| earliest).min()
    }

    /// The latest commit time in files that add some of `gtids`.
    pub fn latest_of(&self, gtids: &GtidSet) -> Option<Timestamp> {
        let adds = |file: &usize| !self.added_set(*file).is_disjoint(gtids);
        let files = (0..self.files.len()).filter(adds);
        let commits = files.filter_map(|file| self.file(file)?.commits);
        commits.map(|(_, latest)| latest).max()
    }

    /// Its files.
    pub fn files(&self) -> &[FileRecord] {
        &self.files
    }

    /// The file with this number.
    pub fn file(&self, number: usize) -> Option<&FileRecord> {
        self.files.get(number)
    }

    /// The number of the file with this name.
    pub fn file_named(&self, name: &str) -> Option<usize> {
        let sequence = Sequence::of_file_name(name).ok()?;
        let number = self
            .files
            .binary_search_by_key(&sequence, |file| file.sequence)
            .ok()?;
        (*self.files.get(number)?.file_name == *name).then_some(number)
    }

    /// Its runs, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The number of the run that a file is in.
    pub fn run_of(&self, file: usize) -> Option<usize> {
        let run = self.runs.partition_point(|run| *run.files.end() < file);
        (run < self.runs.len()).then_some(run)
    }

    /// Every transaction that its files hold or name as executed before them.
    pub fn known(&self) -> &GtidSet {
        &self.known
    }

    /// What a file adds, as intervals.
    pub fn added(&self, file: usize) -> impl Iterator<Item = (&Tsid, u64, u64)> {
        let begin = match file.checked_sub(1) {
            Some(before) => self.files.get(before).map_or(0, |file| file.spans_end),
            None => 0,
        };
        let end = self.files.get(file).map_or(begin, |file| file.spans_end);
        let spans = self.spans.get(begin..end).unwrap_or_default();
        spans.iter().filter_map(|span| {
            let tsid = self.tsids.get(span.tsid as usize)?;
            Some((tsid, span.first, span.last))
        })
    }

    /// What a file adds.
    pub fn added_set(&self, file: usize) -> GtidSet {
        let mut set = GtidSet::new();
        self.add_to(file, &mut set);
        set
    }

    /// Adds to `set` what a file adds.
    pub fn add_to(&self, file: usize, set: &mut GtidSet) {
        for (tsid, first, last) in self.added(file) {
            // An interval that came out of a set fits into one.
            let fits = set.insert_range(tsid.clone(), first, last);
            debug_assert!(fits.is_ok(), "{fits:?}");
        }
    }

    /// Whether all that a file adds is in `set`.
    pub fn adds_only(&self, file: usize, set: &GtidSet) -> bool {
        self.added(file)
            .all(|(tsid, first, last)| set.contains_range(tsid, first, last))
    }

    /// GTIDs executed before a file.
    pub fn before(&self, file: usize) -> GtidSet {
        let run = self.run_of(file).and_then(|run| self.runs.get(run));
        let Some(run) = run else {
            return GtidSet::new();
        };
        let mut before = run.before.clone();
        for earlier in *run.files.start()..file {
            self.add_to(earlier, &mut before);
        }
        before
    }

    /// Whether transactions of this TSID were first executed by this very server.
    pub fn is_own(&self, tsid: &Tsid) -> bool {
        tsid.uuid == self.source.server_uuid
    }

    /// Sets a file apart whose object is missing.
    pub(super) fn lose(&mut self, sequence: Sequence) {
        let lost = self
            .files
            .binary_search_by_key(&sequence, |file| file.sequence);
        let Ok(lost) = lost else { return };
        let Some(place) = self.run_of(lost) else {
            return;
        };
        let before = self.before(lost);
        let mut behind = before.clone();
        self.add_to(lost, &mut behind);
        let Some(run) = self.runs.get(place).cloned() else {
            return;
        };
        let (first, last) = run.files.into_inner();
        let whole_run = first == lost;
        let missing = Break::MissingObject(self.source.log_key(sequence));
        let mut parts = Vec::new();
        if !whole_run {
            parts.push(Run {
                files: first..=lost.saturating_sub(1),
                before: run.before,
                breaks: run.breaks.clone(),
                flaws: Vec::new(),
            });
        }
        let mut flaws = run.flaws;
        flaws.push(missing);
        parts.push(Run {
            files: lost..=lost,
            before,
            breaks: if whole_run { run.breaks } else { Vec::new() },
            flaws,
        });
        if lost < last {
            parts.push(Run {
                files: lost.saturating_add(1)..=last,
                before: behind,
                breaks: Vec::new(),
                flaws: Vec::new(),
            });
        }
        self.runs.splice(place..=place, parts);
    }
}
