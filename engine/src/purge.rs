//! Makes a server forget binary logs that are archived, and only those.
//!
//! # Owns
//! Looking at everything that a verdict needs ([`Purge::look`]): the index, the ledger, the server's open files, its
//! replicas; and carrying the verdicts out in bounded steps ([`Purge::execute`]). The verdicts themselves are [`plan`]'s.
//!
//! # Invariants
//! - A file goes only when the ledger has a commit of this very file (same inode, size and time of change) at every
//!   required destination, up to the watermark of each.
//! - The server's open files are looked at again before each statement. What a dump thread reads at that moment the server
//!   keeps by itself, too.
//!
//! # After a crash
//! A statement that was sent is the server's to finish; the next look begins with what there is.

pub mod plan;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use self::plan::{Archived, Candidate, Readers};
pub use self::plan::{Batch, MAX_BATCH_BYTES, MAX_BATCH_FILES, Reason, Verdict};
use crate::binlog::index::IndexEntry;
use crate::config::{ServerConfig, SourceConfig};
use crate::exit::{self, Exit, Failure};
use crate::gtid::GtidSet;
use crate::layout::{Sequence, SourceIdentity};
use crate::ledger::{DestinationId, FileKey, Fingerprint, KnownFile, Ledger, SourceId};
use crate::mysql::{MysqlError, Server};
use crate::watch;

/// Between two statements, so that a server's writers come to their turn.
const PAUSE: Duration = Duration::from_secs(1);

/// One source, and what is needed to judge its files.
#[derive(Debug)]
pub struct Purge<'a> {
    /// Its configuration.
    pub source: &'a SourceConfig,
    /// Its server's.
    pub server: &'a ServerConfig,
    /// Whose files.
    pub identity: &'a SourceIdentity,
    /// The source in the ledger.
    pub id: SourceId,
    /// The destinations that must have a file before it goes.
    pub required: &'a [DestinationId],
    /// What is archived.
    pub ledger: &'a Ledger,
    /// Files that were closed later than this long ago stay.
    pub keep: Duration,
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Purged {
    /// Files that the server was told to forget.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

impl Purge<'_> {
    /// Looks at every file of the index, and says what may go.
    ///
    /// # Errors
    /// When index, ledger or server cannot be asked, and when the server is not the one whose files these are.
    pub async fn look(&self, server: &mut Server, now: Timestamp) -> anyhow::Result<Vec<Verdict>> {
        let answers = server.ask().await?;
        same_server(server, answers.server_uuid(), self.identity)?;
        let listed = watch::read_index(self.source)?;
        let has_gtids = answers.variable("gtid_mode") == "ON";
        let candidates = self.candidates(&listed, has_gtids).await?;
        let readers = Readers {
            lowest_open: lowest_open(server, &listed).await?,
            replicas: self.replicas().await,
        };
        Ok(plan::plan(&candidates, &readers, self.keep, now))
    }

    /// Tells the server to forget what may go, step by step, and `told` after each.
    ///
    /// # Errors
    /// As [`look`](Self::look); what went before stays gone.
    pub async fn execute(
        &self,
        server: &mut Server,
        verdicts: &[Verdict],
        mut told: impl FnMut(&Batch),
    ) -> anyhow::Result<Purged> {
        let mut purged = Purged::default();
        for (nth, batch) in plan::batches(verdicts).iter().enumerate() {
            if nth > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let listed = watch::read_index(self.source)?;
            let up_to = listed.iter().find(|entry| entry.file_name == batch.up_to);
            let up_to = up_to.map(|entry| entry.sequence);
            let open = lowest_open(server, &listed).await?;
            // Gone already, or read from since.
            if up_to.is_none() || open.is_none() || open < up_to {
                break;
            }
            server.purge_to(&batch.up_to).await?;
            purged.files += batch.files;
            purged.bytes += batch.bytes;
            told(batch);
        }
        Ok(purged)
    }

    async fn candidates(
        &self,
        listed: &[IndexEntry],
        has_gtids: bool,
    ) -> anyhow::Result<Vec<Candidate>> {
        let from = listed.first().map_or(Sequence::MAX, |first| first.sequence);
        let known = self.ledger.known_files(self.id, from).await?;
        let mut candidates = Vec::with_capacity(listed.len());
        for (nth, entry) in listed.iter().enumerate() {
            let metadata = std::fs::metadata(&entry.path).ok();
            let found = metadata.as_ref().map(Fingerprint::of);
            let next = listed.get(nth + 1).filter(|_| has_gtids);
            candidates.push(Candidate {
                sequence: entry.sequence,
                file_name: entry.file_name.clone(),
                size: metadata.as_ref().map_or(0, std::fs::Metadata::len),
                closed: metadata.and_then(|m| Timestamp::try_from(m.modified().ok()?).ok()),
                archived: self.archived(entry.sequence, found, &known).await?,
                gtids: next.and_then(|next| previous_gtids(&next.path)),
            });
        }
        Ok(candidates)
    }

    async fn archived(
        &self,
        sequence: Sequence,
        found: Option<Fingerprint>,
        known: &BTreeMap<Sequence, KnownFile>,
    ) -> anyhow::Result<Archived> {
        let source = self.id;
        let key = FileKey { source, sequence };
        let is_committed = self
            .ledger
            .committed_at_all(key, self.required)
            .await?
            .is_some();
        let mut watermarks = Vec::new();
        for &destination in self.required {
            watermarks.push(self.ledger.watermark(source, destination).await?);
        }
        let is_below = watermarks
            .iter()
            .all(|watermark| *watermark >= Some(sequence));
        if !is_committed || !is_below || self.required.is_empty() {
            return Ok(Archived::No);
        }
        let recorded = known.get(&sequence).and_then(|known| known.fingerprint);
        Ok(if recorded.is_some() && recorded == found {
            Archived::Yes
        } else {
            Archived::Changed
        })
    }

    async fn replicas(&self) -> Vec<(String, Result<GtidSet, String>)> {
        let mut replicas = Vec::new();
        for address in &self.server.replicas {
            let mut replica = Server::replica(address, self.server);
            let received = replica.received().await;
            let received = received.map_err(|error| exit::chain(&error));
            replicas.push((address.to_string(), received));
        }
        replicas
    }
}

/// Files that another server wrote are not this one's to forget.
fn same_server(
    server: &Server,
    found: Option<uuid::Uuid>,
    identity: &SourceIdentity,
) -> Result<(), Failure> {
    if found == Some(identity.server_uuid) {
        return Ok(());
    }
    let found = found.map_or("unknown".to_owned(), |uuid| uuid.to_string());
    Err(Failure {
        message: format!(
            "{}: the server's server_uuid is {found}, that of the files is {}",
            server.name(),
            identity.server_uuid
        ),
        exit: Exit::Usage,
        hint: Some("make `index` and `mysql` of the source name the same server".to_owned()),
    })
}

/// None when no open file is in the index: then it cannot be told what is read.
async fn lowest_open(
    server: &mut Server,
    listed: &[IndexEntry],
) -> Result<Option<Sequence>, MysqlError> {
    let sequences: HashMap<&str, Sequence> = listed
        .iter()
        .map(|entry| (entry.file_name.as_str(), entry.sequence))
        .collect();
    let open = server.open_binlogs().await?;
    let names = open
        .iter()
        .filter_map(|path| Path::new(path).file_name()?.to_str());
    Ok(names.filter_map(|name| sequences.get(name)).min().copied())
}

fn previous_gtids(path: &Path) -> Option<GtidSet> {
    Some(watch::read_head(path).ok()??.previous_gtids)
}
