//! AWS credentials that are renewed ahead of their expiry.
//!
//! The SDK's own cache waits until the last seconds, and a failed renewal fails the request although the old
//! credentials are still valid; nor does it ask again when the service refuses what it has.
//!
//! # Invariants
//! - One renewal at a time, however many ask.
//! - While credentials are valid nobody waits for new ones, and no failure to renew them fails anyone.
//!
//! # Limits
//! They are renewed when somebody asks for them: an archiver at rest lets them expire, and the next request waits for
//! new ones.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use jiff::Timestamp;

use super::Lifetime;

/// Credentials that do not say when they expire are read again after this time: a file may have been replaced.
const LOOK_AGAIN: Duration = Duration::from_mins(15);

/// After a renewal that failed, while the old credentials are valid; less when they are about to expire.
const PAUSE: Duration = Duration::from_secs(10);

/// They are never asked for more often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// For an answer of whoever gives out credentials: the SDK's own time-outs are for one attempt each.
const PATIENCE: Duration = Duration::from_secs(30);

/// Credentials for any number of clients.
#[derive(Clone)]
pub(crate) struct Renewed(Arc<Shared>);

struct Shared {
    source: SharedCredentialsProvider,
    /// How long before their expiry.
    ahead: Duration,
    current: Mutex<Option<Current>>,
    renewing: tokio::sync::Mutex<()>,
    /// The service did not take the current ones.
    is_refused: AtomicBool,
}

#[derive(Clone)]
struct Current {
    credentials: Credentials,
    renew_at: SystemTime,
}

impl Current {
    fn new(credentials: Credentials, ahead: Duration, now: SystemTime) -> Self {
        let renew_in = match credentials.expiry() {
            None => LOOK_AGAIN,
            Some(expiry) => {
                let lifetime = expiry.duration_since(now).unwrap_or_default();
                // Never at once again: some live no longer than others are renewed ahead.
                lifetime.saturating_sub(ahead.min(lifetime / 2))
            }
        };
        Self {
            credentials,
            renew_at: now + renew_in,
        }
    }

    /// Before they are asked for again: soon enough that they are still valid then.
    fn pause(&self, now: SystemTime) -> Duration {
        let expiry = self.credentials.expiry();
        let left = expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default());
        left.map_or(PAUSE, |left| (left / 2).clamp(SHORTEST_PAUSE, PAUSE))
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.credentials.expiry().is_none_or(|expiry| now < expiry)
    }
}

impl Renewed {
    /// Renews what `source` gives, `ahead` of its expiry.
    pub(crate) fn new(source: SharedCredentialsProvider, ahead: Duration) -> Self {
        Self(Arc::new(Shared {
            source,
            ahead,
            current: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
            is_refused: AtomicBool::new(false),
        }))
    }

    /// Makes the next request ask for credentials anew: the service refused those that it was given.
    pub(crate) fn refuse(&self) {
        self.0.is_refused.store(true, Ordering::Relaxed);
    }

    /// How long the ones last that were given last.
    pub(crate) fn lifetime(&self) -> Lifetime {
        let current = self.0.current();
        let Some(current) = current.as_ref() else {
            return Lifetime::None;
        };
        let expires = current.credentials.expiry().map(Timestamp::try_from);
        match (expires, Timestamp::try_from(current.renew_at)) {
            (Some(Ok(expires)), Ok(renewed_from)) => Lifetime::Until {
                expires,
                renewed_from,
            },
            _ => Lifetime::Unending,
        }
    }

    async fn get(self) -> Result<Credentials, CredentialsError> {
        let now = wall_clock();
        let current = self.0.current().clone();
        let is_refused = self.0.is_refused.swap(false, Ordering::Relaxed);
        if is_refused {
            *self.0.current() = None;
        }
        match current {
            Some(current) if !is_refused && current.is_valid(now) => {
                if now >= current.renew_at {
                    self.renew_meanwhile();
                }
                Ok(current.credentials)
            }
            _ => self.0.renew(now).await,
        }
    }

    /// Renews them while the old ones serve.
    fn renew_meanwhile(&self) {
        if self.0.renewing.try_lock().is_err() {
            return;
        }
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Err(error) = shared.renew(wall_clock()).await {
                let error = crate::exit::chain(&error);
                tracing::warn!(
                    error,
                    "credentials could not be renewed ahead of time: asked again soon"
                );
            }
        });
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New credentials, unless somebody had got them after `asked` while this waited.
    async fn renew(&self, asked: SystemTime) -> Result<Credentials, CredentialsError> {
        let _one = self.renewing.lock().await;
        if let Some(current) = self.current().as_ref()
            && current.renew_at > asked
            && current.is_valid(asked)
        {
            return Ok(current.credentials.clone());
        }
        let renewed = tokio::time::timeout(PATIENCE, self.source.provide_credentials()).await;
        let renewed =
            renewed.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(PATIENCE)));
        let now = wall_clock();
        match renewed {
            Ok(credentials) => {
                let new = Current::new(credentials.clone(), self.ahead, now);
                *self.current() = Some(new);
                Ok(credentials)
            }
            Err(error) => {
                if let Some(old) = self.current().as_mut() {
                    old.renew_at = now + old.pause(now);
                }
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewed(…)")
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.clone().get())
    }
}

/// Whoever gives out credentials says when they expire by the wall clock, and so does the SDK ask.
#[expect(
    clippy::disallowed_methods,
    reason = "the SDK's type, compared with the SDK's times"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Gives out credentials of this lifetime and counts them; fails when told to.
    #[derive(Debug, Clone, Default)]
    struct Giver(Arc<Given>);

    #[derive(Debug, Default)]
    struct Given {
        lifetime: Option<Duration>,
        count: AtomicU32,
        fails: AtomicBool,
    }

    impl ProvideCredentials for Giver {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if self.0.fails.load(Ordering::SeqCst) {
                    return Err(CredentialsError::provider_error("down"));
                }
                let nth = self.0.count.fetch_add(1, Ordering::SeqCst);
                let expiry = self.0.lifetime.map(|lifetime| wall_clock() + lifetime);
                Ok(Credentials::new(
                    format!("{nth}"),
                    "secret",
                    None,
                    expiry,
                    "test",
                ))
            })
        }
    }

    fn renewed(lifetime: Option<Duration>, ahead: Duration) -> (Arc<Given>, Renewed) {
        let given = Arc::new(Given {
            lifetime,
            ..Given::default()
        });
        let source = SharedCredentialsProvider::new(Giver(Arc::clone(&given)));
        (given, Renewed::new(source, ahead))
    }

    async fn id(renewed: &Renewed) -> String {
        let credentials = renewed.provide_credentials().await.unwrap();
        credentials.access_key_id().to_owned()
    }

    #[tokio::test]
    async fn many_that_ask_at_once_are_served_by_one_renewal() {
        let (giver, renewed) = renewed(None, Duration::ZERO);
        let asked = (0..100).map(|_| id(&renewed));
        let ids = futures::future::join_all(asked).await;
        assert!(ids.iter().all(|id| id == "0"), "{ids:?}");
        assert_eq!(giver.count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn they_are_renewed_ahead_and_nobody_waits() {
        let (giver, renewed) = renewed(Some(Duration::from_secs(100)), Duration::from_secs(100));
        assert_eq!(id(&renewed).await, "0");
        // Half of their life is the earliest.
        assert_eq!(id(&renewed).await, "0");
        renewed.0.current().as_mut().unwrap().renew_at = wall_clock();
        assert_eq!(id(&renewed).await, "0", "the old ones serve meanwhile");
        while giver.count.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while id(&renewed).await == "0" {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_failed_renewal_fails_nobody_while_the_old_ones_are_valid() {
        let (giver, renewed) = renewed(Some(Duration::from_secs(100)), Duration::from_secs(10));
        assert_eq!(id(&renewed).await, "0");
        giver.fails.store(true, Ordering::SeqCst);
        renewed.0.current().as_mut().unwrap().renew_at = wall_clock();
        for _ in 0..10 {
            assert_eq!(id(&renewed).await, "0");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let current = renewed.0.current().clone().unwrap();
        assert!(current.renew_at > wall_clock(), "asked again, in a while");
    }

    #[tokio::test]
    async fn refused_ones_are_given_to_nobody_again() {
        let (_giver, renewed) = renewed(None, Duration::ZERO);
        assert_eq!(id(&renewed).await, "0");
        renewed.refuse();
        assert_eq!(id(&renewed).await, "1");
        assert_eq!(id(&renewed).await, "1");
    }

    #[tokio::test]
    async fn expired_ones_are_waited_for() {
        let (_giver, renewed) = renewed(Some(Duration::from_millis(50)), Duration::from_millis(10));
        assert_eq!(id(&renewed).await, "0");
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(id(&renewed).await, "1");
    }
}
