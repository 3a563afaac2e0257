//! Uploads under way, per file and destination: the store's token outlives the process. Which parts are there, and
//! whether the object is, the store itself tells.

use super::{DestinationId, FileKey, Ledger, LedgerError, on, stored};

/// An upload that was begun and is not committed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The store's token, as it gave it.
    pub token: String,
}

impl Ledger {
    /// The upload that was begun for a file, if one was.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn upload(
        &self,
        key: FileKey,
        destination: DestinationId,
    ) -> Result<Option<Upload>, LedgerError> {
        let token: Option<String> = on!(self, |db| {
            sqlx::query_scalar(
                "SELECT token FROM uploads
                 WHERE source = $1 AND destination = $2 AND sequence = $3",
            )
            .bind(key.source.stored())
            .bind(destination.stored())
            .bind(stored(key.sequence.0))
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("read an upload's record"))?;
        Ok(token.map(|token| Upload { token }))
    }

    /// Records a begun upload, in place of an earlier one of the same file.
    ///
    /// # Errors
    /// [`LedgerError::Database`], also when the file is not recorded.
    pub async fn record_upload(
        &self,
        key: FileKey,
        destination: DestinationId,
        token: &str,
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        on!(tx, |db| {
            sqlx::query(
                "INSERT INTO uploads (source, destination, sequence, token) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (source, destination, sequence)
                 DO UPDATE SET token = excluded.token",
            )
            .bind(key.source.stored())
            .bind(destination.stored())
            .bind(stored(key.sequence.0))
            .bind(token)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(LedgerError::database("record an upload"))?;
        tx.commit().await
    }

    /// Forgets an upload: it was aborted, or the store no longer knows it.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn clear_upload(
        &self,
        key: FileKey,
        destination: DestinationId,
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        on!(tx, |db| {
            sqlx::query(
                "DELETE FROM uploads WHERE source = $1 AND destination = $2 AND sequence = $3",
            )
            .bind(key.source.stored())
            .bind(destination.stored())
            .bind(stored(key.sequence.0))
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(LedgerError::database("forget an upload"))?;
        tx.commit().await
    }
}
