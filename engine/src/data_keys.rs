//! Opens data keys by whichever envelope there is a key for.
//!
//! An object's own envelope comes first. Where the key that it needs is not at hand, or its service refuses to use it,
//! those that `gtide key rewrap` put beside the manifest are looked at.
//!
//! # Invariants
//! - Whatever envelope opens, it opens for the one file only that is asked for (FORMAT.md §8.2, §8.5).
//! - An error that passes is told as such: that a key service is away is no reason to look elsewhere.
//!
//! # Limits
//! The names of each source's re-wrapped keys, listed again after [`LIST_AGAIN`] at the earliest, and the content of
//! [`KEPT`] of those objects.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::archive::{DataKey, KeyId, ObjectIdentity, WrappedKey};
use crate::exit::{Diagnose, Exit};
use crate::keyring::{Keyring, KeyringError};
use crate::layout::{ObjectKey, RewrappedName, SourceIdentity};
use crate::manifest::ManifestError;
use crate::manifest::rewrapped::{MAX_LEN, RewrappedKeys};
use crate::retry::RetryClass;
use crate::store::{self, ObjectStore, StoreError};

/// How old a listing may be when a data key is not found by it.
pub const LIST_AGAIN: Duration = Duration::from_mins(1);

/// Objects that are kept in memory, the last ones used.
pub const KEPT: usize = 16;

/// Why a data key could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DataKeyError {
    /// No key that is at hand opens it.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Whether it was wrapped anew cannot be seen.
    #[error("look for data keys that were wrapped anew")]
    Store(#[from] StoreError),
}

impl DataKeyError {
    /// What retry code may ask.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Keyring(error) => error.retry_class(),
            Self::Store(error) => error.retry_class(),
        }
    }
}

impl Diagnose for DataKeyError {
    fn exit(&self) -> Exit {
        match self {
            Self::Keyring(error) => error.exit(),
            Self::Store(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Keyring(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Opens the data keys of the objects at one destination.
#[derive(Debug)]
pub struct DataKeys {
    store: Arc<dyn ObjectStore>,
    keyring: Arc<Keyring>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    listings: HashMap<SourceIdentity, Listing>,
    /// The last used one last.
    read: VecDeque<(ObjectKey, Arc<RewrappedKeys>)>,
}

#[derive(Debug, Clone)]
struct Listing {
    names: Arc<[RewrappedName]>,
    at: Instant,
}

impl DataKeys {
    /// For the objects in `store`. Nothing is read yet.
    pub fn new(store: Arc<dyn ObjectStore>, keyring: Arc<Keyring>) -> Self {
        Self {
            store,
            keyring,
            seen: Mutex::default(),
        }
    }

    /// Opens the data key of one object, of whose own envelope `key_id` and `wrapped` are.
    ///
    /// # Errors
    /// What is wrong with the object's own envelope, when no other one helps; [`DataKeyError::Store`] when others cannot
    /// be looked for.
    pub async fn open(
        &self,
        key_id: &KeyId,
        wrapped: &WrappedKey,
        identity: &ObjectIdentity,
    ) -> Result<DataKey, DataKeyError> {
        let error = match self.keyring.unwrap(key_id, wrapped, identity).await {
            Err(error) if error.lacks_key() => error,
            opened => return Ok(opened?),
        };
        match self.open_rewrapped(identity).await? {
            Some(data_key) => Ok(data_key),
            None => Err(error.into()),
        }
    }

    async fn open_rewrapped(
        &self,
        identity: &ObjectIdentity,
    ) -> Result<Option<DataKey>, DataKeyError> {
        let (mut names, is_fresh) = self.names(&identity.source, false).await?;
        loop {
            // The last one that was written is the likeliest, and the last keys of a listing are as good a guess.
            for name in names
                .iter()
                .rev()
                .filter(|name| name.spans(identity.sequence))
            {
                if let Some(data_key) = self.open_from(name, identity).await? {
                    return Ok(Some(data_key));
                }
            }
            if is_fresh {
                return Ok(None);
            }
            let (again, is_newer) = self.names(&identity.source, true).await?;
            if !is_newer || again == names {
                return Ok(None);
            }
            names = again;
        }
    }

    async fn open_from(
        &self,
        name: &RewrappedName,
        identity: &ObjectIdentity,
    ) -> Result<Option<DataKey>, DataKeyError> {
        let Some(keys) = self.read(name).await? else {
            return Ok(None);
        };
        let Some(wrapped) = keys.get(identity.sequence) else {
            return Ok(None);
        };
        if !self.keyring.may_open(keys.key_id()) {
            return Ok(None);
        }
        match self.keyring.unwrap(keys.key_id(), wrapped, identity).await {
            Ok(data_key) => Ok(Some(data_key)),
            Err(error) if error.retry_class() != RetryClass::Never => Err(error.into()),
            Err(error) => {
                let (key, error) = (name.key(), crate::exit::chain(&error));
                tracing::debug!(%key, error, "does not open");
                Ok(None)
            }
        }
    }

    /// The names of a source's re-wrapped keys, and whether they were listed just now.
    async fn names(
        &self,
        source: &SourceIdentity,
        again: bool,
    ) -> Result<(Arc<[RewrappedName]>, bool), StoreError> {
        let mut seen = self.seen.lock().await;
        if let Some(listing) = seen.listings.get(source)
            && (!again || listing.at.elapsed() < LIST_AGAIN)
        {
            return Ok((Arc::clone(&listing.names), false));
        }
        let names: Arc<[_]> = list(self.store.as_ref(), source).await?.into();
        let listing = Listing {
            names: Arc::clone(&names),
            at: Instant::now(),
        };
        seen.listings.insert(source.clone(), listing);
        Ok((names, true))
    }

    /// What such an object holds; none when it is not what it should be, which is `verify`'s to tell.
    async fn read(&self, name: &RewrappedName) -> Result<Option<Arc<RewrappedKeys>>, StoreError> {
        let key = name.key();
        // Held meanwhile: whoever else asks most likely wants the same one.
        let mut seen = self.seen.lock().await;
        if let Some(at) = seen.read.iter().position(|(read, _)| *read == key)
            && let Some(found) = seen.read.remove(at)
        {
            let keys = Arc::clone(&found.1);
            seen.read.push_back(found);
            return Ok(Some(keys));
        }
        let keys = match read(self.store.as_ref(), &key).await {
            Ok(keys) => Arc::new(keys),
            Err(RewrappedError::Store(error)) => return Err(error),
            Err(RewrappedError::Manifest(error)) => {
                tracing::warn!(%key, %error, "passed over");
                return Ok(None);
            }
        };
        if seen.read.len() >= KEPT {
            seen.read.pop_front();
        }
        seen.read.push_back((key, Arc::clone(&keys)));
        Ok(Some(keys))
    }
}

/// Why re-wrapped keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RewrappedError {
    /// The store did not give them.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store gave is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Diagnose for RewrappedError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Manifest(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
        }
    }
}

/// Reads the data keys that were wrapped anew and lie at `key`.
///
/// # Errors
/// When they cannot be read, or are none.
pub async fn read(
    store: &dyn ObjectStore,
    key: &ObjectKey,
) -> Result<RewrappedKeys, RewrappedError> {
    let bytes = store::read_all(store, key, MAX_LEN).await?;
    Ok(RewrappedKeys::parse(key, &bytes)?)
}

/// The names of a source's re-wrapped keys.
///
/// # Errors
/// When the store cannot be listed.
pub async fn list(
    store: &dyn ObjectStore,
    source: &SourceIdentity,
) -> Result<Vec<RewrappedName>, StoreError> {
    let prefix = source.keys_prefix();
    let listed = store.list(&prefix, None);
    let names =
        listed.try_filter_map(|listed| async move { Ok(RewrappedName::parse(&listed.key)) });
    names.try_collect().await
}
