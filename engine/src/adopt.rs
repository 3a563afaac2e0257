//! Takes what an older job keeps into the archive, so that one archive serves every recovery.
//!
//! # How
//! The older job's binlogs are unpacked, some at a time, into a folder that looks like a server's: files and an index. An
//! archiver of its own, with a queue database and a spool in that folder, archives them as it archives any server's. All
//! that holds for a server's files holds for these: order, verification, damage that is flagged.
//!
//! # Invariants
//! - They are of the same `server_uuid` under [`INCARNATION`], which no configured source can have: no key of theirs can
//!   meet one of the server's present files. A plan joins both by their GTIDs.
//! - A file that is archived already under the source's own incarnation, by number and SHA-256, is not taken again.
//! - The older job's files are only read.
//! - Nothing is adopted behind a file that is missing or cannot be read, unless that is accepted: a chain takes nothing in
//!   below its head, and a better copy may be found.
//!
//! # After a crash
//! Start it again: what is archived is found in the archive and compared, and nothing is uploaded twice.
//!
//! # Limits
//! [`STAGED_BYTES`] of unpacked files at once, or two files, if those are larger.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::config::{Config, SourceConfig};
use crate::daemon::{Archiver, Problem, SourceOutcome};
use crate::digest::Digest;
use crate::durable_fs;
use crate::exit::{self, Diagnose, Exit, Failure};
use crate::layout::{Sequence, SourceIdentity};
use crate::manifest::{Entry, MAX_ENTRY_LEN};
use crate::older_job::kept::{self, KeptFile};
use crate::older_job::place::Place;
use crate::store::{self, ObjectStore, StoreError};
use crate::watch;

/// The incarnation of what was adopted. A configured one counts from 1.
pub const INCARNATION: u32 = 0;

/// Unpacked bytes that are handed to the archiver at once.
pub const STAGED_BYTES: u64 = 1 << 30;

/// Files that are handed to it at once.
const STAGED_FILES: usize = 256;

/// What became of the older job's files. The field names are a contract with scripts.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The source's name.
    pub source: String,
    /// Binlogs found.
    pub found: usize,
    /// Archived in this run.
    pub adopted: u64,
    /// Archived before under the source's own incarnation, with the same contents.
    pub archived_before: u64,
    /// Not to be unpacked.
    pub unreadable: Vec<Unreadable>,
    /// Sequences missing between adopted files: first and last of each run.
    pub gaps: Vec<(u64, u64)>,
    /// What is in the way.
    pub problems: Vec<Problem>,
}

/// A file of the older job's that no binlog came out of.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// Its URL.
    pub url: String,
    /// Why.
    pub error: String,
}

impl Report {
    /// The gravest of what is in the way.
    pub fn exit(&self) -> Exit {
        let unreadable = self.unreadable.iter().map(|_| Exit::Corrupt);
        let problems = self.problems.iter().map(|problem| problem.exit);
        unreadable.chain(problems).fold(Exit::Ok, Exit::graver)
    }

    fn add(&mut self, outcome: SourceOutcome) {
        self.adopted = self.adopted.saturating_add(outcome.archived);
        self.gaps = outcome.gaps;
        for problem in outcome.problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    /// Going on would meet it again with every file.
    fn is_stopped(&self) -> bool {
        let mut problems = self.problems.iter();
        problems.any(|problem| !matches!(problem.exit, Exit::Ok | Exit::Gap | Exit::Corrupt))
    }
}

/// Files of an older job that are to be adopted for a source.
#[derive(Debug)]
pub struct Adoption {
    place: Place,
    /// Where files are unpacked, and the adopting archiver's database and spool lie.
    dir: PathBuf,
    /// The adopting archiver's.
    config: Config,
    /// The source as it is archived at present.
    present: SourceIdentity,
    store: Arc<dyn ObjectStore>,
    /// Go on behind what is missing.
    accept_gaps: bool,
}

/// What became of a file that was looked at.
#[derive(Debug)]
enum Look {
    Staged(Staged),
    /// Archived before, with the same contents.
    Archived,
    Unreadable,
}

/// What was unpacked, and waits in the folder.
#[derive(Debug)]
struct Staged {
    name: String,
    path: PathBuf,
    size: u64,
}

impl Adoption {
    /// Of a source's older files at `from`, which may be a pattern (see [`Place::open`]).
    ///
    /// # Errors
    /// When the configuration does not serve, or `server_uuid` cannot be told.
    pub fn new(
        config: &Config,
        source: &SourceConfig,
        from: &str,
        accept_gaps: bool,
    ) -> anyhow::Result<Self> {
        let present = SourceIdentity {
            cluster: config.cluster.clone(),
            server_uuid: watch::server_uuid(source)?,
            incarnation: source.incarnation,
        };
        let destination = config.destinations.iter().find(|d| d.required);
        let destination = destination.or(config.destinations.first());
        let store = destination.map(|destination| store::connect(&destination.store));
        let store =
            store.ok_or_else(|| usage("no destination is configured", "add a [[destination]]"))?;
        let dir = config
            .spool
            .dir
            .join("adopt")
            .join(present.server_uuid.to_string());
        Ok(Self {
            place: Place::open(from, config)?,
            config: adopting(config, source, &present, &dir),
            dir,
            present,
            store: store?,
            accept_gaps,
        })
    }

    /// Adopts all that is there. None when `stop` fired before; `progress` is told how many files of how many were looked at.
    ///
    /// # Errors
    /// When nothing is there, the older job's store does not answer, or the folder cannot be written.
    pub async fn run(
        &self,
        stop: &CancellationToken,
        progress: &mut (impl FnMut(usize, usize) + Send),
    ) -> anyhow::Result<Option<Report>> {
        let kept = kept::binlogs(&self.place).await?;
        if kept.is_empty() {
            let hint = "--from names binlogs, packed or not: 's3://bucket/db1/binlog.*'; quote the pattern";
            return Err(usage("no binlog is there", hint).into());
        }
        std::fs::create_dir_all(&self.dir)?;
        let mut report = Report {
            source: self.source().name.clone(),
            found: kept.len(),
            ..Report::default()
        };
        let mut staged = VecDeque::new();
        let mut expected = kept.first().map(|first| first.sequence);
        for (looked_at, file) in kept.iter().enumerate() {
            if stop.is_cancelled() {
                return Ok(None);
            }
            progress(looked_at, kept.len());
            match self.look(file, &mut report).await? {
                Look::Staged(next) => {
                    let missing = expected.filter(|expected| *expected != file.sequence);
                    if let Some(missing) = missing.filter(|_| !self.accept_gaps) {
                        next.remove();
                        report.problems.push(behind_a_gap(&file.binlog, missing));
                        break;
                    }
                    staged.push_back(next);
                }
                Look::Archived => {}
                Look::Unreadable => continue,
            }
            expected = Some(file.sequence.next());
            // The last one seems to be in use, until the next one is there.
            if is_full(&staged) {
                let Some(outcome) = self.archive(&staged, false, stop).await? else {
                    return Ok(None);
                };
                report.add(outcome);
                let done = staged.drain(..staged.len().saturating_sub(1));
                done.for_each(Staged::remove);
                if report.is_stopped() {
                    return Ok(Some(report));
                }
            }
        }
        self.finish(staged, report, stop).await
    }

    /// Adopts what is left in the folder: nothing will follow it.
    async fn finish(
        &self,
        staged: VecDeque<Staged>,
        mut report: Report,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Report>> {
        if staged.is_empty() {
            return Ok(Some(report));
        }
        let Some(outcome) = self.archive(&staged, true, stop).await? else {
            return Ok(None);
        };
        let active = outcome.active.as_deref().map(still_open);
        report.problems.extend(active);
        report.add(outcome);
        staged.into_iter().for_each(Staged::remove);
        Ok(Some(report))
    }

    fn source(&self) -> &SourceConfig {
        self.config.sources.first().expect("made with one source")
    }

    /// Unpacks a file into the folder, unless it is not to be adopted.
    async fn look(&self, file: &KeptFile, report: &mut Report) -> anyhow::Result<Look> {
        let path = self.dir.join(&file.binlog);
        let (sha256, size) = match kept::unpack_to(&self.place, file, &path).await {
            Ok(contents) => contents,
            Err(error) if is_passing(&error) => return Err(error.into()),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                report.unreadable.push(Unreadable {
                    url: self.place.url_of(&file.key),
                    error: exit::chain(&error),
                });
                return Ok(Look::Unreadable);
            }
        };
        let staged = Staged {
            name: file.binlog.clone(),
            path,
            size,
        };
        if self.archived(file.sequence).await? == Some(sha256) {
            report.archived_before += 1;
            staged.remove();
            return Ok(Look::Archived);
        }
        Ok(Look::Staged(staged))
    }

    /// The digest of the file that is archived under this number of the source's own incarnation.
    async fn archived(&self, sequence: Sequence) -> anyhow::Result<Option<Digest>> {
        let key = self.present.manifest_key(sequence);
        match store::read_all(self.store.as_ref(), &key, MAX_ENTRY_LEN).await {
            Ok(bytes) => Ok(Some(Entry::parse(&key, &bytes)?.sha256)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the archiver take what is in the folder; the last file only when nothing will follow it.
    async fn archive(
        &self,
        staged: &VecDeque<Staged>,
        with_last: bool,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<SourceOutcome>> {
        let index = staged.iter().fold(String::new(), |mut index, file| {
            let _ = writeln!(index, "./{}", file.name);
            index
        });
        durable_fs::replace(&self.source().index, index.as_bytes())?;
        let archiver = Archiver::open(&self.config, Arc::new(SystemClock), with_last).await?;
        let outcome = archiver.run_once(stop.clone()).await;
        Ok(outcome.and_then(|outcome| outcome.sources.into_iter().next()))
    }
}

impl Staged {
    /// Best effort: what is left is replaced when it is unpacked again.
    fn remove(self) {
        let _ = std::fs::remove_file(self.path);
    }
}

fn is_full(staged: &VecDeque<Staged>) -> bool {
    let sizes = staged.iter().map(|file| file.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    staged.len() > 1 && (bytes >= STAGED_BYTES || staged.len() >= STAGED_FILES)
}

/// The configuration of the archiver that adopts.
fn adopting(
    config: &Config,
    source: &SourceConfig,
    present: &SourceIdentity,
    dir: &std::path::Path,
) -> Config {
    let mut adopting = config.clone();
    adopting.sources = vec![SourceConfig {
        name: source.name.clone(),
        index: dir.join("adopted.index"),
        datadir: dir.to_owned(),
        server_uuid: Some(present.server_uuid),
        incarnation: INCARNATION,
        server: None,
    }];
    adopting.queue.database = format!("sqlite:{}", dir.join("adopt.db").display());
    adopting.spool.dir = dir.join("spool");
    adopting.metrics = None;
    adopting.purge.auto = false;
    adopting
}

/// Not the file's fault: another run may fare better.
fn is_passing(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<StoreError>());
    error.kind() == io::ErrorKind::StorageFull
        || inner.is_some_and(|inner| !matches!(inner.exit(), Exit::Corrupt))
}

/// The last file does not end as one that the server closed.
fn still_open(file: &str) -> Problem {
    Problem {
        error: format!("{file} does not end in ROTATE or STOP: it is the last one, and was still being written when it was kept"),
        hint: Some(
            "nothing, if its transactions are archived from the server itself; else let the older job keep it once more, and adopt again"
                .to_owned(),
        ),
        exit: Exit::Gap,
    }
}

/// A file that is not adopted, since the one before it is not there.
fn behind_a_gap(file: &str, missing: Sequence) -> Problem {
    Problem {
        error: format!("{file} is not adopted, nor what follows: number {missing} is missing or cannot be read"),
        hint: Some(
            "look for another copy of it and adopt again: behind later files it cannot be taken in any more. \
             --accept-gaps goes on without it"
                .to_owned(),
        ),
        exit: Exit::Gap,
    }
}

fn usage(message: &str, hint: &str) -> Failure {
    Failure {
        message: message.to_owned(),
        exit: Exit::Usage,
        hint: Some(hint.to_owned()),
    }
}
