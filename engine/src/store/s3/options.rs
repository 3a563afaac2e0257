//! What an S3 service is told to do with every object that is stored there.
//!
//! # Limits
//! The storage class is the archive objects' alone: manifest entries are small, and every plan reads them. What a class
//! costs that must be thawed before it can be read is the user's choice; gtide does not thaw.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectLockMode, ServerSideEncryption, StorageClass};
use url::form_urlencoded;

use crate::clock::{Clock, SystemClock};
use crate::layout::{KeyKind, ObjectKey};
use crate::store::{S3Settings, StoreError};

/// Tags of one object at most (S3 user guide, "Categorizing your objects using tags").
const MAX_TAGS: usize = 10;

const DAY: Duration = Duration::from_hours(24);

/// The longest retention: a hundred years. Nobody can take one back.
const MAX_RETAIN_DAYS: u32 = 36_500;

/// The settings, understood.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    storage_class: Option<StorageClass>,
    tags: Option<String>,
    lock: Option<Lock>,
}

#[derive(Debug, Clone)]
struct Lock {
    mode: ObjectLockMode,
    retain: Duration,
}

impl Options {
    pub(super) fn new(settings: &S3Settings) -> Result<Self, StoreError> {
        let (encryption, kms_key) = encryption(settings.encryption.as_deref())?;
        Ok(Self {
            encryption,
            kms_key,
            storage_class: storage_class(settings.storage_class.as_deref())?,
            tags: tags(&settings.tags)?,
            lock: lock(settings.object_lock.as_deref(), settings.retain_days)?,
        })
    }

    pub(super) fn put(
        &self,
        request: PutObjectFluentBuilder,
        key: &ObjectKey,
    ) -> PutObjectFluentBuilder {
        // What is locked must name it, beside the checksum itself (S3 API reference, "PutObject").
        let named = self.lock.as_ref().map(|_| ChecksumAlgorithm::Crc32C);
        request
            .set_checksum_algorithm(named)
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_storage_class(self.storage_class_of(key))
            .set_tagging(self.tags.clone())
            .set_object_lock_mode(self.lock.as_ref().map(|lock| lock.mode.clone()))
            .set_object_lock_retain_until_date(self.retain_until())
    }

    pub(super) fn begin(
        &self,
        request: CreateMultipartUploadFluentBuilder,
        key: &ObjectKey,
    ) -> CreateMultipartUploadFluentBuilder {
        request
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_storage_class(self.storage_class_of(key))
            .set_tagging(self.tags.clone())
            .set_object_lock_mode(self.lock.as_ref().map(|lock| lock.mode.clone()))
            .set_object_lock_retain_until_date(self.retain_until())
    }

    fn storage_class_of(&self, key: &ObjectKey) -> Option<StorageClass> {
        let is_archive = key.parse().is_ok_and(|key| key.kind == KeyKind::Log);
        self.storage_class.clone().filter(|_| is_archive)
    }

    fn retain_until(&self) -> Option<DateTime> {
        let retain = self.lock.as_ref()?.retain;
        let until = SystemClock.now().checked_add(retain).ok()?;
        Some(DateTime::from_secs(until.as_second()))
    }
}

fn refuse<T>(what: String, hint: &str) -> Result<T, StoreError> {
    Err(StoreError::Config {
        what,
        hint: hint.to_owned(),
    })
}

fn encryption(
    text: Option<&str>,
) -> Result<(Option<ServerSideEncryption>, Option<String>), StoreError> {
    let kms = Some(ServerSideEncryption::AwsKms);
    match text {
        None => Ok((None, None)),
        Some("AES256") => Ok((Some(ServerSideEncryption::Aes256), None)),
        Some("aws:kms") => Ok((kms, None)),
        Some(text) => match text.strip_prefix("aws:kms:") {
            Some(key) if !key.is_empty() => Ok((kms, Some(key.to_owned()))),
            _ => refuse(
                format!("`sse` is {text:?}"),
                "write AES256, aws:kms, or aws:kms: and the id or ARN of a key",
            ),
        },
    }
}

fn storage_class(text: Option<&str>) -> Result<Option<StorageClass>, StoreError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if text.is_empty() || !text.chars().all(is_name) {
        return refuse(
            format!("`storage-class` is {text:?}"),
            "write its name as the service does: STANDARD_IA, INTELLIGENT_TIERING, GLACIER_IR",
        );
    }
    // A name that this SDK does not know may be another service's own.
    Ok(Some(StorageClass::from(text)))
}

fn tags(tags: &BTreeMap<String, String>) -> Result<Option<String>, StoreError> {
    if tags.len() > MAX_TAGS {
        return refuse(
            format!("`tags` are {}", tags.len()),
            "an object has at most 10 tags",
        );
    }
    let encoded = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(tags)
        .finish();
    Ok((!tags.is_empty()).then_some(encoded))
}

fn lock(mode: Option<&str>, days: Option<u32>) -> Result<Option<Lock>, StoreError> {
    let mode = match (mode, days) {
        (None, None) => return Ok(None),
        (Some("governance"), _) => ObjectLockMode::Governance,
        (Some("compliance"), _) => ObjectLockMode::Compliance,
        (None, Some(_)) => {
            return refuse(
                "`retain-days` has no meaning without `object-lock`".to_owned(),
                "set `object-lock` to governance or compliance; the bucket must have been made with object lock",
            );
        }
        (Some(text), _) => {
            return refuse(
                format!("`object-lock` is {text:?}"),
                "write governance (some may end it) or compliance (nobody can)",
            );
        }
    };
    match days {
        Some(days) if (1..=MAX_RETAIN_DAYS).contains(&days) => Ok(Some(Lock {
            mode,
            retain: DAY.saturating_mul(days),
        })),
        _ => refuse(
            "`object-lock` needs `retain-days`, from 1 to 36500".to_owned(),
            "say for how many days nothing may be deleted",
        ),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::canned::{Canned, answer};
    use super::*;
    use crate::store::UploadFacts;

    #[tokio::test]
    async fn both_ways_of_writing_an_object_tell_the_service() {
        let settings = S3Settings {
            encryption: Some("aws:kms:alias/bucket".to_owned()),
            storage_class: Some("STANDARD_IA".to_owned()),
            tags: [("team".to_owned(), "dba".to_owned())].into(),
            object_lock: Some("compliance".to_owned()),
            retain_days: Some(35),
            ..S3Settings::default()
        };
        let id = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
        let answers = vec![answer("200 OK", "", ""), answer("200 OK", "", id)];
        let canned = Canned::start_with(answers, settings).await;
        let key =
            ObjectKey::from_listing("c/3e11fa47-71ca-11e1-9e33-c80aa9429562/1/log/0000000001.gtb");
        let body = Bytes::from_static(b"x");
        canned.store.put_if_absent(&key, body).await.unwrap();
        let facts = UploadFacts { size: 1, crc32c: 0 };
        canned.store.begin_upload(&key, &facts).await.unwrap();
        for head in canned.heads() {
            for line in [
                "x-amz-server-side-encryption: aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id: alias/bucket",
                "x-amz-storage-class: standard_ia",
                "x-amz-tagging: team=dba",
                "x-amz-object-lock-mode: compliance",
                "x-amz-object-lock-retain-until-date: 20",
            ] {
                assert!(head.contains(line), "{line} is not in {head}");
            }
        }
    }

    fn settings(change: impl FnOnce(&mut S3Settings)) -> Result<Options, StoreError> {
        let mut settings = S3Settings::default();
        change(&mut settings);
        Options::new(&settings)
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = [
            settings(|s| s.encryption = Some("aes".to_owned())),
            settings(|s| s.encryption = Some("aws:kms:".to_owned())),
            settings(|s| s.storage_class = Some("standard ia".to_owned())),
            settings(|s| s.object_lock = Some("forever".to_owned())),
            settings(|s| s.object_lock = Some("compliance".to_owned())),
            settings(|s| s.retain_days = Some(30)),
            settings(|s| {
                s.object_lock = Some("governance".to_owned());
                s.retain_days = Some(0);
            }),
            settings(|s| s.tags = (0..11).map(|n| (n.to_string(), String::new())).collect()),
        ];
        for refused in refused {
            assert!(
                matches!(refused, Err(StoreError::Config { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn entries_stay_where_they_can_be_read_at_once() {
        let options = settings(|s| s.storage_class = Some("GLACIER_IR".to_owned())).unwrap();
        let class = |key| options.storage_class_of(&ObjectKey::from_listing(key));
        assert_eq!(
            class("c/3e11fa47-71ca-11e1-9e33-c80aa9429562/1/log/0000000001.gtb"),
            Some(StorageClass::GlacierIr)
        );
        assert_eq!(
            class("c/3e11fa47-71ca-11e1-9e33-c80aa9429562/1/manifest/0000000001.json"),
            None
        );
    }

    #[test]
    fn tags_are_written_as_a_query() {
        let tags = [("team", "data & more"), ("a", "b")];
        let options = settings(|s| {
            s.tags = tags
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        });
        assert_eq!(
            options.unwrap().tags.as_deref(),
            Some("a=b&team=data+%26+more")
        );
    }
}
