//! The files of a range, or why the range cannot be read whole.
//!
//! Everything that the manifest can tell is checked here, before the first byte of any object is
//! asked for: a stream that is cut off in its middle has already been replayed by someone.
//!
//! # Limits
//! A selection holds one [`ArchivedFile`], below 1 KiB, for each file of the range.

use std::fmt;

use engine::exit::{Diagnose, Exit};
use engine::layout::{ObjectKey, Sequence, SourceIdentity};
use engine::manifest::chain::Finding;

use crate::history::{ArchivedFile, ChainWalk, EntryFault, Flaw, StoredEntry};
use crate::range::SequenceRange;

/// How many barriers an error spells out.
const MAX_NAMED_BARRIERS: usize = 5;

/// The files of a range in ascending sequence, with nothing missing between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// At least one.
    pub files: Vec<ArchivedFile>,
    /// Flaws that were accepted.
    pub flaws: Vec<Flaw>,
}

/// Something that stands between a range and being read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barrier {
    /// The chain is broken inside the range.
    Chain(Finding),
    /// The range asks for sequences below the first or above the last that is archived.
    NotArchived {
        /// First of them.
        first: Sequence,
        /// Last of them.
        last: Sequence,
    },
    /// An entry contradicts itself.
    Fault(EntryFault),
    /// A file is flawed, and flaws were not accepted.
    Flawed {
        /// Its archive object.
        key: ObjectKey,
        /// How.
        flaw: Flaw,
    },
}

impl Barrier {
    fn exit(&self) -> Exit {
        match self {
            Self::Chain(finding) => finding.exit(),
            Self::NotArchived { .. } => Exit::Gap,
            Self::Fault(fault) => fault.exit(),
            Self::Flawed { .. } => Exit::Corrupt,
        }
    }

    fn hint(&self) -> String {
        let hint = match self {
            Self::Chain(Finding::BrokenLink { .. }) => {
                "run `gtide-restore verify`; another destination may hold the entries unharmed"
            }
            Self::Chain(Finding::Fork { .. }) => {
                "two histories meet here: read up to the fork with --to-seq"
            }
            Self::Chain(_) | Self::NotArchived { .. } => {
                "`gtide-restore ls` shows which sequences are contiguous; stay between the gaps with --from-seq and --to-seq"
            }
            Self::Fault(fault) => return fault.hint().unwrap_or_default(),
            Self::Flawed { .. } => {
                "--accept-damage takes such files byte for byte; mysqlbinlog will stop at the damage"
            }
        };
        hint.to_owned()
    }
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(finding) => finding.fmt(f),
            Self::NotArchived { first, last } if first == last => {
                write!(f, "sequence {first} is not archived")
            }
            Self::NotArchived { first, last } => {
                write!(f, "sequences {first} to {last} are not archived")
            }
            Self::Fault(fault) => fault.fmt(f),
            Self::Flawed { key, flaw } => write!(f, "{key}: {flaw}"),
        }
    }
}

/// A range that cannot be read whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_identity}: {range} cannot be read whole: {}", spell_out(.barriers))]
pub struct SelectionError {
    /// Whose files.
    pub source_identity: SourceIdentity,
    /// Which were asked for.
    pub range: SequenceRange,
    /// At least one.
    pub barriers: Vec<Barrier>,
}

fn spell_out(barriers: &[Barrier]) -> String {
    let named: Vec<String> = barriers
        .iter()
        .take(MAX_NAMED_BARRIERS)
        .map(ToString::to_string)
        .collect();
    let named = named.join("; ");
    match barriers.len().saturating_sub(MAX_NAMED_BARRIERS) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

impl Diagnose for SelectionError {
    fn exit(&self) -> Exit {
        self.barriers
            .iter()
            .map(Barrier::exit)
            .fold(Exit::Ok, Exit::graver)
    }

    fn hint(&self) -> Option<String> {
        let exit = self.exit();
        self.barriers
            .iter()
            .find(|barrier| barrier.exit() == exit)
            .map(Barrier::hint)
    }
}

/// Collects the entries of a range, in ascending sequence, into a [`Selection`].
#[derive(Debug)]
pub struct Selector {
    source: SourceIdentity,
    range: SequenceRange,
    accept_damage: bool,
    walk: ChainWalk,
    last: Option<Sequence>,
    files: Vec<ArchivedFile>,
    flaws: Vec<Flaw>,
    barriers: Vec<Barrier>,
}

impl Selector {
    /// A selector for `range` of `source`. Flawed files are barriers unless `accept_damage`.
    pub fn new(source: SourceIdentity, range: SequenceRange, accept_damage: bool) -> Self {
        Self {
            source,
            range,
            accept_damage,
            walk: ChainWalk::new(range),
            last: None,
            files: Vec::new(),
            flaws: Vec::new(),
            barriers: Vec::new(),
        }
    }

    /// Takes the next entry of the range.
    pub fn push(&mut self, stored: &StoredEntry) {
        let sequence = stored.entry.sequence;
        if self.last.replace(sequence).is_none()
            && let Some(first) = self.range.from().filter(|from| *from < sequence)
        {
            let last = Sequence(sequence.0.saturating_sub(1));
            self.barriers.push(Barrier::NotArchived { first, last });
        }
        let broken = self.walk.push(stored).into_iter();
        self.barriers.extend(broken.map(Barrier::Chain));
        for flaw in Flaw::of(&stored.entry) {
            if self.accept_damage {
                self.flaws.push(flaw);
            } else {
                let key = stored.entry.object.key.clone();
                self.barriers.push(Barrier::Flawed { key, flaw });
            }
        }
        match ArchivedFile::of(stored) {
            Ok(file) => self.files.push(file),
            Err(fault) => self.barriers.push(Barrier::Fault(fault)),
        }
    }

    /// The selection, after the last entry of the range.
    ///
    /// # Errors
    /// When the range cannot be read whole; all that is in the way is named.
    pub fn finish(mut self) -> Result<Selection, SelectionError> {
        self.barriers.extend(self.beyond_the_end());
        if self.barriers.is_empty() {
            return Ok(Selection {
                files: self.files,
                flaws: self.flaws,
            });
        }
        Err(SelectionError {
            source_identity: self.source,
            range: self.range,
            barriers: self.barriers,
        })
    }

    /// What the range asks for behind the last entry, or all of it when there is none.
    fn beyond_the_end(&self) -> Option<Barrier> {
        let first = match self.last {
            Some(last) => last.next(),
            None => self.range.from().unwrap_or(Sequence(1)),
        };
        let last = match (self.range.to(), self.last) {
            (Some(to), _) => to,
            (None, None) => first,
            (None, Some(_)) => return None,
        };
        (first <= last).then_some(Barrier::NotArchived { first, last })
    }
}
