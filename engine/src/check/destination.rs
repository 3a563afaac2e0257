//! One destination: everything that the archiver will ask of it, asked once with objects of the check's own.
//!
//! It is the contract of [`crate::store`], as far as one probe can show it: what an archive stands on is that nothing is
//! overwritten, neither by a put nor by an upload in parts.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::SignedDuration;
use uuid::Uuid;

use super::upload::{self, Speed};
use super::{lifetime, within};
use crate::clock::Clock;
use crate::config::{Config, DestinationConfig};
use crate::exit::Exit;
use crate::finding::Finding;
use crate::layout::ProbeKey;
use crate::store::{self, Bandwidth, ObjectStore, StoreError};

/// Clocks that differ by more are told of. S3 refuses requests at 15 minutes (`RequestTimeTooSkewed`).
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// What the first probe holds, and what must never take its place.
const BODY: &[u8] = b"gtide check: may be deleted";
const OTHER_BODY: &[u8] = b"gtide check: this must never be seen";

/// Why a store that overwrites is no place for an archive.
const OVERWRITES: &str = "this store ignores conditional writes (If-None-Match, ifGenerationMatch): two archivers could \
                          overwrite each other's files. Use another one, or a version of it that knows them";

/// A destination under test.
pub(super) struct Trial<'a> {
    pub(super) store: &'a dyn ObjectStore,
    /// Put whole.
    small: ProbeKey,
    /// Uploaded in parts.
    pub(super) large: ProbeKey,
}

impl Trial<'_> {
    pub(super) fn url(&self) -> &str {
        self.store.url()
    }

    pub(super) fn ok(&self, check: &'static str, reason: impl Into<String>) -> Finding {
        Finding::ok(check, self.url(), reason)
    }

    pub(super) fn error(&self, check: &'static str, error: &anyhow::Error) -> Finding {
        Finding::error(check, self.url(), error)
    }

    pub(super) fn overwrites(&self, check: &'static str, key: &ProbeKey) -> Finding {
        let reason = format!("{} was overwritten", key.key());
        Finding::fail(check, self.url(), Exit::Usage, reason, OVERWRITES)
    }
}

/// What was found, and how fast it takes what is sent.
pub(super) async fn check(
    config: &Config,
    destination: &DestinationConfig,
    clock: &dyn Clock,
) -> (Vec<Finding>, Option<Speed>) {
    let limit = config.queue.bandwidth_limit;
    let bandwidth = limit.and_then(|limit| Bandwidth::new(limit, config.uploads()));
    let store = match store::connect_within(&destination.store, bandwidth.map(Arc::new)) {
        Ok(store) => store,
        Err(error) => {
            let url = &destination.store.url;
            return (
                vec![Finding::error("destination-put", url, &error.into())],
                None,
            );
        }
    };
    let probe = || ProbeKey::new(&config.cluster, Uuid::new_v4());
    let trial = Trial {
        store: store.as_ref(),
        small: probe(),
        large: probe(),
    };
    let mut found = vec![put(&trial).await];
    let mut speed = None;
    // A store that takes nothing may still be read: a wrong bucket is told from a right that is missing.
    if found.iter().all(|finding| finding.exit == Exit::Ok) {
        found.push(put_again(&trial).await);
        found.push(read(&trial).await);
        let (uploaded, took) = upload::check(&trial).await;
        found.extend(uploaded);
        speed = took;
        found.push(list(&trial, &config.cluster).await);
        found.push(remove(&trial, speed.is_some()).await);
    } else {
        found.push(list(&trial, &config.cluster).await);
    }
    found.extend(time(&trial, clock).await);
    let lifetime = store.credentials();
    found.extend(lifetime::finding(
        "destination-credentials",
        trial.url(),
        lifetime,
        clock.now(),
    ));
    (found, speed)
}

async fn put(trial: &Trial<'_>) -> Finding {
    let check = "destination-put";
    let body = Bytes::from_static(BODY);
    match within(trial.store.put_if_absent(trial.small.key(), body)).await {
        Ok(()) => trial.ok(check, format!("{} was written", trial.small.key())),
        Err(error) => trial.error(check, &error),
    }
}

async fn put_again(trial: &Trial<'_>) -> Finding {
    let check = "destination-no-overwrite";
    let body = Bytes::from_static(OTHER_BODY);
    let put = within(trial.store.put_if_absent(trial.small.key(), body)).await;
    match put {
        Ok(()) => trial.overwrites(check, &trial.small),
        Err(error) if is_taken(&error) => {
            trial.ok(check, "a second put of the same key was refused")
        }
        Err(error) => trial.error(check, &error),
    }
}

pub(super) fn is_taken(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<StoreError>(),
        Some(StoreError::AlreadyExists { .. })
    )
}

async fn read(trial: &Trial<'_>) -> Finding {
    let check = "destination-read";
    let read = store::read_all(trial.store, trial.small.key(), BODY.len());
    match within(read).await {
        Ok(bytes) if bytes == BODY => trial.ok(check, "what was written was read back"),
        Ok(_) => {
            let reason = format!(
                "{}: other bytes than those that were written",
                trial.small.key()
            );
            let hint =
                "what is between here and the store changes bodies, or somebody else wrote there";
            Finding::fail(check, trial.url(), Exit::Corrupt, reason, hint)
        }
        Err(error) => trial.error(check, &error),
    }
}

async fn list(trial: &Trial<'_>, cluster: &crate::layout::ClusterName) -> Finding {
    let check = "destination-list";
    let prefix = ProbeKey::prefix(cluster);
    let listed = trial.store.list(&prefix, None);
    let listed = listed.try_collect::<Vec<_>>();
    match within(listed).await {
        Ok(listed) => trial.ok(
            check,
            format!("{prefix} was listed, {} probes", listed.len()),
        ),
        Err(error) => trial.error(check, &error),
    }
}

/// That it may not delete is well: an archive is safer so.
async fn remove(trial: &Trial<'_>, has_large: bool) -> Finding {
    let check = "destination-remove";
    let large = Some(&trial.large).filter(|_| has_large);
    let mut left = Vec::new();
    let mut why = None;
    for probe in [&trial.small].into_iter().chain(large) {
        if let Err(error) = within(trial.store.remove_probe(probe)).await {
            left.push(probe.key().to_string());
            why = Some(error);
        }
    }
    match why {
        None => trial.ok(check, "the probes were removed"),
        Some(error) => {
            let names = left.join(" and ");
            let reason = format!("{names} stay, which is well for an archive: {error:#}");
            trial.ok(check, reason).with("left", left)
        }
    }
}

/// Of the clocks here and there.
async fn time(trial: &Trial<'_>, clock: &dyn Clock) -> Option<Finding> {
    let check = "clock";
    let before = clock.now();
    let told = match within(trial.store.time()).await {
        Ok(told) => told?,
        // It was said already why it cannot be listed.
        Err(_) => return None,
    };
    let after = clock.now();
    // The answer was given between the two; the service tells whole seconds.
    let ahead = if told > after {
        told.duration_since(after)
    } else {
        told.duration_since(before).min(SignedDuration::ZERO)
    };
    let seconds = ahead.as_secs();
    let finding = if ahead.abs() > SKEW {
        let reason = format!(
            "this machine's clock is {} seconds from the service's",
            seconds.abs()
        );
        let hint = "set the clock (chronyc, timedatectl): requests are refused at a quarter of an hour, and retention and \
                    lag are told by it";
        Finding::warn(check, trial.url(), reason, hint)
    } else {
        trial.ok(check, "this machine's clock and the service's agree")
    };
    Some(finding.with("service_ahead_seconds", seconds))
}
