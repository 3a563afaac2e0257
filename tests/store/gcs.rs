//! The store contract over `gs://`, against a strict server of its protocol.

mod faults;

use std::sync::Arc;

use engine::store::{ObjectStore, StoreConfig, conformance, connect};

use crate::harness::{Gcs, GcsEmulator};

/// What gcp-storage-emulator cannot judge: it knows no precondition and no range behind an object's end, lists
/// from the beginning only, checks no hash, and keeps a session that was given up.
const BEYOND_THE_EMULATOR: [&str; 12] = [
    "put-once",
    "race",
    "empty",
    "ranges",
    "odd keys",
    "listing",
    "order",
    "upload",
    "upload-taken",
    "abort",
    "wrong-bytes",
    "pending",
];

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

/// A second opinion, by a server that others wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the lab: tests/lab/install"]
async fn gcp_storage_emulator_keeps_the_contract_where_it_knows_it() {
    let (tokens, server) = (Gcs::start(), GcsEmulator::start());
    let config = config(&tokens, server.endpoint(), "my%20archive/deep");
    for rule in conformance::RULES {
        if !BEYOND_THE_EMULATOR.contains(&rule) {
            conformance::one(rule, &|| connect(&config).unwrap(), "contract/").await;
        }
    }
}
