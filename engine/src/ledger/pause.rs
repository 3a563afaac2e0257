//! Lanes that a person stopped: kept until a person lets them go on, and obeyed by running archivers.
//!
//! A paused lane finishes the file that it has begun and takes no other one. What its server closes is still found and
//! pinned. A pause is an operator's wish, not state of the archive: it is gone when the ledger is rebuilt.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DestinationId, LaneName, Ledger, LedgerError, SourceId, on, storable, time};

/// Stored for every destination; ids begin at 1.
const EVERY_DESTINATION: i64 = 0;

/// Stored for every lane.
const EVERY_LANE: i64 = -1;

/// Pauses that are listed at most: a person made each of them.
const MAX_PAUSES_LISTED: u32 = 10_000;

/// A part of the queue that a person names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueScope {
    /// Whose files.
    pub source: SourceId,
    /// Those for one destination; none for all.
    pub destination: Option<DestinationId>,
    /// Those of one lane; none for all. Without a destination, this lane of each.
    pub lane: Option<u32>,
}

/// Who stopped it, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What.
    pub scope: QueueScope,
    /// By whom, for people.
    pub by: String,
    /// In that person's words.
    pub reason: Option<String>,
    /// When.
    pub since: Timestamp,
}

impl QueueScope {
    /// Whether this lane is part of it.
    pub fn contains(self, lane: LaneName) -> bool {
        self.source == lane.route.source
            && self
                .destination
                .is_none_or(|to| to == lane.route.destination)
            && self.lane.is_none_or(|number| number == lane.lane)
    }

    /// What the names of its lanes match, as SQL's LIKE reads it.
    pub(super) fn pattern(self) -> String {
        let destination = or_any(self.destination);
        let lane = or_any(self.lane);
        format!("archive/{}/{destination}/{lane}", self.source)
    }

    fn stored(self) -> [i64; 3] {
        [
            self.source.stored(),
            self.destination
                .map_or(EVERY_DESTINATION, DestinationId::stored),
            self.lane.map_or(EVERY_LANE, i64::from),
        ]
    }

    fn read(source: i64, destination: i64, lane: i64) -> Result<Self, LedgerError> {
        let destination = Some(destination).filter(|id| *id != EVERY_DESTINATION);
        let lane = Some(lane).filter(|lane| *lane != EVERY_LANE);
        let number = |lane| u32::try_from(lane).map_err(|_| LedgerError::damaged("a lane", &lane));
        Ok(Self {
            source: SourceId::read(source)?,
            destination: destination.map(DestinationId::read).transpose()?,
            lane: lane.map(number).transpose()?,
        })
    }
}

/// Ids and numbers are digits, and a slash follows: `%` can match nothing but one of them.
fn or_any(part: Option<impl fmt::Display>) -> String {
    part.map_or("%".to_owned(), |part| part.to_string())
}

impl From<SourceId> for QueueScope {
    /// All that concerns a source.
    fn from(source: SourceId) -> Self {
        Self {
            source,
            destination: None,
            lane: None,
        }
    }
}

impl From<LaneName> for QueueScope {
    fn from(lane: LaneName) -> Self {
        Self {
            source: lane.route.source,
            destination: Some(lane.route.destination),
            lane: Some(lane.lane),
        }
    }
}

impl Ledger {
    /// Stops a part of the queue. Running archivers obey within seconds, others when they start. A pause that is
    /// there already keeps its beginning; its author and reason become the new ones.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn pause(&self, pause: &Pause) -> Result<(), LedgerError> {
        let [source, destination, lane] = pause.scope.stored();
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query(
                "INSERT INTO pauses (source, destination, lane, paused_by, reason, since)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (source, destination, lane) DO UPDATE SET
                   paused_by = excluded.paused_by, reason = excluded.reason",
            )
            .bind(source)
            .bind(destination)
            .bind(lane)
            .bind(storable(&pause.by))
            .bind(pause.reason.as_deref().map(storable))
            .bind(pause.since.as_microsecond())
            .execute(db)
            .await
            .map(|_| ())
        });
        done.map_err(LedgerError::database("record a pause"))?;
        tx.commit().await
    }

    /// Takes back every pause within this part of the queue; one of a larger part stays. Returns how many there were.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn resume(&self, scope: QueueScope) -> Result<u64, LedgerError> {
        let [source, destination, lane] = scope.stored();
        let mut tx = self.begin().await?;
        let done = on!(tx, |db| {
            sqlx::query(
                "DELETE FROM pauses WHERE source = $1
                   AND ($2 = 0 OR destination = $2) AND ($3 = -1 OR lane = $3)",
            )
            .bind(source)
            .bind(destination)
            .bind(lane)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
        });
        let resumed = done.map_err(LedgerError::database("take back a pause"))?;
        tx.commit().await?;
        Ok(resumed)
    }

    /// What is paused, by source, destination and lane.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn pauses(&self) -> Result<Vec<Pause>, LedgerError> {
        let rows: Vec<(i64, i64, i64, String, Option<String>, i64)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT source, destination, lane, paused_by, reason, since FROM pauses
                 ORDER BY source, destination, lane LIMIT $1",
            )
            .bind(i64::from(MAX_PAUSES_LISTED))
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("list pauses"))?;
        rows.into_iter()
            .map(|(source, destination, lane, by, reason, since)| {
                Ok(Pause {
                    scope: QueueScope::read(source, destination, lane)?,
                    by,
                    reason,
                    since: time(since, "a pause's beginning")?,
                })
            })
            .collect()
    }

    /// Whether a lane is paused, by itself or with its source: one look at the primary key.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn is_paused(&self, lane: LaneName) -> Result<bool, LedgerError> {
        let [source, destination, number] = QueueScope::from(lane).stored();
        let paused = on!(self, |db| {
            sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM pauses WHERE source = $1
                   AND destination IN (0, $2) AND lane IN (-1, $3))",
            )
            .bind(source)
            .bind(destination)
            .bind(number)
            .fetch_one(db)
            .await
        });
        paused.map_err(LedgerError::database("look for a pause"))
    }
}
