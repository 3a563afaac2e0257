//! What the servers beside the archive say, as gauges: absent for a source that names no server.

use prometheus_client::registry::Registry;

use super::instruments::add;
use super::labels::{Channel, Counts, Seconds, Source};
use super::picture::{count, seconds};
use crate::gtid::GtidSet;
use crate::ledger::{ServerReport, ServerState};

/// Of the servers of sources.
#[derive(Debug)]
pub(super) struct Servers {
    up: Counts<Source>,
    waiting: Counts<Source>,
    lost: Counts<Source>,
    unknown: Counts<Source>,
    errant: Counts<Source>,
    expiry: Seconds<Source>,
    expiry_danger: Counts<Source>,
    channel_up: Counts<Channel>,
    channel_lag: Counts<Channel>,
}

impl Servers {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            up: add(
                r,
                "server_up",
                "Whether the source's server answers",
                Counts::default(),
            ),
            waiting: add(
                r,
                "server_waiting_transactions",
                "Executed there, and not archived yet",
                Counts::default(),
            ),
            lost: add(
                r,
                "server_lost_transactions",
                "Purged there before they were archived",
                Counts::default(),
            ),
            unknown: add(
                r,
                "server_unknown_transactions",
                "Archived, and not executed there",
                Counts::default(),
            ),
            errant: add(
                r,
                "server_errant_transactions",
                "Executed by its replicas, and not by it",
                Counts::default(),
            ),
            expiry: add(
                r,
                "server_expiry_timestamp_seconds",
                "When the server may remove its oldest file that is not archived",
                Seconds::default(),
            ),
            expiry_danger: add(
                r,
                "server_expiry_danger",
                "Whether little of its time is left",
                Counts::default(),
            ),
            channel_up: add(
                r,
                "server_channel_up",
                "Whether a replication channel receives and applies",
                Counts::default(),
            ),
            channel_lag: add(
                r,
                "server_channel_lag_seconds",
                "Age of the transaction that a replication channel applies",
                Counts::default(),
            ),
        }
    }

    pub(super) fn forget(&self) {
        for family in [
            &self.up,
            &self.waiting,
            &self.lost,
            &self.unknown,
            &self.errant,
            &self.expiry_danger,
        ] {
            family.clear();
        }
        self.expiry.clear();
        self.channel_up.clear();
        self.channel_lag.clear();
    }

    /// The server of a source. Of one that is silent, what it said last is not shown.
    pub(super) fn show(&self, source: &Source, state: &ServerState) {
        let answer = state.answer.as_ref().filter(|_| state.silence.is_none());
        let up = i64::from(answer.is_some());
        self.up.get_or_create(source).set(up);
        if let Some((_, report)) = answer {
            self.show_report(source, report);
        }
    }

    fn show_report(&self, source: &Source, report: &ServerReport) {
        let errant = report.errant.iter().map(|errant| gtids(&errant.gtids));
        for (family, value) in [
            (&self.waiting, count(report.waiting_transactions)),
            (&self.lost, gtids(&report.never_archived)),
            (&self.unknown, gtids(&report.unknown_to_server)),
            (&self.errant, errant.fold(0, i64::saturating_add)),
        ] {
            family.get_or_create(source).set(value);
        }
        let danger = report
            .expiry
            .as_ref()
            .is_some_and(|expiry| expiry.in_danger);
        self.expiry_danger
            .get_or_create(source)
            .set(i64::from(danger));
        if let Some(expiry) = &report.expiry {
            self.expiry.get_or_create(source).set(seconds(expiry.at));
        }
        for channel in &report.channels {
            let label = Channel {
                source: source.source.clone(),
                channel: channel.name.clone(),
            };
            let is_up = channel.receiver == "ON" && channel.applier == "ON";
            self.channel_up.get_or_create(&label).set(i64::from(is_up));
            if let Some(lag) = channel.lag_seconds {
                self.channel_lag.get_or_create(&label).set(count(lag));
            }
        }
    }

    /// One of each.
    #[cfg(test)]
    pub(super) fn fill(&self) {
        let source = Source::new("");
        for family in [
            &self.up,
            &self.waiting,
            &self.lost,
            &self.unknown,
            &self.errant,
            &self.expiry_danger,
        ] {
            family.get_or_create(&source).set(1);
        }
        self.expiry.get_or_create(&source).set(1.0);
        let channel = Channel {
            source: String::new(),
            channel: String::new(),
        };
        self.channel_up.get_or_create(&channel).set(1);
        self.channel_lag.get_or_create(&channel).set(1);
    }
}

/// How many transactions are in a set as it is stored. One that cannot be read is no set, and not empty: it counts as many.
fn gtids(set: &str) -> i64 {
    set.parse::<GtidSet>().map_or(i64::MAX, |set| {
        i64::try_from(set.count()).unwrap_or(i64::MAX)
    })
}
