//! An upload whose process is killed is taken up by another one.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use engine::store::{ObjectStore, Part, StoreConfig, UploadFacts, UploadId, connect, read_all};

use crate::harness::{Gcs, SeaweedFs};
use crate::{config, gcs, key, noise};

/// Set for the process that is to be killed: what to upload where.
const VICTIM: &str = "GTIDE_TEST_UPLOAD";

/// What the victim prints for each part that the store has confirmed.
const CONFIRMED: &str = "confirmed part";

const PART_SIZE: usize = 8 << 20;

fn parts(body: &Bytes) -> Vec<Part> {
    let offsets = (0..body.len()).step_by(PART_SIZE);
    let parts = (1..).zip(offsets).map(|(number, offset)| {
        let body = body.slice(offset..body.len().min(offset + PART_SIZE));
        Part {
            number,
            offset: offset as u64,
            crc32c: crc32c::crc32c(&body),
            body,
        }
    });
    parts.collect()
}

fn body() -> Bytes {
    noise(PART_SIZE * 4 + 1000)
}

/// `url endpoint credentials id`, of which endpoint and credentials may be `-`.
fn victim_main(what: &str) {
    let fields: Vec<&str> = what.split('\n').collect();
    let optional = |field: &str| (field != "-").then(|| field.to_owned());
    let store = connect(&StoreConfig {
        url: fields[0].to_owned(),
        endpoint: optional(fields[1]),
        region: None,
        credentials: optional(fields[2]),
        ..StoreConfig::default()
    })
    .unwrap();
    let id = UploadId::new(fields[3]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Over and over: it never ends by itself.
        for part in parts(&body()).into_iter().cycle() {
            let receipt = store
                .upload_part(&key("object.gtb"), &id, part)
                .await
                .unwrap();
            println!("{CONFIRMED} {}", receipt.number);
        }
    });
}

/// The test named `test` in a process of its own, killed when two parts were confirmed.
fn kill_during_upload(test: &str, config: &StoreConfig, id: &UploadId) {
    let or_dash = |field: &Option<String>| field.clone().unwrap_or_else(|| "-".to_owned());
    let (endpoint, credentials) = (or_dash(&config.endpoint), or_dash(&config.credentials));
    let what = [config.url.as_str(), &endpoint, &credentials, id.as_str()].join("\n");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(VICTIM, what)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let confirmed = lines
        .map_while(Result::ok)
        .filter(|line| line.contains(CONFIRMED))
        .take(2);
    let confirmed = confirmed.count();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_eq!(confirmed, 2, "the victim ended before it was killed");
}

async fn an_upload_is_taken_up_after_kill_9(test: &str, config: &StoreConfig) {
    let open = || -> Arc<dyn ObjectStore> { connect(config).unwrap() };
    let (key, body) = (key("object.gtb"), body());
    let facts = UploadFacts {
        size: body.len() as u64,
        crc32c: crc32c::crc32c(&body),
    };
    let id = open().begin_upload(&key, &facts).await.unwrap();
    kill_during_upload(test, config, &id);

    let store = open();
    let mut receipts = store.uploaded_parts(&key, &id).await.unwrap().unwrap();
    assert!(
        receipts.len() >= 2,
        "what was confirmed is there: {receipts:?}"
    );
    for part in parts(&body) {
        if receipts.iter().all(|receipt| receipt.number != part.number) {
            receipts.push(store.upload_part(&key, &id, part).await.unwrap());
        }
    }
    receipts.sort_by_key(|receipt| receipt.number);
    store
        .complete_upload(&key, &id, &receipts, &facts)
        .await
        .unwrap();
    let meta = store.head(&key).await.unwrap().unwrap();
    assert_eq!((meta.size, meta.crc32c), (facts.size, Some(facts.crc32c)));
    assert!(read_all(store.as_ref(), &key, body.len()).await.unwrap() == body);
}

#[test]
fn an_upload_to_a_directory_is_taken_up_after_kill_9() {
    if let Ok(what) = std::env::var(VICTIM) {
        return victim_main(&what);
    }
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        url: format!("file://{}/archive", dir.path().display()),
        ..StoreConfig::default()
    };
    let test = "killed::an_upload_to_a_directory_is_taken_up_after_kill_9";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(an_upload_is_taken_up_after_kill_9(test, &config));
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn an_upload_to_s3_is_taken_up_after_kill_9() {
    if let Ok(what) = std::env::var(VICTIM) {
        return victim_main(&what);
    }
    let server = SeaweedFs::start();
    let config = config(&server, server.endpoint(), "killed");
    let test = "killed::an_upload_to_s3_is_taken_up_after_kill_9";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(an_upload_is_taken_up_after_kill_9(test, &config));
}

#[test]
fn an_upload_to_gcs_is_taken_up_after_kill_9() {
    if let Ok(what) = std::env::var(VICTIM) {
        return victim_main(&what);
    }
    let server = Gcs::start();
    let config = gcs::config(&server, server.endpoint(), "killed");
    let test = "killed::an_upload_to_gcs_is_taken_up_after_kill_9";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(an_upload_is_taken_up_after_kill_9(test, &config));
    let uploads = server.uploads();
    assert_eq!(uploads.len(), 1, "{uploads:?}");
    let twice = uploads[0].received - uploads[0].kept;
    assert!(
        twice <= PART_SIZE as u64,
        "more than a part was sent twice: {twice}"
    );
}
