//! All that the console shows, at one moment: a plain value, which is also how it is recorded and replayed.
//!
//! # Limits
//! A fixed number of statements (one more for each route with gaps), none of which looks at what is archived long since.
//! What is counted file by file ends at [`MAX_FILES_COUNTED`] for each route; of a lane the first [`HEADS_PER_LANE`]
//! files are shown, and of lanes the first [`MAX_LANES_SHOWN`]. Each part is read by itself: while files are being
//! committed, parts may be a moment apart.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AgentReport, DestinationId, JobStatus, LaneName, LastFailure, Ledger, LedgerError, Pause,
    ServerState, SourceId,
};
use crate::exit::Exit;
use crate::layout::{Sequence, SourceIdentity};
use crate::parity::report::ParityPicture;

mod heads;
mod routes;

/// The version of a recorded picture. Bump it with any change that an older console would misread.
pub const PICTURE_VERSION: u32 = 1;

/// Files behind a route's head that are counted one by one; more are told as "at least".
pub const MAX_FILES_COUNTED: u64 = 1_000;

/// Files of each lane that are shown, from its head on.
pub const HEADS_PER_LANE: u32 = 4;

/// Lanes whose heads are shown.
pub const MAX_LANES_SHOWN: usize = 1_024;

/// The queue, the retries and the watermarks at one moment. Stored as JSON; additive changes only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// [`PICTURE_VERSION`] of the program that took it.
    pub version: u32,
    /// When.
    pub taken: Timestamp,
    /// Of which database, without password.
    pub database: String,
    /// By name, then incarnation.
    pub sources: Vec<SourcePicture>,
    /// Lanes with jobs, by name.
    pub lanes: Vec<LanePicture>,
    /// Archivers at work.
    pub agents: Vec<AgentPicture>,
    /// What stands still.
    pub troubles: Vec<TroublePicture>,
    /// What a person stopped.
    pub pauses: Vec<Pause>,
    /// What the servers beside the archive said last, by source.
    #[serde(default)]
    pub servers: Vec<ServerState>,
    /// Parallel runs, by source. They cost more to read than all else: [`Ledger::picture`] leaves them out, and who shows
    /// them adds what [`parity::report::pictures`](crate::parity::report::pictures) says.
    #[serde(default)]
    pub parity: Vec<ParityPicture>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePicture {
    /// Its id in this ledger.
    pub id: SourceId,
    /// As last configured.
    pub name: String,
    /// What it is.
    pub identity: SourceIdentity,
    /// The newest file that was found.
    pub newest: Option<Sequence>,
    /// Each destination that it has commits or jobs for, by URL.
    pub routes: Vec<RoutePicture>,
}

/// One source at one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePicture {
    /// Its id in this ledger.
    pub destination: DestinationId,
    /// Its URL.
    pub url: String,
    /// How far it is archived; none before the first commit.
    pub position: Option<Position>,
    /// What is missing between committed files: first and last of each run.
    pub gaps: Vec<(Sequence, Sequence)>,
    /// Files behind the head.
    pub backlog: Backlog,
    /// What was committed lately.
    pub recent: Recent,
    /// Jobs that are not done.
    pub queued: u64,
}

/// How far a route is archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The first committed file.
    pub first: Sequence,
    /// Every file from the first up to this one is committed.
    pub watermark: Sequence,
    /// Its name, while the ledger knows it.
    pub file_name: Option<String>,
    /// Commit time of the last transaction up to its end, as far as a thousand files back.
    pub through: Option<Timestamp>,
    /// The last committed file, gaps below it or not.
    pub head: Sequence,
    /// When that was committed.
    pub committed_at: Option<Timestamp>,
    /// All GTIDs up to its end.
    pub gtids: Option<String>,
}

/// Files that wait behind a route's head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// How many; [`MAX_FILES_COUNTED`] stands for that many or more.
    pub files: u64,
    /// Bytes in those that were counted.
    pub bytes: u64,
    /// When the first of them was found.
    pub since: Option<Timestamp>,
}

/// What was committed within `seconds`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// How many files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Within how long.
    pub seconds: u64,
}

/// One lane that has jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePicture {
    /// Which.
    pub name: LaneName,
    /// Jobs in it.
    pub queued: u64,
    /// The first of them, in order.
    pub heads: Vec<JobPicture>,
}

/// One file on its way to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPicture {
    /// Which file.
    pub sequence: Sequence,
    /// Its name, while the ledger knows it.
    pub file_name: Option<String>,
    /// Its size, while the ledger knows it.
    pub size: Option<u64>,
    /// What the queue does with it.
    pub status: JobStatus,
    /// A sealed object of it is in the spool.
    pub sealed: bool,
    /// An upload in parts was begun.
    pub uploading: bool,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not before.
    pub run_at: Timestamp,
    /// When the attempt under way began.
    pub began: Option<Timestamp>,
    /// When the last attempt ended.
    pub ended: Option<Timestamp>,
    /// Why the last attempt failed, if one did.
    pub failure: Option<LastFailure>,
}

/// An archiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPicture {
    /// When it reported last.
    pub seen: Timestamp,
    /// What it reported.
    pub report: AgentReport,
}

/// A source, or a source with one destination, that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroublePicture {
    /// The archiver's key.
    pub agent: String,
    /// As configured there.
    pub source: String,
    /// The destination's URL, where it is about one.
    pub destination: Option<String>,
    /// The error with its causes.
    pub error: String,
    /// What to check or run.
    pub hint: Option<String>,
    /// The exit code that it calls for.
    pub exit: Exit,
    /// When it began.
    pub since: Timestamp,
}

impl Ledger {
    /// All that the console shows.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn picture(&self, now: Timestamp) -> Result<Picture, LedgerError> {
        let lanes = self.queued_by_lane().await?;
        let troubles = self.troubles().await?;
        let agents = self.agents().await?;
        Ok(Picture {
            version: PICTURE_VERSION,
            taken: now,
            database: self.name().to_owned(),
            sources: self.source_pictures(&lanes, now).await?,
            lanes: self.lane_pictures(&lanes).await?,
            agents: agents
                .into_iter()
                .map(|agent| AgentPicture {
                    seen: agent.seen,
                    report: agent.report,
                })
                .collect(),
            troubles: troubles
                .into_iter()
                .map(|(scope, trouble)| TroublePicture {
                    agent: scope.agent,
                    source: scope.source_name,
                    destination: scope.destination,
                    error: trouble.error,
                    hint: trouble.hint,
                    exit: trouble.exit,
                    since: trouble.since,
                })
                .collect(),
            pauses: self.pauses().await?,
            servers: self.servers().await?,
            parity: Vec::new(),
        })
    }
}

impl Picture {
    /// Sources, lanes and destinations by what they are called.
    pub fn source(&self, id: SourceId) -> Option<&SourcePicture> {
        self.sources.iter().find(|source| source.id == id)
    }

    /// The lanes that a pause of this picture stops.
    pub fn paused_lanes(&self) -> BTreeSet<LaneName> {
        let names = self.lanes.iter().map(|lane| lane.name);
        let is_paused = |lane: &LaneName| self.pauses.iter().any(|p| p.scope.contains(*lane));
        names.filter(is_paused).collect()
    }
}
