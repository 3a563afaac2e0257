//! How the service is reached: one HTTP client of ours, one of Google's crate, one source of credentials.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use google_cloud_auth::credentials::Credentials;
use google_cloud_storage::client::Storage;
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Method, RequestBuilder, Response};
use tokio::sync::OnceCell;
use url::Url;

use super::failure::{Answer, Failing};
use super::payload::Source;
use crate::cloud::google::{self, Renewed};
use crate::cloud::{Lifetime, check_endpoint};
use crate::store::bandwidth::Pieces;
use crate::store::{Limits, StoreConfig, StoreError};

/// Where the service is, unless told otherwise.
const GOOGLE: &str = "https://storage.googleapis.com";

/// The longest answer to a request of our client, in bytes. A page of 1,000 keys of 1,024 bytes, each written as six
/// (`\u1234`), has less.
const MAX_ANSWER: usize = 16 << 20;

/// How to reach the service.
#[derive(Debug)]
pub(super) struct Connection {
    /// Without a slash at the end.
    endpoint: String,
    http: Client,
    /// Made when first needed: that needs the runtime.
    google: OnceCell<Storage>,
    credentials: Renewed,
    pub(super) limits: Limits,
}

impl Connection {
    pub(super) fn new(config: &StoreConfig, limits: Limits) -> Result<Self, StoreError> {
        let endpoint = config.endpoint.as_deref();
        check_endpoint(endpoint.unwrap_or(GOOGLE))?;
        let source = google::Source::parse(config.credentials.as_deref(), endpoint)?;
        let http = Client::builder()
            .connect_timeout(limits.timeouts.connect)
            .http1_only()
            // 308 is how the service says that an upload is not complete.
            .redirect(Policy::none())
            .user_agent(concat!("gtide/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| StoreError::Config {
                what: format!("{}: {error}", config.url),
                hint: "check this machine's root certificates and proxy settings".to_owned(),
            })?;
        Ok(Self {
            endpoint: endpoint.unwrap_or(GOOGLE).trim_end_matches('/').to_owned(),
            http,
            google: OnceCell::new(),
            credentials: Renewed::new(source, limits.timeouts.attempt),
            limits,
        })
    }

    /// A URL of the service; `path` begins with a slash and is percent-encoded.
    pub(super) fn url(&self, path: &str) -> Result<Url, StoreError> {
        Url::parse(&format!("{}{path}", self.endpoint)).map_err(|_| StoreError::Config {
            what: "`endpoint` and the bucket's name make no URL".to_owned(),
            hint: "write https://host:port as `endpoint`".to_owned(),
        })
    }

    /// Whether a session at `url` is as well protected on its way as everything else.
    pub(super) fn is_as_safe(&self, url: &Url) -> bool {
        url.scheme() == "https" || (url.scheme() == "http" && self.endpoint.starts_with("http://"))
    }

    /// Google's own client.
    pub(super) async fn client(&self, failing: &Failing) -> Result<&Storage, StoreError> {
        let made = self.google.get_or_try_init(|| async {
            Storage::builder()
                .with_endpoint(&self.endpoint)
                .with_credentials(Credentials::from(self.credentials.clone()))
                .build()
                .await
        });
        made.await.map_err(|error| StoreError::Credentials {
            operation: failing.operation,
            object: failing.object.clone(),
            source: error.into(),
        })
    }

    /// A body for Google's client.
    pub(super) fn source(&self, bytes: Bytes) -> Source {
        Source::new(bytes, self.limits.bandwidth.clone())
    }

    /// A body for ours.
    pub(super) fn body(&self, bytes: Bytes) -> Body {
        match &self.limits.bandwidth {
            Some(bandwidth) => Body::wrap(Pieces::new(bytes, Some(Arc::clone(bandwidth)))),
            None => Body::from(bytes),
        }
    }

    pub(super) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.http.request(method, url.clone())
    }

    /// Sends a small request with credentials, and reads the answer.
    pub(super) async fn authorized(
        &self,
        request: RequestBuilder,
        failing: &Failing,
    ) -> Result<Answer, StoreError> {
        let headers = self.credentials.headers().await;
        let headers = headers.map_err(|error| StoreError::Credentials {
            operation: failing.operation,
            object: failing.object.clone(),
            source: error.into(),
        })?;
        self.exchange(
            request.headers(headers),
            self.limits.timeouts.attempt,
            failing,
        )
        .await
    }

    /// Sends a request as it is, and reads the answer.
    pub(super) async fn exchange(
        &self,
        request: RequestBuilder,
        timeout: Duration,
        failing: &Failing,
    ) -> Result<Answer, StoreError> {
        let sent = request.timeout(timeout).send().await;
        let mut response = sent.map_err(|error| failing.transport(error))?;
        let body = read(&mut response, failing).await?;
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    /// What a refusal means. Refused credentials are not sent again.
    pub(super) fn refusal(&self, failing: &Failing, answer: &Answer) -> StoreError {
        if answer.status == reqwest::StatusCode::UNAUTHORIZED {
            self.renew_credentials();
        }
        failing.by_answer(answer)
    }

    /// How long the credentials last that were used last.
    pub(super) fn credentials(&self) -> Lifetime {
        self.credentials.lifetime()
    }

    /// Makes the next request ask for credentials anew.
    pub(super) fn renew_credentials(&self) {
        self.credentials.renew();
    }
}

async fn read(response: &mut Response, failing: &Failing) -> Result<Bytes, StoreError> {
    let mut body = BytesMut::new();
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|error| failing.transport(error))?
    {
        if bytes.len() > MAX_ANSWER.saturating_sub(body.len()) {
            return Err(failing.oddly(format!("an answer of more than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_never_less_safe_than_the_service() {
        let safe = |endpoint: Option<&str>, url: &str| {
            let config = StoreConfig {
                url: "gs://bucket".to_owned(),
                endpoint: endpoint.map(str::to_owned),
                ..StoreConfig::default()
            };
            let connection = Connection::new(&config, Limits::default()).unwrap();
            connection.is_as_safe(&Url::parse(url).unwrap())
        };
        assert!(safe(None, "https://storage.googleapis.com/upload"));
        assert!(!safe(None, "http://storage.googleapis.com/upload"));
        assert!(safe(
            Some("http://127.0.0.1:1/"),
            "http://127.0.0.1:1/upload"
        ));
        assert!(!safe(Some("http://127.0.0.1:1/"), "file:///etc/passwd"));
    }
}
