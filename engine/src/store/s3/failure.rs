//! The SDK's errors in the contract's words.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::{Operation, ServiceFailure, StoreError};

/// The longest `Retry-After` that is taken seriously.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// What was being done to what, for the error that may come of it.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    pub(super) operation: Operation,
    pub(super) object: String,
}

impl Failing {
    /// What `error` means.
    pub(super) fn by<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let Self { operation, object } = self.clone();
        if let Some(error) = credentials_error(&error) {
            return StoreError::Credentials {
                operation,
                object,
                source: error.into(),
            };
        }
        match error {
            SdkError::ServiceError(answer) => {
                let failure = service_failure(answer.err(), answer.raw());
                self.by_service(failure)
            }
            // Something answered, in no language of S3's: a proxy, a load balancer.
            SdkError::ResponseError(answer) if !answer.raw().status().is_success() => {
                StoreError::Service {
                    operation,
                    object,
                    failure: Box::new(failure_of(answer.raw())),
                }
            }
            other => StoreError::Transport {
                operation,
                object,
                source: other.into_source().unwrap_or_else(Into::into),
            },
        }
    }

    fn by_service(&self, failure: ServiceFailure) -> StoreError {
        let Self { operation, object } = self.clone();
        match (failure.status, failure.code.as_deref()) {
            // The only precondition that we set on writes is that the key be free.
            (412, _) if matches!(operation, Operation::Put | Operation::CompleteUpload) => {
                StoreError::AlreadyExists { operation, object }
            }
            (412, _) if operation == Operation::Get => StoreError::Changed { object },
            (_, Some("NoSuchUpload")) => StoreError::UploadUnknown { operation, object },
            (_, Some("NoSuchKey")) => StoreError::NotFound { object },
            (400, Some("BadDigest" | "XAmzContentChecksumMismatch")) => StoreError::Mismatch {
                operation,
                object,
                reason: failure.to_string(),
            },
            _ => StoreError::Service {
                operation,
                object,
                failure: Box::new(failure),
            },
        }
    }

    /// A request that cannot be meant; nothing was sent.
    pub(super) fn invalid(&self, reason: impl Into<String>) -> StoreError {
        StoreError::InvalidUpload {
            operation: self.operation,
            object: self.object.clone(),
            reason: reason.into(),
        }
    }

    /// An answer that its documentation does not know.
    pub(super) fn oddly(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Protocol {
            operation: self.operation,
            object: self.object.clone(),
            reason: reason.into(),
        }
    }
}

fn service_failure(error: &impl ProvideErrorMetadata, answer: &HttpResponse) -> ServiceFailure {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    ServiceFailure {
        code: text(error.code()),
        message: text(error.message()),
        ..failure_of(answer)
    }
}

fn failure_of(answer: &HttpResponse) -> ServiceFailure {
    let seconds = answer.headers().get("retry-after");
    let seconds = seconds.and_then(|seconds| seconds.trim().parse().ok());
    ServiceFailure {
        status: answer.status().as_u16(),
        code: None,
        message: None,
        retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
        bucket_region: answer
            .headers()
            .get("x-amz-bucket-region")
            .map(str::to_owned),
    }
}

/// Credentials that cannot be had come as a failed dispatch, deep in the chain of sources.
fn credentials_error<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    if !matches!(
        error,
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_)
    ) {
        return None;
    }
    let chain = std::iter::successors(error.source(), |&error| error.source());
    let mut chain = chain
        .skip_while(|error| !error.is::<CredentialsError>())
        .peekable();
    chain.peek()?;
    let text: Vec<String> = chain.map(ToString::to_string).collect();
    Some(text.join(": "))
}
