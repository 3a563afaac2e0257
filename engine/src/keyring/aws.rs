//! Keys in AWS KMS: the key never leaves the service, which makes and opens data keys.
//!
//! # Invariants
//! - A data key is bound to its object by the encryption context: it does not open for another one. The context is seen
//!   in CloudTrail, and key policies may ask for it.
//! - Only keys that the configuration names open anything. An id in an object is not trusted: whoever can write into
//!   the bucket could name a key of their own.
//!
//! # Limits
//! One request for each object that is sealed or opened.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::error::{KeyringError, Refusal};
use super::{ATTEMPT_TIMEOUT, ATTEMPTS, CONNECT_TIMEOUT, ServiceSettings};
use crate::archive::{DataKey, KeyId, ObjectIdentity, SealingKey, WrappedKey};
use crate::cloud::aws::{Account, Patience, Renewed, Settings};
use crate::cloud::{Lifetime, SettingsError};

/// What a key id of this service begins with.
pub(super) const SCHEME: &str = "aws-kms";

/// A key of the service.
pub(super) struct AwsKey {
    /// ARN, id or alias.
    reference: String,
    account: Account,
    opened: OnceCell<(Client, Renewed)>,
}

impl AwsKey {
    /// Nothing is asked yet.
    pub(super) fn new(
        reference: &str,
        settings: ServiceSettings<'_>,
    ) -> Result<Self, KeyringError> {
        let account = Account::new(Settings {
            endpoint: settings.endpoint,
            region: region_of(reference),
            credentials: settings.credentials,
            ..Settings::default()
        })?;
        Ok(Self {
            reference: reference.to_owned(),
            account,
            opened: OnceCell::new(),
        })
    }

    /// May it have wrapped this data key? An alias may stand for any key.
    pub(super) fn may_open(&self, id: &KeyId) -> bool {
        let Some((SCHEME, named)) = id.as_str().split_once(':') else {
            return false;
        };
        if self.reference.contains(":key/") {
            return is_same(&self.reference, named);
        }
        let is_alias = self.reference.contains("alias/");
        is_alias || named.ends_with(&format!(":key/{}", self.reference))
    }

    pub(super) async fn new_data_key(
        &self,
        identity: &ObjectIdentity,
    ) -> Result<SealingKey, KeyringError> {
        let action = "make a data key";
        let request = self.client().await?.generate_data_key();
        let answer = request
            .key_id(&self.reference)
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(context(identity)))
            .send()
            .await
            .map_err(|error| self.failed(action, error))?;
        let data_key = self.secret(action, answer.plaintext)?;
        let id = self.id(action, answer.key_id)?;
        let wrapped = self.wrapped(action, answer.ciphertext_blob)?;
        Ok(SealingKey::new(identity.clone(), data_key, id, wrapped))
    }

    pub(super) async fn wrap(
        &self,
        data_key: &DataKey,
        identity: &ObjectIdentity,
    ) -> Result<(KeyId, WrappedKey), KeyringError> {
        let action = "wrap a data key";
        let request = self.client().await?.encrypt();
        let answer = request
            .key_id(&self.reference)
            .plaintext(Blob::new(data_key.as_bytes().as_slice()))
            .set_encryption_context(Some(context(identity)))
            .send()
            .await
            .map_err(|error| self.failed(action, error))?;
        let id = self.id(action, answer.key_id)?;
        Ok((id, self.wrapped(action, answer.ciphertext_blob)?))
    }

    pub(super) async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        identity: &ObjectIdentity,
    ) -> Result<DataKey, KeyringError> {
        let action = "open a data key";
        let request = self.client().await?.decrypt();
        let answer = request
            // Named, so that no other key than the configured one can have wrapped it.
            .key_id(&self.reference)
            .ciphertext_blob(Blob::new(wrapped.as_bytes()))
            .set_encryption_context(Some(context(identity)))
            .send()
            .await
            .map_err(|error| self.failed(action, error))?;
        self.secret(action, answer.plaintext)
    }

    /// How long the credentials last that were used last.
    pub(super) fn credentials(&self) -> Lifetime {
        let opened = self.opened.get();
        opened.map_or(Lifetime::None, |(_, credentials)| credentials.lifetime())
    }

    async fn client(&self) -> Result<Client, KeyringError> {
        let (client, _) = self.opened.get_or_try_init(|| self.open()).await?;
        Ok(client.clone())
    }

    async fn open(&self) -> Result<(Client, Renewed), KeyringError> {
        let patience = Patience {
            attempts: ATTEMPTS,
            timeouts: TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        };
        let loaded = self.account.load(&self.to_string(), &patience).await;
        let (shared, credentials) = loaded.map_err(|error| SettingsError {
            hint: "name the key by its ARN, which has the region in it, or set AWS_REGION"
                .to_owned(),
            ..error
        })?;
        let mut config = aws_sdk_kms::config::Builder::from(&shared);
        if let Some(endpoint) = self.account.endpoint() {
            config = config.endpoint_url(endpoint);
        }
        Ok((Client::from_conf(config.build()), credentials))
    }

    fn secret(&self, action: &'static str, secret: Option<Blob>) -> Result<DataKey, KeyringError> {
        let bytes = Zeroizing::new(secret.map(Blob::into_inner).unwrap_or_default());
        DataKey::of_service(&bytes).ok_or_else(|| self.odd(action, "has no key of 32 bytes"))
    }

    fn wrapped(
        &self,
        action: &'static str,
        blob: Option<Blob>,
    ) -> Result<WrappedKey, KeyringError> {
        let blob = blob.filter(|blob| !blob.as_ref().is_empty());
        let blob = blob.ok_or_else(|| self.odd(action, "has no wrapped key"))?;
        Ok(WrappedKey::new(blob.into_inner()))
    }

    fn id(&self, action: &'static str, arn: Option<String>) -> Result<KeyId, KeyringError> {
        let id = format!("{SCHEME}:{}", arn.unwrap_or_default());
        let id = id.parse().ok().filter(|_| id.contains(":key/"));
        id.ok_or_else(|| self.odd(action, "does not name the key by its ARN"))
    }

    fn odd(&self, action: &'static str, reason: &'static str) -> KeyringError {
        KeyringError::Answer {
            key: self.to_string(),
            action,
            reason,
        }
    }

    fn failed<E>(&self, action: &'static str, error: SdkError<E, HttpResponse>) -> KeyringError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let refusal = refusal(&error);
        if refusal == Refusal::Credentials
            && let Some((_, credentials)) = self.opened.get()
        {
            credentials.refuse();
        }
        KeyringError::Service {
            key: self.to_string(),
            action,
            refusal,
            source: error.into_source().unwrap_or_else(Into::into),
        }
    }
}

impl fmt::Display for AwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}:{}", self.reference)
    }
}

impl fmt::Debug for AwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose data key it is. FORMAT.md §8.5.
fn context(identity: &ObjectIdentity) -> HashMap<String, String> {
    let source = &identity.source;
    HashMap::from([
        ("gtide:cluster".to_owned(), source.cluster.to_string()),
        (
            "gtide:server_uuid".to_owned(),
            source.server_uuid.to_string(),
        ),
        (
            "gtide:incarnation".to_owned(),
            source.incarnation.to_string(),
        ),
        ("gtide:sequence".to_owned(), identity.sequence.to_string()),
        ("gtide:file_name".to_owned(), identity.file_name.clone()),
    ])
}

/// `arn:aws:kms:REGION:…`
fn region_of(reference: &str) -> Option<&str> {
    let mut fields = reference.strip_prefix("arn:")?.split(':');
    fields.nth(2).filter(|region| !region.is_empty())
}

/// The same key by two ARNs: replicas of a multi-Region key ("mrk-…") differ in the region alone.
fn is_same(a: &str, b: &str) -> bool {
    let replica = |arn: &str| arn.split_once(":key/mrk-").map(|(_, id)| id.to_owned());
    a == b || replica(a).is_some_and(|id| replica(b) == Some(id))
}

/// By the error codes of the API reference, "Common Errors" and those of `Decrypt`, `Encrypt`, `GenerateDataKey`.
fn refusal<E>(error: &SdkError<E, HttpResponse>) -> Refusal
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(answer) = error else {
        let mut chain = std::iter::successors(error.source(), |&error| error.source());
        return if chain.any(<dyn Error>::is::<CredentialsError>) {
            Refusal::Credentials
        } else {
            Refusal::Away
        };
    };
    match (answer.err().code(), answer.raw().status().as_u16()) {
        (Some("ExpiredTokenException" | "ExpiredToken" | "UnrecognizedClientException"), _) => {
            Refusal::Credentials
        }
        (Some("AccessDeniedException"), _) => Refusal::Denied,
        (Some("DisabledException" | "KMSInvalidStateException"), _) => Refusal::Disabled,
        (Some("NotFoundException"), _) => Refusal::Missing,
        (Some("InvalidCiphertextException" | "IncorrectKeyException"), _) => Refusal::Ciphertext,
        (
            Some(
                "KMSInternalException"
                | "DependencyTimeoutException"
                | "KeyUnavailableException"
                | "ThrottlingException"
                | "LimitExceededException",
            ),
            _,
        )
        // Some proxy's page in the place of an answer has no code.
        | (_, 429 | 500..)
        | (None, ..300) => Refusal::Away,
        _ => Refusal::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-central-1:123456789012:key/1";

    fn key(reference: &str) -> AwsKey {
        AwsKey::new(reference, ServiceSettings::default()).unwrap()
    }

    #[test]
    fn an_arn_names_its_region_and_an_alias_none() {
        assert_eq!(region_of(ARN), Some("eu-central-1"));
        assert_eq!(region_of("alias/gtide"), None);
        assert_eq!(region_of("arn:aws:kms::1:key/1"), None);
    }

    #[test]
    fn a_key_that_the_configuration_does_not_name_is_not_asked() {
        let id: KeyId = format!("aws-kms:{ARN}").parse().unwrap();
        assert!(key(ARN).may_open(&id));
        assert!(key("alias/gtide").may_open(&id));
        assert!(!key("arn:aws:kms:eu-central-1:123456789012:key/2").may_open(&id));
        assert!(!key("alias/gtide").may_open(&"file:0123".parse().unwrap()));
        assert!(key("1").may_open(&id));
        assert!(!key("2").may_open(&id));
        let here: KeyId = "aws-kms:arn:aws:kms:us-east-1:1:key/mrk-1".parse().unwrap();
        assert!(key("arn:aws:kms:eu-central-1:1:key/mrk-1").may_open(&here));
        assert!(!key("arn:aws:kms:eu-central-1:1:key/mrk-2").may_open(&here));
    }
}
