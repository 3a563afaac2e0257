//! The SDK's client: made when it is first needed, since region and credentials may have to be asked
//! from files or from the instance's metadata service.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Config, StalledStreamProtectionConfig};
use tokio::sync::OnceCell;

use super::ATTEMPTS;
use crate::cloud::aws::{Account, Patience, Renewed, Settings};
use crate::store::{StoreConfig, StoreError, Timeouts};

/// How to reach the service.
#[derive(Debug)]
pub(super) struct Connection {
    account: Account,
    pub(super) timeouts: Timeouts,
    opened: OnceCell<Opened>,
}

#[derive(Debug)]
struct Opened {
    client: Client,
    credentials: Renewed,
}

impl Connection {
    pub(super) fn new(config: &StoreConfig, timeouts: Timeouts) -> Result<Self, StoreError> {
        let account = Account::new(Settings {
            endpoint: config.endpoint.as_deref(),
            region: config.region.as_deref(),
            credentials: config.credentials.as_deref(),
            role: config.role.as_deref(),
            external_id: config.external_id.as_deref(),
            renew_ahead: config.renew_ahead,
        })?;
        Ok(Self {
            account,
            timeouts,
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

    async fn open(&self, url: &str) -> Result<Opened, StoreError> {
        let patience = Patience {
            attempts: ATTEMPTS,
            timeouts: self.timeout_config(self.timeouts.attempt),
        };
        let (shared, credentials) = self.account.load(url, &patience).await?;
        let up_only = StalledStreamProtectionConfig::enabled()
            .download_enabled(false)
            .grace_period(self.timeouts.idle)
            .build();
        let mut config = Builder::from(&shared).stalled_stream_protection(up_only);
        if let Some(endpoint) = self.account.endpoint() {
            config = config.endpoint_url(endpoint).force_path_style(true);
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
            .connect_timeout(self.timeouts.connect)
            .operation_attempt_timeout(attempt)
            .build()
    }
}
