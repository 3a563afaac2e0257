//! Where key-encryption keys come from: a file, AWS KMS, Google Cloud KMS.
//!
//! # Owns
//! Opening the `[encryption]` references, and the choice of the key that an object needs. The envelope itself is
//! [`archive::key`](crate::archive::key)'s for keys in files, the service's for others.
//!
//! # Invariants
//! - A key that others can read is not used: it is no longer a secret.
//! - A key file is never overwritten, and is on disk before its id is known to anyone.
//! - [`Keyring::new_data_key`] gives each object and attempt a key of its own. Data keys are never kept.
//! - A data key opens for the object that it was made for, and for no other: every service is told whose it is.
//! - A key service that is away is an error that passes: nothing is ever sealed without its key.
//! - [`Keyring::reload`] changes all keys at once, or none: what is under way ends with the keys that it began with.
//!
//! # Cancelling
//! Nothing here has effects but [`create_key_file`], which is synchronous.

mod aws;
mod error;
pub(crate) mod file;
mod google;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use uuid::Uuid;

use self::aws::AwsKey;
pub use self::error::{KeyringError, Refusal};
pub use self::file::{MAX_KEY_FILE, create_key_file};
use self::google::GoogleKey;
use crate::archive::{DataKey, KeyEncryptionKey, KeyId, ObjectIdentity, SealingKey, WrappedKey};
use crate::cloud::Lifetime;
use crate::config::EncryptionConfig;
use crate::layout::{ClusterName, Sequence, SourceIdentity};
use crate::retry::RetryClass;

/// Attempts of one request to a key service, the first included; longer outages are the queue's to wait for.
const ATTEMPTS: u32 = 3;

/// For a connection to a key service to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For one attempt of a request to a key service: it answers within milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The file that a data key is made for when a key is tried. No server has it: sequences begin at 1.
const TRIAL_FILE: &str = "trial.000000";

/// The keys that seal and open this archive.
#[derive(Debug)]
pub struct Keyring(RwLock<Arc<Keys>>);

#[derive(Debug)]
struct Keys {
    /// Seals new objects.
    current: Key,
    /// Sealed older ones.
    old: Vec<Key>,
}

#[derive(Debug)]
enum Key {
    File(KeyEncryptionKey),
    Aws(AwsKey),
    Google(GoogleKey),
}

// What a service's SDK does within a call is large: such futures are boxed.

/// How key services are reached.
#[derive(Debug, Clone, Copy, Default)]
struct ServiceSettings<'a> {
    endpoint: Option<&'a str>,
    credentials: Option<&'a str>,
}

impl Keyring {
    /// Opens what `[encryption]` refers to. Key files are read, key services are not asked.
    ///
    /// # Errors
    /// When a reference is none, or a key file is missing, not a regular file, open to others, or malformed.
    pub fn open(config: &EncryptionConfig) -> Result<Self, KeyringError> {
        Ok(Self(RwLock::new(Arc::new(Keys::open(config)?))))
    }

    /// Takes the keys of another `[encryption]`, for whoever has this keyring.
    ///
    /// # Errors
    /// As [`Keyring::open`]; the keys are then those of before.
    pub fn reload(&self, config: &EncryptionConfig) -> Result<(), KeyringError> {
        let keys = Arc::new(Keys::open(config)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key that seals new objects: the id of a key file, the reference of a service's key.
    pub fn current(&self) -> String {
        self.keys().current.label()
    }

    /// How long the credentials last by which each key's service was asked last, by the key's name. Asks nobody.
    pub fn credentials(&self) -> Vec<(String, Lifetime)> {
        let keys = self.keys();
        let lifetimes = keys.all().map(|key| (key.label(), key.credentials()));
        lifetimes.collect()
    }

    /// A fresh data key for one attempt at one object.
    ///
    /// # Errors
    /// What the key service says; [`KeyringError::Archive`] when the operating system gives no random bytes.
    pub async fn new_data_key(
        &self,
        identity: &ObjectIdentity,
    ) -> Result<SealingKey, KeyringError> {
        match &self.keys().current {
            Key::File(key) => Ok(key.new_data_key(identity)?),
            Key::Aws(key) => Box::pin(key.new_data_key(identity)).await,
            Key::Google(key) => Box::pin(key.new_data_key(identity)).await,
        }
    }

    /// Makes a data key with the key that seals new objects, and opens it again. Its id, as it stands in objects.
    ///
    /// # Errors
    /// As [`Keyring::new_data_key`] and [`Keyring::unwrap`].
    pub async fn try_current(&self, cluster: &ClusterName) -> Result<KeyId, KeyringError> {
        let identity = ObjectIdentity {
            source: SourceIdentity {
                cluster: cluster.clone(),
                server_uuid: Uuid::nil(),
                incarnation: 1,
            },
            sequence: Sequence(0),
            file_name: TRIAL_FILE.to_owned(),
        };
        let keys = self.keys();
        let made = self.new_data_key(&identity).await?;
        let opened = keys.current.unwrap(made.wrapped_key(), &identity).await?;
        if opened.as_bytes() != made.data_key().as_bytes() {
            return Err(KeyringError::Answer {
                key: keys.current.label(),
                action: "open a data key",
                reason: "is another key than was wrapped",
            });
        }
        Ok(made.key_id().clone())
    }

    /// Wraps an object's data key anew, under the key that seals new objects.
    ///
    /// # Errors
    /// As [`Keyring::new_data_key`].
    pub async fn wrap(
        &self,
        data_key: &DataKey,
        identity: &ObjectIdentity,
    ) -> Result<(KeyId, WrappedKey), KeyringError> {
        match &self.keys().current {
            Key::File(key) => Ok((key.id().clone(), key.wrap(data_key, identity)?)),
            Key::Aws(key) => Box::pin(key.wrap(data_key, identity)).await,
            Key::Google(key) => Box::pin(key.wrap(data_key, identity)).await,
        }
    }

    /// Is a key at hand that may open what `id` wrapped? Of a service's alias it is not known: it may.
    pub fn may_open(&self, id: &KeyId) -> bool {
        self.keys().all().any(|key| key.may_open(id))
    }

    /// Opens the envelope of an object's data key. `identity` is whose object it must be.
    ///
    /// # Errors
    /// [`KeyringError::WrongKey`] when no key at hand sealed it; [`KeyringError::Archive`] or a service's refusal when
    /// one of them should open it and does not. When one of them may yet do, its error is the one that passes.
    pub async fn unwrap(
        &self,
        key_id: &KeyId,
        wrapped: &WrappedKey,
        identity: &ObjectIdentity,
    ) -> Result<DataKey, KeyringError> {
        let keys = self.keys();
        let mut refused: Option<KeyringError> = None;
        // An alias may stand for any key, and what refuses may be another one than that which is needed.
        for key in keys.all().filter(|key| key.may_open(key_id)) {
            match key.unwrap(wrapped, identity).await {
                Ok(opened) => return Ok(opened),
                Err(error) => {
                    let passes = error.retry_class() != RetryClass::Never;
                    if passes || refused.is_none() {
                        refused = Some(error);
                    }
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            let present: Vec<String> = keys.all().map(Key::label).collect();
            KeyringError::WrongKey {
                identity: Box::new(identity.clone()),
                needed: key_id.clone(),
                present: present.join(", "),
            }
        }))
    }
}

impl Keys {
    fn open(config: &EncryptionConfig) -> Result<Self, KeyringError> {
        let settings = ServiceSettings {
            endpoint: config.endpoint.as_deref(),
            credentials: config.credentials.as_deref(),
        };
        let old = config.old_keys.iter();
        Ok(Self {
            current: Key::open(&config.key, settings)?,
            old: old
                .map(|reference| Key::open(reference, settings))
                .collect::<Result<_, _>>()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.old)
    }
}

impl Key {
    fn open(reference: &str, settings: ServiceSettings<'_>) -> Result<Self, KeyringError> {
        match reference.split_once(':') {
            Some(("file", path)) if !path.is_empty() => {
                Ok(Self::File(file::read_key_file(Path::new(path))?))
            }
            Some((aws::SCHEME, key)) if !key.is_empty() => {
                Ok(Self::Aws(AwsKey::new(key, settings)?))
            }
            Some((google::SCHEME, key)) if google::is_key(key) => {
                Ok(Self::Google(GoogleKey::new(key, settings)?))
            }
            _ => Err(KeyringError::Reference(reference.to_owned())),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::File(key) => key.id().to_string(),
            Self::Aws(key) => key.to_string(),
            Self::Google(key) => key.to_string(),
        }
    }

    fn credentials(&self) -> Lifetime {
        match self {
            Self::File(_) => Lifetime::None,
            Self::Aws(key) => key.credentials(),
            Self::Google(key) => key.credentials(),
        }
    }

    fn may_open(&self, id: &KeyId) -> bool {
        match self {
            Self::File(key) => key.id() == id,
            Self::Aws(key) => key.may_open(id),
            Self::Google(key) => key.may_open(id),
        }
    }

    async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        identity: &ObjectIdentity,
    ) -> Result<DataKey, KeyringError> {
        match self {
            Self::File(key) => Ok(key.unwrap(wrapped, identity)?),
            Self::Aws(key) => Box::pin(key.unwrap(wrapped, identity)).await,
            Self::Google(key) => Box::pin(key.unwrap(wrapped, identity)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::identity;
    use crate::exit::{Diagnose, Exit};

    fn key_file(folder: &Path, name: &str) -> String {
        let path = folder.join(name);
        create_key_file(&path).unwrap();
        format!("file:{}", path.display())
    }

    fn keyring(key: &str, old_keys: &[&str]) -> Result<Keyring, KeyringError> {
        Keyring::open(&EncryptionConfig {
            old_keys: old_keys.iter().map(|&key| key.to_owned()).collect(),
            ..EncryptionConfig::new(key)
        })
    }

    #[tokio::test]
    async fn a_data_key_comes_back_and_another_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let keys = ["a", "b"].map(|name| key_file(folder.path(), name));
        let [mine, other] = keys.each_ref().map(|key| keyring(key, &[]).unwrap());
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
        assert!(text.contains(&mine.current()), "{text}");
        assert!(text.contains(&other.current()), "{text}");
        assert_eq!(error.exit(), Exit::Corrupt);
    }

    #[tokio::test]
    async fn an_old_key_opens_what_it_sealed_and_seals_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| key_file(folder.path(), name));
        let identity = identity(1);
        let before = keyring(&old, &[]).unwrap();
        let sealed = before.new_data_key(&identity).await.unwrap();
        let after = keyring(&new, &[&old]).unwrap();
        let (id, wrapped) = (sealed.key_id(), sealed.wrapped_key());
        let data_key = after.unwrap(id, wrapped, &identity).await.unwrap();
        assert_eq!(
            after
                .new_data_key(&identity)
                .await
                .unwrap()
                .key_id()
                .as_str(),
            after.current()
        );

        // Wrapped anew, the old key is not needed any more.
        let (id, wrapped) = after.wrap(&data_key, &identity).await.unwrap();
        let alone = keyring(&new, &[]).unwrap();
        let opened = alone.unwrap(&id, &wrapped, &identity).await.unwrap();
        assert_eq!(opened.as_bytes(), data_key.as_bytes());
        assert!(before.unwrap(&id, &wrapped, &identity).await.is_err());
    }

    #[tokio::test]
    async fn keys_are_changed_under_whoever_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| key_file(folder.path(), name));
        let shared = Arc::new(keyring(&old, &[]).unwrap());
        let identity = identity(1);
        let sealed = shared.new_data_key(&identity).await.unwrap();

        let missing = EncryptionConfig::new("file:/nonexistent/key");
        assert!(shared.reload(&missing).is_err());
        assert_eq!(shared.current(), sealed.key_id().as_str());

        let rotated = EncryptionConfig {
            old_keys: vec![old],
            ..EncryptionConfig::new(&new)
        };
        shared.reload(&rotated).unwrap();
        let id = shared.try_current(&identity.source.cluster).await.unwrap();
        assert_eq!(id.as_str(), shared.current());
        assert_ne!(&id, sealed.key_id());
        let (id, wrapped) = (sealed.key_id(), sealed.wrapped_key());
        assert!(shared.unwrap(id, wrapped, &identity).await.is_ok());
    }

    #[test]
    fn references_are_read_or_refused_with_a_hint() {
        for (reference, text) in [
            ("/etc/key", "not a reference"),
            ("file:", "not a reference"),
            ("aws-kms:", "not a reference"),
            ("gcp-kms:projects/p", "not a reference"),
            ("", "not a reference"),
            ("file:/nonexistent/key", "/nonexistent/key"),
        ] {
            let error = keyring(reference, &[]).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(error.exit(), Exit::Usage, "{reference}");
            assert!(error.hint().is_some(), "{reference}");
        }
        for reference in [
            "aws-kms:alias/gtide",
            "gcp-kms:projects/p/locations/eu/keyRings/r/cryptoKeys/k",
        ] {
            assert_eq!(keyring(reference, &[]).unwrap().current(), reference);
        }
    }
}
