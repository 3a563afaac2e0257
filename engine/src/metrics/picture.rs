//! What the ledger's picture says, as gauges.

use jiff::Timestamp;

use super::Subject;
use super::instruments::Instruments;
use super::labels::{Account, Jobs, Route, Source};
use crate::cloud::Lifetime;
use crate::ledger::{JobPicture, JobStatus, LanePicture, Picture, RoutePicture, SourcePicture};

/// A count as a gauge has it.
pub(super) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century fit"
)]
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

impl Instruments {
    /// Shows the sources that are configured here, as they are in the picture.
    pub(super) fn show(&self, picture: &Picture, subject: &dyn Subject) {
        for source in &picture.sources {
            if let Some(owned) = subject.owns(&source.identity) {
                self.show_source(picture, source, owned);
            }
        }
        self.show_troubles(picture, subject.agent());
        self.show_spool(picture, subject);
        let places = subject.seal_places() as u64;
        self.seal_places.get_or_create(&[]).set(count(places));
    }

    fn show_source(&self, picture: &Picture, source: &SourcePicture, owned: bool) {
        let label = Source::new(&source.name);
        self.source_owned
            .get_or_create(&label)
            .set(i64::from(owned));
        if let Some(newest) = source.newest {
            let gauge = self.newest_sequence.get_or_create(&label);
            gauge.set(count(newest.0));
        }
        let server = picture.servers.iter();
        for state in server.filter(|state| state.source == source.id) {
            self.servers.show(&label, state);
        }
        let paused = picture.paused_lanes();
        for route in &source.routes {
            let label = Route {
                source: source.name.clone(),
                destination: route.url.clone(),
            };
            self.show_route(&label, route, picture.taken);
            let is_of = |lane: &&LanePicture| {
                lane.name.route.source == source.id
                    && lane.name.route.destination == route.destination
            };
            let lanes: Vec<_> = picture.lanes.iter().filter(is_of).collect();
            let stopped = lanes
                .iter()
                .filter(|lane| paused.contains(&lane.name))
                .count();
            let gauge = self.paused_lanes.get_or_create(&label);
            gauge.set(count(stopped as u64));
            let stalled = lanes.iter().map(|lane| self.show_lane(&label, lane)).sum();
            self.stalled_files.get_or_create(&label).set(stalled);
        }
    }

    fn show_route(&self, label: &Route, route: &RoutePicture, now: Timestamp) {
        let backlog = &route.backlog;
        let set = |family: &super::labels::Counts<Route>, value| {
            family.get_or_create(label).set(count(value));
        };
        set(&self.lag_files, backlog.files);
        set(&self.lag_bytes, backlog.bytes);
        set(&self.gaps, route.gaps.len() as u64);
        let waited = backlog.since.filter(|_| backlog.files > 0);
        let waited = waited.map_or(0.0, |since| now.duration_since(since).as_secs_f64());
        self.lag_seconds.get_or_create(label).set(waited.max(0.0));
        if let Some(position) = &route.position {
            set(&self.watermark_sequence, position.watermark.0);
            if let Some(through) = position.through {
                let gauge = self.archived_through.get_or_create(label);
                gauge.set(seconds(through));
            }
        }
    }

    /// Only a lane's head can be more than queued, and heads are all in the picture. How many are stalled.
    fn show_lane(&self, label: &Route, lane: &LanePicture) -> i64 {
        let states = lane.heads.iter().map(state);
        let (mut running, mut failed, mut stalled) = (0, 0, 0);
        for state in states {
            match state {
                "running" => running += 1,
                "failed" => failed += 1,
                "stalled" => stalled += 1,
                _ => {}
            }
        }
        let queued = count(lane.queued).saturating_sub(running + failed + stalled);
        for (state, value) in [
            ("queued", queued),
            ("running", running),
            ("failed", failed),
            ("stalled", stalled),
        ] {
            let label = Jobs {
                source: label.source.clone(),
                destination: label.destination.clone(),
                lane: lane.name.lane,
                state,
            };
            self.queue_jobs.get_or_create(&label).set(value.max(0));
        }
        stalled
    }

    fn show_troubles(&self, picture: &Picture, agent: &str) {
        for trouble in picture.troubles.iter().filter(|t| t.agent == agent) {
            let label = Route {
                source: trouble.source.clone(),
                destination: trouble.destination.clone().unwrap_or_default(),
            };
            self.troubles.get_or_create(&label).inc();
        }
    }

    fn show_spool(&self, picture: &Picture, subject: &dyn Subject) {
        let ours = picture
            .agents
            .iter()
            .find(|agent| agent.report.key() == subject.agent());
        let Some(report) = ours.map(|agent| &agent.report) else {
            return;
        };
        let spool = &self.spool;
        for (family, value) in [
            (&spool.free_bytes, report.free_bytes),
            (&spool.reserve_bytes, subject.reserve()),
            (&spool.pinned_files, report.pinned_files),
            (&spool.pinned_bytes, report.pinned_bytes),
            (&spool.sealed_files, report.sealed_files),
            (&spool.sealed_bytes, report.sealed_bytes),
            (&spool.waiting, u64::from(report.paused.is_some())),
        ] {
            family.get_or_create(&[]).set(count(value));
        }
    }

    /// Those that do not expire are not shown.
    pub(super) fn show_credentials(&self, credentials: Vec<(String, Lifetime)>) {
        for (account, lifetime) in credentials {
            if let Lifetime::Until {
                expires,
                renewed_from,
            } = lifetime
            {
                let label = Account { account };
                let gauge = self.credentials_expiry.get_or_create(&label);
                gauge.set(seconds(expires));
                let gauge = self.credentials_renewal.get_or_create(&label);
                gauge.set(seconds(renewed_from));
            }
        }
    }
}

fn state(job: &JobPicture) -> &'static str {
    let stalled = job.failure.as_ref().is_some_and(|failure| failure.stalled);
    match job.status {
        JobStatus::Running => "running",
        JobStatus::Failed if stalled => "stalled",
        JobStatus::Failed => "failed",
        _ => "queued",
    }
}
