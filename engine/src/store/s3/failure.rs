//! The SDK's errors in the contract's words.

use std::error::Error;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::connection::Connection;
use crate::store::http_time::retry_after;
use crate::store::{Operation, ServiceFailure, StoreError};

/// What was being done to what, for the error that may come of it.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    pub(super) operation: Operation,
    pub(super) object: String,
    pub(super) connection: Arc<Connection>,
}

impl Failing {
    /// What `error` means.
    pub(super) fn by<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let Self {
            operation, object, ..
        } = self.clone();
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
        let Self {
            operation, object, ..
        } = self.clone();
        if failure.refuses_credentials(operation) {
            self.connection.renew_credentials();
        }
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
            // What the store listed is not what it can put together: another upload may do.
            (400, Some("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall"))
                if operation == Operation::CompleteUpload =>
            {
                StoreError::Mismatch {
                    operation,
                    object,
                    reason: failure.to_string(),
                }
            }
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
    let header = |name| answer.headers().get(name);
    let retry_after = header("retry-after").and_then(|text| retry_after(text, header("date")));
    ServiceFailure {
        status: answer.status().as_u16(),
        code: None,
        message: None,
        retry_after,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::canned::{Canned, answer, error};
    use super::*;
    use crate::layout::ObjectKey;
    use crate::retry::RetryClass;
    use crate::store::http_time::MAX_RETRY_AFTER;
    use crate::store::{PartReceipt, UploadFacts, UploadId};

    const FACTS: UploadFacts = UploadFacts { size: 1, crc32c: 0 };

    fn key() -> ObjectKey {
        ObjectKey::from_listing("object")
    }

    async fn put(answers: Vec<String>) -> (Canned, Result<(), StoreError>) {
        let canned = Canned::start(answers).await;
        let result = put_to(&canned).await;
        (canned, result)
    }

    async fn put_to(canned: &Canned) -> Result<(), StoreError> {
        let body = Bytes::from_static(b"x");
        canned.store.put_if_absent(&key(), body).await
    }

    async fn complete(status: &str, body: &str) -> StoreError {
        let canned = Canned::start(vec![answer(status, "", body)]).await;
        let parts = [PartReceipt {
            number: 1,
            size: 1,
            etag: "etag".to_owned(),
            crc32c: Some(0),
        }];
        let (key, id) = (key(), UploadId::new("id"));
        let completed = canned.store.complete_upload(&key, &id, &parts, &FACTS);
        completed.await.unwrap_err()
    }

    #[tokio::test]
    async fn a_time_to_come_back_is_believed_in_both_forms() {
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        for (header, class) in [
            (
                "Retry-After: 7\r\n",
                RetryClass::After(Duration::from_secs(7)),
            ),
            (
                "Retry-After: Sun, 06 Nov 1994 08:50:07 GMT\r\n",
                RetryClass::After(Duration::from_secs(30)),
            ),
            ("Retry-After: 86400\r\n", RetryClass::After(MAX_RETRY_AFTER)),
            ("Retry-After: 0\r\n", RetryClass::Backoff),
            ("Retry-After: soon\r\n", RetryClass::Backoff),
        ] {
            let headers = format!("{date}{header}");
            let busy = answer("503 Slow Down", &headers, &error("SlowDown"));
            let (_canned, result) = put(vec![busy]).await;
            assert_eq!(result.unwrap_err().retry_class(), class, "{header}");
        }
    }

    /// The SDK keeps what it has read for a quarter of an hour.
    #[tokio::test]
    async fn credentials_that_expired_are_read_again_at_the_next_attempt() {
        let expired = answer("400 Bad Request", "", &error("ExpiredToken"));
        let (canned, result) = put(vec![expired, answer("200 OK", "", "")]).await;
        assert_eq!(result.unwrap_err().retry_class(), RetryClass::Backoff);
        canned.rotate("SECOND");
        put_to(&canned).await.unwrap();
        let heads = canned.heads();
        assert_eq!(heads.len(), 2);
        assert!(heads[0].contains("credential=first/"), "{}", heads[0]);
        assert!(heads[1].contains("credential=second/"), "{}", heads[1]);
    }

    #[tokio::test]
    async fn a_head_that_is_refused_without_a_reason_is_asked_again() {
        for status in ["400 Bad Request", "403 Forbidden"] {
            let canned = Canned::start(vec![answer(status, "", "")]).await;
            let error = canned.store.head(&key()).await.unwrap_err();
            assert_eq!(error.retry_class(), RetryClass::Backoff, "{error:?}");
        }
    }

    /// TRAPS 29.
    #[tokio::test]
    async fn a_success_with_an_error_inside_is_a_failure_that_passes() {
        for body in [error("InternalError"), "<html>".to_owned(), String::new()] {
            let error = complete("200 OK", &body).await;
            assert_eq!(
                error.retry_class(),
                RetryClass::Backoff,
                "{body}: {error:?}"
            );
        }
    }

    #[tokio::test]
    async fn parts_that_the_store_cannot_put_together_are_sent_again() {
        let error = complete("400 Bad Request", &error("InvalidPart")).await;
        assert!(matches!(error, StoreError::Mismatch { .. }), "{error:?}");
        assert_eq!(error.retry_class(), RetryClass::Backoff);
    }
}
