//! Keys in Google Cloud KMS: the key never leaves the service, which wraps and opens data keys made here.
//!
//! By the service's JSON protocol ("REST Resource: …cryptoKeys", methods `encrypt` and `decrypt`): two calls, for which
//! Google's crate would bring its whole surface.
//!
//! # Invariants
//! - A data key is bound to its object by additional authenticated data, the same as under a key file (FORMAT.md §8.2).
//! - What is sent and what comes back carries its CRC32C: the service says that it got the right bytes, and a wrapped key
//!   that was damaged on its way is not believed.
//! - Data keys are never logged: requests and answers are not shown.
//!
//! # Limits
//! One request for each object that is sealed or opened.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::error::{KeyringError, Refusal};
use super::{ATTEMPT_TIMEOUT, ATTEMPTS, CONNECT_TIMEOUT, ServiceSettings};
use crate::archive::{
    ArchiveError, DataKey, KeyId, ObjectIdentity, SealingKey, WrappedKey, associated_data,
};
use crate::cloud::google::{Renewed, Source};
use crate::cloud::{Lifetime, check_endpoint};
use crate::retry::RetryClass;

/// What a key id of this service begins with.
pub(super) const SCHEME: &str = "gcp-kms";

/// Where the service is, unless told otherwise.
const GOOGLE: &str = "https://cloudkms.googleapis.com";

const ENCRYPT: &str = "encrypt";
const DECRYPT: &str = "decrypt";

/// Before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest answer, in bytes: a wrapped data key has some hundred.
const MAX_ANSWER: usize = 64 * 1024;

/// A key of the service.
pub(super) struct GoogleKey {
    id: KeyId,
    /// Without a slash at the end.
    endpoint: String,
    credentials: Renewed,
    http: OnceCell<Client>,
}

/// Is it the full name of a key, without a version?
pub(super) fn is_key(name: &str) -> bool {
    const COLLECTIONS: [&str; 4] = ["projects", "locations", "keyRings", "cryptoKeys"];
    let parts: Vec<&str> = name.split('/').collect();
    let is_plain = |part: &&str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
    };
    parts.iter().all(is_plain)
        && parts.len() == 2 * COLLECTIONS.len()
        && parts.iter().step_by(2).eq(COLLECTIONS.iter())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(flatten)]
    text: Text<'a>,
    additional_authenticated_data: String,
    #[serde(serialize_with = "as_text")]
    additional_authenticated_data_crc32c: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    #[serde(rename_all = "camelCase")]
    Plain {
        plaintext: &'a str,
        #[serde(serialize_with = "as_text")]
        plaintext_crc32c: u32,
    },
    #[serde(rename_all = "camelCase")]
    Cipher {
        ciphertext: &'a str,
        #[serde(serialize_with = "as_text")]
        ciphertext_crc32c: u32,
    },
}

/// Numbers of 64 bits are written as text (protocol buffers' JSON mapping).
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_text<S: serde::Serializer>(number: &u32, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(number)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Encrypted {
    ciphertext: String,
    ciphertext_crc32c: String,
    verified_plaintext_crc32c: bool,
    verified_additional_authenticated_data_crc32c: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Decrypted {
    #[serde(deserialize_with = "secret")]
    plaintext: Zeroizing<String>,
    plaintext_crc32c: String,
}

fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl GoogleKey {
    /// How long the credentials last that were used last.
    pub(super) fn credentials(&self) -> Lifetime {
        self.credentials.lifetime()
    }

    /// Nothing is asked yet.
    pub(super) fn new(name: &str, settings: ServiceSettings<'_>) -> Result<Self, KeyringError> {
        let endpoint = settings.endpoint.unwrap_or(GOOGLE);
        check_endpoint(endpoint)?;
        let source = Source::parse(settings.credentials, settings.endpoint)?;
        let reference = format!("{SCHEME}:{name}");
        Ok(Self {
            id: reference
                .parse()
                .map_err(|_| KeyringError::Reference(reference))?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            credentials: Renewed::new(source, ATTEMPT_TIMEOUT),
            http: OnceCell::new(),
        })
    }

    pub(super) fn may_open(&self, id: &KeyId) -> bool {
        self.id == *id
    }

    pub(super) async fn new_data_key(
        &self,
        identity: &ObjectIdentity,
    ) -> Result<SealingKey, KeyringError> {
        let data_key = DataKey::generate().map_err(ArchiveError::Random)?;
        let (id, wrapped) = self.wrap(&data_key, identity).await?;
        Ok(SealingKey::new(identity.clone(), data_key, id, wrapped))
    }

    pub(super) async fn wrap(
        &self,
        data_key: &DataKey,
        identity: &ObjectIdentity,
    ) -> Result<(KeyId, WrappedKey), KeyringError> {
        let action = "wrap a data key";
        let key = data_key.as_bytes();
        let encoded = Zeroizing::new(BASE64.encode(key));
        let text = Text::Plain {
            plaintext: &encoded,
            plaintext_crc32c: crc32c::crc32c(key),
        };
        let read = |answer: Encrypted| {
            if !answer.verified_plaintext_crc32c
                || !answer.verified_additional_authenticated_data_crc32c
            {
                return Err("does not say that the service got the right bytes");
            }
            checked(&answer.ciphertext, &answer.ciphertext_crc32c)
                .filter(|wrapped| !wrapped.is_empty())
                .ok_or("has no wrapped key with the right CRC32C")
        };
        let wrapped = self.ask(action, ENCRYPT, text, identity, read).await?;
        Ok((self.id.clone(), WrappedKey::new(wrapped)))
    }

    pub(super) async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        identity: &ObjectIdentity,
    ) -> Result<DataKey, KeyringError> {
        let action = "open a data key";
        let wrapped = wrapped.as_bytes();
        let encoded = BASE64.encode(wrapped);
        let text = Text::Cipher {
            ciphertext: &encoded,
            ciphertext_crc32c: crc32c::crc32c(wrapped),
        };
        let read = |answer: Decrypted| {
            let key = checked(&answer.plaintext, &answer.plaintext_crc32c).map(Zeroizing::new);
            key.and_then(|key| DataKey::of_service(&key))
                .ok_or("has no key of 32 bytes with the right CRC32C")
        };
        self.ask(action, DECRYPT, text, identity, read).await
    }

    /// What `read` makes of the answer. One that it refuses was damaged on its way, and is asked for again.
    async fn ask<A: DeserializeOwned, T>(
        &self,
        action: &'static str,
        method: &'static str,
        text: Text<'_>,
        identity: &ObjectIdentity,
        read: impl Fn(A) -> Result<T, &'static str>,
    ) -> Result<T, KeyringError> {
        let data = associated_data(&self.id, identity);
        let request = Request {
            text,
            additional_authenticated_data: BASE64.encode(data.as_bytes()),
            additional_authenticated_data_crc32c: crc32c::crc32c(data.as_bytes()),
        };
        let body = serde_json::to_vec(&request).map(Zeroizing::new);
        let body = body.map_err(|error| self.failed(action, Refusal::Other, error))?;
        // Wiped when the last attempt is over: there is a data key in it.
        let body = Bytes::from_owner(body);
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            let answer = self.ask_once(action, method, &body).await;
            let answer =
                answer.and_then(|answer| read(answer).map_err(|why| self.odd(action, why)));
            match answer {
                Err(error) if attempt < ATTEMPTS && error.retry_class() != RetryClass::Never => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_once<A: DeserializeOwned>(
        &self,
        action: &'static str,
        method: &'static str,
        body: &Bytes,
    ) -> Result<A, KeyringError> {
        let away = |error| self.failed(action, Refusal::Away, error);
        let headers = self.credentials.headers().await;
        let headers = headers.map_err(|error| self.failed(action, Refusal::Credentials, error))?;
        let name = self
            .id
            .as_str()
            .split_once(':')
            .map_or("", |(_, name)| name);
        let url = format!("{}/v1/{name}:{method}", self.endpoint);
        let request = self.http(action).await?.post(url).headers(headers);
        let request = request
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .timeout(ATTEMPT_TIMEOUT)
            .body(body.clone());
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut answer = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
        while let Some(bytes) = response.chunk().await.map_err(away)? {
            if bytes.len() > MAX_ANSWER.saturating_sub(answer.len()) {
                return Err(self.odd(action, "is too long"));
            }
            answer.extend_from_slice(&bytes);
        }
        if status.is_success() {
            return serde_json::from_slice(&answer)
                .map_err(|_| self.odd(action, "is not of the documented form"));
        }
        if status == StatusCode::UNAUTHORIZED {
            self.credentials.renew();
        }
        let (refusal, told) = refusal(method, status, &answer);
        Err(self.failed(action, refusal, told))
    }

    async fn http(&self, action: &'static str) -> Result<&Client, KeyringError> {
        let made = self.http.get_or_try_init(|| async {
            Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("gtide/", env!("CARGO_PKG_VERSION")))
                .build()
        });
        made.await
            .map_err(|error| self.failed(action, Refusal::Other, error))
    }

    fn odd(&self, action: &'static str, reason: &'static str) -> KeyringError {
        KeyringError::Answer {
            key: self.to_string(),
            action,
            reason,
        }
    }

    fn failed(
        &self,
        action: &'static str,
        refusal: Refusal,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> KeyringError {
        KeyringError::Service {
            key: self.to_string(),
            action,
            refusal,
            source: source.into(),
        }
    }
}

impl fmt::Display for GoogleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

impl fmt::Debug for GoogleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes, if they have the CRC32C that came with them.
fn checked(encoded: &str, crc32c: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(encoded.as_bytes()).ok()?;
    let expected: u32 = crc32c.parse().ok()?;
    (crc32c::crc32c(&bytes) == expected).then_some(bytes)
}

/// By the status and the canonical code ("Cloud APIs: Errors"). The service's message names keys, and no secret.
fn refusal(method: &str, status: StatusCode, answer: &[u8]) -> (Refusal, String) {
    let json: Value = serde_json::from_slice(answer).unwrap_or_default();
    let error = json.get("error");
    let field = |name: &str| {
        error
            .and_then(|error| error.get(name)?.as_str())
            .unwrap_or_default()
    };
    let code = field("status");
    let refusal = match (status.as_u16(), code) {
        (401, _) => Refusal::Credentials,
        (403, _) => Refusal::Denied,
        (404, _) => Refusal::Missing,
        (400, "FAILED_PRECONDITION") => Refusal::Disabled,
        (400, "INVALID_ARGUMENT") if method == DECRYPT => Refusal::Ciphertext,
        (408 | 429 | 500.., _) => Refusal::Away,
        _ => Refusal::Other,
    };
    (refusal, format!("{status} {code}: {}", field("message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_in_full_and_without_a_version() {
        let name = "projects/p/locations/eu/keyRings/r/cryptoKeys/k";
        assert!(is_key(name));
        for name in [
            "",
            "projects/p",
            "projects/p/locations/eu/keyRings/r/cryptoKeys/",
            "projects/p/locations/eu/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
            "projects/p/locations/eu/keyRings/r/cryptoKeys/k?x",
            "projects/p/regions/eu/keyRings/r/cryptoKeys/k",
        ] {
            assert!(!is_key(name), "{name}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let of = |status: u16, code: &str| {
            let body = format!(r#"{{"error": {{"status": "{code}", "message": "m"}}}}"#);
            let status = StatusCode::from_u16(status).unwrap();
            refusal(DECRYPT, status, body.as_bytes()).0
        };
        assert_eq!(of(403, "PERMISSION_DENIED"), Refusal::Denied);
        assert_eq!(of(404, "NOT_FOUND"), Refusal::Missing);
        assert_eq!(of(400, "FAILED_PRECONDITION"), Refusal::Disabled);
        assert_eq!(of(400, "INVALID_ARGUMENT"), Refusal::Ciphertext);
        assert_eq!(of(429, "RESOURCE_EXHAUSTED"), Refusal::Away);
        assert_eq!(of(503, "UNAVAILABLE"), Refusal::Away);
        assert_eq!(
            refusal(DECRYPT, StatusCode::BAD_GATEWAY, b"<html>").0,
            Refusal::Away
        );
    }
}
