//! What the servers' own files say: index, first and last listed file, identity, inotify.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::binlog::Scanner;
use crate::binlog::index::IndexEntry;
use crate::config::{Config, SourceConfig};
use crate::exit::Exit;
use crate::finding::Finding;
use crate::layout::SourceIdentity;
use crate::pipeline::seal::SealError;
use crate::watch;

/// Bytes of a file that tell whether it is a binlog: its magic and its first event.
const HEAD: u64 = 4096;

/// Closed files that a rate is made of, from the newest back.
const MAX_FILES_OBSERVED: usize = 100;

/// The kernel's limit that inotify meets first.
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";

/// What was seen of the files that wait to be archived.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) sources: Vec<Closed>,
}

/// Closed files of one source.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) name: String,
    /// The last of them.
    pub(super) newest: PathBuf,
    /// Bytes in the largest.
    pub(super) largest: u64,
    /// Bytes per second that the server writes; none when too few files tell.
    pub(super) rate: Option<f64>,
}

impl Observed {
    /// Of each source its name and a closed file.
    pub(super) fn closed(&self) -> Vec<(String, PathBuf)> {
        let sources = self.sources.iter();
        sources
            .map(|s| (s.name.clone(), s.newest.clone()))
            .collect()
    }

    /// Bytes in the largest file of all.
    pub(super) fn largest(&self) -> u64 {
        self.sources.iter().map(|s| s.largest).max().unwrap_or(0)
    }
}

pub(super) fn check(config: &Config) -> (Vec<Finding>, Observed) {
    let (mut found, mut observed) = (Vec::new(), Observed::default());
    let mut names: HashMap<SourceIdentity, &str> = HashMap::new();
    for source in &config.sources {
        found.push(identity(config, source, &mut names));
        match watch::read_index(source) {
            Ok(listed) => {
                found.push(index(source, &listed));
                found.extend(ends(&listed).map(|entry| file(source, entry)));
                observed.sources.extend(observe(source, &listed));
            }
            Err(error) => found.push(Finding::error("source-index", &source.name, &error.into())),
        }
        found.push(events(source));
    }
    (found, observed)
}

/// Two configured sources with one server's files would break each other's order.
fn identity<'a>(
    config: &Config,
    source: &'a SourceConfig,
    names: &mut HashMap<SourceIdentity, &'a str>,
) -> Finding {
    let check = "source-identity";
    let server_uuid = match watch::server_uuid(source) {
        Ok(uuid) => uuid,
        Err(error) => return Finding::error(check, &source.name, &error.into()),
    };
    let identity = SourceIdentity {
        cluster: config.cluster.clone(),
        server_uuid,
        incarnation: source.incarnation,
    };
    let text = identity.to_string();
    match names.insert(identity, &source.name) {
        None => Finding::ok(check, &source.name, text),
        Some(other) => {
            let reason = format!("{text} is source {other:?} as well");
            let hint = "list each server once, or give a clone a server_uuid of its own";
            Finding::fail(check, &source.name, Exit::Usage, reason, hint)
        }
    }
}

fn index(source: &SourceConfig, listed: &[IndexEntry]) -> Finding {
    let (check, path) = ("source-index", source.index.display());
    if listed.is_empty() {
        let hint = "is log_bin ON, and is it the log_bin_index of that server?";
        return Finding::warn(check, &source.name, format!("{path} lists no file"), hint);
    }
    let reason = format!("{path} lists {} files", listed.len());
    Finding::ok(check, &source.name, reason).with("files", listed.len())
}

/// The first and the last one.
fn ends(listed: &[IndexEntry]) -> impl Iterator<Item = &IndexEntry> {
    let last = listed.last().filter(|_| listed.len() > 1);
    listed.first().into_iter().chain(last)
}

fn file(source: &SourceConfig, entry: &IndexEntry) -> Finding {
    let check = "source-file";
    match look(&entry.path) {
        Ok(size) => {
            let reason = format!("{} can be read, {size} bytes", entry.path.display());
            Finding::ok(check, &source.name, reason)
        }
        Err(error) => Finding::error(check, &source.name, &error),
    }
}

/// Reads the beginning of a file as a binlog's.
fn look(path: &Path) -> anyhow::Result<u64> {
    let read = |source| SealError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        return Err(SealError::NotAFile {
            path: path.to_owned(),
        }
        .into());
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(HEAD).read_to_end(&mut head).map_err(read)?;
    let refused = |source| SealError::Refused {
        path: path.to_owned(),
        source,
    };
    Scanner::new().push(&head).map_err(refused)?;
    Ok(metadata.len())
}

/// Sizes and times of the closed files: all but the last.
fn observe(source: &SourceConfig, listed: &[IndexEntry]) -> Option<Closed> {
    let (_, closed) = listed.split_last()?;
    let recent = closed.get(closed.len().saturating_sub(MAX_FILES_OBSERVED)..)?;
    let looked = recent.iter().filter_map(|entry| {
        let metadata = std::fs::metadata(&entry.path).ok()?;
        Some((entry, metadata))
    });
    let looked: Vec<(&IndexEntry, Metadata)> = looked.collect();
    let (newest, _) = looked.last()?;
    Some(Closed {
        name: source.name.clone(),
        newest: newest.path.clone(),
        largest: looked.iter().map(|(_, m)| m.len()).max().unwrap_or(0),
        rate: rate(&looked),
    })
}

/// Bytes of all but the first, over the time from the end of the first to that of the last: a file's time is that of
/// its last event.
fn rate(looked: &[(&IndexEntry, Metadata)]) -> Option<f64> {
    let (first, rest) = looked.split_first()?;
    let (_, last) = rest.last()?;
    let took = last
        .modified()
        .ok()?
        .duration_since(first.1.modified().ok()?);
    let took = took.ok().filter(|took| took.as_secs() > 0)?;
    let bytes: u64 = rest.iter().map(|(_, metadata)| metadata.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    Some(bytes as f64 / took.as_secs_f64())
}

fn events(source: &SourceConfig) -> Finding {
    let check = "source-events";
    let poll = watch::POLL.as_secs();
    match watch::events::changes(&source.index) {
        Ok(_) => Finding::ok(
            check,
            &source.name,
            "rotations are heard of through inotify",
        ),
        Err(error) => {
            let error = anyhow::Error::from(error).context("no inotify");
            let reason = format!("{error:#}: rotations are found by polling alone, every {poll} s");
            Finding::warn(check, &source.name, reason, limits())
        }
    }
}

fn limits() -> String {
    let read = || -> anyhow::Result<String> {
        let text = std::fs::read_to_string(INSTANCES).context(INSTANCES)?;
        Ok(text.trim().to_owned())
    };
    match read() {
        Ok(limit) => format!(
            "fs.inotify.max_user_instances is {limit} for all programs of this user: raise it with sysctl, or end what \
             watches files"
        ),
        Err(_) => "see sysctl fs.inotify".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_what_was_written_between_two_ends() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut entries = Vec::new();
        for (number, (size, at)) in [(900, 0), (100, 10), (300, 40)].into_iter().enumerate() {
            let path = dir.path().join(format!("binlog.00000{}", number + 1));
            let file = File::create(&path)?;
            file.set_len(size)?;
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + at);
            file.set_modified(time)?;
            entries.push(IndexEntry {
                sequence: crate::layout::Sequence(number as u64 + 1),
                file_name: "binlog".to_owned(),
                path,
            });
        }
        let looked: Vec<_> = entries
            .iter()
            .map(|entry| (entry, std::fs::metadata(&entry.path).unwrap()))
            .collect();
        assert_eq!(rate(&looked), Some(10.0));
        assert_eq!(rate(&looked[..1]), None);
        assert_eq!(rate(&[]), None);
        Ok(())
    }
}
