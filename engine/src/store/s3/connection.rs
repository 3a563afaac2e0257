//! The SDK's client: made when it is first needed, since region and credentials may have to be asked
//! from files or from the instance's metadata service.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Config, StalledStreamProtectionConfig};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{ATTEMPTS, body};
use crate::cloud::Lifetime;
use crate::cloud::aws::{Account, Patience, Renewed, Settings};
use crate::store::{Limits, StoreConfig, StoreError};

/// How to reach the service.
#[derive(Debug)]
pub(super) struct Connection {
    account: Account,
    addressing: Addressing,
    dual_stack: bool,
    pub(super) limits: Limits,
    opened: OnceCell<Opened>,
}

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addressing {
    /// By host at AWS, by path elsewhere: few other services have a wildcard certificate.
    Usual,
    Path,
    VirtualHost,
}

impl Addressing {
    fn parse(text: Option<&str>) -> Result<Self, StoreError> {
        match text {
            None => Ok(Self::Usual),
            Some("path") => Ok(Self::Path),
            Some("virtual-host") => Ok(Self::VirtualHost),
            Some(text) => Err(StoreError::Config {
                what: format!("`addressing` is {text:?}"),
                hint: "write path or virtual-host".to_owned(),
            }),
        }
    }
}

#[derive(Debug)]
struct Opened {
    client: Client,
    credentials: Renewed,
}

impl Connection {
    /// A request's body.
    pub(super) fn body(&self, bytes: Bytes) -> ByteStream {
        body::retryable(bytes, self.limits.bandwidth.clone())
    }

    pub(super) fn new(config: &StoreConfig, limits: Limits) -> Result<Self, StoreError> {
        let account = Account::new(Settings {
            endpoint: config.endpoint.as_deref(),
            region: config.region.as_deref(),
            credentials: config.credentials.as_deref(),
            role: config.s3.role.as_deref(),
            external_id: config.s3.external_id.as_deref(),
            renew_ahead: config.s3.renew_ahead,
        })?;
        Ok(Self {
            account,
            addressing: Addressing::parse(config.s3.addressing.as_deref())?,
            dual_stack: config.s3.dual_stack,
            limits,
            opened: OnceCell::new(),
        })
    }

    /// The one client of this store. `url` is for messages.
    pub(super) async fn client(&self, url: &str) -> Result<Client, StoreError> {
        let opened = self.opened.get_or_try_init(|| self.open(url)).await?;
        Ok(opened.client.clone())
    }

    /// Makes the next request ask for credentials anew: those that were sent were refused.
    pub(super) fn renew_credentials(&self) {
        if let Some(opened) = self.opened.get() {
            opened.credentials.refuse();
        }
    }

    /// How long the credentials last that were used last.
    pub(super) fn credentials(&self) -> Lifetime {
        let opened = self.opened.get();
        opened.map_or(Lifetime::None, |opened| opened.credentials.lifetime())
    }

    async fn open(&self, url: &str) -> Result<Opened, StoreError> {
        let patience = Patience {
            attempts: ATTEMPTS,
            timeouts: self.timeout_config(self.limits.timeouts.attempt),
        };
        let (shared, credentials) = self.account.load(url, &patience).await?;
        let up_only = StalledStreamProtectionConfig::enabled()
            .download_enabled(false)
            .grace_period(self.limits.timeouts.idle)
            .build();
        let mut config = Builder::from(&shared).stalled_stream_protection(up_only);
        let endpoint = self.account.endpoint();
        config.set_endpoint_url(endpoint.map(str::to_owned));
        let by_path = match self.addressing {
            Addressing::Usual => endpoint.is_some(),
            Addressing::Path => true,
            Addressing::VirtualHost => false,
        };
        config = config.force_path_style(by_path);
        if self.dual_stack {
            config = config.use_dual_stack(true);
        }
        Ok(Opened {
            client: Client::from_conf(config.build()),
            credentials,
        })
    }

    /// For requests that need another time than [`Timeouts::attempt`].
    pub(super) fn attempt_timeout(&self, attempt: Duration) -> Builder {
        Config::builder().timeout_config(self.timeout_config(attempt))
    }

    fn timeout_config(&self, attempt: Duration) -> TimeoutConfig {
        // No read_timeout: in the SDK it spans the sending of the body too.
        TimeoutConfig::builder()
            .connect_timeout(self.limits.timeouts.connect)
            .operation_attempt_timeout(attempt)
            .build()
    }
}
