//! `verify`: reads everything back and judges it; or, if asked, less ([`Depth`]).
//!
//! It goes on after a finding and reports all of them, each with the key of the object to look at; the
//! exit code is the gravest finding's ([`Exit::graver`]: what is corrupt before what conflicts, that
//! before what is missing, that before what could not be read). Notes do not count.
//!
//! Checked are: each cluster's layout version; every entry; the hash chain and the GTID chain; every
//! object's existence, size, CRC32C, authentication, index and digest; every event's CRC; the entry's
//! summary of the binlog; that rollups are copies of the entries; and that there are no objects without an entry. Of an object that is not read back, the
//! store is asked for size and CRC32C: no key is needed for it.
//!
//! # Limits
//! [`OBJECTS_IN_FLIGHT`] objects are read or asked for at once, each within the limits of [`crate::object`] and
//! the binlog scanner; the listing is held in memory ([`inventory`]), and so are the findings.

pub mod check;
pub mod depth;
pub mod finding;
pub mod inventory;
mod rollups;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::data_keys;
use engine::digest::Digest;
use engine::exit::{Diagnose, Exit};
use engine::layout::{ClusterName, ObjectKey, RewrappedName, Sequence, SourceIdentity};
use engine::store::StoreError;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::destination::{Destination, DestinationError, Layout};
use crate::entries::{self, ENTRIES_IN_FLIGHT, ROLLUPS_IN_FLIGHT};
use crate::history::{ArchivedFile, ChainWalk, Flaw, StoredEntry};
use crate::object::Archive;
use crate::progress::Progress;
use crate::range::SequenceRange;

use check::{Judgement, Suspect};
use depth::Depth;
use finding::{Finding, Kind, Subject, Verification};
use inventory::{Inventory, SourceObjects};

/// How long an object behind the last entry has for its entry to be written, once all else is judged.
pub const IN_FLIGHT_WAIT: Duration = Duration::from_secs(5);

/// How often its entry is looked for.
const IN_FLIGHT_POLL: Duration = Duration::from_millis(500);

/// Objects that are read back, or asked for, at once.
pub const OBJECTS_IN_FLIGHT: usize = 4;

/// And when nothing is read back: an answer is a moment of waiting, and no bytes.
pub const QUESTIONS_IN_FLIGHT: usize = 16;

/// Why an archive could not be judged at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Its layout cannot be read.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// It cannot be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Diagnose for VerifyError {
    fn exit(&self) -> Exit {
        match self {
            Self::Destination(error) => error.exit(),
            Self::Store(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Destination(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// What to judge.
#[derive(Debug, Clone)]
pub struct Scope {
    /// These sources.
    pub sources: Vec<SourceIdentity>,
    /// Of each, these files.
    pub range: SequenceRange,
    /// How much of their objects is read.
    pub depth: Depth,
    /// The sources are all that their clusters have: what lies beside them is looked at too.
    pub whole_clusters: bool,
}

impl Scope {
    fn clusters(&self) -> BTreeSet<ClusterName> {
        self.sources
            .iter()
            .map(|source| source.cluster.clone())
            .collect()
    }

    /// The prefixes that hold all that is to be judged, none inside another.
    fn prefixes(&self) -> Vec<String> {
        if self.whole_clusters {
            self.clusters()
                .iter()
                .map(|cluster| format!("{cluster}/"))
                .collect()
        } else {
            self.sources.iter().map(SourceIdentity::prefix).collect()
        }
    }
}

/// Judges all that `scope` names.
///
/// # Errors
/// When the archive cannot be listed, or its layout is unknown. All else is a finding.
pub async fn verify(
    archive: &Archive,
    destination: &Destination,
    scope: &Scope,
) -> Result<(Verification, Exit), VerifyError> {
    let mut report = Verification::new(destination.url().to_owned(), scope.depth);
    for cluster in scope.clusters() {
        if destination.layout(&cluster).await? == Layout::Absent {
            let key = ObjectKey::layout_version(&cluster);
            let message = "the layout version is not there, and version 1 is taken for granted";
            let finding = Finding::new(Kind::MissingLayout, Exit::Gap, key, message);
            report
                .findings
                .push(finding.advise("the next `gtide run` writes it again"));
        }
    }
    let inventory = take_inventory(archive, scope).await?;
    report_unknown(&inventory, &mut report.findings);
    let progress = Progress::bytes("verify", 0);
    let mut audit = Audit {
        archive,
        range: scope.range,
        depth: scope.depth,
        report,
        progress,
    };
    let nothing = SourceObjects::default();
    for source in &scope.sources {
        audit
            .source(source, inventory.sources.get(source).unwrap_or(&nothing))
            .await;
    }
    let mut report = audit.report;
    let exit = report.conclude();
    Ok((report, exit))
}

async fn take_inventory(archive: &Archive, scope: &Scope) -> Result<Inventory, StoreError> {
    let mut inventory = Inventory::default();
    for prefix in scope.prefixes() {
        let mut listing = archive.store.list(&prefix, None);
        while let Some(listed) = listing.try_next().await? {
            inventory.add(listed);
        }
    }
    Ok(inventory)
}

fn report_unknown(inventory: &Inventory, findings: &mut Vec<Finding>) {
    findings.extend(inventory.unknown.iter().map(|key| {
        Finding::new(
            Kind::UnknownObject,
            Exit::Ok,
            key.clone(),
            "not an object of gtide's",
        )
    }));
    if let Some(key) = inventory.unknown.last()
        && inventory.more_unknown > 0
    {
        let message = format!("and {} more that are not gtide's", inventory.more_unknown);
        findings.push(Finding::new(
            Kind::UnknownObject,
            Exit::Ok,
            key.clone(),
            message,
        ));
    }
}

/// One run of `verify`.
struct Audit<'a> {
    archive: &'a Archive,
    range: SequenceRange,
    depth: Depth,
    report: Verification,
    progress: Progress,
}

impl Audit<'_> {
    async fn source(&mut self, source: &SourceIdentity, objects: &SourceObjects) {
        self.report.sources.push(source.to_string());
        self.not_archived(source, objects);
        let range = self.range;
        let sequences = objects
            .entries
            .iter()
            .copied()
            .filter(|&s| range.contains(s));
        let size = |sequence| objects.logs.get(&sequence).copied();
        let depth = self.depth;
        let is_read = |&sequence: &Sequence| depth.reads(&source.log_key(sequence));
        self.progress.grow(
            sequences
                .clone()
                .filter(is_read)
                .filter_map(size)
                .fold(0, u64::saturating_add),
        );

        let archive = self.archive;
        let store = archive.store.as_ref();
        let mut entries = stream::iter(sequences)
            .map(|sequence| async move {
                let key = source.manifest_key(sequence);
                (sequence, entries::read_one(store, key).await)
            })
            .buffered(ENTRIES_IN_FLIGHT);
        let mut walk = ChainWalk::new(range);
        let mut judging: JoinSet<Judgement> = JoinSet::new();
        let mut digests = BTreeMap::new();
        while let Some((sequence, read)) = entries.next().await {
            self.report.files = self.report.files.saturating_add(1);
            let stored = match read {
                Ok(stored) => stored,
                Err(error) => {
                    walk.skip_unreadable();
                    let finding = Finding::of_entry(source.manifest_key(sequence), &error);
                    self.report
                        .findings
                        .push(finding.about(Subject { source, sequence }));
                    continue;
                }
            };
            self.chain(source, &mut walk, &stored);
            digests.insert(sequence, stored.sha256);
            if let Some(suspect) = self.suspect(&stored, size(sequence)) {
                while judging.len() >= self.in_flight() {
                    self.take_next(&mut judging).await;
                }
                if depth.reads(&stored.entry.object.key) {
                    judging.spawn(suspect.judge(archive.clone()));
                } else {
                    judging.spawn(suspect.look(archive.clone()));
                }
            }
        }
        while !judging.is_empty() {
            self.take_next(&mut judging).await;
        }
        self.rewrapped(objects).await;
        self.rollups(objects, &digests).await;
        self.unrecorded(source, objects).await;
    }

    /// Data keys that were wrapped anew and are not what their names say. Whether they open is seen where they are
    /// needed.
    async fn rewrapped(&mut self, objects: &SourceObjects) {
        let range = self.range;
        let store = self.archive.store.as_ref();
        let names = objects.rewrapped.iter();
        let keys: Vec<_> = names
            .filter(|name| !range.ends_before(name.first))
            .filter(|name| range.from().is_none_or(|from| name.last >= from))
            .map(RewrappedName::key)
            .collect();
        let mut read = stream::iter(keys)
            .map(|key| async move {
                let read = data_keys::read(store, &key).await;
                read.err().map(|error| Finding::of_rewrapped(key, &error))
            })
            .buffered(OBJECTS_IN_FLIGHT);
        while let Some(finding) = read.next().await {
            self.report.findings.extend(finding);
        }
    }

    /// Rollups that are not copies of the entries.
    async fn rollups(&mut self, objects: &SourceObjects, entries: &BTreeMap<Sequence, Digest>) {
        let (range, store) = (self.range, self.archive.store.as_ref());
        let names: Vec<_> = objects.rollups.iter().collect();
        let mut judged = stream::iter(names)
            .map(|name| rollups::judge(store, name, range, entries))
            .buffered(ROLLUPS_IN_FLIGHT);
        while let Some(finding) = judged.next().await {
            self.report.findings.extend(finding);
        }
    }

    fn chain(&mut self, source: &SourceIdentity, walk: &mut ChainWalk, stored: &StoredEntry) {
        let broken = walk.push(stored);
        self.report
            .findings
            .extend(broken.iter().map(|found| Finding::of_chain(source, found)));
        let subject = Subject {
            source,
            sequence: stored.entry.sequence,
        };
        self.report
            .findings
            .extend(Flaw::of(&stored.entry).into_iter().map(|flaw| {
                let key = stored.entry.object.key.clone();
                Finding::new(Kind::FlawedFile, Exit::Ok, key, flaw.to_string()).about(subject)
            }));
    }

    /// The file to be judged, if its entry is fit to say which that is.
    fn suspect(&mut self, stored: &StoredEntry, listed_size: Option<u64>) -> Option<Suspect> {
        match ArchivedFile::of(stored) {
            Ok(file) => Some(Suspect::new(stored, file, listed_size)),
            Err(fault) => {
                let (source, sequence) = (&stored.entry.source, stored.entry.sequence);
                let finding = Finding::of_fault(stored.key.clone(), &fault);
                self.report
                    .findings
                    .push(finding.about(Subject { source, sequence }));
                None
            }
        }
    }

    fn in_flight(&self) -> usize {
        match self.depth {
            Depth::Quick => QUESTIONS_IN_FLIGHT,
            Depth::Full | Depth::Sample { .. } => OBJECTS_IN_FLIGHT,
        }
    }

    async fn take_next(&mut self, judging: &mut JoinSet<Judgement>) {
        let judgement = match judging.join_next().await {
            Some(Ok(judgement)) => judgement,
            Some(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
            None => return,
        };
        self.progress.add(judgement.read_bytes);
        self.report.plain_bytes = self
            .report
            .plain_bytes
            .saturating_add(judgement.plain_bytes);
        match judgement.finding {
            None if judgement.was_read => {
                self.report.sound_files = self.report.sound_files.saturating_add(1);
            }
            None => self.report.present_files = self.report.present_files.saturating_add(1),
            Some(finding) => self.report.findings.push(finding),
        }
        if !self.report.findings.is_empty() {
            self.progress
                .note(format!("{} findings", self.report.findings.len()));
        }
    }

    /// Objects whose entry is not there. An entry is written after its object: behind the last entry
    /// one may be on its way, and gets [`IN_FLIGHT_WAIT`] to arrive.
    async fn unrecorded(&mut self, source: &SourceIdentity, objects: &SourceObjects) {
        let unrecorded = objects
            .logs
            .keys()
            .filter(|sequence| !objects.entries.contains(sequence))
            .filter(|&&sequence| self.range.contains(sequence));
        let deadline = Instant::now() + IN_FLIGHT_WAIT;
        for &sequence in unrecorded {
            let is_behind = objects.entries.last().is_none_or(|&last| sequence > last);
            let entry = source.manifest_key(sequence);
            let key = source.log_key(sequence);
            let finding = if is_behind && self.arrives(&entry, deadline).await {
                let message = "committed in the meantime, and not read back";
                Finding::new(Kind::InFlight, Exit::Ok, key, message)
            } else {
                let message =
                    format!("the object is there, and its manifest entry {entry} is missing");
                let advice = if is_behind {
                    "if an archiver was stopped before it committed, the next `gtide run` recognises the object; \
                     otherwise restore the entry from another destination or the bucket's older versions"
                } else {
                    "restore the entry from another destination or the bucket's older versions"
                };
                Finding::new(Kind::UnrecordedObject, Exit::Gap, key, message).advise(advice)
            };
            self.report
                .findings
                .push(finding.about(Subject { source, sequence }));
        }
    }

    /// Whether an entry is there, or comes before the deadline. A store that cannot say is taken as
    /// no: the finding names the key.
    async fn arrives(&self, entry: &ObjectKey, deadline: Instant) -> bool {
        loop {
            if matches!(self.archive.store.head(entry).await, Ok(Some(_))) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(IN_FLIGHT_POLL).await;
        }
    }

    /// Ends of the range that the archive does not reach.
    fn not_archived(&mut self, source: &SourceIdentity, objects: &SourceObjects) {
        let first = objects
            .entries
            .range(self.range.from().unwrap_or_default()..)
            .next();
        let short = self
            .range
            .from()
            .filter(|from| first.is_none_or(|first| from < first));
        let last = objects.entries.last();
        let beyond = self
            .range
            .to()
            .filter(|to| last.is_none_or(|last| last < to));
        for sequence in short.into_iter().chain(beyond) {
            let message = "asked for, and not archived";
            let finding =
                Finding::new(Kind::Gap, Exit::Gap, source.manifest_key(sequence), message);
            self.report
                .findings
                .push(finding.about(Subject { source, sequence }));
        }
    }
}
