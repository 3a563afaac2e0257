//! The keys: a data key is made with the current one and opened again, as for every file.

use super::{lifetime, within};
use crate::clock::Clock;
use crate::config::Config;
use crate::finding::Finding;
use crate::keyring::Keyring;

pub(super) async fn check(config: &Config, clock: &dyn Clock) -> Vec<Finding> {
    let check = "key";
    let keyring = match Keyring::open(&config.encryption) {
        Ok(keyring) => keyring,
        Err(error) => return vec![Finding::error(check, "[encryption]", &error.into())],
    };
    let current = keyring.current();
    let tried = within(Box::pin(keyring.try_current(&config.cluster))).await;
    let mut found = vec![match tried {
        Ok(id) => {
            let reason = format!("a data key was wrapped and opened again by {id}");
            Finding::ok(check, &current, reason)
        }
        Err(error) => Finding::error(check, &current, &error),
    }];
    let lifetimes = keyring.credentials().into_iter();
    found.extend(
        lifetimes.filter_map(|(key, last)| {
            lifetime::finding("key-credentials", &key, last, clock.now())
        }),
    );
    found
}
