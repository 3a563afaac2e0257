//! Both sides, file by file. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ledger::{ArchivedFile, ListedFile};

/// How one file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Both have it, and it is the same.
    Matched,
    /// The same, but one side had it more than the grace after the other.
    Late,
    /// One side has it, and the other still has time.
    Pending,
    /// Both have it, and it differs, or what the older job has cannot be read.
    Mismatched,
    /// Only the older job has it.
    OnlyCron,
    /// Only this archiver has it.
    OnlyGtide,
}

/// One file, on both sides. The field names are a contract with scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The binlog's name.
    pub file_name: String,
    /// How it stands.
    pub standing: Standing,
    /// Why it is no match, in words.
    pub cause: Option<String>,
    /// What the older job has.
    pub cron: Option<Side>,
    /// What this archiver has.
    pub gtide: Option<Side>,
}

/// What one side has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// SHA-256 of the binlog; null where that is not known.
    pub sha256: Option<Digest>,
    /// Bytes of the binlog.
    pub size: Option<u64>,
    /// When it was archived, or first seen in a manifest.
    pub at: Timestamp,
}

/// Compares what both sides have. `elsewhere` says what a digest is known as that is not the expected file's.
#[must_use]
pub fn compare(
    listed: &[ListedFile],
    archived: &[ArchivedFile],
    elsewhere: &BTreeMap<Digest, String>,
    grace: SignedDuration,
    now: Timestamp,
) -> Vec<Compared> {
    let mut pairs: BTreeMap<(u64, &str), Pair<'_>> = BTreeMap::new();
    for file in archived {
        let key = (number(&file.name), file.name.as_str());
        pairs.entry(key).or_default().archived = Some(file);
    }
    for file in listed {
        let key = (number(&file.binlog), file.binlog.as_str());
        // What was listed before the run began counts where this archiver has it, too.
        if !file.before_start || pairs.contains_key(&key) {
            pairs.entry(key).or_default().listed.push(file);
        }
    }
    let pairs = pairs.into_iter();
    let compared = pairs.map(|((_, name), pair)| pair.compare(name, elsewhere, grace, now));
    compared.collect()
}

/// One file on both sides.
#[derive(Default)]
struct Pair<'a> {
    /// Every line that means it.
    listed: Vec<&'a ListedFile>,
    archived: Option<&'a ArchivedFile>,
}

/// Names are sorted by it: they grow a digit one day (TRAPS 11).
fn number(name: &str) -> u64 {
    let digits = name.rsplit('.').next().unwrap_or_default();
    digits.parse().unwrap_or(u64::MAX)
}

impl Pair<'_> {
    fn compare(
        &self,
        name: &str,
        elsewhere: &BTreeMap<Digest, String>,
        grace: SignedDuration,
        now: Timestamp,
    ) -> Compared {
        let first = self.listed.iter().min_by_key(|file| file.seen_at);
        let (standing, cause) = match (first, self.archived) {
            (Some(first), Some(archived)) => {
                let mut listed = self.listed.iter();
                match listed.find_map(|file| difference(file, archived, elsewhere)) {
                    Some(cause) => (Standing::Mismatched, Some(cause)),
                    None if self.listed.iter().any(|file| file.content.is_none()) => {
                        (Standing::Pending, None)
                    }
                    None => on_time(first, archived, grace),
                }
            }
            (Some(first), None) => missing(first.seen_at, Standing::OnlyCron, grace, now),
            (None, Some(archived)) => missing(archived.at, Standing::OnlyGtide, grace, now),
            // A pair has one of them.
            (None, None) => (Standing::Pending, None),
        };
        Compared {
            file_name: name.to_owned(),
            standing,
            cause,
            cron: first.map(|file| Side {
                sha256: file.content.map(|content| content.sha256),
                size: file.content.and_then(|content| content.size),
                at: file.seen_at,
            }),
            gtide: self.archived.map(|file| Side {
                sha256: Some(file.sha256),
                size: Some(file.size),
                at: file.at,
            }),
        }
    }
}

fn difference(
    listed: &ListedFile,
    archived: &ArchivedFile,
    elsewhere: &BTreeMap<Digest, String>,
) -> Option<String> {
    if let Some(note) = &listed.note {
        return Some(note.clone());
    }
    let content = listed.content?;
    if content.sha256 == archived.sha256 {
        return None;
    }
    let object = &listed.object;
    Some(match (elsewhere.get(&content.sha256), content.size) {
        (Some(known), _) => format!("{object} is {known}"),
        (None, Some(size)) if size < archived.size => format!(
            "{object} holds {size} of {} bytes: it was taken before the server had closed the file, or cut on its way",
            archived.size
        ),
        (None, Some(size)) if size > archived.size => {
            format!(
                "{object} holds {size} bytes, the file had {}",
                archived.size
            )
        }
        (None, _) => format!(
            "{object} has another content: it was changed after one of them was made, or is of another server"
        ),
    })
}

fn on_time(
    listed: &ListedFile,
    archived: &ArchivedFile,
    grace: SignedDuration,
) -> (Standing, Option<String>) {
    let lead = archived.at.duration_since(listed.seen_at);
    if listed.before_start || lead.abs() <= grace {
        return (Standing::Matched, None);
    }
    let who = if lead.is_negative() {
        "the older job"
    } else {
        "gtide"
    };
    let seconds = SignedDuration::from_secs(lead.abs().as_secs());
    (
        Standing::Late,
        Some(format!("{who} had it {seconds:#} later")),
    )
}

fn missing(
    since: Timestamp,
    standing: Standing,
    grace: SignedDuration,
    now: Timestamp,
) -> (Standing, Option<String>) {
    if now.duration_since(since) <= grace {
        return (Standing::Pending, None);
    }
    let cause = match standing {
        Standing::OnlyCron => "gtide has not archived it",
        _ => "the older job lists it nowhere",
    };
    (standing, Some(cause.to_owned()))
}

#[cfg(test)]
mod tests;
