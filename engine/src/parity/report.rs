//! A run as the ledger shows it: both sides read, compared and judged.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::compare::{self, Compared, Standing};
use super::verdict::{self, Verdict, Word};
use crate::digest::Digest;
use crate::exit::Exit;
use crate::layout::Sequence;
use crate::ledger::{ArchivedFile, Ledger, LedgerError, ListedFile, ParityRun, SourceId};

/// Files of a run that a picture shows: those that are no match first, then the newest.
pub const MAX_FILES_SHOWN: usize = 500;

/// A run as the console shows it. Stored as JSON in pictures; additive changes only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParityPicture {
    /// Whose files are compared.
    pub source: SourceId,
    /// When it began.
    pub started_at: Timestamp,
    /// When its window is over.
    pub until: Timestamp,
    /// When the older job's manifests were read last.
    pub scanned_at: Option<Timestamp>,
    /// When a person ended it.
    pub finished_at: Option<Timestamp>,
    /// Where the manifests are.
    pub manifests: Vec<String>,
    /// How it stands; none once it is ended: nothing is compared any more.
    pub verdict: Option<Verdict>,
    /// At most [`MAX_FILES_SHOWN`].
    pub files: Vec<Compared>,
    /// Files that are not shown.
    pub left_out: usize,
}

/// All runs as they stand. It reads every file of them: not to be asked as often as [`Ledger::picture`].
///
/// # Errors
/// What the ledger says.
pub async fn pictures(ledger: &Ledger, now: Timestamp) -> Result<Vec<ParityPicture>, LedgerError> {
    let mut pictures = Vec::new();
    for run in ledger.parity_runs().await? {
        let (mut files, verdict) = if run.finished_at.is_none() {
            let (files, verdict) = of(ledger, &run, now).await?;
            (files, Some(verdict))
        } else {
            (Vec::new(), None)
        };
        // They come by number: the newest are the last.
        files.reverse();
        files.sort_by_key(|file| std::cmp::Reverse(urgency(file.standing)));
        let left_out = files.len().saturating_sub(MAX_FILES_SHOWN);
        files.truncate(MAX_FILES_SHOWN);
        pictures.push(ParityPicture {
            source: run.source,
            started_at: run.started_at,
            until: run
                .started_at
                .saturating_add(run.window)
                .unwrap_or(Timestamp::MAX),
            scanned_at: run.scanned_at,
            finished_at: run.finished_at,
            manifests: run.manifests,
            verdict,
            files,
            left_out,
        });
    }
    Ok(pictures)
}

/// What keeps a run from parity comes first.
fn urgency(standing: Standing) -> u8 {
    match standing {
        Standing::Mismatched => 5,
        Standing::OnlyCron => 4,
        Standing::OnlyGtide => 3,
        Standing::Late => 2,
        Standing::Pending => 1,
        Standing::Matched => 0,
    }
}

/// A run as it stands: every file, and the verdict.
///
/// # Errors
/// What the ledger says.
pub async fn of(
    ledger: &Ledger,
    run: &ParityRun,
    now: Timestamp,
) -> Result<(Vec<Compared>, Verdict), LedgerError> {
    let listed = ledger.listed_files(run.source).await?;
    let mut archived = ledger.archived_since(run.source, run.started_at).await?;
    let mut has: HashSet<String> = archived.iter().map(|file| file.name.clone()).collect();
    // What is listed now may have been archived before the run began.
    for file in listed.iter().filter(|file| !file.before_start) {
        if has.insert(file.binlog.clone())
            && let Some(found) = by_name(ledger, run.source, &file.binlog).await?
        {
            archived.push(found);
        }
    }
    let elsewhere = elsewhere(ledger, run.source, &listed, &archived).await?;
    let files = compare::compare(&listed, &archived, &elsewhere, run.grace, now);
    let verdict = verdict::judge(run, &files, now);
    Ok((files, verdict))
}

async fn by_name(
    ledger: &Ledger,
    source: SourceId,
    name: &str,
) -> Result<Option<ArchivedFile>, LedgerError> {
    let number = name
        .rsplit('.')
        .next()
        .and_then(|digits| digits.parse().ok());
    let Some(number) = number else {
        return Ok(None);
    };
    let found = ledger.archived_file(source, Sequence(number)).await?;
    Ok(found.filter(|file| file.name == name))
}

/// What digests that differ are known as: the same number in another incarnation, or another number.
async fn elsewhere(
    ledger: &Ledger,
    source: SourceId,
    listed: &[ListedFile],
    archived: &[ArchivedFile],
) -> Result<BTreeMap<Digest, String>, LedgerError> {
    let mut known: BTreeMap<Digest, String> = archived
        .iter()
        .map(|file| (file.sha256, format!("a copy of {}", file.name)))
        .collect();
    for other in ledger.sources().await? {
        if other.id == source {
            continue;
        }
        for file in listed.iter().filter(|file| !file.before_start) {
            if let Some(found) = by_name(ledger, other.id, &file.binlog).await? {
                let identity = &other.identity;
                known
                    .entry(found.sha256)
                    .or_insert_with(|| format!("that file of {identity}"));
            }
        }
    }
    Ok(known)
}

/// The exit code of a report.
#[must_use]
pub fn exit_of(verdict: Word) -> Exit {
    match verdict {
        Word::Parity => Exit::Ok,
        Word::NotYet => Exit::Transient,
        Word::NoParity => Exit::Conflict,
    }
}
