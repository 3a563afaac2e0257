//! What a run of manifest entries proves: that each follows from the one before.
//!
//! Two chains are checked side by side. The *hash chain* tells whether the entries are those that
//! were written, and all of them. The *GTID chain* tells whether the server's history is whole:
//! `previous_gtids(n+1) = previous_gtids(n) ∪ added_gtids(n)` (TRAPS 4).

use std::fmt;

use serde::Serialize;

use crate::digest::Digest;
use crate::exit::Exit;
use crate::gtid::GtidSet;
use crate::layout::{Sequence, SourceIdentity};

use super::Entry;

/// Something that the chain proves to be wrong, or unprovable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// Files that were never archived: the later entry itself says what it follows.
    Gap {
        /// First missing sequence.
        first: Sequence,
        /// Last missing sequence.
        last: Sequence,
    },
    /// Entries that were written and are no longer there.
    MissingEntries {
        /// First missing sequence.
        first: Sequence,
        /// Last missing sequence.
        last: Sequence,
        /// The key of the first.
        key: String,
    },
    /// An entry does not follow from the one before it: one of the two was replaced.
    BrokenLink {
        /// The entry that names another predecessor.
        sequence: Sequence,
        /// The predecessor's digest that it names.
        named: Option<Digest>,
        /// The digest of the predecessor that is there.
        found: Digest,
    },
    /// Transactions that the server had executed before this file and that no file holds.
    MissingGtids {
        /// The file that knows them.
        sequence: Sequence,
        /// The transactions.
        gtids: GtidSet,
    },
    /// Transactions of earlier files that this file's server does not know: the history forked.
    Fork {
        /// The file that does not know them.
        sequence: Sequence,
        /// The transactions.
        gtids: GtidSet,
    },
}

impl Finding {
    /// What a program that only found this should exit with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Gap { .. } | Self::MissingEntries { .. } | Self::MissingGtids { .. } => Exit::Gap,
            Self::BrokenLink { .. } => Exit::Corrupt,
            Self::Fork { .. } => Exit::Conflict,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { first, last } => {
                write!(f, "gap: sequences {first} to {last} were never archived")
            }
            Self::MissingEntries { first, last, key } => write!(
                f,
                "missing: the entries of sequences {first} to {last} were written and are gone, beginning with {key}"
            ),
            Self::BrokenLink {
                sequence,
                named,
                found,
            } => {
                write!(f, "broken chain: sequence {sequence} follows ")?;
                match named {
                    Some(named) => write!(f, "an entry with sha256 {named}")?,
                    None => f.write_str("no entry")?,
                }
                write!(f, ", but the entry before it has {found}")
            }
            Self::MissingGtids { sequence, gtids } => {
                write!(
                    f,
                    "gap: no file holds {gtids}, executed before sequence {sequence}"
                )
            }
            Self::Fork { sequence, gtids } => {
                write!(
                    f,
                    "fork: sequence {sequence} does not know {gtids} of the files before it"
                )
            }
        }
    }
}

/// Walks the entries of one source in ascending sequence and compares neighbours.
#[derive(Debug, Clone, Default)]
pub struct Auditor {
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Last {
    sequence: Sequence,
    sha256: Digest,
    gtids: GtidSet,
}

impl Auditor {
    /// Takes the next entry and the digest of its bytes as stored. Entries MUST come in ascending
    /// sequence and from one source; a listing of the source's manifest prefix gives them so.
    pub fn push(&mut self, entry: &Entry, sha256: Digest) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(last) = &self.last {
            findings.extend(link_finding(last, entry));
            findings.extend(gtid_findings(last, entry));
        } else if let Some(previous) = entry.previous {
            findings.push(missing(&entry.source, previous.sequence, entry.sequence));
        }
        let gtids = entry.binlog.previous_gtids.union(&entry.binlog.added_gtids);
        self.last = Some(Last {
            sequence: entry.sequence,
            sha256,
            gtids,
        });
        findings
    }
}

fn link_finding(last: &Last, entry: &Entry) -> Option<Finding> {
    match entry.previous {
        Some(previous) if previous.sequence > last.sequence => {
            Some(missing(&entry.source, last.sequence.next(), entry.sequence))
        }
        Some(previous) if previous.sequence == last.sequence && previous.sha256 == last.sha256 => {
            let first = last.sequence.next();
            (first < entry.sequence).then(|| Finding::Gap {
                first,
                last: Sequence(entry.sequence.0.saturating_sub(1)),
            })
        }
        other => Some(Finding::BrokenLink {
            sequence: entry.sequence,
            named: other.map(|previous| previous.sha256),
            found: last.sha256,
        }),
    }
}

fn missing(source: &SourceIdentity, first: Sequence, next: Sequence) -> Finding {
    Finding::MissingEntries {
        first,
        last: Sequence(next.0.saturating_sub(1)),
        key: source.manifest_key(first).to_string(),
    }
}

fn gtid_findings(last: &Last, entry: &Entry) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sequence = entry.sequence;
    let missing = entry.binlog.previous_gtids.subtract(&last.gtids);
    if !missing.is_empty() {
        findings.push(Finding::MissingGtids {
            sequence,
            gtids: missing,
        });
    }
    let unknown = last.gtids.subtract(&entry.binlog.previous_gtids);
    if !unknown.is_empty() {
        findings.push(Finding::Fork {
            sequence,
            gtids: unknown,
        });
    }
    findings
}
