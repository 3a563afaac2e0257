//! Credentials that come back to life.
//!
//! Google's crate renews a token in a background task, 240 seconds ahead. A failure that it takes for lasting (one
//! 400 of the token service, one moment without the token file) ends that task, and the credentials stay dead after
//! the cause is gone. So they are made anew here: when they fail for good, when the service refuses them, and at
//! [`RENEW_AFTER`], while the old ones still do.
//!
//! # Secrets
//! Files are read when credentials are made, and not kept. Nothing here shows a token or a key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use google_cloud_auth::credentials::{
    self, CacheableResource, CredentialsProvider, anonymous, external_account, impersonated,
    service_account, user_account,
};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Lifetime, SettingsError};

/// Tokens last an hour.
const RENEW_AFTER: Duration = Duration::from_mins(50);

/// After an attempt to make new ones that failed, while the old ones still do.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The longest credentials file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where credentials come from. Holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Google's Application Default Credentials: environment, the user's own, the metadata server.
    Default,
    /// This file: a key, or a workload identity configuration.
    File(PathBuf),
    /// None are sent.
    Anonymous,
}

impl Source {
    pub(crate) fn parse(text: Option<&str>, endpoint: Option<&str>) -> Result<Self, SettingsError> {
        let refuse = |what: &str, hint: &str| {
            // The text is not repeated: it may be a secret, put where its reference belongs.
            Err(SettingsError::new(what, hint))
        };
        match text.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            None | Some(("default", "")) => Ok(Self::Default),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("anonymous", "")) if endpoint.is_some() => Ok(Self::Anonymous),
            Some(("anonymous", "")) => refuse(
                "`credentials` is anonymous, and there is no `endpoint`",
                "anonymous is for emulators: set their `endpoint`, or remove `credentials`",
            ),
            _ => refuse(
                "`credentials` is none of default, file:/absolute/path and anonymous",
                "secrets stay in Google's own files; name the file here",
            ),
        }
    }

    async fn open(&self) -> Result<credentials::Credentials, CredentialsError> {
        match self {
            Self::Anonymous => Ok(anonymous::Builder::new().build()),
            Self::Default => credentials::Builder::default()
                .build()
                .map_err(|error| CredentialsError::from_source(false, error)),
            Self::File(path) => {
                let json = read(path).await?;
                let built = match json.get("type").and_then(Value::as_str) {
                    Some("service_account") => service_account::Builder::new(json).build(),
                    Some("external_account") => external_account::Builder::new(json).build(),
                    Some("authorized_user") => user_account::Builder::new(json).build(),
                    Some("impersonated_service_account") => {
                        impersonated::Builder::new(json).build()
                    }
                    _ => {
                        return Err(unusable(path, "its \"type\" is none that is known"));
                    }
                };
                built.map_err(|error| {
                    let what = format!("{}: cannot be used", path.display());
                    CredentialsError::new(false, what, error)
                })
            }
        }
    }
}

async fn read(path: &Path) -> Result<Value, CredentialsError> {
    let failed =
        |error| CredentialsError::new(false, format!("{}: cannot be read", path.display()), error);
    let size = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(unusable(path, "it is too long for a credentials file"));
    }
    let text = tokio::fs::read(path).await.map_err(failed)?;
    serde_json::from_slice(&text).map_err(|_| unusable(path, "it is not JSON"))
}

fn unusable(path: &Path, why: &str) -> CredentialsError {
    CredentialsError::from_msg(false, format!("{}: {why}", path.display()))
}

/// Credentials for any number of clients.
#[derive(Clone)]
pub(crate) struct Renewed(Arc<Shared>);

struct Shared {
    source: Source,
    /// For an answer of whoever gives out tokens.
    patience: Duration,
    current: Mutex<Option<Current>>,
    /// The service did not take the current ones.
    is_refused: AtomicBool,
}

struct Current {
    credentials: credentials::Credentials,
    renew_at: Instant,
}

type Headers = CacheableResource<HeaderMap>;

impl Renewed {
    pub(crate) fn new(source: Source, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            source,
            patience,
            current: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }))
    }

    /// Makes the next request ask for credentials anew.
    pub(crate) fn renew(&self) {
        self.0.is_refused.store(true, Ordering::Relaxed);
    }

    /// How long the ones last that were given last.
    pub(crate) fn lifetime(&self) -> Lifetime {
        if self.0.source == Source::Anonymous {
            return Lifetime::None;
        }
        // Held while they are asked for.
        match self.0.current.try_lock() {
            Ok(current) if current.is_none() => Lifetime::None,
            _ => Lifetime::Untold,
        }
    }

    /// The headers that a request needs.
    pub(crate) async fn headers(&self) -> Result<HeaderMap, CredentialsError> {
        match self.0.headers().await? {
            CacheableResource::New { data, .. } => Ok(data),
            CacheableResource::NotModified => {
                Err(CredentialsError::from_msg(true, "no headers were given"))
            }
        }
    }
}

impl Shared {
    async fn headers(&self) -> Result<Headers, CredentialsError> {
        let mut current = self.current.lock().await;
        let is_refused = self.is_refused.swap(false, Ordering::Relaxed);
        let now = Instant::now();
        if let Some(current) = current.as_mut()
            && !is_refused
            && now < current.renew_at
        {
            match self.ask(&current.credentials).await {
                // Its task has ended: it will say so for ever.
                Err(error) if !error.is_transient() => {}
                other => return other,
            }
        }
        match (self.make().await, current.as_mut()) {
            (Ok((made, headers)), _) => {
                *current = Some(made);
                Ok(headers)
            }
            (Err(error), Some(old)) => {
                tracing::debug!(%error, "no new credentials, the old ones may do");
                old.renew_at = now + RENEW_AGAIN_AFTER;
                self.ask(&old.credentials).await.map_err(|_| error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// New credentials that work.
    async fn make(&self) -> Result<(Current, Headers), CredentialsError> {
        let credentials = self.source.open().await?;
        let headers = self.ask(&credentials).await?;
        let renew_at = Instant::now() + RENEW_AFTER;
        Ok((
            Current {
                credentials,
                renew_at,
            },
            headers,
        ))
    }

    async fn ask(
        &self,
        credentials: &credentials::Credentials,
    ) -> Result<Headers, CredentialsError> {
        let asked = credentials.headers(Extensions::new());
        tokio::time::timeout(self.patience, asked)
            .await
            .unwrap_or_else(|_| {
                let waited = self.patience.as_secs_f32();
                let what = format!("no credentials in {waited} seconds");
                Err(CredentialsError::from_msg(true, what))
            })
    }
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Renewed({:?})", self.0.source)
    }
}

impl CredentialsProvider for Renewed {
    /// Always anew: whoever asks keeps nothing of its own.
    async fn headers(&self, _: Extensions) -> Result<Headers, CredentialsError> {
        self.0.headers().await
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_named_and_never_given() {
        let parse = |text: &str| Source::parse(Some(text), Some("http://127.0.0.1:1"));
        assert_eq!(Source::parse(None, None).unwrap(), Source::Default);
        assert_eq!(parse("default").unwrap(), Source::Default);
        assert_eq!(parse("anonymous").unwrap(), Source::Anonymous);
        let file = Source::File("/etc/gtide/gcs.json".into());
        assert_eq!(parse("file:/etc/gtide/gcs.json").unwrap(), file);
        assert!(Source::parse(Some("anonymous"), None).is_err());
        for text in [
            "hunter2",
            "file:hunter2",
            "profile:hunter2",
            "default:hunter2",
            "{\"private_key\": \"hunter2\"}",
            "",
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_that_comes_back_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gcs.json");
        let renewed = Renewed::new(Source::File(path.clone()), Duration::from_secs(1));
        for text in [
            None,
            Some("{}"),
            Some("hunter2"),
            Some(r#"{"type": "service_account", "private_key": "hunter2"}"#),
        ] {
            if let Some(text) = text {
                crate::durable_fs::replace(&path, text.as_bytes()).unwrap();
            }
            let error = renewed.headers().await.unwrap_err();
            let text = format!("{error} {error:?} {renewed:?}");
            assert!(
                text.contains("gcs.json") && !text.contains("hunter2"),
                "{text}"
            );
        }
    }
}
