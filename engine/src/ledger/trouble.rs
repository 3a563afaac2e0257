//! What keeps a configured source from being watched at all: for status and console.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Ledger, LedgerError, on, storable, time};
use crate::exit::Exit;

/// Why a source stands still. By its configured name: whose files they are may be unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The error with its causes.
    pub error: String,
    /// What to check or run.
    pub hint: Option<String>,
    /// The exit code that it calls for.
    pub exit: Exit,
    /// When it began.
    pub since: Timestamp,
}

/// Whose trouble it is: a source's, or a source's with one destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TroubleScope {
    /// The archiver's key ([`agent_key`](super::agent_key)): two of a fleet may call different servers alike.
    pub agent: String,
    /// As configured there.
    pub source_name: String,
    /// The destination's URL, where it is about one.
    pub destination: Option<String>,
}

impl Ledger {
    /// Records a source's trouble, or that it is over. The same trouble again keeps its beginning.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn set_trouble(
        &self,
        scope: &TroubleScope,
        trouble: Option<&Trouble>,
    ) -> Result<(), LedgerError> {
        let destination = scope.destination.as_deref().unwrap_or_default();
        let mut tx = self.begin().await?;
        let done = match trouble {
            None => on!(tx, |db| {
                sqlx::query(
                    "DELETE FROM troubles WHERE agent = $1 AND source_name = $2 AND destination = $3",
                )
                .bind(&scope.agent)
                .bind(&scope.source_name)
                .bind(destination)
                .execute(db)
                    .await
                    .map(|_| ())
            }),
            Some(trouble) => {
                let exit = serde_json::to_string(&trouble.exit);
                let exit = exit.map_err(|e| LedgerError::damaged("an exit code", &e))?;
                on!(tx, |db| {
                    sqlx::query(
                        "INSERT INTO troubles
                           (agent, source_name, destination, error, hint, exit, since)
                         VALUES ($1, $2, $3, $4, $5, $6, $7)
                         ON CONFLICT (agent, source_name, destination) DO UPDATE SET
                           since = CASE WHEN troubles.error = excluded.error
                             THEN troubles.since ELSE excluded.since END,
                           error = excluded.error, hint = excluded.hint, exit = excluded.exit",
                    )
                    .bind(&scope.agent)
                    .bind(&scope.source_name)
                    .bind(destination)
                    .bind(storable(&trouble.error))
                    .bind(trouble.hint.as_deref().map(storable))
                    .bind(&exit)
                    .bind(trouble.since.as_microsecond())
                    .execute(db)
                    .await
                    .map(|_| ())
                })
            }
        };
        done.map_err(LedgerError::database("record a source's trouble"))?;
        tx.commit().await
    }

    /// What stands still, and why.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn troubles(&self) -> Result<BTreeMap<TroubleScope, Trouble>, LedgerError> {
        let rows: Vec<Row> = on!(self, |db| {
            sqlx::query_as(
                "SELECT agent, source_name, destination, error, hint, exit, since FROM troubles",
            )
            .fetch_all(db)
            .await
        })
        .map_err(LedgerError::database("list the sources in trouble"))?;
        rows.into_iter().map(Row::read).collect()
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    agent: String,
    source_name: String,
    destination: String,
    error: String,
    hint: Option<String>,
    exit: String,
    since: i64,
}

impl Row {
    fn read(self) -> Result<(TroubleScope, Trouble), LedgerError> {
        let scope = TroubleScope {
            agent: self.agent,
            source_name: self.source_name,
            destination: Some(self.destination).filter(|url| !url.is_empty()),
        };
        let exit = serde_json::from_str(&self.exit);
        let trouble = Trouble {
            error: self.error,
            hint: self.hint,
            exit: exit.map_err(|e| LedgerError::damaged("an exit code", &e))?,
            since: time(self.since, "a trouble's beginning")?,
        };
        Ok((scope, trouble))
    }
}
