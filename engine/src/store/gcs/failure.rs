//! The service's errors, and those of Google's crate, in the contract's words.
//!
//! A session's URI is a secret and part of every error of the HTTP client that sent to it: it is taken out.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use crate::store::http_time::retry_after;
use crate::store::{Operation, ServiceFailure, StoreError};

/// The longest message of the service that is passed on, in characters.
const MAX_MESSAGE: usize = 500;

/// How the service refuses a session that was cancelled ("Cancel an upload" in its documentation).
pub(super) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What was being done to what, for the error that may come of it.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    pub(super) operation: Operation,
    pub(super) object: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// `{"error": {"message": …, "errors": [{"reason": …}]}}`
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: Option<String>,
    #[serde(default)]
    errors: Vec<ErrorReason>,
}

#[derive(Deserialize)]
struct ErrorReason {
    reason: Option<String>,
}

impl Answer {
    /// Whether it is the bucket, not the object, that is not there: both are a 404, told apart by the text alone.
    pub(super) fn names_the_bucket(&self) -> bool {
        let (_, message) = reason_and_message(&self.body);
        message.is_some_and(|message| is_about_the_bucket(&message))
    }
}

impl Failing {
    /// What a refusal means.
    pub(super) fn by_answer(&self, answer: &Answer) -> StoreError {
        let (reason, message) = reason_and_message(&answer.body);
        self.by_status(
            answer.status.as_u16(),
            Some(&answer.headers),
            reason,
            message,
        )
    }

    /// What an error of Google's crate means.
    pub(super) fn by_crate(&self, error: &google_cloud_storage::Error) -> StoreError {
        let (operation, object) = (self.operation, self.object.clone());
        if error.is_authentication() {
            return StoreError::Credentials {
                operation,
                object,
                source: chain(error).into(),
            };
        }
        let Some(status) = error.http_status_code() else {
            return StoreError::Transport {
                operation,
                object,
                source: chain(error).into(),
            };
        };
        let message = error.status().map(|status| status.message.clone());
        let (reason, text) = error
            .http_payload()
            .map_or((None, None), reason_and_message);
        self.by_status(status, error.http_headers(), reason, message.or(text))
    }

    fn by_status(
        &self,
        status: u16,
        headers: Option<&HeaderMap>,
        reason: Option<String>,
        message: Option<String>,
    ) -> StoreError {
        let (operation, object) = (self.operation, self.object.clone());
        let text = message.as_deref().unwrap_or_default();
        match status {
            // The only precondition that we set on writes is that the key be free.
            412 if is_write(operation) => StoreError::AlreadyExists { operation, object },
            404 if operation == Operation::Get && !is_about_the_bucket(text) => {
                StoreError::NotFound { object }
            }
            404 | 410 | CLIENT_CLOSED_REQUEST if is_of_a_session(operation) => {
                StoreError::UploadUnknown { operation, object }
            }
            400 if is_write(operation) && is_about_a_checksum(text) => {
                self.mismatch(text.to_owned())
            }
            _ => StoreError::Service {
                operation,
                object,
                failure: Box::new(ServiceFailure {
                    status,
                    code: code(status, reason, text),
                    message,
                    retry_after: headers.and_then(told_delay),
                    bucket_region: None,
                }),
            },
        }
    }

    /// No whole answer.
    pub(super) fn transport(&self, error: reqwest::Error) -> StoreError {
        StoreError::Transport {
            operation: self.operation,
            object: self.object.clone(),
            // Without the URL, which may be a secret.
            source: chain(&error.without_url()).into(),
        }
    }

    /// No answer in time.
    pub(super) fn silent_for(&self, waited: Duration) -> StoreError {
        StoreError::Transport {
            operation: self.operation,
            object: self.object.clone(),
            source: format!("no answer in {} seconds", waited.as_secs_f32()).into(),
        }
    }

    pub(super) fn unknown_upload(&self) -> StoreError {
        StoreError::UploadUnknown {
            operation: self.operation,
            object: self.object.clone(),
        }
    }

    pub(super) fn mismatch(&self, reason: String) -> StoreError {
        StoreError::Mismatch {
            operation: self.operation,
            object: self.object.clone(),
            reason,
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

fn is_write(operation: Operation) -> bool {
    matches!(operation, Operation::Put | Operation::BeginUpload) || is_of_a_session(operation)
}

fn is_of_a_session(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::ListParts
            | Operation::UploadPart
            | Operation::CompleteUpload
            | Operation::AbortUpload
    )
}

fn is_about_the_bucket(message: &str) -> bool {
    message.contains("specified bucket")
}

fn is_about_a_checksum(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("crc32c") || message.contains("md5") || message.contains("hash")
}

/// The service's reason, or ours where it gives none (Google's crate drops it).
fn code(status: u16, reason: Option<String>, message: &str) -> Option<String> {
    let ours = match status {
        401 => "authError",
        // Of a bucket: whoever asks for an object does not come here.
        404 => "bucketNotFound",
        403 if message.to_ascii_lowercase().contains("rate limit") => "rateLimitExceeded",
        409 => "conflict",
        _ => return reason,
    };
    Some(ours.to_owned())
}

fn told_delay(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    retry_after(text(RETRY_AFTER)?, text(DATE))
}

/// JSON, or the plain text that the upload service speaks; a load balancer's page is neither.
fn reason_and_message(body: &Bytes) -> (Option<String>, Option<String>) {
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(body) {
        let reason = body.error.errors.into_iter().find_map(|error| error.reason);
        return (reason, body.error.message.map(shortened));
    }
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    let is_text = !text.is_empty() && !text.starts_with(['<', '{']);
    (None, is_text.then(|| shortened(text.to_owned())))
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// The error and all that caused it, in one line: some of Google's errors tell nothing by themselves.
fn chain(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Diagnose, Exit};
    use crate::retry::RetryClass;

    fn refused(operation: Operation, status: u16, body: &'static str) -> StoreError {
        let failing = Failing {
            operation,
            object: "gs://bucket/key".to_owned(),
        };
        failing.by_answer(&Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    const NO_BUCKET: &str = r#"{"error": {"code": 404, "message": "The specified bucket does not exist.", "errors": [{"reason": "notFound"}]}}"#;

    #[test]
    fn what_passes_is_retried_and_what_a_person_must_mend_is_not() {
        for (status, body) in [
            (408, ""),
            (
                429,
                r#"{"error": {"message": "slow", "errors": [{"reason": "rateLimitExceeded"}]}}"#,
            ),
            (
                403,
                r#"{"error": {"message": "slow", "errors": [{"reason": "userRateLimitExceeded"}]}}"#,
            ),
            (500, ""),
            (502, "<html>bad gateway</html>"),
            (503, "Service Unavailable"),
            // The next token may do.
            (401, "Invalid Credentials"),
            (409, ""),
        ] {
            let error = refused(Operation::Put, status, body);
            assert_eq!(error.retry_class(), RetryClass::Backoff, "{error}");
        }
        for (status, body, hint) in [
            (
                403,
                r#"{"error": {"message": "no access", "errors": [{"reason": "forbidden"}]}}"#,
                "credentials",
            ),
            (404, NO_BUCKET, "bucket"),
        ] {
            let error = refused(Operation::Put, status, body);
            assert_eq!(error.retry_class(), RetryClass::Never, "{error}");
            assert_eq!(error.exit(), Exit::Usage, "{error}");
            assert!(error.hint().unwrap().contains(hint), "{error}");
        }
    }

    #[test]
    fn a_missing_session_and_a_missing_object_are_told_from_a_missing_bucket() {
        for status in [404, 410, 499] {
            let error = refused(Operation::UploadPart, status, "Not Found");
            assert!(matches!(error, StoreError::UploadUnknown { .. }), "{error}");
        }
        let error = refused(Operation::Get, 404, "No such object: bucket/key");
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
        let error = refused(Operation::Get, 404, NO_BUCKET);
        assert!(
            error.hint().unwrap().contains("create the bucket"),
            "{error}"
        );
    }

    #[test]
    fn a_refused_precondition_and_a_refused_checksum_have_names() {
        let error = refused(Operation::CompleteUpload, 412, "");
        assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
        let text = "Provided CRC32C \"AAAAAA==\" doesn't match calculated CRC32C \"4waSgw==\".";
        let error = refused(Operation::CompleteUpload, 400, text);
        assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    }

    #[test]
    fn a_message_is_bounded() {
        let long = "é".repeat(MAX_MESSAGE + 1);
        assert_eq!(shortened(long).chars().count(), MAX_MESSAGE + 1);
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
