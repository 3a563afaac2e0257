//! Why there is no key, or not the right one.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::archive::{ArchiveError, KeyId, ObjectIdentity};
use crate::cloud::SettingsError;
use crate::exit::{Diagnose, Exit};
use crate::retry::RetryClass;

/// Why there is no key, or not the right one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Not a reference to a key.
    #[error("{0:?} is not a reference to a key")]
    Reference(String),
    /// Its settings cannot be meant.
    #[error("[encryption]")]
    Settings(#[from] SettingsError),
    /// A key service did not do what it was asked for.
    #[error("{action} with key {key}")]
    Service {
        /// The key's reference.
        key: String,
        /// What was asked.
        action: &'static str,
        /// What kind of refusal it is.
        refusal: Refusal,
        /// What the service said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A key service gave what it never should.
    #[error("{action} with key {key}: the answer {reason}")]
    Answer {
        /// The key's reference.
        key: String,
        /// What was asked.
        action: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key file cannot be read or made.
    #[error("{action} key file {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A key file is never overwritten.
    #[error("key file {} already exists", path.display())]
    Exists {
        /// The key file.
        path: PathBuf,
    },
    /// A directory, a pipe, a device.
    #[error("key file {} is not a regular file", path.display())]
    NotAFile {
        /// What should be a key file.
        path: PathBuf,
    },
    /// Others can read or change it.
    #[error("key file {} is open to others: its mode is {mode:04o}", path.display())]
    Permissions {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its text is none of a key file.
    #[error("key file {} is malformed: {reason}", path.display())]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it. Never quotes the file.
        reason: &'static str,
    },
    /// The object was sealed under a key that is not at hand.
    #[error("{identity} is sealed with key {needed}, but at hand is {present}")]
    WrongKey {
        /// The object's file.
        identity: Box<ObjectIdentity>,
        /// The key id in its header or manifest entry.
        needed: KeyId,
        /// The keys at hand, by their ids or references.
        present: String,
    },
    /// The envelope does not open, or cannot be made.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// How a key service refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not there, or out of order.
    Away,
    /// No credentials could be had, or they have expired.
    Credentials,
    /// This identity may not use the key.
    Denied,
    /// The key is disabled, or is to be deleted.
    Disabled,
    /// There is no such key.
    Missing,
    /// The wrapped data key is another key's or another object's, or it was altered.
    Ciphertext,
    /// Anything else that asking again does not help.
    Other,
}

impl KeyringError {
    /// Is the key that is needed not at hand, or not to be used? Then the same data key under another key helps.
    pub fn lacks_key(&self) -> bool {
        match self {
            Self::WrongKey { .. } => true,
            Self::Service { refusal, .. } => matches!(
                refusal,
                Refusal::Denied | Refusal::Disabled | Refusal::Missing | Refusal::Ciphertext
            ),
            _ => false,
        }
    }

    /// What retry code may ask.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Archive(error) => error.retry_class(),
            Self::Service {
                refusal: Refusal::Away | Refusal::Credentials,
                ..
            }
            | Self::Answer { .. } => RetryClass::Backoff,
            _ => RetryClass::Never,
        }
    }
}

impl Diagnose for KeyringError {
    fn exit(&self) -> Exit {
        match self {
            Self::WrongKey { .. }
            | Self::Service {
                refusal: Refusal::Ciphertext,
                ..
            } => Exit::Corrupt,
            Self::Service {
                refusal: Refusal::Away | Refusal::Credentials,
                ..
            }
            | Self::Answer { .. } => Exit::Transient,
            Self::Archive(error) => error.exit(),
            _ => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Reference(_) => {
                "write file:/etc/gtide/archive.key, aws-kms:ARN (or aws-kms:alias/NAME), or \
                 gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K"
                    .to_owned()
            }
            Self::Settings(error) => error.hint.clone(),
            Self::Service { refusal, .. } => refusal.hint().to_owned(),
            Self::Answer { .. } => "is `endpoint` of [encryption] the key service's?".to_owned(),
            Self::Io { source, path, .. } if source.kind() == io::ErrorKind::NotFound => {
                format!(
                    "an archive is read with the key that sealed it: bring that file back; only a new archive begins \
                     with `gtide key new {}`",
                    path.display()
                )
            }
            Self::Io { .. } => "check the path and who may read it".to_owned(),
            Self::Exists { .. } => {
                "objects sealed with it cannot be read without it: keep it, and choose another path"
                    .to_owned()
            }
            Self::NotAFile { .. } => "name the key file itself".to_owned(),
            Self::Permissions { path, .. } => format!("chmod 600 {}", path.display()),
            Self::Malformed { .. } => {
                "restore it from the copy you keep; a new key cannot read what the old one sealed"
                    .to_owned()
            }
            Self::WrongKey { needed, .. } => {
                format!("find {needed}, and name it in `old-keys` of [encryption]")
            }
            Self::Archive(error) => return error.hint(),
        })
    }
}

impl Refusal {
    fn hint(self) -> &'static str {
        match self {
            Self::Away => {
                "the key service cannot be reached: nothing is stored unencrypted meanwhile, sealing waits"
            }
            Self::Credentials => {
                "check that this machine's cloud credentials can be read and have not expired"
            }
            Self::Denied => {
                "allow this identity to use the key: kms:GenerateDataKey, kms:Encrypt and kms:Decrypt at AWS; the role \
                 Cloud KMS CryptoKey Encrypter/Decrypter at Google"
            }
            Self::Disabled => {
                "enable the key again, or cancel its deletion: without it nothing that it sealed can be read"
            }
            Self::Missing => "check the key's name and its region in [encryption]",
            Self::Ciphertext => {
                "it was sealed under another key, for another file, or was altered: name the key that it needs in \
                 `old-keys` of [encryption]"
            }
            Self::Other => "see what the service says",
        }
    }
}
