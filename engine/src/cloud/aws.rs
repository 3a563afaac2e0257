//! An account at AWS, or at a service that speaks its protocols.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};

pub(crate) use super::renewed::Renewed;
use super::{SettingsError, check_endpoint};

/// What services that are not AWS call their only region.
const ENDPOINT_REGION: &str = "us-east-1";

/// By this name a session of an assumed role is seen in AWS's logs.
const SESSION_NAME: &str = "gtide";

/// Credentials are renewed so long before they expire, unless told otherwise.
pub(crate) const RENEW_AHEAD: Duration = Duration::from_mins(5);

/// How an account is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Source,
    role: Option<Role>,
    renew_ahead: Duration,
}

/// What a configuration says of an account.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// `http(s)://host:port` of a service that is not AWS.
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) region: Option<&'a str>,
    /// `profile:NAME`, `file:/path`; none for the SDK's default chain.
    pub(crate) credentials: Option<&'a str>,
    /// The ARN of a role to assume, and the external id that its trust policy may want.
    pub(crate) role: Option<&'a str>,
    pub(crate) external_id: Option<&'a str>,
    /// How long before their expiry credentials are renewed.
    pub(crate) renew_ahead: Option<Duration>,
}

/// Where credentials come from. Holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The SDK's default chain: environment, profile, web identity, container, instance.
    Chain,
    /// A profile of the user's AWS files.
    Profile(String),
    /// The default profile of this file.
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Role {
    arn: String,
    external_id: Option<String>,
}

/// Attempts and time-outs of one request.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    pub(crate) attempts: u32,
    pub(crate) timeouts: TimeoutConfig,
}

impl Account {
    /// Reads the settings.
    ///
    /// # Errors
    /// When they cannot be meant. What may be a secret is not repeated.
    pub(crate) fn new(settings: Settings<'_>) -> Result<Self, SettingsError> {
        if let Some(endpoint) = settings.endpoint {
            check_endpoint(endpoint)?;
        }
        let role = match (settings.role, settings.external_id) {
            (Some(arn), _) if !arn.starts_with("arn:") => {
                return Err(SettingsError::new(
                    "`role` is not the ARN of a role",
                    "write arn:aws:iam::ACCOUNT:role/NAME",
                ));
            }
            (None, Some(_)) => {
                return Err(SettingsError::new(
                    "`external-id` has no meaning without `role`",
                    "name the `role` whose trust policy asks for it",
                ));
            }
            (None, None) => None,
            (Some(arn), external_id) => Some(Role {
                arn: arn.to_owned(),
                external_id: external_id.map(str::to_owned),
            }),
        };
        Ok(Self {
            endpoint: settings.endpoint.map(str::to_owned),
            region: settings.region.map(str::to_owned),
            credentials: Source::parse(settings.credentials)?,
            role,
            renew_ahead: settings.renew_ahead.unwrap_or(RENEW_AHEAD),
        })
    }

    /// The address of the service, if it is not AWS's own.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// The SDK's settings for clients of this account, and its credentials by themselves. `what` is for messages.
    ///
    /// # Errors
    /// When the region is not known.
    pub(crate) async fn load(
        &self,
        what: &str,
        patience: &Patience,
    ) -> Result<(SdkConfig, Renewed), SettingsError> {
        let failed = |error: &dyn std::fmt::Display| {
            SettingsError::new(format!("{what}: {error}"), "check its settings")
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(patience.timeouts.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(patience.attempts))
            .app_name(AppName::new("gtide").map_err(|error| failed(&error))?);
        let region = self.region.clone().or_else(|| {
            let has_endpoint = self.endpoint.is_some();
            has_endpoint.then(|| ENDPOINT_REGION.to_owned())
        });
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let Source::Profile(name) = &self.credentials {
            loader = loader.profile_name(name);
        }
        let shared = loader.load().await;
        if shared.region().is_none() {
            return Err(SettingsError::new(
                format!("{what}: the region is not known"),
                "set `region`, or AWS_REGION",
            ));
        }
        let base = if self.credentials == Source::Chain {
            shared
                .credentials_provider()
                .ok_or_else(|| failed(&"there is no source of credentials"))?
        } else {
            SharedCredentialsProvider::new(Reread {
                source: self.credentials.clone(),
                region: shared.region().cloned(),
            })
        };
        let shared = shared
            .into_builder()
            .credentials_provider(base.clone())
            .build();
        let source = match &self.role {
            None => base,
            Some(role) => SharedCredentialsProvider::new(role.assumed(&shared).await),
        };
        let renewed = Renewed::new(source, self.renew_ahead);
        let config = shared
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(renewed.clone()))
            // They are cached here, and renewed in time.
            .identity_cache(aws_config::identity::IdentityCache::no_cache())
            .build();
        Ok((config, renewed))
    }
}

impl Role {
    async fn assumed(&self, config: &SdkConfig) -> AssumeRoleProvider {
        let mut role = AssumeRoleProvider::builder(&self.arn)
            .configure(config)
            .session_name(SESSION_NAME);
        if let Some(id) = &self.external_id {
            role = role.external_id(id);
        }
        role.build().await
    }
}

impl Source {
    fn parse(text: Option<&str>) -> Result<Self, SettingsError> {
        let Some(text) = text else {
            return Ok(Self::Chain);
        };
        match text.split_once(':').unwrap_or((text, "")) {
            ("default", "") => Ok(Self::Chain),
            ("profile", name) if !name.is_empty() => Ok(Self::Profile(name.to_owned())),
            ("file", path) if path.starts_with('/') => Ok(Self::File(path.into())),
            _ => Err(SettingsError::new(
                // Not repeated: it may be a secret, put where its reference belongs.
                "`credentials` is none of default, profile:NAME and file:/absolute/path",
                "secrets stay in AWS's own files; name the profile or the file here",
            )),
        }
    }
}

/// Reads the files again each time that it is asked, so that a rotated file is seen by a running daemon.
#[derive(Debug)]
struct Reread {
    source: Source,
    /// Where a profile that names a role assumes it.
    region: Option<Region>,
}

impl ProvideCredentials for Reread {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let config = ProviderConfig::without_region().with_region(self.region.clone());
        let mut provider = ProfileFileCredentialsProvider::builder().configure(&config);
        match &self.source {
            Source::Chain => {}
            Source::Profile(name) => provider = provider.profile_name(name),
            Source::File(path) => {
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

    #[test]
    fn secrets_in_the_wrong_place_are_refused_and_not_repeated() {
        let credentials = |text| Settings {
            credentials: Some(text),
            ..Settings::default()
        };
        let endpoint = |text| Settings {
            endpoint: Some(text),
            ..Settings::default()
        };
        for settings in [
            credentials("AKIAHUNTER2:hunter2"),
            credentials("file:hunter2"),
            credentials("hunter2"),
            credentials("default:hunter2"),
            endpoint("https://key:hunter2@host"),
            endpoint("host:9000/hunter2"),
            Settings {
                role: Some("hunter2"),
                ..Settings::default()
            },
        ] {
            let error = Account::new(settings).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn credentials_are_named_by_profile_or_file() {
        assert_eq!(Source::parse(None).unwrap(), Source::Chain);
        assert_eq!(Source::parse(Some("default")).unwrap(), Source::Chain);
        let profile = Source::parse(Some("profile:backup")).unwrap();
        assert_eq!(profile, Source::Profile("backup".to_owned()));
        let file = Source::parse(Some("file:/etc/gtide/aws")).unwrap();
        assert_eq!(file, Source::File("/etc/gtide/aws".into()));
    }

    #[test]
    fn an_external_id_is_a_roles() {
        let external_id = Some("x");
        let alone = Settings {
            external_id,
            ..Settings::default()
        };
        assert!(Account::new(alone).is_err());
        let role = Settings {
            role: Some("arn:aws:iam::1:role/gtide"),
            external_id,
            ..Settings::default()
        };
        assert!(Account::new(role).is_ok());
    }

    #[tokio::test]
    async fn a_rotated_credentials_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let provider = Reread {
            source: Source::File(path.clone()),
            region: None,
        };
        for id in ["FIRST", "SECOND"] {
            let text =
                format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = hidden\n");
            crate::durable_fs::replace(&path, text.as_bytes()).unwrap();
            let credentials = provider.provide_credentials().await.unwrap();
            assert_eq!(credentials.access_key_id(), id);
        }
    }
}
