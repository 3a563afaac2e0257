//! All that the console shows, at one moment: a plain value, which is also how it is recorded and replayed.
//!
//! # Limits
//! A fixed number of statements (one more for each route with gaps), none of which looks at what is archived long since.
//! What is counted file by file ends at [`MAX_FILES_COUNTED`] for each route; of a lane the first [`HEADS_PER_LANE`]
//! files are shown, and of lanes the first [`MAX_LANES_SHOWN`]. Each part is read by itself: while files are being
//! committed, parts may be a moment apart.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    AgentReport, DestinationId, LaneName, LastFailure, Ledger, LedgerError, Pause, Source,
    SourceId, on, stored, time, unsigned,
};
use crate::exit::Exit;
use crate::layout::{Sequence, SourceIdentity};
use crate::ledger::{JobStatus, Route};

mod heads;

/// The version of a recorded picture. Bump it with any change that an older console would misread.
pub const PICTURE_VERSION: u32 = 1;

/// Files behind a route's head that are counted one by one; more are told as "at least".
pub const MAX_FILES_COUNTED: u64 = 1_000;

/// Files of each lane that are shown, from its head on.
pub const HEADS_PER_LANE: u32 = 4;

/// Lanes whose heads are shown.
pub const MAX_LANES_SHOWN: usize = 1_024;

/// Gaps of a route that are shown.
const MAX_GAPS_SHOWN: usize = 16;

/// What counts as recent for a rate.
const RECENT: SignedDuration = SignedDuration::from_mins(5);

/// Commits of a route that a rate is made of, at most.
const RECENT_FILES: u64 = 64;

/// The queue, the retries and the watermarks at one moment. Stored as JSON; additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Commit time of the last transaction in it, if it has one.
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
        })
    }

    async fn source_pictures(
        &self,
        lanes: &BTreeMap<LaneName, u64>,
        now: Timestamp,
    ) -> Result<Vec<SourcePicture>, LedgerError> {
        let destinations = self.destinations().await?;
        let newest = self.newest_files().await?;
        let mut parts = Parts {
            queued: BTreeMap::new(),
            positions: self.positions().await?,
            backlogs: self.backlogs().await?,
            recents: self.recents(now).await?,
        };
        for (lane, count) in lanes {
            *parts.queued.entry(lane.route).or_default() += count;
        }
        let mut sources = Vec::new();
        for source in self.sources().await? {
            let mut routes = Vec::new();
            for destination in &destinations {
                let route = Route {
                    source: source.id,
                    destination: destination.id,
                };
                let Some(mut picture) = parts.take(route, &destination.url) else {
                    continue;
                };
                if picture.has_gaps() {
                    let gaps = self.gaps(route.source, route.destination).await?;
                    let gaps = gaps.iter().take(MAX_GAPS_SHOWN);
                    picture.gaps = gaps.map(|gap| (*gap.start(), *gap.end())).collect();
                }
                routes.push(picture);
            }
            let newest = newest.get(&source.id).copied();
            sources.push(SourcePicture::new(source, newest, routes));
        }
        Ok(sources)
    }

    async fn positions(&self) -> Result<BTreeMap<Route, Position>, LedgerError> {
        let rows: Vec<PositionRow> = on!(self, |db| sqlx::query_as(POSITIONS).fetch_all(db).await)
            .map_err(LedgerError::database("read how far all is archived"))?;
        rows.into_iter().map(PositionRow::read).collect()
    }

    async fn backlogs(&self) -> Result<BTreeMap<Route, Backlog>, LedgerError> {
        let rows: Vec<SumRow> = on!(self, |db| {
            sqlx::query_as(BACKLOGS)
                .bind(stored(MAX_FILES_COUNTED))
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("count what waits"))?;
        rows.into_iter()
            .map(|row| {
                let backlog = Backlog {
                    files: unsigned(row.files, "a count")?,
                    bytes: unsigned(row.bytes, "a size")?,
                    since: Some(time(row.since, "a file's time of discovery")?),
                };
                Ok((row.route()?, backlog))
            })
            .collect()
    }

    async fn recents(&self, now: Timestamp) -> Result<BTreeMap<Route, Recent>, LedgerError> {
        let begin = now.saturating_sub(RECENT).unwrap_or(Timestamp::MIN);
        let rows: Vec<SumRow> = on!(self, |db| {
            sqlx::query_as(RECENTS)
                .bind(stored(RECENT_FILES))
                .bind(begin.as_microsecond())
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("look at the last commits"))?;
        rows.into_iter()
            .map(|row| {
                let files = unsigned(row.files, "a count")?;
                // With the most that is looked at, more may have been committed: it began with the first of these.
                let begin = if files < RECENT_FILES {
                    begin
                } else {
                    time(row.since, "a commit's time")?
                };
                let recent = Recent {
                    files,
                    bytes: unsigned(row.bytes, "a size")?,
                    seconds: u64::try_from(now.duration_since(begin).as_secs()).unwrap_or(0),
                };
                Ok((row.route()?, recent))
            })
            .collect()
    }
}

/// What the routes' pictures are put together from.
struct Parts {
    queued: BTreeMap<Route, u64>,
    positions: BTreeMap<Route, Position>,
    backlogs: BTreeMap<Route, Backlog>,
    recents: BTreeMap<Route, Recent>,
}

impl Parts {
    /// None for a route that never had anything to do.
    fn take(&mut self, route: Route, url: &str) -> Option<RoutePicture> {
        let position = self.positions.remove(&route);
        let queued = self.queued.remove(&route).unwrap_or(0);
        if position.is_none() && queued == 0 {
            return None;
        }
        Some(RoutePicture {
            destination: route.destination,
            url: url.to_owned(),
            position,
            gaps: Vec::new(),
            backlog: self.backlogs.remove(&route).unwrap_or_default(),
            recent: self.recents.remove(&route).unwrap_or_default(),
            queued,
        })
    }
}

impl SourcePicture {
    fn new(source: Source, newest: Option<Sequence>, routes: Vec<RoutePicture>) -> Self {
        Self {
            id: source.id,
            name: source.name,
            identity: source.identity,
            newest,
            routes,
        }
    }
}

impl RoutePicture {
    fn has_gaps(&self) -> bool {
        let position = self.position.as_ref();
        position.is_some_and(|position| position.watermark < position.head)
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

#[derive(sqlx::FromRow)]
struct PositionRow {
    source: i64,
    destination: i64,
    first: i64,
    watermark: i64,
    head: i64,
    head_gtids: Option<String>,
    name: Option<String>,
    through: Option<i64>,
    committed_at: Option<i64>,
}

impl PositionRow {
    fn read(self) -> Result<(Route, Position), LedgerError> {
        let sequence = |value| unsigned(value, "a sequence").map(Sequence);
        let moment = |value: Option<i64>| value.map(|at| time(at, "a commit's time")).transpose();
        let route = Route {
            source: SourceId::read(self.source)?,
            destination: DestinationId::read(self.destination)?,
        };
        let position = Position {
            first: sequence(self.first)?,
            watermark: sequence(self.watermark)?,
            file_name: self.name,
            through: moment(self.through)?,
            head: sequence(self.head)?,
            committed_at: moment(self.committed_at)?,
            gtids: self.head_gtids,
        };
        Ok((route, position))
    }
}

#[derive(sqlx::FromRow)]
struct SumRow {
    source: i64,
    destination: i64,
    files: i64,
    bytes: i64,
    since: i64,
}

impl SumRow {
    fn route(&self) -> Result<Route, LedgerError> {
        Ok(Route {
            source: SourceId::read(self.source)?,
            destination: DestinationId::read(self.destination)?,
        })
    }
}

pub(super) const POSITIONS: &str =
    "SELECT p.source, p.destination, p.first, p.watermark, p.head, p.head_gtids,
       (SELECT f.name FROM files f
        WHERE f.source = p.source AND f.sequence = p.watermark) AS name,
       (SELECT c.last_commit FROM commits c WHERE c.source = p.source
        AND c.destination = p.destination AND c.sequence = p.watermark) AS through,
       (SELECT c.committed_at FROM commits c WHERE c.source = p.source
        AND c.destination = p.destination AND c.sequence = p.head) AS committed_at
     FROM positions p";

// A range of sequences bounds both: they are looked up by the primary key, however many are archived.

pub(super) const BACKLOGS: &str = "SELECT r.source, r.destination, count(*) AS files,
       CAST(sum(f.size) AS bigint) AS bytes, min(f.discovered_at) AS since
     FROM (SELECT s.id AS source, d.id AS destination, coalesce(
         (SELECT p.head FROM positions p WHERE p.source = s.id AND p.destination = d.id),
         (SELECT min(l.sequence) - 1 FROM files l WHERE l.source = s.id)) AS head
       FROM sources s CROSS JOIN destinations d) AS r
     CROSS JOIN files f
     WHERE f.source = r.source AND f.sequence > r.head AND f.sequence <= r.head + $1
     GROUP BY r.source, r.destination";

pub(super) const RECENTS: &str = "SELECT p.source, p.destination, count(*) AS files,
       CAST(sum(c.size) AS bigint) AS bytes, min(c.committed_at) AS since
     FROM positions p CROSS JOIN commits c
     WHERE c.source = p.source AND c.destination = p.destination
       AND c.sequence > p.head - $1 AND c.sequence <= p.head AND c.committed_at >= $2
     GROUP BY p.source, p.destination";
