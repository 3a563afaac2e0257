//! Uploads under way, per file and destination: the store's token outlives the process.

use super::{DestinationId, FileKey, Ledger, LedgerError, on, stored};

/// An upload that was begun and is not committed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The store's token, as it gave it.
    pub token: String,
    /// The object is stored whole and was verified: only the manifest entry is missing.
    pub verified: bool,
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
        let row: Option<(String, bool)> = on!(self, |db| {
            sqlx::query_as(
                "SELECT token, verified FROM uploads
                 WHERE source = $1 AND destination = $2 AND sequence = $3",
            )
            .bind(key.source.stored())
            .bind(destination.stored())
            .bind(stored(key.sequence.0))
            .fetch_optional(db)
            .await
        })
        .map_err(LedgerError::database("read an upload's record"))?;
        Ok(row.map(|(token, verified)| Upload { token, verified }))
    }

    /// Records a begun upload, in place of an earlier one of the same file. Not verified yet.
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
                 DO UPDATE SET token = excluded.token, verified = FALSE",
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

    /// Records that the uploaded object is whole and was verified.
    ///
    /// # Errors
    /// [`LedgerError::Database`].
    pub async fn record_verified(
        &self,
        key: FileKey,
        destination: DestinationId,
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        on!(tx, |db| {
            sqlx::query(
                "UPDATE uploads SET verified = TRUE
                 WHERE source = $1 AND destination = $2 AND sequence = $3",
            )
            .bind(key.source.stored())
            .bind(destination.stored())
            .bind(stored(key.sequence.0))
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(LedgerError::database("record a verified upload"))?;
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
