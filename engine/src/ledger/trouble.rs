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

/// Under which a source's trouble with one destination is kept; trouble of the source itself is kept under its name.
pub fn trouble_key(source_name: &str, url: &str) -> String {
    format!("{source_name}@{url}")
}

/// What [`trouble_key`] was made of: a source's name and, where it is about one, the destination's URL.
pub fn read_trouble_key(key: &str) -> (&str, Option<&str>) {
    let scheme = key.find("://").and_then(|at| key.get(..at));
    match scheme.and_then(|before| before.rfind('@')) {
        Some(at) => (key.get(..at).unwrap_or_default(), key.get(at + 1..)),
        None => (key, None),
    }
}

impl Ledger {
    /// Records a source's trouble, or that it is over. The same trouble again keeps its beginning.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn set_trouble(
        &self,
        source_name: &str,
        trouble: Option<&Trouble>,
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let done = match trouble {
            None => on!(tx, |db| {
                sqlx::query("DELETE FROM troubles WHERE source_name = $1")
                    .bind(source_name)
                    .execute(db)
                    .await
                    .map(|_| ())
            }),
            Some(trouble) => {
                let exit = serde_json::to_string(&trouble.exit);
                let exit = exit.map_err(|e| LedgerError::damaged("an exit code", &e))?;
                on!(tx, |db| {
                    sqlx::query(
                        "INSERT INTO troubles (source_name, error, hint, exit, since)
                         VALUES ($1, $2, $3, $4, $5)
                         ON CONFLICT (source_name) DO UPDATE SET
                           since = CASE WHEN troubles.error = excluded.error
                             THEN troubles.since ELSE excluded.since END,
                           error = excluded.error, hint = excluded.hint, exit = excluded.exit",
                    )
                    .bind(source_name)
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

    /// The sources that stand still, by their configured names.
    ///
    /// # Errors
    /// [`LedgerError::Database`], [`LedgerError::Damaged`].
    pub async fn troubles(&self) -> Result<BTreeMap<String, Trouble>, LedgerError> {
        type Row = (String, String, Option<String>, String, i64);
        let rows: Vec<Row> = on!(self, |db| {
            sqlx::query_as("SELECT source_name, error, hint, exit, since FROM troubles")
                .fetch_all(db)
                .await
        })
        .map_err(LedgerError::database("list the sources in trouble"))?;
        rows.into_iter()
            .map(|(name, error, hint, exit, since)| {
                let since = time(since, "a trouble's beginning")?;
                let exit = serde_json::from_str(&exit);
                let exit = exit.map_err(|e| LedgerError::damaged("an exit code", &e))?;
                Ok((
                    name,
                    Trouble {
                        error,
                        hint,
                        exit,
                        since,
                    },
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_of_a_source_or_of_one_of_its_destinations() {
        for source in ["db1", "a@b", "@"] {
            assert_eq!(read_trouble_key(source), (source, None));
            for url in ["file:///a@b/c", "s3://bucket/x@y"] {
                let key = trouble_key(source, url);
                assert_eq!(read_trouble_key(&key), (source, Some(url)));
            }
        }
    }
}
