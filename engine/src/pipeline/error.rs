//! Why a file is not archived yet.

use std::path::PathBuf;

use super::seal::SealError;
use crate::archive::ArchiveError;
use crate::digest::Digest;
use crate::exit::{Diagnose, Exit};
use crate::keyring::KeyringError;
use crate::layout::{ObjectKey, Sequence};
use crate::ledger::LedgerError;
use crate::manifest::ManifestError;
use crate::retry::RetryClass;
use crate::spool::SpoolError;
use crate::store::StoreError;

/// Why a file is not archived yet.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The destination failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The key cannot be had.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// An entry cannot be made or read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The sealed object cannot be read from the spool.
    #[error("read {}", path.display())]
    Spooled {
        /// The sealed object.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store acknowledged an object and does not have it.
    #[error("{key}: uploaded, and not there")]
    Vanished {
        /// The object.
        key: ObjectKey,
    },
    /// An object is in the way that does not open as this file's.
    #[error("{key}: an object is there already, and it does not open as this file's")]
    ReadBack {
        /// The object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The object of another file is in the way.
    #[error("{key}: holds another {file_name}: sha256 {archived} there, {local} here")]
    ObjectConflict {
        /// The object.
        key: ObjectKey,
        /// The file.
        file_name: String,
        /// The digest of the archived plaintext.
        archived: Digest,
        /// The digest of the local file.
        local: Digest,
    },
    /// The entry of another file is in the way.
    #[error("{key}: is the entry of another {file_name}: sha256 {archived} there, {local} here")]
    EntryConflict {
        /// The entry.
        key: ObjectKey,
        /// The file.
        file_name: String,
        /// The digest of the archived plaintext.
        archived: Digest,
        /// The digest of the local file.
        local: Digest,
    },
    /// An entry was committed and is another one now.
    #[error("{key}: has sha256 {found}, and {committed} was committed")]
    Replaced {
        /// The entry.
        key: ObjectKey,
        /// The digest of the entry that was committed.
        committed: Digest,
        /// The digest of what is there.
        found: Digest,
    },
    /// An object is not as its entry says.
    #[error("{url}: {key} does not have the size and the CRC32C of its entry")]
    Damaged {
        /// The destination.
        url: String,
        /// The object.
        key: ObjectKey,
    },
    /// Later files are committed already.
    #[error(
        "{key}: sequence {head} is committed already, and the chain cannot take this one in any more"
    )]
    Late {
        /// The entry that is missing.
        key: ObjectKey,
        /// The last one that is committed.
        head: Sequence,
    },
    /// A job names what the configuration no longer has.
    #[error("the {what} of this job is not configured any more")]
    Unconfigured {
        /// Source or destination.
        what: &'static str,
    },
    /// A job whose file was given up.
    #[error("the file of this job is not recorded any more")]
    Forgotten,
    /// What sealing yielded cannot be written down.
    #[error("encode what sealing yielded")]
    Payload(#[source] serde_json::Error),
    /// The program is stopping.
    #[error("stopping")]
    Stopping,
}

impl PipelineError {
    /// May it go away by itself?
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Seal(error) => error.retry_class(),
            Self::Store(error) => error.retry_class(),
            Self::Keyring(error) => error.retry_class(),
            Self::Spool(error) => error.retry_class(),
            Self::Ledger(error) => error.retry_class(),
            Self::Spooled { .. } | Self::Vanished { .. } => RetryClass::Backoff,
            Self::Manifest(_)
            | Self::ReadBack { .. }
            | Self::ObjectConflict { .. }
            | Self::EntryConflict { .. }
            | Self::Replaced { .. }
            | Self::Damaged { .. }
            | Self::Late { .. }
            | Self::Unconfigured { .. }
            | Self::Forgotten
            | Self::Payload(_) => RetryClass::Never,
            Self::Stopping => RetryClass::Cancelled,
        }
    }
}

impl Diagnose for PipelineError {
    fn exit(&self) -> Exit {
        match self {
            Self::Seal(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Ledger(error) => error.exit(),
            Self::Keyring(error) => error.exit(),
            Self::Manifest(error) => error.exit(),
            Self::Spool(error) => error.exit(),
            Self::Spooled { .. } | Self::Forgotten | Self::Payload(_) => Exit::Unexpected,
            Self::Vanished { .. } => Exit::Transient,
            Self::ReadBack { .. } | Self::Damaged { .. } => Exit::Corrupt,
            Self::ObjectConflict { .. } | Self::EntryConflict { .. } | Self::Replaced { .. } => {
                Exit::Conflict
            }
            Self::Late { .. } => Exit::Gap,
            Self::Unconfigured { .. } => Exit::Usage,
            Self::Stopping => Exit::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Seal(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
            Self::Keyring(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Spool(error) => error.hint(),
            Self::Spooled { .. } => Some("check the disk that holds [spool] dir".to_owned()),
            Self::Vanished { .. } => {
                Some("does a lifecycle rule or another program delete from the bucket?".to_owned())
            }
            Self::ReadBack { .. } => Some(
                "nothing was overwritten: find out who wrote it; `gtide-restore verify` reads it back"
                    .to_owned(),
            ),
            Self::ObjectConflict { .. } | Self::EntryConflict { .. } => Some(
                "nothing was overwritten: after RESET BINARY LOGS AND GTIDS, a restore or a clone, raise \
                 `incarnation` of this [[source]] by one; otherwise two servers share one server_uuid"
                    .to_owned(),
            ),
            Self::Replaced { .. } | Self::Damaged { .. } => Some(
                "it was to be read back for another destination: `gtide-restore verify` tells what else is not sound \
                 there; restore it from the bucket's older versions"
                    .to_owned(),
            ),
            Self::Unconfigured { .. } => {
                Some("put it back into gtide.toml, or leave its files unarchived there".to_owned())
            }
            Self::Late { .. } => Some(
                "if its entry was deleted from the bucket, restore it from the bucket's older versions or another \
                 destination"
                    .to_owned(),
            ),
            Self::Forgotten | Self::Payload(_) | Self::Stopping => None,
        }
    }
}
