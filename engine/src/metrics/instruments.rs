//! All instruments, by name. deploy/OPERATIONS.md has the same list for people; a test compares them.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use super::labels::{
    Account, Attempt, Build, Counters, Counts, Destination, Durations, Jobs, Made, Route, Seconds,
    Source, Unlabelled,
};
use super::parity::Parity;
use super::server::Servers;

/// What all names begin with.
const PREFIX: &str = "gtide";

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Instruments {
    pub(super) registry: Registry,
    // Counted where it happens.
    pub(super) attempts: Counters<Attempt>,
    pub(super) retries: Counters<Destination>,
    pub(super) uploaded_bytes: Counters<Destination>,
    pub(super) upload_duration: Durations<Destination>,
    pub(super) sealed_input_bytes: Counters<Source>,
    pub(super) sealed_output_bytes: Counters<Source>,
    pub(super) seal_duration: Durations<Source>,
    pub(super) data_keys: Counters<Made>,
    pub(super) acknowledge_duration: Histogram,
    pub(super) parity: Parity,
    // Looked at when asked for.
    pub(super) ledger_up: Gauge,
    pub(super) ledger_read: Gauge<f64, AtomicU64>,
    pub(super) source_owned: Counts<Source>,
    pub(super) newest_sequence: Counts<Source>,
    pub(super) queue_jobs: Counts<Jobs>,
    pub(super) watermark_sequence: Counts<Route>,
    pub(super) archived_through: Seconds<Route>,
    pub(super) lag_files: Counts<Route>,
    pub(super) lag_bytes: Counts<Route>,
    pub(super) lag_seconds: Seconds<Route>,
    pub(super) gaps: Counts<Route>,
    pub(super) stalled_files: Counts<Route>,
    pub(super) paused_lanes: Counts<Route>,
    pub(super) troubles: Counts<Route>,
    pub(super) seal_places: Counts<Unlabelled>,
    pub(super) spool: Spool,
    pub(super) servers: Servers,
    pub(super) credentials_expiry: Seconds<Account>,
    pub(super) credentials_renewal: Seconds<Account>,
}

/// Of this archiver's spool; without labels, and absent before it was counted first.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) free_bytes: Counts<Unlabelled>,
    pub(super) reserve_bytes: Counts<Unlabelled>,
    pub(super) pinned_files: Counts<Unlabelled>,
    pub(super) pinned_bytes: Counts<Unlabelled>,
    pub(super) sealed_files: Counts<Unlabelled>,
    pub(super) sealed_bytes: Counts<Unlabelled>,
    pub(super) waiting: Counts<Unlabelled>,
}

/// From 50 ms to nearly an hour; 30 s, which the alert asks about, is not far from a border (25.6 s).
fn long() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.0, 17))
}

/// From a millisecond to half a minute.
fn short() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// Registers an instrument, and gives it back.
pub(super) fn add<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Instruments {
    #[expect(clippy::too_many_lines, reason = "a list: each instrument once")]
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        let build: Counts<Build> = add(r, "build_info", "The program; always 1", Counts::default());
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&Build { version }).set(1);
        Self {
            attempts: add(
                r,
                "attempts",
                "Attempts at a file that ended, by outcome",
                Counters::default(),
            ),
            retries: add(
                r,
                "retries",
                "Attempts that were not a file's first",
                Counters::default(),
            ),
            uploaded_bytes: add(
                r,
                "uploaded_bytes",
                "Bytes of objects that were verified at a destination",
                Counters::default(),
            ),
            upload_duration: add(
                r,
                "upload_duration_seconds",
                "From the first request of an upload to its verification",
                Durations::new_with_constructor(long as fn() -> Histogram),
            ),
            sealed_input_bytes: add(
                r,
                "sealed_input_bytes",
                "Bytes of binlogs that were sealed",
                Counters::default(),
            ),
            sealed_output_bytes: add(
                r,
                "sealed_output_bytes",
                "Bytes of the objects that they became",
                Counters::default(),
            ),
            seal_duration: add(
                r,
                "seal_duration_seconds",
                "Reading, compressing and encrypting one file",
                Durations::new_with_constructor(long as fn() -> Histogram),
            ),
            data_keys: add(
                r,
                "data_keys",
                "Data keys that were made or opened, by a key file or a key service",
                Counters::default(),
            ),
            acknowledge_duration: add(
                r,
                "acknowledge_duration_seconds",
                "Making a job's outcome durable in the database",
                short(),
            ),
            parity: Parity::new(r),
            ledger_up: add(
                r,
                "ledger_up",
                "Whether the database could be read",
                Gauge::default(),
            ),
            ledger_read: add(
                r,
                "ledger_read_seconds",
                "How long reading it took",
                Gauge::default(),
            ),
            source_owned: add(
                r,
                "source_owned",
                "Whether this archiver owns the source; 0 while it stands by",
                Counts::default(),
            ),
            newest_sequence: add(
                r,
                "newest_sequence",
                "The newest closed file that was found",
                Counts::default(),
            ),
            queue_jobs: add(
                r,
                "queue_jobs",
                "Files in a lane, by state",
                Counts::default(),
            ),
            watermark_sequence: add(
                r,
                "watermark_sequence",
                "Everything up to this file is archived",
                Counts::default(),
            ),
            archived_through: add(
                r,
                "archived_through_timestamp_seconds",
                "Commit time of the last transaction that can be recovered",
                Seconds::default(),
            ),
            lag_files: add(
                r,
                "archive_lag_files",
                "Closed files that are not archived; 1000 stands for that many or more",
                Counts::default(),
            ),
            lag_bytes: add(r, "archive_lag_bytes", "Bytes in them", Counts::default()),
            lag_seconds: add(
                r,
                "archive_lag_seconds",
                "How long the first of them has waited",
                Seconds::default(),
            ),
            gaps: add(
                r,
                "gaps",
                "Runs of files that are missing between archived ones",
                Counts::default(),
            ),
            stalled_files: add(
                r,
                "stalled_files",
                "Files that failed too often, or need a person",
                Counts::default(),
            ),
            paused_lanes: add(
                r,
                "paused_lanes",
                "Lanes with files that a person stopped",
                Counts::default(),
            ),
            troubles: add(
                r,
                "troubles",
                "What keeps a source, or one of its destinations, from being archived",
                Counts::default(),
            ),
            seal_places: add(
                r,
                "seal_places",
                "Files that may be sealed at once now",
                Counts::default(),
            ),
            spool: Spool::new(r),
            servers: Servers::new(r),
            credentials_expiry: add(
                r,
                "credentials_expiry_timestamp_seconds",
                "When credentials expire that do",
                Seconds::default(),
            ),
            credentials_renewal: add(
                r,
                "credentials_renewal_timestamp_seconds",
                "From when on new ones are asked for",
                Seconds::default(),
            ),
            registry,
        }
    }

    /// Forgets what is looked at when it is asked for: what is gone must not be shown.
    pub(super) fn forget(&self) {
        self.source_owned.clear();
        self.newest_sequence.clear();
        self.queue_jobs.clear();
        self.seal_places.clear();
        for family in [
            &self.watermark_sequence,
            &self.lag_files,
            &self.lag_bytes,
            &self.gaps,
            &self.stalled_files,
            &self.paused_lanes,
            &self.troubles,
        ] {
            family.clear();
        }
        self.archived_through.clear();
        self.lag_seconds.clear();
        self.spool.forget();
        self.servers.forget();
        self.credentials_expiry.clear();
        self.credentials_renewal.clear();
    }
}

impl Spool {
    fn new(r: &mut Registry) -> Self {
        Self {
            free_bytes: add(
                r,
                "spool_free_bytes",
                "Bytes free for the spool",
                Counts::default(),
            ),
            reserve_bytes: add(
                r,
                "spool_reserve_bytes",
                "Bytes that sealing must leave free",
                Counts::default(),
            ),
            pinned_files: add(
                r,
                "spool_pinned_files",
                "Files that are held by a hard link",
                Counts::default(),
            ),
            pinned_bytes: add(r, "spool_pinned_bytes", "Bytes in them", Counts::default()),
            sealed_files: add(
                r,
                "spool_sealed_files",
                "Sealed objects on their way out",
                Counts::default(),
            ),
            sealed_bytes: add(r, "spool_sealed_bytes", "Bytes in them", Counts::default()),
            waiting: add(
                r,
                "spool_waiting",
                "Whether sealing waits for room",
                Counts::default(),
            ),
        }
    }

    fn forget(&self) {
        for family in [
            &self.free_bytes,
            &self.reserve_bytes,
            &self.pinned_files,
            &self.pinned_bytes,
            &self.sealed_files,
            &self.sealed_bytes,
            &self.waiting,
        ] {
            family.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DOCUMENT: &str = include_str!("../../../deploy/OPERATIONS.md");

    /// Name and type of every row of the document's table.
    fn documented() -> BTreeMap<String, String> {
        let rows = DOCUMENT
            .lines()
            .filter_map(|line| line.strip_prefix("| `gtide_"));
        let row = |row: &str| {
            let mut cells = row
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').to_owned());
            (cells.next().unwrap(), cells.next().unwrap())
        };
        rows.map(row).collect()
    }

    /// One of each, so that nothing is left out for being empty.
    fn fill(i: &Instruments) {
        let text = String::new;
        let route = Route {
            source: text(),
            destination: text(),
        };
        i.attempts
            .get_or_create(&Attempt {
                destination: text(),
                outcome: "committed",
            })
            .inc();
        let (to, from) = (Destination::new(""), Source::new(""));
        i.retries.get_or_create(&to).inc();
        i.uploaded_bytes.get_or_create(&to).inc();
        i.upload_duration.get_or_create(&to).observe(1.0);
        i.sealed_input_bytes.get_or_create(&from).inc();
        i.sealed_output_bytes.get_or_create(&from).inc();
        i.seal_duration.get_or_create(&from).observe(1.0);
        i.data_keys.get_or_create(&Made { outcome: "made" }).inc();
        let verdict = serde_json::json!({
            "verdict": "parity", "reasons": [], "hours_left": 0.0, "matched": 1, "late": 0, "pending": 0,
            "mismatched": 0, "only_cron": 0, "only_gtide": 0,
        });
        let verdict = serde_json::from_value(verdict).unwrap();
        i.parity.show([("db1", &verdict)].into_iter());
        i.source_owned.get_or_create(&from).set(1);
        i.newest_sequence.get_or_create(&from).set(1);
        let lane = Jobs {
            source: text(),
            destination: text(),
            lane: 0,
            state: "queued",
        };
        i.queue_jobs.get_or_create(&lane).set(1);
        for family in [
            &i.watermark_sequence,
            &i.lag_files,
            &i.lag_bytes,
            &i.gaps,
            &i.stalled_files,
            &i.paused_lanes,
            &i.troubles,
        ] {
            family.get_or_create(&route).set(1);
        }
        i.archived_through.get_or_create(&route).set(1.0);
        i.lag_seconds.get_or_create(&route).set(1.0);
        i.seal_places.get_or_create(&[]).set(1);
        let spool = &i.spool;
        for family in [
            &spool.free_bytes,
            &spool.reserve_bytes,
            &spool.pinned_files,
            &spool.pinned_bytes,
            &spool.sealed_files,
            &spool.sealed_bytes,
            &spool.waiting,
        ] {
            family.get_or_create(&[]).set(1);
        }
        i.servers.fill();
        let account = Account { account: text() };
        i.credentials_expiry.get_or_create(&account).set(1.0);
        i.credentials_renewal.get_or_create(&account).set(1.0);
    }

    /// Name, as its samples have it, and type.
    fn shown(instruments: &Instruments) -> BTreeMap<String, String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &instruments.registry).unwrap();
        let types = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE gtide_"));
        let named = |line: &str| {
            let (name, kind) = line.split_once(' ').unwrap();
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned())
        };
        types.map(named).collect()
    }

    #[test]
    fn what_is_documented_is_shown_and_nothing_else() {
        let instruments = Instruments::new();
        fill(&instruments);
        assert_eq!(shown(&instruments), documented());
        instruments.forget();
        let left = shown(&instruments);
        assert!(
            left.contains_key("attempts_total"),
            "counters stay: {left:?}"
        );
        assert!(!left.contains_key("queue_jobs") && !left.contains_key("spool_free_bytes"));
    }
}
