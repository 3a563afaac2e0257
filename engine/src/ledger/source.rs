//! Sources and destinations: short ids for long identities.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Ledger, LedgerError, on};
use crate::layout::SourceIdentity;

/// A source in this ledger. Never reused; another ledger may number otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub(crate) u32);

/// A destination in this ledger. Never reused; another ledger may number otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DestinationId(pub(crate) u32);

/// A source as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its id here.
    pub id: SourceId,
    /// As last configured.
    pub name: String,
    /// What it is.
    pub identity: SourceIdentity,
}

/// A destination as the ledger knows it, in the present configuration or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its id here.
    pub id: DestinationId,
    /// Its name: the URL.
    pub url: String,
}

impl SourceId {
    pub(crate) fn stored(self) -> i64 {
        self.0.into()
    }

    pub(crate) fn read(value: i64) -> Result<Self, LedgerError> {
        let id = u32::try_from(value).map_err(|_| LedgerError::damaged("a source's id", &value));
        id.map(Self)
    }
}

impl DestinationId {
    pub(crate) fn stored(self) -> i64 {
        self.0.into()
    }

    pub(crate) fn read(value: i64) -> Result<Self, LedgerError> {
        let id =
            u32::try_from(value).map_err(|_| LedgerError::damaged("a destination's id", &value));
        id.map(Self)
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Ledger {
    /// The id of a source, which is inserted when new; its name becomes `name`.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn source(
        &self,
        identity: &SourceIdentity,
        name: &str,
    ) -> Result<SourceId, LedgerError> {
        let server_uuid = identity.server_uuid.to_string();
        // Nothing is written when nothing changes: PostgreSQL would count the id up with every attempt.
        let known: Option<(i64, String)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT id, name FROM sources
                 WHERE cluster = $1 AND server_uuid = $2 AND incarnation = $3",
            )
            .bind(identity.cluster.as_str())
            .bind(&server_uuid)
            .bind(i64::from(identity.incarnation))
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("look for a source"))?;
        if let Some((id, known)) = known
            && known == name
        {
            return SourceId::read(id);
        }
        let mut tx = self.begin().await?;
        let id: i64 = on!(tx, |db| {
            sqlx::query_scalar(
                "INSERT INTO sources (cluster, server_uuid, incarnation, name)
                 VALUES ($1, $2, $3, $4)
                 ON CONFLICT (cluster, server_uuid, incarnation)
                 DO UPDATE SET name = excluded.name RETURNING id",
            )
            .bind(identity.cluster.as_str())
            .bind(&server_uuid)
            .bind(i64::from(identity.incarnation))
            .bind(name)
            .fetch_one(db)
            .await
        })
        .map_err(LedgerError::database("record a source"))?;
        tx.commit().await?;
        SourceId::read(id)
    }

    /// All sources that were ever recorded, by name, then incarnation.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn sources(&self) -> Result<Vec<Source>, LedgerError> {
        let rows: Vec<(i64, String, String, i64, String)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT id, cluster, server_uuid, incarnation, name FROM sources
                 ORDER BY name, cluster, server_uuid, incarnation",
            )
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("list sources"))?;
        rows.into_iter().map(Source::read).collect()
    }

    /// The id of a destination, which is inserted when new.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn destination(&self, url: &str) -> Result<DestinationId, LedgerError> {
        let known: Option<i64> = on!(self, |db| {
            sqlx::query_scalar("SELECT id FROM destinations WHERE url = $1")
                .bind(url)
                .fetch_optional(db)
                .await
        })
        .map_err(LedgerError::database("look for a destination"))?;
        if let Some(id) = known {
            return DestinationId::read(id);
        }
        let mut tx = self.begin().await?;
        let id: i64 = on!(tx, |db| {
            sqlx::query_scalar(
                "INSERT INTO destinations (url) VALUES ($1)
                 ON CONFLICT (url) DO UPDATE SET url = excluded.url RETURNING id",
            )
            .bind(url)
            .fetch_one(db)
            .await
        })
        .map_err(LedgerError::database("record a destination"))?;
        tx.commit().await?;
        DestinationId::read(id)
    }

    /// All destinations that were ever recorded, by URL.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn destinations(&self) -> Result<Vec<Destination>, LedgerError> {
        let rows: Vec<(i64, String)> = on!(self, |db| {
            sqlx::query_as("SELECT id, url FROM destinations ORDER BY url")
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list destinations"))?;
        rows.into_iter()
            .map(|(id, url)| DestinationId::read(id).map(|id| Destination { id, url }))
            .collect()
    }
}

impl Source {
    fn read(row: (i64, String, String, i64, String)) -> Result<Self, LedgerError> {
        let (id, cluster, server_uuid, incarnation, name) = row;
        let uuid = Uuid::parse_str(&server_uuid);
        let number = u32::try_from(incarnation);
        Ok(Self {
            id: SourceId::read(id)?,
            name,
            identity: SourceIdentity {
                cluster: cluster
                    .parse()
                    .map_err(|_| LedgerError::damaged("a cluster's name", &cluster))?,
                server_uuid: uuid
                    .map_err(|_| LedgerError::damaged("a server_uuid", &server_uuid))?,
                incarnation: number
                    .map_err(|_| LedgerError::damaged("an incarnation", &incarnation))?,
            },
        })
    }
}
