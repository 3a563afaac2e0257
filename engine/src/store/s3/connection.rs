//! The SDK's client: made when it is first needed, since region and credentials may have to be asked
//! from files or from the instance's metadata service.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Config, StalledStreamProtectionConfig};
use tokio::sync::Mutex;

use super::ATTEMPTS;
use crate::store::location::check_endpoint;
use crate::store::{StoreConfig, StoreError, Timeouts};

/// What stores that are not AWS call their only region.
const ENDPOINT_REGION: &str = "us-east-1";

/// How to reach the service.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Credentials,
    pub(super) timeouts: Timeouts,
    client: Mutex<Option<Client>>,
    /// The client's credentials were refused; new ones may be there.
    is_stale: AtomicBool,
}

/// Where credentials come from. Holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Credentials {
    /// The SDK's default chain: environment, profile, web identity, container, instance.
    Chain,
    /// A profile of the user's AWS files.
    Profile(String),
    /// The default profile of this file.
    File(PathBuf),
}

impl Connection {
    pub(super) fn new(config: &StoreConfig, timeouts: Timeouts) -> Result<Self, StoreError> {
        if let Some(endpoint) = &config.endpoint {
            check_endpoint(endpoint)?;
        }
        Ok(Self {
            endpoint: config.endpoint.clone(),
            region: config.region.clone(),
            credentials: Credentials::parse(config.credentials.as_deref())?,
            timeouts,
            client: Mutex::default(),
            is_stale: AtomicBool::new(false),
        })
    }

    /// The one client of this store. `url` is for messages.
    pub(super) async fn client(&self, url: &str) -> Result<Client, StoreError> {
        let mut client = self.client.lock().await;
        if self.is_stale.swap(false, Ordering::Relaxed) {
            *client = None;
        }
        if client.is_none() {
            *client = Some(self.open(url).await?);
        }
        client.clone().ok_or_else(|| config_error(url, "no client"))
    }

    /// Makes the next request ask for credentials anew: the SDK would go on with refused ones until it believes them
    /// to be old.
    pub(super) fn renew_credentials(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    async fn open(&self, url: &str) -> Result<Client, StoreError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(self.timeout_config(self.timeouts.attempt))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .app_name(AppName::new("gtide").map_err(|error| config_error(url, error))?);
        let region = self.region.clone().or_else(|| {
            let has_endpoint = self.endpoint.is_some();
            has_endpoint.then(|| ENDPOINT_REGION.to_owned())
        });
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let Credentials::Profile(name) = &self.credentials {
            loader = loader.profile_name(name);
        }
        if self.credentials != Credentials::Chain {
            loader = loader.credentials_provider(Renewed(self.credentials.clone()));
        }
        let shared = loader.load().await;
        if shared.region().is_none() {
            return Err(StoreError::Config {
                what: format!("{url}: the region is not known"),
                hint: "set `region` of the destination, or AWS_REGION".to_owned(),
            });
        }
        let up_only = StalledStreamProtectionConfig::enabled()
            .download_enabled(false)
            .grace_period(self.timeouts.idle)
            .build();
        let mut config =
            aws_sdk_s3::config::Builder::from(&shared).stalled_stream_protection(up_only);
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        Ok(Client::from_conf(config.build()))
    }

    /// For requests that need another time than [`Timeouts::attempt`].
    pub(super) fn attempt_timeout(&self, attempt: Duration) -> Builder {
        Config::builder().timeout_config(self.timeout_config(attempt))
    }

    fn timeout_config(&self, attempt: Duration) -> TimeoutConfig {
        // No read_timeout: in the SDK it spans the sending of the body too.
        TimeoutConfig::builder()
            .connect_timeout(self.timeouts.connect)
            .operation_attempt_timeout(attempt)
            .build()
    }
}

fn config_error(url: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Config {
        what: format!("{url}: {error}"),
        hint: "check the destination's settings".to_owned(),
    }
}

impl Credentials {
    fn parse(text: Option<&str>) -> Result<Self, StoreError> {
        let Some(text) = text else {
            return Ok(Self::Chain);
        };
        match text.split_once(':') {
            Some(("profile", name)) if !name.is_empty() => Ok(Self::Profile(name.to_owned())),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            _ => Err(StoreError::Config {
                // Not repeated: it may be a secret, put where its reference belongs.
                what: "`credentials` is neither profile:NAME nor file:/absolute/path".to_owned(),
                hint: "secrets stay in AWS's own files; name the profile or the file here"
                    .to_owned(),
            }),
        }
    }
}

/// Reads the files again each time the SDK renews credentials (as they expire; every 15 minutes where
/// they do not say when), so that a rotated file is seen by a running daemon.
#[derive(Debug)]
struct Renewed(Credentials);

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let mut provider = ProfileFileCredentialsProvider::builder();
        match &self.0 {
            Credentials::Chain => {}
            Credentials::Profile(name) => provider = provider.profile_name(name),
            Credentials::File(path) => {
                let files = EnvConfigFiles::builder()
                    .with_file(EnvConfigFileKind::Credentials, path)
                    .build();
                provider = provider.profile_files(files).profile_name("default");
            }
        }
        let provider = provider.build();
        future::ProvideCredentials::new(async move { provider.provide_credentials().await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: Option<&str>, credentials: Option<&str>) -> StoreConfig {
        StoreConfig {
            url: "s3://bucket".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            credentials: credentials.map(str::to_owned),
            ..StoreConfig::default()
        }
    }

    #[test]
    fn secrets_in_the_wrong_place_are_refused_and_not_repeated() {
        for config in [
            config(None, Some("AKIAHUNTER2:hunter2")),
            config(None, Some("file:hunter2")),
            config(None, Some("hunter2")),
            config(Some("https://key:hunter2@host"), None),
            config(Some("host:9000/hunter2"), None),
        ] {
            let error = Connection::new(&config, Timeouts::default()).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn credentials_are_named_by_profile_or_file() {
        assert_eq!(Credentials::parse(None).unwrap(), Credentials::Chain);
        let profile = Credentials::parse(Some("profile:backup")).unwrap();
        assert_eq!(profile, Credentials::Profile("backup".to_owned()));
        let file = Credentials::parse(Some("file:/etc/gtide/aws")).unwrap();
        assert_eq!(file, Credentials::File("/etc/gtide/aws".into()));
    }

    #[tokio::test]
    async fn a_rotated_credentials_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let provider = Renewed(Credentials::File(path.clone()));
        for id in ["FIRST", "SECOND"] {
            let text =
                format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = hidden\n");
            crate::durable_fs::replace(&path, text.as_bytes()).unwrap();
            let credentials = provider.provide_credentials().await.unwrap();
            assert_eq!(credentials.access_key_id(), id);
        }
    }
}
