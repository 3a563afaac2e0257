//! How far each source is archived at each destination, what waits there, and how fast it goes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Backlog, MAX_FILES_COUNTED, Position, Recent, RoutePicture, SourcePicture};
use crate::layout::Sequence;
use crate::ledger::{
    DestinationId, LaneName, Ledger, LedgerError, Route, Source, SourceId, on, stored, time,
    unsigned,
};

/// Gaps of a route that are shown.
const MAX_GAPS_SHOWN: usize = 16;

/// What counts as recent for a rate.
const RECENT: SignedDuration = SignedDuration::from_mins(5);

/// Commits of a route that a rate is made of, at most.
const RECENT_FILES: u64 = 64;

impl Ledger {
    pub(super) async fn source_pictures(
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

// The last transaction need not be in the last file: as for `CHAIN_HEAD`, a thousand are looked through.
const POSITIONS: &str =
    "SELECT p.source, p.destination, p.first, p.watermark, p.head, p.head_gtids,
       (SELECT f.name FROM files f
        WHERE f.source = p.source AND f.sequence = p.watermark) AS name,
       (SELECT c.last_commit FROM commits c WHERE c.source = p.source
        AND c.destination = p.destination
        AND c.sequence BETWEEN p.watermark - 1000 AND p.watermark
        AND c.last_commit IS NOT NULL ORDER BY c.sequence DESC LIMIT 1) AS through,
       (SELECT c.committed_at FROM commits c WHERE c.source = p.source
        AND c.destination = p.destination AND c.sequence = p.head) AS committed_at
     FROM positions p";

// A range of sequences bounds both: they are looked up by the primary key, however many are archived.

const BACKLOGS: &str = "SELECT r.source, r.destination, count(*) AS files,
       CAST(sum(f.size) AS bigint) AS bytes, min(f.discovered_at) AS since
     FROM (SELECT s.id AS source, d.id AS destination, coalesce(
         (SELECT p.head FROM positions p WHERE p.source = s.id AND p.destination = d.id),
         (SELECT min(l.sequence) - 1 FROM files l WHERE l.source = s.id)) AS head
       FROM sources s CROSS JOIN destinations d) AS r
     CROSS JOIN files f
     WHERE f.source = r.source AND f.sequence > r.head AND f.sequence <= r.head + $1
     GROUP BY r.source, r.destination";

const RECENTS: &str = "SELECT p.source, p.destination, count(*) AS files,
       CAST(sum(c.size) AS bigint) AS bytes, min(c.committed_at) AS since
     FROM positions p CROSS JOIN commits c
     WHERE c.source = p.source AND c.destination = p.destination
       AND c.sequence > p.head - $1 AND c.sequence <= p.head AND c.committed_at >= $2
     GROUP BY p.source, p.destination";
