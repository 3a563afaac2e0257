//! A sealed object that the spool does not hold and another destination has: brought back into the spool.
//!
//! # Owns
//! The way of a file to a destination that was added later, or that was away for longer than the file was held for it.
//!
//! # Invariants
//! - A file that is committed anywhere is not sealed again: what was committed there goes here. The file itself may be
//!   gone, and its name be another's by now.
//! - An object is taken only when its entry is the one that was committed, and when it has the size and the CRC32C that
//!   the entry names. Otherwise the next destination is asked.
//!
//! # After a crash
//! As with sealing: the object gets its name in the spool when it is whole.
//!
//! # Limits
//! One piece of the object in memory. It is read once, and costs what the store takes for that.

use futures::TryStreamExt;
use tokio::io::AsyncWriteExt;

use super::commit::read_entry;
use super::seal::Sealed;
use super::sealing::{Subject, blocking};
use super::stop::unless;
use super::{Pipeline, PipelineError};
use crate::archive::ObjectFacts;
use crate::exit;
use crate::layout::ObjectKey;
use crate::ledger::{Commit, FileRow};
use crate::retry::RetryClass;
use crate::spool::Need;
use crate::store::ObjectStore;

impl Pipeline {
    /// The object of a file that another destination has committed, now in the spool; none when none has it.
    ///
    /// # Errors
    /// When some have it and it can be had from none of them: one of the errors that may pass, if there is one.
    pub(super) async fn recall(
        &self,
        subject: Subject<'_>,
        file: &FileRow,
    ) -> Result<Option<Sealed>, PipelineError> {
        let mut failed: Option<PipelineError> = None;
        let others = self.stores.iter();
        let others = others.filter(|&(&id, _)| id != subject.route.destination);
        for (&destination, store) in others {
            let Some(committed) = self.ledger.commit(subject.file, destination).await? else {
                continue;
            };
            match self.recall_from(store.as_ref(), committed, subject).await {
                Ok(sealed) => {
                    self.note_recalled(subject, &sealed, store.url()).await?;
                    return Ok(Some(sealed));
                }
                Err(PipelineError::Stopping) => return Err(PipelineError::Stopping),
                Err(error) => {
                    tracing::warn!(
                        source = subject.source,
                        file = file.name,
                        destination = store.url(),
                        error = exit::chain(&error),
                        "cannot be read back for another destination"
                    );
                    let passes = |error: &PipelineError| error.retry_class() != RetryClass::Never;
                    if failed.as_ref().is_none_or(|first| !passes(first)) {
                        failed = Some(error);
                    }
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn note_recalled(
        &self,
        subject: Subject<'_>,
        sealed: &Sealed,
        from: &str,
    ) -> Result<(), PipelineError> {
        let payload = sealed.payload()?;
        self.ledger
            .record_sealed(subject.file, &payload, None)
            .await?;
        tracing::info!(
            source = subject.source,
            file = subject.identity.file_name,
            from,
            "read back, to be archived elsewhere too"
        );
        Ok(())
    }

    async fn recall_from(
        &self,
        store: &dyn ObjectStore,
        committed: Commit,
        subject: Subject<'_>,
    ) -> Result<Sealed, PipelineError> {
        let identity = subject.identity;
        let key = identity.source.manifest_key(identity.sequence);
        let (entry, found) = unless(subject.stop, read_entry(store, &key)).await??;
        if found != committed.entry_sha256 {
            return Err(PipelineError::Replaced {
                key,
                committed: committed.entry_sha256,
                found,
            });
        }
        let earlier = self.unsealed_before(subject).await?;
        let need = Need {
            source: subject.source,
            file: &identity.file_name,
            size: entry.binlog.size,
            earlier: &earlier,
            refused: 0,
        };
        let _room = unless(subject.stop, self.spool.admit(&need)).await??;
        let (key, facts) = (&entry.object.key, &entry.object.facts);
        unless(subject.stop, self.download(store, key, facts, subject)).await??;
        Ok(Sealed {
            sha256: entry.sha256,
            summary: entry.binlog,
            facts: entry.object.facts,
        })
    }

    /// Brings the object into the spool, if it is the one with these facts.
    async fn download(
        &self,
        store: &dyn ObjectStore,
        key: &ObjectKey,
        facts: &ObjectFacts,
        subject: Subject<'_>,
    ) -> Result<(), PipelineError> {
        let path = self.spool.seal_path(subject.identity);
        let failed = |source| PipelineError::Spooled {
            path: path.clone(),
            source,
        };
        let unfinished = self.spool.unfinished(&subject.identity.source)?;
        let mut out = tokio::fs::File::from_std(unfinished.reopen().map_err(failed)?);
        let mut body = store.get(key, None).await?;
        let (mut size, mut crc32c) = (0u64, 0u32);
        while let Some(bytes) = body.try_next().await? {
            size = size.saturating_add(bytes.len() as u64);
            if size > facts.size {
                break;
            }
            crc32c = crc32c::crc32c_append(crc32c, &bytes);
            out.write_all(&bytes).await.map_err(failed)?;
        }
        if (size, crc32c) != (facts.size, facts.crc32c) {
            return Err(PipelineError::Damaged {
                url: store.url().to_owned(),
                key: key.clone(),
            });
        }
        out.flush().await.map_err(failed)?;
        let (spool, identity) = (self.spool.clone(), subject.identity.clone());
        blocking(move || spool.keep(&identity, unfinished)).await??;
        Ok(())
    }
}
