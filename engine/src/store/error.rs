//! Why a store did not do what was asked, and what may be done about it.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::cloud::SettingsError;
use crate::exit::{Diagnose, Exit};
use crate::layout::ObjectKey;
use crate::retry::RetryClass;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after the call of the contract")]
pub enum Operation {
    Put,
    Head,
    Get,
    List,
    BeginUpload,
    ListParts,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    Remove,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Head => "head",
            Self::Get => "get",
            Self::List => "list",
            Self::BeginUpload => "begin upload of",
            Self::ListParts => "list parts of",
            Self::UploadPart => "upload part of",
            Self::CompleteUpload => "complete upload of",
            Self::AbortUpload => "abort upload of",
            Self::ListUploads => "list uploads of",
            Self::Remove => "remove",
        })
    }
}

/// Why a store did not do what was asked. `object` is always a whole URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The configuration cannot be meant.
    #[error("{what}")]
    Config {
        /// The setting and what is wrong with it.
        what: String,
        /// What to write instead.
        hint: String,
    },
    /// A key that not every store could hold, or that leads out of the store's place.
    #[error("key {:?} {reason}", key.as_str())]
    InvalidKey {
        /// The key.
        key: ObjectKey,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An object is there already. Compare: it may be your own.
    #[error("{operation} {object}: an object is there already")]
    AlreadyExists {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
    },
    /// Nothing is there.
    #[error("{object}: there is no such object")]
    NotFound {
        /// The object.
        object: String,
    },
    /// The store knows no such upload: completed, aborted or expired.
    #[error("{operation} {object}: the store does not know this upload")]
    UploadUnknown {
        /// What was being done.
        operation: Operation,
        /// The object it would have become.
        object: String,
    },
    /// An empty range, or one that begins behind the object's last byte.
    #[error("get {object}: the object has no bytes {start} to {end}")]
    InvalidRange {
        /// The object.
        object: String,
        /// First byte asked for.
        start: u64,
        /// The byte behind the last one asked for.
        end: u64,
    },
    /// Parts that cannot become the object; nothing was sent.
    #[error("{operation} {object}: {reason}")]
    InvalidUpload {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes are not those that were meant: refused, by us or by the store.
    #[error("{operation} {object}: {reason}")]
    Mismatch {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// Which checksum, and both values where known.
        reason: String,
    },
    /// More bytes than the reader is ready to hold.
    #[error("get {object}: it has more than {max} bytes")]
    TooLarge {
        /// The object.
        object: String,
        /// The limit.
        max: usize,
    },
    /// The object was replaced while it was read: somebody breaks the rule that objects are immutable.
    #[error("get {object}: it was replaced while it was read")]
    Changed {
        /// The object.
        object: String,
    },
    /// The operating system, for `file://`.
    #[error("{operation} {object}")]
    Io {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// No whole answer: not reached, cut off, timed out.
    #[error("{operation} {object}")]
    Transport {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// Why.
        source: BoxError,
    },
    /// The peer sent nothing more of a body.
    #[error("{operation} {object}: not a byte in {} seconds, at byte {at}", waited.as_secs_f32())]
    Stalled {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// Bytes of the object that came.
        at: u64,
        /// How long was waited for more.
        waited: Duration,
    },
    /// There are no credentials, or they could not be renewed.
    #[error("{operation} {object}: no credentials")]
    Credentials {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// Why.
        source: BoxError,
    },
    /// The service answered with an error.
    #[error("{operation} {object}: {failure}")]
    Service {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// The answer.
        failure: Box<ServiceFailure>,
    },
    /// The service answered with something that its documentation does not know.
    #[error("{operation} {object}: {reason}")]
    Protocol {
        /// What was being done.
        operation: Operation,
        /// The object.
        object: String,
        /// What is odd.
        reason: String,
    },
}

/// A service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFailure {
    /// The HTTP status.
    pub status: u16,
    /// The service's error code, such as `SlowDown`; answers to HEAD and redirects have none.
    pub code: Option<String>,
    /// Its message.
    pub message: Option<String>,
    /// The `Retry-After` header.
    pub retry_after: Option<Duration>,
    /// The region in which the bucket is, when the service says so.
    pub bucket_region: Option<String>,
}

impl fmt::Display for ServiceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service answered {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, " ({message})")?;
        }
        Ok(())
    }
}

/// What an error code or, without one, a status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Overload, or a fault on the service's side.
    Passing,
    /// Credentials that ran out; the next ones may do.
    Expired,
    /// These credentials may not do it, or are none.
    Denied,
    /// No such bucket.
    NoBucket,
    /// The bucket is elsewhere.
    OtherRegion,
    /// A clock is wrong.
    Clock,
    /// The store lacks something that the archive stands on.
    NotImplemented,
    /// The key for the store's own encryption.
    Kms,
    /// The bucket does not lock objects, or wants it otherwise.
    ObjectLock,
    /// The request itself.
    Refused,
}

impl ServiceFailure {
    fn meaning(&self) -> Meaning {
        match self.code.as_deref().unwrap_or_default() {
            "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "RequestTimeout"
            | "InternalError"
            | "ServiceUnavailable"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "BadDigest"
            // Google's reasons, from here on in each group.
            | "backendError"
            | "conflict"
            | "internalError"
            | "rateLimitExceeded"
            | "userRateLimitExceeded"
            | "uploadBrokenConnection" => Meaning::Passing,
            "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired"
            | "authError" => Meaning::Expired,
            "RequestTimeTooSkewed" | "RequestExpired" => Meaning::Clock,
            "AccessDenied"
            | "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "AllAccessDisabled"
            | "AccountProblem" => Meaning::Denied,
            "NoSuchBucket" | "bucketNotFound" => Meaning::NoBucket,
            "PermanentRedirect" | "AuthorizationHeaderMalformed" => Meaning::OtherRegion,
            "NotImplemented" => Meaning::NotImplemented,
            code if code.starts_with("KMS.") => Meaning::Kms,
            _ if self.speaks_of("Object Lock") || self.speaks_of("ObjectLock") => {
                Meaning::ObjectLock
            }
            _ => self.meaning_of_status(),
        }
    }

    /// For codes such as `InvalidRequest`, which mean many things.
    fn speaks_of(&self, words: &str) -> bool {
        let message = self.message.as_deref();
        message.is_some_and(|message| message.contains(words))
    }

    fn meaning_of_status(&self) -> Meaning {
        match self.status {
            301 | 307 => Meaning::OtherRegion,
            401 | 403 => Meaning::Denied,
            501 => Meaning::NotImplemented,
            // An error in an answer that began as a success (TRAPS 29) comes from the service's side.
            200..=299 | 408 | 429 | 500.. => Meaning::Passing,
            _ => Meaning::Refused,
        }
    }

    /// May other credentials do? They may have been renewed since they were read.
    pub(super) fn refuses_credentials(&self, operation: Operation) -> bool {
        self.does_not_say_why(operation)
            || matches!(self.meaning(), Meaning::Expired | Meaning::Denied)
    }

    /// An answer to HEAD has no body that could say why: expired credentials look like a right that is missing, and a
    /// wrong clock too.
    fn does_not_say_why(&self, operation: Operation) -> bool {
        operation == Operation::Head && self.code.is_none() && matches!(self.status, 400 | 403)
    }

    fn hint(&self) -> Option<String> {
        let hint = match self.meaning() {
            Meaning::Passing | Meaning::Refused => return None,
            Meaning::Expired => "the credentials have expired: renew what `credentials` names",
            Meaning::Denied => {
                "check `credentials`, and that they may get, put and list objects, and abort and list uploads, in this bucket and prefix"
            }
            Meaning::NoBucket => "create the bucket, or check the name in `url` and the `endpoint`",
            Meaning::OtherRegion => {
                return Some(match &self.bucket_region {
                    Some(region) => format!("the bucket is in {region}: set `region` to that"),
                    None => "check `region` and `endpoint`: the bucket is elsewhere".to_owned(),
                });
            }
            Meaning::Clock => "set this machine's clock: it differs too much from the service's",
            Meaning::NotImplemented => {
                "this store lacks conditional writes or multipart checksums, without which an archive is not safe: use another or a newer one"
            }
            Meaning::Kms => "check the bucket's default encryption key and the right to use it",
            Meaning::ObjectLock => {
                "object lock is given to a bucket when it is made: use one that has it, or leave `object-lock` and `retain-days` out"
            }
        };
        Some(hint.to_owned())
    }
}

impl From<SettingsError> for StoreError {
    fn from(SettingsError { what, hint }: SettingsError) -> Self {
        Self::Config { what, hint }
    }
}

impl StoreError {
    /// What may be done about it.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Config { .. }
            | Self::InvalidKey { .. }
            | Self::AlreadyExists { .. }
            | Self::NotFound { .. }
            | Self::InvalidRange { .. }
            | Self::InvalidUpload { .. }
            | Self::TooLarge { .. }
            | Self::Changed { .. } => RetryClass::Never,
            Self::UploadUnknown { .. }
            | Self::Mismatch { .. }
            | Self::Transport { .. }
            | Self::Stalled { .. }
            | Self::Credentials { .. }
            | Self::Protocol { .. } => RetryClass::Backoff,
            Self::Io { source, .. } => match io_remedy(source) {
                Some(remedy) if !remedy.may_pass => RetryClass::Never,
                _ => RetryClass::Backoff,
            },
            Self::Service {
                operation, failure, ..
            } if failure.does_not_say_why(*operation) => RetryClass::Backoff,
            Self::Service { failure, .. } => match (failure.meaning(), failure.retry_after) {
                (Meaning::Passing, Some(delay)) => RetryClass::After(delay),
                (Meaning::Passing | Meaning::Expired | Meaning::Clock, _) => RetryClass::Backoff,
                _ => RetryClass::Never,
            },
        }
    }

    /// A part's or an object's bytes that are not those that were meant.
    pub(super) fn crc_mismatch(
        operation: Operation,
        object: String,
        actual: u32,
        expected: u32,
    ) -> Self {
        Self::Mismatch {
            operation,
            object,
            reason: format!("crc32c is {actual:08x}, expected {expected:08x}"),
        }
    }
}

/// What a person can do about an error of the operating system.
struct Remedy {
    may_pass: bool,
    hint: &'static str,
}

fn io_remedy(error: &io::Error) -> Option<Remedy> {
    let (may_pass, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            false,
            "check the owner and the permissions of the directory",
        ),
        io::ErrorKind::ReadOnlyFilesystem => (false, "the file system is mounted read-only"),
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::AlreadyExists => (
            false,
            "something else lies where the object or its directory should be: move it away",
        ),
        io::ErrorKind::CrossesDevices => (
            false,
            "the directory spans file systems: mount the whole archive on one",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (true, "free space on the file system, or raise the quota")
        }
        _ => return None,
    };
    Some(Remedy { may_pass, hint })
}

impl Diagnose for StoreError {
    fn exit(&self) -> Exit {
        match self {
            Self::Config { .. } => Exit::Usage,
            Self::InvalidKey { .. } | Self::TooLarge { .. } => Exit::Corrupt,
            Self::InvalidUpload { .. } => Exit::Unexpected,
            Self::AlreadyExists { .. } | Self::Changed { .. } => Exit::Conflict,
            Self::NotFound { .. } | Self::InvalidRange { .. } => Exit::Gap,
            Self::Service {
                operation, failure, ..
            } if failure.does_not_say_why(*operation) => Exit::Usage,
            _ if self.retry_class() == RetryClass::Never => Exit::Usage,
            _ => Exit::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Config { hint, .. } => hint,
            Self::Io { source, .. } => io_remedy(source)?.hint,
            Self::Service {
                operation, failure, ..
            } if failure.does_not_say_why(*operation) => {
                "check that `credentials` have not expired and may read in this bucket and prefix, and this machine's clock"
            }
            Self::Service { failure, .. } => return failure.hint(),
            Self::Credentials { .. } => {
                "set `credentials` of the destination, or the cloud's own environment variables, and check that they can be read"
            }
            Self::Transport { .. } | Self::Stalled { .. } => {
                "check the network and the `endpoint`; it is safe to try again"
            }
            Self::Changed { .. } => "find out who else writes into this bucket and prefix",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(status: u16, code: Option<&str>) -> StoreError {
        StoreError::Service {
            operation: Operation::Put,
            object: "s3://bucket/key".to_owned(),
            failure: Box::new(ServiceFailure {
                status,
                code: code.map(str::to_owned),
                message: None,
                retry_after: None,
                bucket_region: None,
            }),
        }
    }

    #[test]
    fn what_passes_is_retried_and_what_a_person_must_mend_is_not() {
        for (status, code) in [
            (503, Some("SlowDown")),
            (500, Some("InternalError")),
            (400, Some("RequestTimeout")),
            (200, Some("InternalError")),
            (200, Some("SomethingNew")),
            (409, Some("OperationAborted")),
            (409, Some("ConditionalRequestConflict")),
            (400, Some("BadDigest")),
            (400, Some("ExpiredToken")),
            (429, Some("SomethingNew")),
            (408, None),
            (502, None),
        ] {
            let error = service(status, code);
            assert_eq!(error.retry_class(), RetryClass::Backoff, "{error}");
            assert_eq!(error.exit(), Exit::Transient, "{error}");
        }
        for (status, code) in [
            (403, Some("AccessDenied")),
            (403, Some("SignatureDoesNotMatch")),
            (403, Some("InvalidAccessKeyId")),
            (403, None),
            (404, Some("NoSuchBucket")),
            (301, None),
            (400, Some("KMS.DisabledException")),
            (501, Some("NotImplemented")),
            (501, None),
        ] {
            let error = service(status, code);
            assert_eq!(error.retry_class(), RetryClass::Never, "{error}");
            assert_eq!(error.exit(), Exit::Usage, "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
        for code in ["InvalidRequest", "EntityTooSmall", "InvalidPart"] {
            assert_eq!(service(400, Some(code)).retry_class(), RetryClass::Never);
        }
    }

    #[test]
    fn a_service_that_says_when_to_come_back_is_believed() {
        let delay = Duration::from_secs(7);
        let mut error = service(503, Some("SlowDown"));
        if let StoreError::Service { failure, .. } = &mut error {
            failure.retry_after = Some(delay);
        }
        assert_eq!(error.retry_class(), RetryClass::After(delay));
    }

    #[test]
    fn a_full_disk_may_pass_and_a_read_only_one_does_not() {
        let io = |kind: io::ErrorKind| StoreError::Io {
            operation: Operation::Put,
            object: "file:///srv/a/key".to_owned(),
            source: kind.into(),
        };
        assert_eq!(
            io(io::ErrorKind::StorageFull).retry_class(),
            RetryClass::Backoff
        );
        assert_eq!(io(io::ErrorKind::Other).retry_class(), RetryClass::Backoff);
        for kind in [
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::NotADirectory,
        ] {
            assert_eq!(io(kind).retry_class(), RetryClass::Never);
            assert!(io(kind).hint().is_some());
        }
    }

    #[test]
    fn the_text_names_operation_object_status_and_code() {
        assert_eq!(
            service(503, Some("SlowDown")).to_string(),
            "put s3://bucket/key: the service answered 503 SlowDown"
        );
    }
}
