//! Looks at a source's server for as long as this process has the source: compares it with the archive, keeps the answer
//! where `gtide status` finds it, closes its active file when that is due, and purges where that is wished.
//!
//! # Invariants
//! - Nothing here holds up archiving: a server that is away, refuses or hangs is said once, and asked again.
//!
//! # After a crash
//! Nothing is kept that the next look does not find.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::outcome::Problem;
use super::tenure::Tenure;
use crate::archive::ObjectIdentity;
use crate::binlog::index::IndexEntry;
use crate::config::{PurgeConfig, ServerConfig, SourceConfig};
use crate::exit::{Exit, Failure};
use crate::gtid::GtidSet;
use crate::ledger::{
    ChannelReport, DestinationId, Errant, ExpiryReport, LedgerError, PurgeReport, ServerReport,
    Silence, SourceId,
};
use crate::mysql::rotation::Rotation;
use crate::mysql::standing::{self, Standing};
use crate::mysql::{Answers, Channel, MysqlError, Server, expiry};
use crate::purge::{Purge, Verdict};
use crate::watch;

/// A server is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What may go is looked for this often: every file of the index is asked for in the ledger.
const JUDGE_EVERY: Duration = Duration::from_mins(1);

/// Where `[purge] auto` is on, what may go goes this often.
const PURGE_EVERY: Duration = Duration::from_mins(5);

/// A source's server, and what was said of it.
pub(super) struct Beside {
    tenure: Arc<Tenure>,
    source: SourceConfig,
    config: ServerConfig,
    purge: PurgeConfig,
    server: Server,
    rotation: Rotation,
    purged_at: Option<tokio::time::Instant>,
    judged_at: Option<tokio::time::Instant>,
    /// What may go, as it was last looked at.
    judged: Option<PurgeReport>,
    is_silent: bool,
    /// The warnings that stand, so that each is said once.
    told: BTreeSet<String>,
}

/// The archive's GTIDs, and whether anything is on its way there.
struct Archive {
    /// None before anything is committed.
    gtids: Option<GtidSet>,
    is_idle: bool,
}

impl Beside {
    /// None where the source names no server.
    pub(super) fn new(tenure: Arc<Tenure>, source: &SourceConfig) -> Option<Self> {
        let config = source.server.clone()?;
        Some(Self {
            purge: tenure.parts.purge,
            tenure,
            source: source.clone(),
            server: Server::new(&config),
            config,
            rotation: Rotation::default(),
            purged_at: None,
            judged_at: None,
            judged: None,
            is_silent: false,
            told: BTreeSet::new(),
        })
    }

    /// Looks until `stop` fires. Dropping it between two looks is safe.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look_and_tell() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look_and_tell(&mut self) {
        let looked = self.look().await;
        let source = &self.source.name;
        match looked {
            Ok(()) => {
                if std::mem::take(&mut self.is_silent) {
                    tracing::info!(source, "the server answers again");
                }
            }
            // Of files and database others tell, who need them.
            Err(error) if !(error.is::<MysqlError>() || error.is::<Failure>()) => {
                tracing::debug!(source, error = format!("{error:#}"), "not compared");
            }
            Err(error) => {
                let problem = Problem::of(&error);
                if !self.is_silent {
                    let (error, hint) = (&problem.error, &problem.hint);
                    tracing::warn!(source, error, hint, "the server cannot be asked");
                }
                self.is_silent = true;
                let silence = Silence {
                    error: problem.error,
                    hint: problem.hint,
                    exit: problem.exit,
                    since: self.tenure.parts.clock.now(),
                };
                let ledger = &self.tenure.parts.ledger;
                // Without a database there is no status that could show it.
                let _ = ledger.set_server_silent(self.tenure.source, &silence).await;
            }
        }
    }

    /// One look, and what follows from it.
    async fn look(&mut self) -> anyhow::Result<()> {
        let before = self.archive().await?;
        let others = self.tenure.parts.ledger.servers().await?;
        let answers = self.server.ask().await?;
        self.check_identity(&answers)?;
        let after = self.archive().await?;
        let now = self.tenure.parts.clock.now();
        let standing = compare(&before, &answers, &after);
        let listed = watch::read_index(&self.source)?;
        self.judge(now).await;
        let report = ServerReport {
            version: answers.variable("version").to_owned(),
            server_uuid: self.tenure.identity.server_uuid,
            gtid_mode: answers.variable("gtid_mode").to_owned(),
            is_writable: !answers.is_on("read_only") && !answers.is_on("super_read_only"),
            gtid_executed: answers.gtid_executed.to_string(),
            waiting: standing.waiting.to_string(),
            waiting_transactions: u64::try_from(standing.waiting.count()).unwrap_or(u64::MAX),
            never_archived: standing.purged_unarchived.to_string(),
            unknown_to_server: standing.unknown_to_server.to_string(),
            channels: answers.channels.iter().map(channel_report).collect(),
            errant: self.errant(&others, &answers).await?,
            readers: u32::try_from(answers.dump_threads.len()).unwrap_or(u32::MAX),
            expiry: self.expiry(&listed, &answers, now).await?,
            purge: self.judged.clone(),
        };
        self.warn(&report);
        let ledger = &self.tenure.parts.ledger;
        ledger
            .set_server_report(self.tenure.source, &report, now)
            .await?;
        self.rotate(&listed, now).await?;
        self.purge(now).await
    }

    /// Up to where everything is committed at every required destination, in GTIDs.
    async fn archive(&self) -> Result<Archive, LedgerError> {
        let (ledger, source) = (&self.tenure.parts.ledger, self.tenure.source);
        let mut gtids: Option<GtidSet> = None;
        let mut is_first = true;
        for destination in self.tenure.parts.required_ids() {
            let head = ledger.chain_head(source, destination).await?;
            let here = head.and_then(|head| head.gtids?.parse::<GtidSet>().ok());
            gtids = match (gtids, here) {
                (_, here) if is_first => here,
                (Some(gtids), Some(here)) => Some(gtids.intersect(&here)),
                _ => None,
            };
            is_first = false;
        }
        Ok(Archive {
            gtids,
            is_idle: self.tenure.parts.queued(source).await? == 0,
        })
    }

    fn check_identity(&self, answers: &Answers) -> Result<(), Failure> {
        let files = self.tenure.identity.server_uuid;
        match answers.server_uuid() {
            Some(server) if server == files => Ok(()),
            found => Err(Failure {
                message: format!(
                    "{}: its server_uuid is {}, that of the files is {files}",
                    self.server.name(),
                    found.map_or("unknown".to_owned(), |uuid| uuid.to_string()),
                ),
                exit: Exit::Usage,
                hint: Some(
                    "make `index` and `mysql` of the source name the same server".to_owned(),
                ),
            }),
        }
    }

    /// What the replicas of this server have that it has not, where this archiver or one beside it asks them, too. Their
    /// answers were read before this server's: `others`.
    async fn errant(
        &self,
        others: &[crate::ledger::ServerState],
        answers: &Answers,
    ) -> Result<Vec<Errant>, LedgerError> {
        let ours = self.tenure.identity.server_uuid.to_string();
        let mut errant = Vec::new();
        for other in others {
            let Some((_, report)) = &other.answer else {
                continue;
            };
            let replicates = |channel: &ChannelReport| channel.source_uuid == ours;
            if other.source == self.tenure.source || !report.channels.iter().any(replicates) {
                continue;
            }
            let Ok(executed) = report.gtid_executed.parse::<GtidSet>() else {
                continue;
            };
            let stray = standing::errant(&executed, &answers.gtid_executed);
            if !stray.is_empty() {
                errant.push(Errant {
                    replica: self.name_of(other.source).await?,
                    gtids: stray.to_string(),
                });
            }
        }
        Ok(errant)
    }

    async fn name_of(&self, id: SourceId) -> Result<String, LedgerError> {
        let sources = self.tenure.parts.ledger.sources().await?;
        let source = sources.into_iter().find(|source| source.id == id);
        Ok(source.map_or_else(|| id.to_string(), |source| source.name))
    }

    /// The oldest closed file that is not archived, and when the server may remove it.
    async fn expiry(
        &self,
        listed: &[IndexEntry],
        answers: &Answers,
        now: Timestamp,
    ) -> Result<Option<ExpiryReport>, LedgerError> {
        let watermark = self.tenure.watermark().await?;
        let closed = listed.split_last().map_or(listed, |(_, closed)| closed);
        let oldest = closed.iter().find(|entry| Some(entry.sequence) > watermark);
        let (Some(oldest), Some(keeps)) = (oldest, answers.expire_after()) else {
            return Ok(None);
        };
        let written = std::fs::metadata(&oldest.path).and_then(|metadata| metadata.modified());
        let Some(written) = written.ok().and_then(|time| Timestamp::try_from(time).ok()) else {
            return Ok(None);
        };
        let expiry = expiry::of(&oldest.file_name, written, keeps, now);
        let file = ObjectIdentity {
            source: self.tenure.identity.clone(),
            sequence: oldest.sequence,
            file_name: oldest.file_name.clone(),
        };
        let pin = self.tenure.parts.spool.readable(&file, &oldest.path);
        Ok(Some(ExpiryReport {
            file_name: expiry.file_name,
            at: expiry.at,
            in_danger: expiry.in_danger,
            is_pinned: pin != oldest.path,
        }))
    }

    /// Says what is wrong, once for as long as it lasts.
    fn warn(&mut self, report: &ServerReport) {
        let mut now = BTreeSet::new();
        for warning in report.warnings() {
            if !self.told.contains(&warning.key) {
                let (error, hint) = (&warning.message, &warning.hint);
                tracing::error!(source = self.source.name, error, hint, "the server");
            }
            now.insert(warning.key);
        }
        self.told = now;
    }

    async fn rotate(&mut self, listed: &[IndexEntry], now: Timestamp) -> anyhow::Result<()> {
        let (Some(max_rpo), Some(active)) = (self.config.max_rpo, listed.last()) else {
            return Ok(());
        };
        let Some(head) = watch::read_head(&active.path)? else {
            return Ok(());
        };
        let name = &active.file_name;
        if self
            .rotation
            .is_due(name, head.is_empty, max_rpo, LOOK_EVERY, now)
        {
            self.server.flush_binary_logs().await?;
            tracing::info!(
                source = self.source.name,
                file = name,
                "closed, as `max-rpo` wants it"
            );
        }
        Ok(())
    }

    /// Looks at what may go, when that is due. What cannot be told is told so: only who purges needs the rights for it.
    async fn judge(&mut self, now: Timestamp) {
        if self.judged_at.is_some_and(|at| at.elapsed() < JUDGE_EVERY) {
            return;
        }
        self.judged_at = Some(tokio::time::Instant::now());
        let required = self.tenure.parts.required_ids();
        let purge = asked(&self.tenure, &self.source, &self.config, &required);
        let verdicts = purge.look(&mut self.server, now).await;
        self.judged = Some(match verdicts {
            Ok(verdicts) => purge_report(&verdicts, now),
            Err(error) => PurgeReport {
                up_to: None,
                files: 0,
                bytes: 0,
                stays: format!("it cannot be told what may go: {error:#}"),
                at: now,
            },
        });
    }

    async fn purge(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let is_due = self.purged_at.is_none_or(|at| at.elapsed() >= PURGE_EVERY);
        if !self.purge.auto || !is_due {
            return Ok(());
        }
        self.purged_at = Some(tokio::time::Instant::now());
        let required = self.tenure.parts.required_ids();
        let purge = asked(&self.tenure, &self.source, &self.config, &required);
        let verdicts = purge.look(&mut self.server, now).await?;
        let source = &self.source.name;
        let told = |batch: &crate::purge::Batch| {
            let (files, bytes, up_to) = (batch.files, batch.bytes, &batch.up_to);
            tracing::info!(source, files, bytes, up_to, "archived binary logs purged");
        };
        purge.execute(&mut self.server, &verdicts, told).await?;
        Ok(())
    }
}

fn asked<'a>(
    tenure: &'a Tenure,
    source: &'a SourceConfig,
    server: &'a ServerConfig,
    required: &'a [DestinationId],
) -> Purge<'a> {
    Purge {
        source,
        server,
        identity: &tenure.identity,
        id: tenure.source,
        required,
        ledger: &tenure.parts.ledger,
        keep: tenure.parts.purge.keep,
    }
}

fn purge_report(verdicts: &[Verdict], now: Timestamp) -> PurgeReport {
    let goes = verdicts.iter().take_while(|file| file.kept.is_none());
    let stays = verdicts.iter().find_map(|file| {
        let reason = file.kept.as_ref()?;
        Some(format!("{}: {reason}", file.file_name))
    });
    PurgeReport {
        up_to: goes.clone().last().map(|file| file.file_name.clone()),
        files: goes.clone().count() as u64,
        bytes: goes.map(|file| file.size).sum(),
        stays: stays.unwrap_or_else(|| "the server has no file".to_owned()),
        at: now,
    }
}

/// Before anything is archived nothing can be missing: the archive begins with what the server still has.
fn compare(before: &Archive, answers: &Answers, after: &Archive) -> Standing {
    let (executed, purged) = (&answers.gtid_executed, &answers.gtid_purged);
    let (Some(archived_before), Some(archived_after)) = (&before.gtids, &after.gtids) else {
        return Standing {
            waiting: executed.subtract(purged),
            ..Standing::default()
        };
    };
    let mut standing = standing::compare(archived_before, executed, purged, archived_after);
    if !(before.is_idle && after.is_idle) {
        // A pin holds it, and it is on its way.
        standing.purged_unarchived = GtidSet::new();
    }
    standing
}

fn channel_report(channel: &Channel) -> ChannelReport {
    let errors = [&channel.receiver_error, &channel.applier_error];
    let error = errors.into_iter().find(|error| !error.is_empty());
    ChannelReport {
        name: channel.name.clone(),
        from: channel.source.clone(),
        source_uuid: channel.source_uuid.clone(),
        receiver: channel.receiver.clone(),
        applier: channel.applier.clone(),
        error: error.cloned(),
        lag_seconds: channel
            .lag_micros
            .map(|micros| u64::try_from(micros / 1_000_000).unwrap_or(0)),
    }
}
