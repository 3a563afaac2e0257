//! Labels. Their values are names from the configuration, lanes, and words of this program.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

pub(super) type Counters<L> = Family<L, Counter>;
pub(super) type Counts<L> = Family<L, Gauge<i64, AtomicI64>>;
pub(super) type Seconds<L> = Family<L, Gauge<f64, AtomicU64>>;
pub(super) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// No label at all, for what may be absent.
pub(super) type Unlabelled = [(&'static str, &'static str); 0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    pub(super) version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Source {
    pub(super) source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Destination {
    pub(super) destination: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Route {
    pub(super) source: String,
    pub(super) destination: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Jobs {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) lane: u32,
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Attempt {
    pub(super) destination: String,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Made {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Judged {
    pub(super) source: String,
    pub(super) verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Standings {
    pub(super) source: String,
    pub(super) standing: &'static str,
}

/// A replication channel of a source's server; empty for the default one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Channel {
    pub(super) source: String,
    pub(super) channel: String,
}

/// Credentials of a destination (its URL) or of a key (its name).
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Account {
    pub(super) account: String,
}

impl Source {
    pub(super) fn new(source: &str) -> Self {
        let source = source.to_owned();
        Self { source }
    }
}

impl Destination {
    pub(super) fn new(destination: &str) -> Self {
        let destination = destination.to_owned();
        Self { destination }
    }
}
