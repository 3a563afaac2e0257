//! The store contract against a real S3 server, and both backends against what breaks: connections
//! that are reset, cut, stalled, answers that are lost, and processes that are killed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test suite"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod faults;
mod gcs;
mod killed;
mod locked;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::layout::ObjectKey;
use engine::store::{
    ObjectStore, StoreConfig, Timeouts, conformance, connect, connect_with_timeouts,
};
use harness::{Proxy, SeaweedFs};

fn key(key: &str) -> ObjectKey {
    ObjectKey::from_listing(key)
}

/// Bytes that are different everywhere.
fn noise(size: usize) -> Bytes {
    let words = (0_u32..).map(|n| {
        n.wrapping_mul(0x9E37_79B9)
            .rotate_left(n % 31)
            .to_le_bytes()
    });
    words.flatten().take(size).collect()
}

/// The store of `server`, or of a proxy before it.
fn config(server: &SeaweedFs, endpoint: String, prefix: &str) -> StoreConfig {
    StoreConfig {
        url: format!("s3://{}/{prefix}", SeaweedFs::BUCKET),
        endpoint: Some(endpoint),
        region: None,
        credentials: Some(format!("file:{}", server.credentials_file().display())),
        ..StoreConfig::default()
    }
}

/// For peers that fall silent: nobody is waited for who would answer.
fn short() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(1),
        attempt: Duration::from_secs(2),
        slowest_bytes_per_second: 16 << 20,
        complete: Duration::from_secs(2),
        idle: Duration::from_secs(1),
    }
}

/// Between two pieces of a body, for a client behind a proxy.
const IDLE: Duration = Duration::from_secs(2);

/// A client that speaks to `proxy`, patient with a loaded machine but for silence within a body.
fn through(server: &SeaweedFs, proxy: &Proxy) -> Arc<dyn ObjectStore> {
    let timeouts = Timeouts {
        idle: IDLE,
        ..Timeouts::default()
    };
    connect_with_timeouts(&config(server, proxy.endpoint(), "faults"), timeouts).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_real_s3_server_keeps_the_contract() {
    let server = SeaweedFs::start();
    let config = config(&server, server.endpoint(), "my%20archive/deep");
    conformance::all(&|| connect(&config).unwrap(), "contract/").await;
}

#[tokio::test]
#[ignore = "needs the lab: tests/lab/install"]
async fn prefixes_in_one_bucket_do_not_see_each_other() {
    let server = SeaweedFs::start();
    let open = |prefix: &str| connect(&config(&server, server.endpoint(), prefix)).unwrap();
    let (one, other) = (open("one"), open("one-more"));
    one.put_if_absent(&key("a"), "of one".into()).await.unwrap();
    other
        .put_if_absent(&key("a"), "of the other".into())
        .await
        .unwrap();
    let folders = open("").list_prefixes("").await.unwrap();
    assert_eq!(folders, ["one-more/", "one/"]);
    assert_eq!(one.list_prefixes("").await.unwrap(), Vec::<String>::new());
    let size = |meta: Option<engine::store::ObjectMeta>| meta.unwrap().size;
    assert_eq!(size(one.head(&key("a")).await.unwrap()), 6);
    assert_eq!(size(other.head(&key("a")).await.unwrap()), 12);
}
