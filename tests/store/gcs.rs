//! The store contract over `gs://`, against a strict server of its protocol.

mod faults;

use std::sync::Arc;

use engine::store::{ObjectStore, StoreConfig, conformance, connect};

use crate::harness::Gcs;

/// The store of `server`, or of a proxy before it.
pub(crate) fn config(server: &Gcs, endpoint: String, prefix: &str) -> StoreConfig {
    StoreConfig {
        url: format!("gs://{}/{prefix}", Gcs::BUCKET),
        endpoint: Some(endpoint),
        region: None,
        credentials: Some(format!("file:{}", server.credentials_file().display())),
        ..StoreConfig::default()
    }
}

fn open(server: &Gcs) -> Arc<dyn ObjectStore> {
    connect(&config(server, server.endpoint(), "prefix")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_keeps_the_contract() {
    let server = Gcs::start();
    let config = config(&server, server.endpoint(), "my%20archive/deep");
    conformance::all(&|| connect(&config).unwrap(), "contract/").await;
}
