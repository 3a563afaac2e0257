//! Looks at the older job's manifests, and remembers what is new in them.

use std::collections::HashSet;

use jiff::Timestamp;

use super::place::Place;
use super::sums::{self, Packing};
use super::unpack;
use crate::config::Config;
use crate::digest::Digest;
use crate::exit;
use crate::ledger::{Content, Ledger, ListedFile, ParityRun, Scan};
use crate::store::StoreError;

/// Packed files that one look fetches and unpacks at most; the next look goes on.
pub const MAX_UNPACKED_AT_ONCE: usize = 1_000;

/// A packed file that cannot be unpacked may still be on its way there: so long it is looked at again.
const UPLOADING: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// Lines that are no sums which are named at most; one is enough for a verdict.
const MAX_UNREAD: usize = 100;

/// Reads all manifests of a run, and records what is new. What the first look of a run finds was there before.
///
/// # Errors
/// When a place cannot be read: nothing is recorded then.
pub async fn look(
    ledger: &Ledger,
    config: &Config,
    run: &ParityRun,
    now: Timestamp,
) -> anyhow::Result<()> {
    let looked = try_look(ledger, config, run, now).await;
    let scan = match &looked {
        Ok(unread) => Ok(Scan {
            at: now,
            unread: unread.clone(),
        }),
        Err(error) => Err(format!("{error:#}")),
    };
    ledger.set_parity_scanned(run.source, scan).await?;
    looked.map(|_| ())
}

/// The lines that are no sums.
async fn try_look(
    ledger: &Ledger,
    config: &Config,
    run: &ParityRun,
    now: Timestamp,
) -> anyhow::Result<Vec<String>> {
    let known = ledger.listed_files(run.source).await?;
    let mut seen: HashSet<(String, String, Digest)> = known
        .iter()
        .map(|file| (file.manifest.clone(), file.object.clone(), file.listed))
        .collect();
    let mut unread: Vec<String> = Vec::new();
    let mut found: Vec<(usize, ListedFile)> = Vec::new();
    let mut places = Vec::new();
    for (nth, spec) in run.manifests.iter().enumerate() {
        let place = Place::open(spec, config)?;
        for manifest in place.objects().await? {
            let sums = sums::parse(&place.read(&manifest).await?);
            let url = place.url_of(&manifest);
            let told = sums
                .unread
                .iter()
                .map(|line| format!("{url}: line {line} is no sum"));
            unread.extend(told.take(MAX_UNREAD.saturating_sub(unread.len())));
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
    Ok(unread)
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
