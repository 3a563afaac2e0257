//! Buckets with object lock. (moto knows no lock of an upload in parts; that it is asked for stands in `s3::options`.)

use std::sync::Arc;

use bytes::Bytes;
use engine::exit::Diagnose;
use engine::layout::ObjectKey;
use engine::store::{ObjectStore, S3Settings, StoreConfig, connect};

use crate::harness::Moto;

fn locking(moto: &Moto, bucket: &str) -> Arc<dyn ObjectStore> {
    connect(&StoreConfig {
        url: format!("s3://{bucket}/it"),
        endpoint: Some(moto.endpoint()),
        credentials: Some(format!("file:{}", moto.credentials_file().display())),
        s3: S3Settings {
            object_lock: Some("governance".to_owned()),
            retain_days: Some(3),
            ..S3Settings::default()
        },
        ..StoreConfig::default()
    })
    .unwrap()
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn what_is_written_to_a_bucket_with_object_lock_is_locked() {
    let moto = Moto::start();
    moto.create_bucket("locked", true);
    let store = locking(&moto, "locked");
    let put = ObjectKey::from_listing("put");
    let body = Bytes::from_static(b"an object");
    store.put_if_absent(&put, body).await.unwrap();
    let head = moto.object_head("locked/it/put");
    assert!(
        head.contains("x-amz-object-lock-mode: governance"),
        "{head}"
    );
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_bucket_without_object_lock_says_what_to_do() {
    let moto = Moto::start();
    moto.create_bucket("plain", false);
    let store = locking(&moto, "plain");
    let body = Bytes::from_static(b"an object");
    let key = ObjectKey::from_listing("put");
    let put = store.put_if_absent(&key, body);
    let error = put.await.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(
        hint.contains("leave `object-lock` and `retain-days` out"),
        "{error:?}"
    );
}
