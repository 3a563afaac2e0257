//! Looks at the older job's manifests, and remembers what is new in them.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::compare::{self, Compared};
use super::place::Place;
use super::sums::{self, Packing};
use super::unpack;
use super::verdict::{self, Verdict};
use crate::config::Config;
use crate::digest::Digest;
use crate::exit::{self, Exit};
use crate::layout::Sequence;
use crate::ledger::{ArchivedFile, Content, Ledger, LedgerError, ListedFile, ParityRun, SourceId};
use crate::store::StoreError;

/// Packed files that one look fetches and unpacks at most; the next look goes on.
pub const MAX_UNPACKED_AT_ONCE: usize = 1_000;

/// A packed file that cannot be unpacked may still be on its way there: so long it is looked at again.
const UPLOADING: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// What a look found.
#[derive(Debug, Default)]
pub struct Look {
    /// Lines that are no sums: manifest and number.
    pub unread: Vec<String>,
}

/// Reads all manifests of a run, and records what is new. What the first look of a run finds was there before.
///
/// # Errors
/// When a place cannot be read: nothing is recorded then.
pub async fn look(
    ledger: &Ledger,
    config: &Config,
    run: &ParityRun,
    now: Timestamp,
) -> anyhow::Result<Look> {
    let looked = try_look(ledger, config, run, now).await;
    let scanned = match &looked {
        Ok(_) => Ok(now),
        Err(error) => Err(format!("{error:#}")),
    };
    ledger.set_parity_scanned(run.source, scanned).await?;
    looked
}

async fn try_look(
    ledger: &Ledger,
    config: &Config,
    run: &ParityRun,
    now: Timestamp,
) -> anyhow::Result<Look> {
    let known = ledger.listed_files(run.source).await?;
    let mut seen: HashSet<(String, String, Digest)> = known
        .iter()
        .map(|file| (file.manifest.clone(), file.object.clone(), file.listed))
        .collect();
    let mut look = Look::default();
    let mut found: Vec<(usize, ListedFile)> = Vec::new();
    let mut places = Vec::new();
    for (nth, spec) in run.manifests.iter().enumerate() {
        let place = Place::open(spec, config)?;
        for manifest in place.manifests().await? {
            let sums = sums::parse(&place.read(&manifest).await?);
            let url = place.url_of(&manifest);
            let told = sums
                .unread
                .iter()
                .map(|line| format!("{url}: line {line} is no sum"));
            look.unread.extend(told);
            for listed in sums.files {
                let Some((binlog, _)) = sums::binlog_name(&listed.name) else {
                    continue;
                };
                let binlog = binlog.to_owned();
                let identity = (url.clone(), listed.name.clone(), listed.digest);
                if !seen.insert(identity) {
                    continue;
                }
                found.push((
                    nth,
                    ListedFile {
                        manifest: url.clone(),
                        object: listed.name,
                        listed: listed.digest,
                        binlog,
                        before_start: run.scanned_at.is_none(),
                        seen_at: now,
                        content: None,
                        note: None,
                    },
                ));
            }
        }
        places.push(place);
    }
    // Of what was listed before the run began only those files matter that were archived here since.
    let archived = ledger.archived_since(run.source, run.started_at).await?;
    let archived: HashSet<&str> = archived.iter().map(|file| file.name.as_str()).collect();
    let matters = |file: &ListedFile| !file.before_start || archived.contains(file.binlog.as_str());
    let is_open = |file: &ListedFile| file.content.is_none() && file.note.is_none();
    for file in known {
        if is_open(&file) && matters(&file) {
            found.push((place_of(&places, &file), file));
        }
    }
    let mut unpacked = 0;
    for (nth, file) in &mut found {
        if let Some(place) = places.get(*nth)
            && matters(file)
        {
            read_content(place, file, now, &mut unpacked).await?;
        }
    }
    let found: Vec<ListedFile> = found.into_iter().map(|(_, file)| file).collect();
    ledger.record_listed(run.source, &found).await?;
    Ok(look)
}

fn place_of(places: &[Place], file: &ListedFile) -> usize {
    let mut places = places.iter();
    let found = places.position(|place| place.manifest(&file.manifest).is_some());
    found.unwrap_or(usize::MAX)
}

/// Finds out which binlog is behind a line.
async fn read_content(
    place: &Place,
    file: &mut ListedFile,
    now: Timestamp,
    unpacked: &mut usize,
) -> anyhow::Result<()> {
    let packing = sums::binlog_name(&file.object).map(|(_, packing)| packing);
    let (Some(manifest), Some(packing)) = (place.manifest(&file.manifest), packing) else {
        return Ok(());
    };
    if packing == Packing::Plain {
        file.content = Some(Content {
            sha256: file.listed,
            size: place.size(&manifest, &file.object).await?,
        });
        return Ok(());
    }
    if *unpacked >= MAX_UNPACKED_AT_ONCE {
        return Ok(());
    }
    *unpacked += 1;
    let object = &file.object;
    let read = match place.open_listed(&manifest, object).await {
        Ok(stream) => unpack::digest(stream, packing).await,
        Err(error @ StoreError::NotFound { .. }) => Err(std::io::Error::other(error)),
        Err(error) => return Err(error.into()),
    };
    let note = match read {
        // Of the packed file, as `sha256sum` of what lies there gives it, or of what was packed.
        Ok(contents) if file.listed == contents.packed || file.listed == contents.plain => {
            file.content = Some(Content {
                sha256: contents.plain,
                size: Some(contents.plain_size),
            });
            return Ok(());
        }
        Ok(contents) => format!(
            "{object} ({} bytes) is not what its manifest says: it was cut on its way, or changed after",
            contents.packed_size
        ),
        Err(error) => format!("{object} cannot be unpacked: {}", exit::chain(&error)),
    };
    if now.duration_since(file.seen_at) > UPLOADING {
        file.note = Some(note);
    } else {
        tracing::debug!(note, "to be looked at again");
    }
    Ok(())
}

/// A run as it stands: every file, and the verdict.
///
/// # Errors
/// What the ledger says.
pub async fn report(
    ledger: &Ledger,
    run: &ParityRun,
    look: &Look,
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
    let verdict = verdict::judge(run, &files, &look.unread, now);
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
pub fn exit_of(verdict: verdict::Word) -> Exit {
    match verdict {
        verdict::Word::Parity => Exit::Ok,
        verdict::Word::NotYet => Exit::Transient,
        verdict::Word::NoParity => Exit::Conflict,
    }
}
