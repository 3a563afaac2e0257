//! What a client does when connections break, with a proxy between it and the server that breaks them.

use std::time::Duration;

use bytes::Bytes;
use engine::exit::{Diagnose, Exit};
use engine::retry::RetryClass;
use engine::store::{
    ObjectStore, Part, PartReceipt, StoreConfig, StoreError, UploadFacts, UploadId,
    connect_with_timeouts, read_all,
};
use futures::TryStreamExt;

use crate::harness::{Act, Proxy, Rule, SeaweedFs};
use crate::{IDLE, key, noise, short, through};

const PART: usize = 8 << 20;

/// An upload of one part that has begun.
struct Begun {
    key: engine::layout::ObjectKey,
    id: UploadId,
    part: Part,
    facts: UploadFacts,
}

impl Begun {
    async fn new(store: &dyn ObjectStore, name: &str) -> Self {
        let body = noise(PART);
        let facts = UploadFacts {
            size: body.len() as u64,
            crc32c: crc32c::crc32c(&body),
        };
        let part = Part {
            number: 1,
            offset: 0,
            crc32c: facts.crc32c,
            body,
        };
        let key = key(name);
        let id = store.begin_upload(&key, &facts).await.unwrap();
        Self {
            key,
            id,
            part,
            facts,
        }
    }

    async fn send(&self, store: &dyn ObjectStore) -> Result<PartReceipt, StoreError> {
        store
            .upload_part(&self.key, &self.id, self.part.clone())
            .await
    }

    async fn complete(
        &self,
        store: &dyn ObjectStore,
        receipt: PartReceipt,
    ) -> Result<(), StoreError> {
        store
            .complete_upload(&self.key, &self.id, &[receipt], &self.facts)
            .await
    }

    async fn is_there(&self, store: &dyn ObjectStore) {
        let meta = store.head(&self.key).await.unwrap().unwrap();
        assert_eq!(
            (meta.size, meta.crc32c),
            (self.facts.size, Some(self.facts.crc32c))
        );
    }
}

/// A client before no server: a rule answers everything.
async fn answered(answer: &'static str) -> (Proxy, StoreError) {
    let proxy = Proxy::before_nothing().await;
    proxy.add(Rule::on("", Act::Respond(answer)));
    let error = put_through(&proxy).await.unwrap_err();
    (proxy, error)
}

async fn put_through(proxy: &Proxy) -> Result<(), StoreError> {
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("credentials");
    engine::durable_fs::replace(
        &credentials,
        b"[default]\naws_access_key_id = id\naws_secret_access_key = the-secret\n",
    )
    .unwrap();
    let config = StoreConfig {
        url: "s3://bucket/prefix".to_owned(),
        endpoint: Some(proxy.endpoint()),
        region: None,
        credentials: Some(format!("file:{}", credentials.display())),
        ..StoreConfig::default()
    };
    let store = connect_with_timeouts(&config, short()).unwrap();
    store.put_if_absent(&key("object"), noise(PART)).await
}

#[tokio::test]
async fn slow_down_is_waited_out() {
    let (proxy, error) = answered(
        "HTTP/1.1 503 Slow Down\r\nContent-Length: 82\r\nContent-Type: application/xml\r\n\r\n\
         <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    )
    .await;
    assert_eq!(error.retry_class(), RetryClass::Backoff, "{error:?}");
    assert_eq!(error.exit(), Exit::Transient);
    assert!(
        error
            .to_string()
            .starts_with("put s3://bucket/prefix/object: the service answered 503")
    );
    assert_eq!(proxy.count("PUT "), 3, "three attempts, no more");
}

#[tokio::test]
async fn access_denied_is_for_a_person() {
    let (proxy, error) = answered(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 71\r\nContent-Type: application/xml\r\n\r\n\
         <Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>",
    )
    .await;
    assert_eq!(error.retry_class(), RetryClass::Never, "{error:?}");
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.hint().unwrap().contains("credentials"));
    assert_eq!(proxy.count("PUT "), 1, "not retried");
}

#[tokio::test]
async fn a_bucket_in_another_region_is_named() {
    let (_proxy, error) = answered(
        "HTTP/1.1 301 Moved Permanently\r\nContent-Length: 0\r\nx-amz-bucket-region: eu-west-1\r\n\r\n",
    )
    .await;
    assert_eq!(error.retry_class(), RetryClass::Never, "{error:?}");
    assert!(error.hint().unwrap().contains("eu-west-1"), "{error:?}");
}

#[tokio::test]
async fn a_load_balancers_page_is_transient() {
    let (_proxy, error) = answered(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 25\r\nContent-Type: text/html\r\nRetry-After: 7\r\n\r\n\
         <html>bad gateway</html>\n",
    )
    .await;
    assert_eq!(
        error.retry_class(),
        RetryClass::After(Duration::from_secs(7)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_peer_that_takes_half_a_body_and_falls_silent_does_not_hang_us() {
    falls_silent_after(PART as u64 / 2).await;
}

#[tokio::test]
async fn a_peer_that_takes_all_of_a_body_and_never_answers_does_not_hang_us() {
    falls_silent_after(u64::MAX).await;
}

async fn falls_silent_after(bytes: u64) {
    let proxy = Proxy::before_nothing().await;
    proxy.add(Rule::on("", Act::HangAfter(bytes)));
    let error = put_through(&proxy).await.unwrap_err();
    assert!(matches!(error, StoreError::Transport { .. }), "{error:?}");
    assert_eq!(error.retry_class(), RetryClass::Backoff);
}

#[tokio::test]
async fn nobody_there_is_transient() {
    let proxy = Proxy::before_nothing().await;
    let error = put_through(&proxy).await.unwrap_err();
    assert!(matches!(error, StoreError::Transport { .. }), "{error:?}");
    assert_eq!(error.retry_class(), RetryClass::Backoff);
    assert!(error.hint().unwrap().contains("endpoint"));
}

#[tokio::test]
async fn credentials_that_are_not_there_are_said_to_be_missing() {
    let proxy = Proxy::before_nothing().await;
    let config = StoreConfig {
        url: "s3://bucket".to_owned(),
        endpoint: Some(proxy.endpoint()),
        region: None,
        credentials: Some("file:/nowhere/credentials".to_owned()),
        ..StoreConfig::default()
    };
    let store = connect_with_timeouts(&config, short()).unwrap();
    let error = store.head(&key("object")).await.unwrap_err();
    assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
    assert_eq!(proxy.heads(), Vec::<String>::new(), "nothing was sent");
}

#[tokio::test]
async fn no_secret_is_shown() {
    let (_proxy, error) = answered("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    assert!(!format!("{error} {error:?}").contains("the-secret"));
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_reset_in_the_middle_of_a_part_is_retried() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let upload = Begun::new(store.as_ref(), "reset").await;
    proxy.add(
        Rule::on("PUT ", Act::ResetAfter(PART as u64 / 2))
            .and("partNumber=1")
            .times(2),
    );
    let receipt = upload.send(store.as_ref()).await.unwrap();
    assert_eq!(proxy.count("partNumber=1"), 3);
    upload.complete(store.as_ref(), receipt).await.unwrap();
    upload.is_there(store.as_ref()).await;
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_lost_answer_to_a_part_is_sent_again() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let upload = Begun::new(store.as_ref(), "lost-part").await;
    proxy.add(Rule::on("partNumber=1", Act::LoseResponse).times(1));
    let receipt = upload.send(store.as_ref()).await.unwrap();
    let held = store
        .uploaded_parts(&upload.key, &upload.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(held.len(), 1);
    upload.complete(store.as_ref(), receipt).await.unwrap();
    upload.is_there(store.as_ref()).await;
}

/// TRAPS 29.
#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_lost_answer_to_a_completion_ends_as_our_own_object() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let upload = Begun::new(store.as_ref(), "lost-complete").await;
    let receipt = upload.send(store.as_ref()).await.unwrap();
    proxy.add(
        Rule::on("POST ", Act::LoseResponse)
            .and("uploadId=")
            .times(1),
    );
    let completed = upload.complete(store.as_ref(), receipt).await;
    assert!(
        matches!(completed, Ok(()) | Err(StoreError::AlreadyExists { .. })),
        "{completed:?}"
    );
    assert_eq!(proxy.count("POST "), 3, "begun, completed, completed again");
    upload.is_there(store.as_ref()).await;
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_lost_answer_to_a_put_is_taken_for_another_object_and_compares_equal() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    proxy.add(Rule::on("PUT ", Act::LoseResponse).times(1));
    let body = Bytes::from_static(b"{}");
    let put = store.put_if_absent(&key("entry.json"), body.clone()).await;
    assert!(
        matches!(put, Err(StoreError::AlreadyExists { .. })),
        "{put:?}"
    );
    let meta = store.head(&key("entry.json")).await.unwrap().unwrap();
    assert_eq!((meta.size, meta.crc32c), (2, Some(crc32c::crc32c(&body))));
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_body_that_is_cut_goes_on_behind_the_last_byte() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let body = noise(3 << 20);
    store
        .put_if_absent(&key("object"), body.clone())
        .await
        .unwrap();
    proxy.add(Rule::on("GET ", Act::CutResponse(1_000_000)).times(2));
    assert!(
        read_all(store.as_ref(), &key("object"), body.len())
            .await
            .unwrap()
            == body
    );
    let gets: Vec<String> = proxy
        .heads()
        .into_iter()
        .filter(|head| head.starts_with("GET "))
        .collect();
    assert_eq!(gets.len(), 3);
    assert!(
        gets[1].contains("range: bytes=1000000-3145727"),
        "{}",
        gets[1]
    );
    assert!(gets[1].contains("if-match: "), "{}", gets[1]);

    proxy.add(Rule::on("GET ", Act::CutResponse(100)).times(1));
    let range = store
        .get(&key("object"), Some(500..2_000_000))
        .await
        .unwrap();
    let chunks: Vec<Bytes> = range.try_collect().await.unwrap();
    assert!(chunks.concat() == body[500..2_000_000]);
    assert_eq!(proxy.count("range: bytes=600-1999999"), 1);
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_body_that_stalls_goes_on_and_one_that_always_stalls_ends() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let body = noise(1 << 20);
    store
        .put_if_absent(&key("object"), body.clone())
        .await
        .unwrap();
    proxy.add(Rule::on("GET ", Act::HangResponse(500_000)).times(1));
    assert!(
        read_all(store.as_ref(), &key("object"), body.len())
            .await
            .unwrap()
            == body
    );

    proxy.add(Rule::on("GET ", Act::HangResponse(0)));
    let error = read_all(store.as_ref(), &key("object"), body.len())
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Stalled { at: 0, .. }),
        "{error:?}"
    );
    assert_eq!(error.retry_class(), RetryClass::Backoff);
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_reader_may_be_slower_than_the_idle_time() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let body = noise(64 << 20);
    store
        .put_if_absent(&key("object"), body.clone())
        .await
        .unwrap();
    let mut stream = store.get(&key("object"), None).await.unwrap();
    let mut read = Vec::new();
    while let Some(bytes) = stream.try_next().await.unwrap() {
        if read.is_empty() {
            tokio::time::sleep(IDLE * 3).await;
        }
        read.extend_from_slice(&bytes);
    }
    assert!(read == body);
    assert_eq!(proxy.count("GET "), 1, "not taken for a stall");
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_slow_server_is_waited_for_and_wrong_keys_are_denied() {
    let server = SeaweedFs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    proxy.add(Rule::on("HEAD ", Act::Delay(Duration::from_secs(1))).times(1));
    assert_eq!(store.head(&key("object")).await.unwrap(), None);
    assert_eq!(proxy.count("HEAD "), 1);

    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("credentials");
    let wrong = b"[default]\naws_access_key_id = tester\naws_secret_access_key = wrong\n";
    engine::durable_fs::replace(&credentials, wrong).unwrap();
    let config = StoreConfig {
        credentials: Some(format!("file:{}", credentials.display())),
        ..crate::config(&server, server.endpoint(), "faults")
    };
    let store = connect_with_timeouts(&config, short()).unwrap();
    let error = store
        .put_if_absent(&key("object"), "x".into())
        .await
        .unwrap_err();
    assert_eq!(error.retry_class(), RetryClass::Never, "{error:?}");
    assert_eq!(error.exit(), Exit::Usage);

    let elsewhere = StoreConfig {
        url: "s3://no-such-bucket/x".to_owned(),
        ..crate::config(&server, server.endpoint(), "faults")
    };
    let store = connect_with_timeouts(&elsewhere, short()).unwrap();
    let error = store.get(&key("object"), None).await.err().unwrap();
    assert!(error.hint().is_some(), "{error:?}");
    assert_eq!(error.retry_class(), RetryClass::Never, "{error:?}");
}
