//! What a monitoring system may ask of a running archiver: `/metrics`, `/healthz`, `/readyz`.
//!
//! # Owns
//! The instruments, and the endpoint that shows them. Only this module knows the format. What is counted where it happens
//! is counted through a [`Meter`], which does nothing when there is no `[metrics]`; all else comes from the ledger's
//! picture and the archiver's own parts ([`Subject`]) when it is asked for.
//!
//! # Limits
//! A picture serves for [`FRESH`]; it is waited for no longer than [`PATIENCE`]. Labels are names from the configuration,
//! lanes, and words of this program: their number is bounded by the configuration. There is no authentication: let it
//! listen where only the monitoring system comes.
//!
//! # After a crash
//! Counters begin at zero, as those who read them expect.

mod endpoint;
mod instruments;
mod labels;
mod parity;
mod picture;
mod server;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use self::endpoint::Endpoint;
use self::instruments::Instruments;
use self::labels::{Attempt, Destination, Made, Source};
use crate::cloud::Lifetime;
use crate::layout::SourceIdentity;
use crate::ledger::Ledger;
use crate::parity::verdict::Verdict;
use crate::retry::RetryClass;

/// As long as a picture of the ledger serves scrapes.
pub const FRESH: Duration = Duration::from_secs(5);

/// Until then the ledger must have given one.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// An archiver that is measured.
pub trait Subject: Debug + Send + Sync {
    /// Its ledger.
    fn ledger(&self) -> &Ledger;
    /// Its key in the ledger.
    fn agent(&self) -> &str;
    /// What time it is.
    fn now(&self) -> Timestamp;
    /// Is this source configured here, and then: is it owned?
    fn owns(&self, source: &SourceIdentity) -> Option<bool>;
    /// `[spool] reserve`, in bytes.
    fn reserve(&self) -> u64;
    /// How many files may be sealed at once now.
    fn seal_places(&self) -> usize;
    /// How long credentials last, by what they are for.
    fn credentials(&self) -> Vec<(String, Lifetime)>;
}

/// Counts what happens. Cheap to clone; the default one counts nothing.
#[derive(Debug, Clone, Default)]
pub struct Meter(Option<Arc<Instruments>>);

impl Meter {
    /// A binlog file was sealed.
    pub fn sealed(&self, source: &str, plain: u64, sealed: u64, took: Duration) {
        let Some(instruments) = &self.0 else { return };
        let source = Source::new(source);
        let of = |family: &labels::Counters<Source>, by| {
            family.get_or_create(&source).inc_by(by);
        };
        of(&instruments.sealed_input_bytes, plain);
        of(&instruments.sealed_output_bytes, sealed);
        let durations = instruments.seal_duration.get_or_create(&source);
        durations.observe(took.as_secs_f64());
    }

    /// An object of so many bytes was brought to a destination and verified there.
    pub fn uploaded(&self, destination: &str, bytes: u64, took: Duration) {
        let Some(instruments) = &self.0 else { return };
        let destination = Destination::new(destination);
        let counter = instruments.uploaded_bytes.get_or_create(&destination);
        counter.inc_by(bytes);
        let durations = instruments.upload_duration.get_or_create(&destination);
        durations.observe(took.as_secs_f64());
    }

    /// An attempt at a file ended: committed, or failed with this class. `number` counts from 1.
    pub fn attempted(&self, destination: &str, number: u32, failed: Option<RetryClass>) {
        let Some(instruments) = &self.0 else { return };
        let outcome = match failed {
            None => "committed",
            Some(RetryClass::Never) => "never",
            Some(RetryClass::Backoff) => "backoff",
            Some(RetryClass::After(_)) => "after",
            Some(RetryClass::Cancelled) => "cancelled",
        };
        let label = Attempt {
            destination: destination.to_owned(),
            outcome,
        };
        instruments.attempts.get_or_create(&label).inc();
        if number > 1 {
            let retries = &instruments.retries;
            retries.get_or_create(&Destination::new(destination)).inc();
        }
    }

    /// A data key was asked for, from a key file or a key service.
    pub fn data_key(&self, made: bool) {
        self.count_data_key(if made { "made" } else { "failed" });
    }

    /// A data key's envelope was to be opened, by a key file or a key service.
    pub fn opened_data_key(&self, opened: bool) {
        self.count_data_key(if opened { "opened" } else { "unopened" });
    }

    fn count_data_key(&self, outcome: &'static str) {
        let Some(instruments) = &self.0 else { return };
        instruments.data_keys.get_or_create(&Made { outcome }).inc();
    }

    /// Parallel runs stand so now, by the names of their sources; those that are not named are over.
    pub fn parity(&self, runs: &[(String, Verdict)]) {
        let Some(instruments) = &self.0 else { return };
        let runs = runs.iter().map(|(source, run)| (source.as_str(), run));
        instruments.parity.show(runs);
    }

    /// A job's outcome was made durable.
    pub fn acknowledged(&self, took: Duration) {
        let Some(instruments) = &self.0 else { return };
        instruments.acknowledge_duration.observe(took.as_secs_f64());
    }
}
