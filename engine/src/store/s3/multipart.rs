//! Multipart uploads.
//!
//! Every part carries its CRC32C, the completion that of the whole object; S3 combines the parts' own
//! and refuses what does not fit. Parts are atomic: a part is there whole, or not.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    self, ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use jiff::Timestamp;

use super::date::AnsweredAt;
use super::failure::Failing;
use super::{S3Store, length};
use crate::layout::ObjectKey;
use crate::store::upload::{NO_BYTES, part_defect, receipts_defect};
use crate::store::{
    ObjectStore, Operation, Part, PartReceipt, PendingUpload, StoreError, UploadFacts, UploadId,
    crc32c_from_base64, crc32c_to_base64,
};

impl S3Store {
    pub(super) async fn begin(
        &self,
        key: &ObjectKey,
        facts: &UploadFacts,
    ) -> Result<UploadId, StoreError> {
        self.bucket.check(key)?;
        let failing = self.failing(Operation::BeginUpload, key);
        if facts.size == 0 {
            return Err(failing.invalid(NO_BYTES));
        }
        let request = self.client().await?.create_multipart_upload();
        let answer = self
            .options
            .begin(request, key)
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(key))
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .checksum_type(ChecksumType::FullObject)
            .send()
            .await
            .map_err(|error| failing.by(error))?;
        let id = answer
            .upload_id
            .ok_or_else(|| failing.oddly("no upload id"))?;
        Ok(UploadId::new(id))
    }

    pub(super) async fn parts(
        &self,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<Option<Vec<PartReceipt>>, StoreError> {
        self.bucket.check(key)?;
        let failing = self.failing(Operation::ListParts, key);
        let request = self.client().await?.list_parts();
        let request = request
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(key));
        let mut pages = request.upload_id(id.as_str()).into_paginator().send();
        // By number: SeaweedFS lists a part that was sent twice twice.
        let mut parts = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = match page.map_err(|error| failing.by(error)) {
                Ok(page) => page,
                Err(StoreError::UploadUnknown { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            for part in page.parts() {
                let receipt = receipt_of(part);
                let receipt = receipt.ok_or_else(|| failing.oddly("a part without its number"))?;
                parts.insert(receipt.number, receipt);
            }
        }
        Ok(Some(parts.into_values().collect()))
    }

    pub(super) async fn send_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        part: Part,
    ) -> Result<PartReceipt, StoreError> {
        self.bucket.check(key)?;
        let failing = self.failing(Operation::UploadPart, key);
        if let Some(reason) = part_defect(&part) {
            return Err(failing.invalid(reason));
        }
        // The store would refuse it as well, after 8 MiB have travelled.
        let crc32c = crc32c::crc32c(&part.body);
        if crc32c != part.crc32c {
            let Failing {
                operation, object, ..
            } = failing;
            return Err(StoreError::crc_mismatch(
                operation,
                object,
                crc32c,
                part.crc32c,
            ));
        }
        let size = part.body.len() as u64;
        let timeout = self.connection.limits.attempt_for(size);
        let answer = self
            .client()
            .await?
            .upload_part()
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(key))
            .upload_id(id.as_str())
            .part_number(part_number(part.number, &failing)?)
            .content_length(length(size, &failing)?)
            .checksum_crc32_c(crc32c_to_base64(crc32c))
            .body(self.connection.body(part.body))
            .customize()
            .config_override(self.connection.attempt_timeout(timeout))
            .send()
            .await
            .map_err(|error| failing.by(error))?;
        Ok(PartReceipt {
            number: part.number,
            size,
            etag: answer.e_tag.ok_or_else(|| failing.oddly("no ETag"))?,
            crc32c: Some(crc32c),
        })
    }

    pub(super) async fn complete(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[PartReceipt],
        facts: &UploadFacts,
    ) -> Result<(), StoreError> {
        self.bucket.check(key)?;
        let failing = self.failing(Operation::CompleteUpload, key);
        if let Some(reason) = receipts_defect(parts, facts) {
            return Err(failing.invalid(reason));
        }
        let completed: Result<Vec<CompletedPart>, StoreError> =
            parts.iter().map(|part| completed(part, &failing)).collect();
        let list = CompletedMultipartUpload::builder()
            .set_parts(Some(completed?))
            .build();
        let result = self
            .client()
            .await?
            .complete_multipart_upload()
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(key))
            .upload_id(id.as_str())
            .multipart_upload(list)
            .if_none_match("*")
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc32_c(crc32c_to_base64(facts.crc32c))
            .mpu_object_size(length(facts.size, &failing)?)
            .customize()
            .config_override(
                self.connection
                    .attempt_timeout(self.connection.limits.timeouts.complete),
            )
            .send()
            .await;
        match result.map_err(|error| failing.by(error)) {
            Ok(_) => Ok(()),
            // Completed, but the answer was lost? Then the object is there (TRAPS 29).
            Err(StoreError::UploadUnknown { operation, object }) => match self.head(key).await? {
                Some(_) => Err(StoreError::AlreadyExists { operation, object }),
                None => Err(StoreError::UploadUnknown { operation, object }),
            },
            Err(error) => Err(error),
        }
    }

    pub(super) async fn abort(&self, key: &ObjectKey, id: &UploadId) -> Result<(), StoreError> {
        self.bucket.check(key)?;
        let failing = self.failing(Operation::AbortUpload, key);
        let request = self.client().await?.abort_multipart_upload();
        let request = request
            .bucket(self.bucket_name())
            .key(self.bucket.full_key(key));
        let result = request.upload_id(id.as_str()).send().await;
        match result.map_err(|error| failing.by(error)) {
            Ok(_) | Err(StoreError::UploadUnknown { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn pending(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        let failing = self.failing_at(Operation::ListUploads, prefix);
        let request = self.client().await?.list_multipart_uploads();
        let request = request
            .bucket(self.bucket_name())
            .prefix(self.bucket.full_prefix(prefix));
        let mut pending = Vec::new();
        let mut markers = (None, None);
        loop {
            let (key_marker, id_marker) = markers.clone();
            let page = request
                .clone()
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker);
            let answered = AnsweredAt::default();
            let page = page.customize().interceptor(answered.clone()).send().await;
            let page = page.map_err(|error| failing.by(error))?;
            for upload in page.uploads() {
                pending.extend(self.pending_of(upload, answered.time(), &failing)?);
            }
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) {
                // SeaweedFS gives them in no order.
                pending.sort_unstable_by(PendingUpload::by_key_and_age);
                return Ok(pending);
            }
            if next.0.is_none() || next == markers {
                return Err(failing.oddly("a truncated list of uploads that leads nowhere"));
            }
            markers = next;
        }
    }

    /// `None` for an upload beside the store's prefix.
    fn pending_of(
        &self,
        upload: &types::MultipartUpload,
        now: Option<Timestamp>,
        failing: &Failing,
    ) -> Result<Option<PendingUpload>, StoreError> {
        let (Some(full), Some(id)) = (upload.key(), upload.upload_id()) else {
            return Err(failing.oddly("an upload without key or id"));
        };
        let started = upload.initiated().and_then(timestamp);
        let started = started.ok_or_else(|| failing.oddly("an upload without its time"))?;
        Ok(self.bucket.key_of(full).map(|key| PendingUpload {
            key,
            id: UploadId::new(id),
            started,
            age: now.map_or(Duration::ZERO, |now| {
                Duration::try_from(now.duration_since(started)).unwrap_or_default()
            }),
        }))
    }
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    let nanos = i32::try_from(time.subsec_nanos()).ok()?;
    Timestamp::new(time.secs(), nanos).ok()
}

fn part_number(number: u32, failing: &Failing) -> Result<i32, StoreError> {
    i32::try_from(number).map_err(|_| failing.invalid(format!("part {number}")))
}

/// `None`: the answer lacks what every part has.
fn receipt_of(part: &types::Part) -> Option<PartReceipt> {
    Some(PartReceipt {
        number: part
            .part_number()
            .and_then(|number| u32::try_from(number).ok())?,
        size: part.size().and_then(|size| u64::try_from(size).ok())?,
        etag: part.e_tag()?.to_owned(),
        crc32c: part.checksum_crc32_c().and_then(crc32c_from_base64),
    })
}

fn completed(part: &PartReceipt, failing: &Failing) -> Result<CompletedPart, StoreError> {
    Ok(CompletedPart::builder()
        .part_number(part_number(part.number, failing)?)
        .e_tag(&part.etag)
        .set_checksum_crc32_c(part.crc32c.map(crc32c_to_base64))
        .build())
}
