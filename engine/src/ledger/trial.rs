//! Tries what the ledger is for, beside running archivers: for `gtide check`.

use jiff::Timestamp;

use super::{Ledger, LedgerError, on};

/// The agent of a trial; keys of real ones begin with a host's name and a colon.
const TRIAL: &str = "check";

/// What was found where the ledger is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A ledger of this version.
    Ledger,
    /// Nothing: it was made now, as `gtide run` would have.
    Nothing,
}

impl Ledger {
    /// Opens the ledger as an archiver would, but migrates none that is there already: an archiver of the version before
    /// may be at work with it.
    ///
    /// # Errors
    /// As [`Ledger::open`], and [`LedgerError::Older`].
    pub async fn open_or_make(url: &str) -> Result<(Self, Found), LedgerError> {
        match Self::open_existing(url).await {
            Err(LedgerError::Missing { .. }) => Ok((Self::open(url).await?, Found::Nothing)),
            opened => Ok((opened?, Found::Ledger)),
        }
    }

    /// Writes a row, takes it back, and commits both: durable, and never seen by anybody.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn try_write(&self, now: Timestamp) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let written = on!(tx, |db| {
            sqlx::query("INSERT INTO agents (agent, seen_at, report) VALUES ($1, $2, '{}')")
                .bind(TRIAL)
                .bind(now.as_microsecond())
                .execute(db)
                .await
                .map(|_| ())
        });
        written.map_err(LedgerError::database("write a row on trial"))?;
        let removed = on!(tx, |db| {
            sqlx::query("DELETE FROM agents WHERE agent = $1")
                .bind(TRIAL)
                .execute(db)
                .await
                .map(|_| ())
        });
        removed.map_err(LedgerError::database("take back a row"))?;
        tx.commit().await
    }
}
