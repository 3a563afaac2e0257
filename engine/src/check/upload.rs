//! An upload in parts, as of a large file: two parts, completed, verified, read across their border, not overwritten.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;

use super::destination::{Trial, is_taken};
use super::within;
use crate::exit::Exit;
use crate::finding::Finding;
use crate::layout::ObjectKey;
use crate::store::{ObjectStore, Part, PartReceipt, UploadFacts, UploadId};

/// Bytes behind the first part.
const TAIL: usize = 64 * 1024;

/// An upload that is to be refused.
const RIVAL: &[u8] = b"gtide check: this must never be seen";

/// How fast a destination took a part over one connection.
#[derive(Debug, Clone)]
pub(super) struct Speed {
    pub(super) url: String,
    pub(super) bytes_per_second: f64,
}

/// What was found; the speed, where the object is there.
pub(super) async fn check(trial: &Trial<'_>) -> (Vec<Finding>, Option<Speed>) {
    let check = "destination-parts";
    let (body, key) = (body(trial.store), trial.large.key());
    let took = match send(trial.store, key, &body).await {
        Ok(took) => took,
        Err(error) => return (vec![trial.error(check, &error)], None),
    };
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let bytes_per_second = body.len() as f64 / took.as_secs_f64().max(f64::EPSILON);
    let sent = trial
        .ok(
            check,
            format!("{key} was uploaded in 2 parts, {} bytes", body.len()),
        )
        .with("bytes_per_second", bytes_per_second.round());
    let found = vec![
        sent,
        verify(trial, key, &body).await,
        read(trial, key, &body).await,
        again(trial, key).await,
    ];
    let url = trial.url().to_owned();
    let speed = Speed {
        url,
        bytes_per_second,
    };
    (found, Some(speed))
}

/// One whole part and some: bytes that do not repeat at any short distance, and that nothing compresses on the way.
fn body(store: &dyn ObjectStore) -> Bytes {
    let part = usize::try_from(store.part_size(1)).unwrap_or(TAIL);
    let mut body = vec![0; part + TAIL];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for chunk in body.chunks_mut(size_of::<u64>()) {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(state.to_le_bytes().get(..chunk.len()).unwrap_or_default());
    }
    body.into()
}

/// Uploads it, and says how long that took. What was begun and failed is aborted.
async fn send(store: &dyn ObjectStore, key: &ObjectKey, body: &Bytes) -> anyhow::Result<Duration> {
    let facts = facts(body);
    let begin = Instant::now();
    let id = within(store.begin_upload(key, &facts)).await?;
    let sent = send_parts(store, key, &id, body).await;
    let completed = match sent {
        Ok(parts) => within(store.complete_upload(key, &id, &parts, &facts)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = completed {
        // Best effort: what is left is listed among the store's uploads.
        let _ = within(store.abort_upload(key, &id)).await;
        return Err(error);
    }
    Ok(begin.elapsed())
}

fn facts(body: &Bytes) -> UploadFacts {
    UploadFacts {
        size: body.len() as u64,
        crc32c: crc32c::crc32c(body),
    }
}

async fn send_parts(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    id: &UploadId,
    body: &Bytes,
) -> anyhow::Result<Vec<PartReceipt>> {
    let size = usize::try_from(store.part_size(body.len() as u64))?;
    let (mut rest, mut offset, mut receipts) = (body.clone(), 0, Vec::new());
    for number in 1u32.. {
        let piece = rest.split_to(size.min(rest.len()));
        let part = Part {
            number,
            offset,
            crc32c: crc32c::crc32c(&piece),
            body: piece.clone(),
        };
        receipts.push(within(store.upload_part(key, id, part)).await?);
        offset += piece.len() as u64;
        if rest.is_empty() {
            break;
        }
    }
    Ok(receipts)
}

/// As after each upload: the store's own size and checksum.
async fn verify(trial: &Trial<'_>, key: &ObjectKey, body: &Bytes) -> Finding {
    let check = "destination-verify";
    let (size, crc32c) = (body.len() as u64, crc32c::crc32c(body));
    let there = match within(trial.store.head(key)).await {
        Ok(there) => there,
        Err(error) => return trial.error(check, &error),
    };
    match there.map(|meta| (meta.size, meta.crc32c)) {
        Some((there, Some(sum))) if (there, sum) == (size, crc32c) => trial.ok(
            check,
            "the store tells the size and CRC32C of what was sent",
        ),
        Some((there, None)) if there == size => {
            let hint = "nothing needs to be done; it costs a download for each upload";
            let reason =
                "the store does not tell a CRC32C: what is uploaded is read back to verify it";
            Finding::warn(check, trial.url(), reason, hint)
        }
        other => {
            let found = match other {
                None => "is not there".to_owned(),
                Some((there, None)) => format!("has {there} bytes"),
                Some((there, Some(sum))) => format!("has {there} bytes with CRC32C {sum:08x}"),
            };
            let reason =
                format!("{key} was sent with {size} bytes and CRC32C {crc32c:08x}, and {found}");
            let hint = "this store loses or changes what it takes: use another one";
            Finding::fail(check, trial.url(), Exit::Corrupt, reason, hint)
        }
    }
}

/// A range across the border of the two parts.
async fn read(trial: &Trial<'_>, key: &ObjectKey, body: &Bytes) -> Finding {
    let check = "destination-range";
    let end = body.len();
    let start = end.saturating_sub(2 * TAIL);
    let read = async {
        let stream = trial.store.get(key, Some(start as u64..end as u64)).await?;
        stream.try_collect::<Vec<Bytes>>().await
    };
    match within(read).await {
        Ok(pieces) if pieces.concat() == body.slice(start..) => {
            trial.ok(check, "a range across its parts was read back")
        }
        Ok(_) => {
            let reason = format!("{key}: bytes {start} to {end} are not those that were sent");
            let hint = "this store does not serve ranges as it should: use another one";
            Finding::fail(check, trial.url(), Exit::Corrupt, reason, hint)
        }
        Err(error) => trial.error(check, &error),
    }
}

async fn again(trial: &Trial<'_>, key: &ObjectKey) -> Finding {
    let check = "destination-parts-no-overwrite";
    match send(trial.store, key, &Bytes::from_static(RIVAL)).await {
        Ok(_) => trial.overwrites(check, &trial.large),
        Err(error) if is_taken(&error) => {
            trial.ok(check, "a second upload to the same key was refused")
        }
        Err(error) => trial.error(check, &error),
    }
}
