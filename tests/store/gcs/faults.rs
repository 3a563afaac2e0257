//! What a client of `gs://` does when connections break, answers are lost and bytes are kept in part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::exit::{Diagnose, Exit};
use engine::layout::ObjectKey;
use engine::retry::RetryClass;
use engine::store::{
    ObjectStore, Part, PartReceipt, StoreConfig, StoreError, Timeouts, UploadFacts, UploadId,
    connect_with_timeouts, read_all,
};

use super::{config, open};
use crate::harness::{Act, Gcs, Proxy, Rule};
use crate::{IDLE, key, noise, short};

const PART: usize = 8 << 20;

const GRAIN: u64 = 256 << 10;

/// A client of `server` behind `proxy`, not patient with silence.
fn through(server: &Gcs, proxy: &Proxy) -> Arc<dyn ObjectStore> {
    let timeouts = Timeouts {
        attempt: Duration::from_secs(3),
        complete: Duration::from_secs(3),
        slowest_bytes_per_second: 4 << 20,
        idle: IDLE,
        ..Timeouts::default()
    };
    connect_with_timeouts(&config(server, proxy.endpoint(), "prefix"), timeouts).unwrap()
}

/// An upload of two parts and a bit that has begun.
struct Begun {
    key: ObjectKey,
    id: UploadId,
    body: Bytes,
    facts: UploadFacts,
}

impl Begun {
    async fn new(store: &dyn ObjectStore) -> Self {
        let body = noise(PART * 2 + 700_000);
        let facts = UploadFacts {
            size: body.len() as u64,
            crc32c: crc32c::crc32c(&body),
        };
        let key = key("object.gtb");
        let id = store.begin_upload(&key, &facts).await.unwrap();
        Self {
            key,
            id,
            body,
            facts,
        }
    }

    fn part(&self, number: u32) -> Part {
        let offset = (number as usize - 1) * PART;
        let body = self.body.slice(offset..self.body.len().min(offset + PART));
        Part {
            number,
            offset: offset as u64,
            crc32c: crc32c::crc32c(&body),
            body,
        }
    }

    async fn send(&self, store: &dyn ObjectStore, number: u32) -> Result<PartReceipt, StoreError> {
        store
            .upload_part(&self.key, &self.id, self.part(number))
            .await
    }

    async fn complete(&self, store: &dyn ObjectStore) -> Result<(), StoreError> {
        let mut receipts = Vec::new();
        for number in 1..=3 {
            receipts.push(self.send(store, number).await?);
        }
        store
            .complete_upload(&self.key, &self.id, &receipts, &self.facts)
            .await
    }

    async fn is_there(&self, store: &dyn ObjectStore) {
        let meta = store.head(&self.key).await.unwrap().unwrap();
        assert_eq!(
            (meta.size, meta.crc32c),
            (self.facts.size, Some(self.facts.crc32c))
        );
        assert!(read_all(store, &self.key, self.body.len()).await.unwrap() == self.body);
    }
}

/// An upload during which `rule` is at work, and how many bytes it took.
async fn uploaded_despite(rule: Rule) -> u64 {
    let server = Gcs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    proxy.add(rule);
    let upload = Begun::new(store.as_ref()).await;
    upload.complete(store.as_ref()).await.unwrap();
    upload.is_there(open(&server).as_ref()).await;
    assert!(proxy.seen().iter().any(|seen| seen.hit), "nothing was done");
    let uploads = server.uploads();
    assert_eq!(uploads.len(), 1, "{uploads:?}");
    assert_eq!(uploads[0].kept, upload.facts.size);
    uploads[0].received - uploads[0].kept
}

/// A chunk, not a question.
fn on_a_chunk(act: Act) -> Rule {
    Rule::on("PUT ", act).and("-range: bytes 0-")
}

fn on_the_last_chunk(act: Act) -> Rule {
    Rule::on("PUT ", act).and("x-goog-hash")
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_part_sends_the_rest_of_it() {
    let half = PART as u64 / 2;
    let twice = uploaded_despite(on_a_chunk(Act::ResetAfter(half)).times(1)).await;
    assert!(twice < GRAIN, "what was kept was sent again: {twice}");
}

#[tokio::test]
async fn a_lost_answer_to_a_part_sends_nothing_again() {
    let twice = uploaded_despite(on_a_chunk(Act::LoseResponse).times(1)).await;
    assert_eq!(twice, 0);
}

/// TRAPS 29.
#[tokio::test]
async fn a_lost_answer_to_the_last_bytes_ends_as_our_own_object() {
    let twice = uploaded_despite(on_the_last_chunk(Act::LoseResponse).times(1)).await;
    assert_eq!(twice, 0);
}

#[tokio::test]
async fn a_peer_that_falls_silent_in_a_part_is_asked_how_far_it_is() {
    uploaded_despite(on_a_chunk(Act::HangAfter(1_000_000)).times(1)).await;
    uploaded_despite(on_the_last_chunk(Act::HangAfter(u64::MAX)).times(1)).await;
}

#[tokio::test]
async fn a_fault_of_the_services_is_waited_out() {
    for act in [Act::INTERNAL_ERROR, UNAVAILABLE] {
        uploaded_despite(on_a_chunk(act.clone()).times(2)).await;
        uploaded_despite(on_the_last_chunk(act.clone()).times(2)).await;
        uploaded_despite(Rule::on("POST /upload", act.clone()).times(2)).await;
    }
}

#[tokio::test]
async fn what_is_kept_in_part_goes_on_where_it_ended() {
    let server = Gcs::start();
    let store = open(&server);
    let upload = Begun::new(store.as_ref()).await;
    // Nothing of the first two, little of the third, and so on; of the last bytes nothing at first.
    server.keep_only(&[
        0,
        0,
        GRAIN,
        5 * GRAIN,
        u64::MAX,
        GRAIN,
        u64::MAX,
        u64::MAX,
        0,
    ]);
    upload.complete(store.as_ref()).await.unwrap();
    upload.is_there(store.as_ref()).await;
}

#[tokio::test]
async fn a_service_that_keeps_nothing_is_not_tried_for_ever() {
    let server = Gcs::start();
    let store = open(&server);
    let upload = Begun::new(store.as_ref()).await;
    server.keep_only(&[0; 10]);
    let error = upload.send(store.as_ref(), 1).await.unwrap_err();
    assert_eq!(error.retry_class(), RetryClass::Backoff, "{error:?}");
    let received = server.uploads()[0].received;
    assert_eq!(received, 3 * PART as u64, "three attempts");
    // And goes on when it does again.
    server.keep_only(&[u64::MAX; 10]);
    let begun = Instant::now();
    while upload.complete(store.as_ref()).await.is_err() {
        assert!(begun.elapsed() < Duration::from_mins(4));
    }
    upload.is_there(store.as_ref()).await;
}

#[tokio::test]
async fn a_session_that_expired_is_begun_again() {
    let server = Gcs::start();
    let store = open(&server);
    let upload = Begun::new(store.as_ref()).await;
    upload.send(store.as_ref(), 1).await.unwrap();
    server.expire_sessions();
    let error = upload.send(store.as_ref(), 2).await.unwrap_err();
    assert!(
        matches!(error, StoreError::UploadUnknown { .. }),
        "{error:?}"
    );
    let held = store.uploaded_parts(&upload.key, &upload.id).await.unwrap();
    assert_eq!(held, None);
    let again = Begun::new(store.as_ref()).await;
    again.complete(store.as_ref()).await.unwrap();
    again.is_there(store.as_ref()).await;
}

/// The id is kept by callers, and may be of another kind of store.
#[tokio::test]
async fn an_id_that_is_no_session_is_unknown() {
    let server = Gcs::start();
    let store = open(&server);
    let id = UploadId::new("an-id-of-s3");
    let held = store.uploaded_parts(&key("object"), &id).await.unwrap();
    assert_eq!(held, None);
    store.abort_upload(&key("object"), &id).await.unwrap();
}

/// A session's URI is the permission to write.
#[tokio::test]
async fn no_error_shows_a_session() {
    let server = Gcs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let upload = Begun::new(store.as_ref()).await;
    for act in [
        Act::ResetAfter(10),
        Act::HangAfter(10),
        UNAVAILABLE,
        Act::Respond("HTTP/1.1 308 Resume Incomplete\r\nRange: odd\r\nContent-Length: 0\r\n\r\n"),
    ] {
        proxy.clear();
        proxy.add(Rule::on("PUT ", act));
        let error = upload.send(store.as_ref(), 1).await.unwrap_err();
        let text = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
        assert!(
            !text.contains("upload_id") && !text.contains("nobody-else"),
            "{text}"
        );
    }
}

const UNAVAILABLE: Act = Act::Respond(
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 19\r\n\r\nService Unavailable",
);

/// A client before no server: rules answer everything.
async fn put_answered(act: Act) -> (Proxy, StoreError) {
    let proxy = Proxy::before_nothing().await;
    proxy.add(Rule::on("", act));
    let error = put_through(&proxy).await.unwrap_err();
    (proxy, error)
}

fn anonymous(proxy: &Proxy) -> Arc<dyn ObjectStore> {
    let config = StoreConfig {
        url: "gs://bucket/prefix".to_owned(),
        endpoint: Some(proxy.endpoint()),
        region: None,
        credentials: Some("anonymous".to_owned()),
        ..StoreConfig::default()
    };
    connect_with_timeouts(&config, short()).unwrap()
}

async fn put_through(proxy: &Proxy) -> Result<(), StoreError> {
    anonymous(proxy)
        .put_if_absent(&key("object"), noise(PART))
        .await
}

#[tokio::test]
async fn a_busy_service_is_tried_again_a_little() {
    let (proxy, error) = put_answered(UNAVAILABLE).await;
    assert_eq!(error.retry_class(), RetryClass::Backoff, "{error:?}");
    assert_eq!(error.exit(), Exit::Transient);
    assert!(
        error
            .to_string()
            .starts_with("put gs://bucket/prefix/object: the service answered 503"),
        "{error}"
    );
    assert_eq!(proxy.count("POST "), 3, "three attempts, no more");
}

#[tokio::test]
async fn a_service_that_says_when_to_come_back_is_believed() {
    let (proxy, error) = put_answered(Act::Respond(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    ))
    .await;
    let after = RetryClass::After(Duration::from_secs(7));
    assert_eq!(error.retry_class(), after, "{error:?}");
    assert_eq!(proxy.count("POST "), 1, "not before");
}

#[tokio::test]
async fn a_peer_that_falls_silent_does_not_hang_us() {
    for bytes in [PART as u64 / 2, u64::MAX] {
        let (_proxy, error) = put_answered(Act::HangAfter(bytes)).await;
        assert!(matches!(error, StoreError::Transport { .. }), "{error:?}");
        assert_eq!(error.retry_class(), RetryClass::Backoff);
    }
}

#[tokio::test]
async fn nobody_there_is_transient() {
    let proxy = Proxy::before_nothing().await;
    for error in [
        put_through(&proxy).await.unwrap_err(),
        anonymous(&proxy).head(&key("object")).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Transport { .. }), "{error:?}");
        assert_eq!(error.retry_class(), RetryClass::Backoff);
        assert!(error.hint().unwrap().contains("endpoint"));
    }
}

#[tokio::test]
async fn credentials_that_are_not_there_are_said_to_be_missing() {
    let proxy = Proxy::before_nothing().await;
    let config = StoreConfig {
        url: "gs://bucket".to_owned(),
        endpoint: Some(proxy.endpoint()),
        region: None,
        credentials: Some("file:/nowhere/credentials.json".to_owned()),
        ..StoreConfig::default()
    };
    let store = connect_with_timeouts(&config, short()).unwrap();
    for error in [
        store.head(&key("object")).await.unwrap_err(),
        store.get(&key("object"), None).await.err().unwrap(),
        store
            .put_if_absent(&key("object"), "x".into())
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("/nowhere/credentials.json"), "{source}");
    }
    assert_eq!(proxy.heads(), Vec::<String>::new(), "nothing was sent");
}

/// A bucket that is not ours, and one that nobody has: each call says so, and what to do.
#[tokio::test]
async fn wrong_buckets_are_for_a_person() {
    let server = Gcs::start();
    for (bucket, hint) in [(Gcs::DENIED, "credentials"), ("no-such", "bucket")] {
        let config = StoreConfig {
            url: format!("gs://{bucket}/x"),
            ..config(&server, server.endpoint(), "x")
        };
        let store = connect_with_timeouts(&config, Timeouts::default()).unwrap();
        let facts = UploadFacts { size: 1, crc32c: 0 };
        for error in [
            store.head(&key("a")).await.unwrap_err(),
            store.get(&key("a"), None).await.err().unwrap(),
            store
                .put_if_absent(&key("a"), "x".into())
                .await
                .unwrap_err(),
            store.begin_upload(&key("a"), &facts).await.unwrap_err(),
            store.list_prefixes("").await.unwrap_err(),
        ] {
            assert_eq!(error.retry_class(), RetryClass::Never, "{error:?}");
            assert_eq!(error.exit(), Exit::Usage, "{error:?}");
            assert!(error.hint().unwrap().contains(hint), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_put_is_taken_for_another_object_and_compares_equal() {
    let server = Gcs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    proxy.add(Rule::on("POST /upload", Act::LoseResponse).times(1));
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
async fn a_body_that_is_cut_goes_on_behind_the_last_byte() {
    let server = Gcs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let (key, body) = (key("object"), noise(3 << 20));
    store.put_if_absent(&key, body.clone()).await.unwrap();
    proxy.add(Rule::on("alt=media", Act::CutResponse(1_000_000)).times(2));
    assert!(read_all(store.as_ref(), &key, body.len()).await.unwrap() == body);
    let heads = proxy.heads();
    let gets: Vec<&String> = heads
        .iter()
        .filter(|head| head.contains("alt=media"))
        .collect();
    assert_eq!(gets.len(), 3);
    assert!(
        gets[1].contains("range: bytes=1000000-3145727"),
        "{}",
        gets[1]
    );
    assert!(gets[1].contains("generation=17"), "{}", gets[1]);
}

#[tokio::test]
async fn a_body_that_stalls_goes_on_and_one_that_always_stalls_ends() {
    let server = Gcs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let (key, body) = (key("object"), noise(1 << 20));
    store.put_if_absent(&key, body.clone()).await.unwrap();
    proxy.add(Rule::on("alt=media", Act::HangResponse(500_000)).times(1));
    assert!(read_all(store.as_ref(), &key, body.len()).await.unwrap() == body);

    proxy.add(Rule::on("alt=media", Act::HangResponse(0)));
    let error = read_all(store.as_ref(), &key, body.len())
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Stalled { at: 0, .. }),
        "{error:?}"
    );
    assert_eq!(error.retry_class(), RetryClass::Backoff);
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_not_mixed_with_another() {
    let server = Gcs::start();
    let proxy = Proxy::start(&server.address()).await;
    let store = through(&server, &proxy);
    let (key, body) = (key("object"), noise(1 << 20));
    store.put_if_absent(&key, body.clone()).await.unwrap();
    proxy.add(Rule::on("alt=media", Act::CutResponse(1_000)).times(1));
    let stream = store.get(&key, None).await.unwrap();
    server.replace("prefix/object", b"another");
    let read: Result<Vec<Bytes>, StoreError> = futures::TryStreamExt::try_collect(stream).await;
    let error = read.unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
}

#[tokio::test]
async fn tokens_that_are_refused_are_renewed_at_once() {
    let server = Gcs::start();
    let store = open(&server);
    let (key, body) = (key("object"), noise(1000));
    store.put_if_absent(&key, body.clone()).await.unwrap();
    server.revoke_tokens();
    assert!(store.head(&key).await.unwrap().is_some());
    server.revoke_tokens();
    assert!(read_all(store.as_ref(), &key, 1000).await.unwrap() == body);
}

/// One refusal by the token service ends what Google's crate does by itself, for good.
#[tokio::test]
async fn a_token_service_that_recovers_is_asked_again() {
    let server = Gcs::start();
    let store = open(&server);
    server.refuse_tokens(400, 1);
    let error = store.head(&key("object")).await.unwrap_err();
    assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
    assert_eq!(error.retry_class(), RetryClass::Backoff);
    assert_eq!(store.head(&key("object")).await.unwrap(), None);
}

/// The same, of credentials that worked before.
#[tokio::test]
async fn credentials_that_died_are_made_anew() {
    let server = Gcs::start();
    let store = open(&server);
    server.tokens_last(1);
    assert_eq!(store.head(&key("object")).await.unwrap(), None);
    server.refuse_tokens(400, 1);
    let begun = Instant::now();
    while server.refusals_left() > 0 {
        assert!(begun.elapsed() < Duration::from_mins(4), "no renewal");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(store.head(&key("object")).await.unwrap(), None);
}

/// Uploads go on without credentials: the session is the permission.
#[tokio::test]
async fn a_part_needs_no_token() {
    let server = Gcs::start();
    let store = open(&server);
    let upload = Begun::new(store.as_ref()).await;
    server.revoke_tokens();
    server.refuse_tokens(400, 100);
    upload.complete(store.as_ref()).await.unwrap();
}
