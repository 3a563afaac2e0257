//! Where key-encryption keys come from: today a file; key services behind the same calls.
//!
//! # Owns
//! Opening a `[encryption] key` reference, and the choice of the key that an object needs. The
//! envelope itself is [`archive::key`](crate::archive::key)'s, the key file's text [`file`]'s.
//!
//! # Invariants
//! - A key that others can read is not used: it is no longer a secret.
//! - A key file is never overwritten, and is on disk before its id is known to anyone.
//! - [`Keyring::new_data_key`] gives each object and attempt a key of its own.
//!
//! # Cancelling
//! Nothing here has effects but [`create_key_file`], which is synchronous.

pub(crate) mod file;

use std::io;
use std::path::{Path, PathBuf};

pub use self::file::{MAX_KEY_FILE, create_key_file};
use crate::archive::{
    ArchiveError, DataKey, KeyEncryptionKey, KeyId, ObjectIdentity, SealingKey, WrappedKey,
};
use crate::exit::{Diagnose, Exit};
use crate::retry::RetryClass;

/// Why there is no key, or not the right one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Not a reference to a key.
    #[error("{0:?} is not a reference to a key")]
    Reference(String),
    /// A key service that this version does not speak to.
    #[error("keys of {service} are not supported by this version ({reference:?})")]
    Unsupported {
        /// The service.
        service: &'static str,
        /// The whole reference.
        reference: String,
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
    /// The object was sealed under another key.
    #[error("{identity} is sealed with key {needed}, but the key at hand is {present}")]
    WrongKey {
        /// The object's file.
        identity: Box<ObjectIdentity>,
        /// The key id in its header or manifest entry.
        needed: KeyId,
        /// The key id of the key at hand.
        present: KeyId,
    },
    /// The envelope does not open, or cannot be made.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl KeyringError {
    /// What retry code may ask.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Archive(error) => error.retry_class(),
            _ => RetryClass::Never,
        }
    }
}

impl Diagnose for KeyringError {
    fn exit(&self) -> Exit {
        match self {
            Self::WrongKey { .. } => Exit::Corrupt,
            Self::Archive(error) => error.exit(),
            _ => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Reference(_) => "write it as \"file:/etc/gtide/archive.key\"".to_owned(),
            Self::Unsupported { .. } => {
                "use a key file: \"file:/etc/gtide/archive.key\", made by `gtide key new`"
                    .to_owned()
            }
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
                format!("find the key whose file says {needed}, and name it in [encryption] key")
            }
            Self::Archive(error) => return error.hint(),
        })
    }
}

/// The keys that seal and open this archive.
#[derive(Debug)]
pub struct Keyring {
    /// Seals new objects.
    current: KeyEncryptionKey,
}

impl Keyring {
    /// Opens what `[encryption] key` refers to: `file:` and a path.
    ///
    /// # Errors
    /// When the reference is none, its service is not supported, or its key file is missing, not a
    /// regular file, open to others, or malformed.
    pub fn open(reference: &str) -> Result<Self, KeyringError> {
        let unsupported = |service| KeyringError::Unsupported {
            service,
            reference: reference.to_owned(),
        };
        match reference.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self {
                current: file::read_key_file(Path::new(path))?,
            }),
            Some(("aws-kms", _)) => Err(unsupported("AWS KMS")),
            Some(("gcp-kms", _)) => Err(unsupported("Google Cloud KMS")),
            _ => Err(KeyringError::Reference(reference.to_owned())),
        }
    }

    /// The key that seals new objects.
    pub fn key_id(&self) -> &KeyId {
        self.current.id()
    }

    /// A fresh data key for one attempt at one object.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    #[expect(clippy::unused_async, reason = "key services answer over the network")]
    pub async fn new_data_key(
        &self,
        identity: &ObjectIdentity,
    ) -> Result<SealingKey, KeyringError> {
        Ok(self.current.new_data_key(identity)?)
    }

    /// Opens the envelope of an object's data key. `identity` is whose object it must be.
    ///
    /// # Errors
    /// [`KeyringError::WrongKey`] when another key sealed it, [`ArchiveError::Unwrap`] when this key
    /// should open it and does not.
    #[expect(clippy::unused_async, reason = "key services answer over the network")]
    pub async fn unwrap(
        &self,
        key_id: &KeyId,
        wrapped: &WrappedKey,
        identity: &ObjectIdentity,
    ) -> Result<DataKey, KeyringError> {
        if key_id != self.current.id() {
            return Err(KeyringError::WrongKey {
                identity: Box::new(identity.clone()),
                needed: key_id.clone(),
                present: self.current.id().clone(),
            });
        }
        Ok(self.current.unwrap(wrapped, identity)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::identity;

    fn keyring(folder: &Path, name: &str) -> Keyring {
        let path = folder.join(name);
        create_key_file(&path).unwrap();
        Keyring::open(&format!("file:{}", path.display())).unwrap()
    }

    #[tokio::test]
    async fn a_data_key_comes_back_and_another_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (keyring(folder.path(), "a"), keyring(folder.path(), "b"));
        let identity = identity(1);
        let key = mine.new_data_key(&identity).await.unwrap();
        let opened = mine
            .unwrap(key.key_id(), key.wrapped_key(), &identity)
            .await;
        assert!(opened.is_ok());

        let error = other
            .unwrap(key.key_id(), key.wrapped_key(), &identity)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(mine.key_id().as_str()), "{text}");
        assert!(text.contains(other.key_id().as_str()), "{text}");
        assert_eq!(error.exit(), Exit::Corrupt);
    }

    #[test]
    fn references_are_read_or_refused_with_a_hint() {
        for (reference, text) in [
            ("aws-kms:alias/gtide", "AWS KMS"),
            ("gcp-kms:projects/p", "Google Cloud KMS"),
            ("/etc/key", "not a reference"),
            ("file:", "not a reference"),
            ("", "not a reference"),
            ("file:/nonexistent/key", "/nonexistent/key"),
        ] {
            let error = Keyring::open(reference).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(error.exit(), Exit::Usage, "{reference}");
            assert!(error.hint().is_some(), "{reference}");
        }
    }
}
