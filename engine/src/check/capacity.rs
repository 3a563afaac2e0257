//! What the archiver can take, and whether it keeps up: memory at most, sealing and sending against what is written.
//!
//! The bound on memory is a sum of the code's own: what sealing holds, for each file that may be sealed at once, a part
//! for each upload, the database's page caches, and this program as it stands. What lists of files take
//! comes on top: some hundred bytes for each file in an index.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;

use super::sources::Observed;
use super::upload::Speed;
use crate::config::Config;
use crate::finding::Finding;
use crate::ledger::MAX_CONNECTIONS;
use crate::pipeline::pace::places_for;
use crate::pipeline::seal::{self, Trial};
use crate::store::part_size;

/// For measuring how fast sealing goes.
const BUDGET: Duration = Duration::from_secs(1);

/// SQLite's page cache of one connection, in bytes (its manual, `PRAGMA cache_size`: -2000 KiB).
const PAGE_CACHE: u64 = 2000 * 1024;

/// Whoever is less than this much faster than what is written catches up slowly after an outage.
const MARGIN: f64 = 2.0;

/// What the kernel says of this machine's memory, and of this process's.
const MACHINE: &str = "/proc/meminfo";
const PROCESS: &str = "/proc/self/status";

/// The limit of this control group (cgroup v2), where there is one.
const GROUP: &str = "/sys/fs/cgroup/memory.max";

pub(super) fn check(config: &Config, observed: &Observed, speeds: &[Speed]) -> Vec<Finding> {
    // Before what follows takes its own.
    let program = kibibytes(PROCESS, "VmRSS:").unwrap_or(0);
    let sample = observed.sources.first();
    let trial = sample
        .map(|closed| seal::try_sealing(&closed.newest, &config.cluster, config.level, BUDGET));
    let trial = match trial.transpose() {
        Ok(trial) => trial,
        Err(error) => {
            return vec![Finding::error(
                "seal-speed",
                "zstd and AES-256-GCM",
                &error.into(),
            )];
        }
    };
    let Some(trial) = trial else {
        let hint = "run it again when a server has closed a file (FLUSH BINARY LOGS)";
        let reason = "there is no closed binlog to measure with";
        return vec![Finding::warn(
            "seal-speed",
            "zstd and AES-256-GCM",
            reason,
            hint,
        )];
    };
    let mut found = vec![memory(config, observed.largest(), &trial, program)];
    found.push(seal_speed(config, observed, &trial));
    found.extend(
        speeds
            .iter()
            .map(|speed| upload_speed(observed, speed, &trial)),
    );
    found
}

/// Bytes that the archiver takes at most.
fn bound(uploads: u64, largest: u64, compressor: u64, program: u64) -> u64 {
    let one = seal::MEMORY.saturating_add(compressor);
    let sealing = one.saturating_mul(places_for(uploads));
    let sending = part_size(largest).saturating_mul(uploads);
    let caches = PAGE_CACHE.saturating_mul(u64::from(MAX_CONNECTIONS));
    let work = sealing.saturating_add(sending);
    work.saturating_add(caches).saturating_add(program)
}

fn memory(config: &Config, largest: u64, trial: &Trial, program: u64) -> Finding {
    let (check, subject) = ("memory", "gtide run");
    let uploads = config.uploads();
    let most = bound(uploads, largest, trial.compressor_bytes, program);
    let reason = format!(
        "{} at most: {uploads} lanes (lanes, times sources, times destinations), zstd level {}",
        ByteSize(most),
        config.level
    );
    let finding = match available() {
        Some(available) if available < most => {
            let reason = format!("{reason}; {} are available", ByteSize(available));
            let hint = "lower [queue] lanes or [compression] level, or give it more memory";
            Finding::warn(check, subject, reason, hint).with("available_bytes", available)
        }
        Some(available) => Finding::ok(check, subject, reason).with("available_bytes", available),
        None => Finding::ok(check, subject, reason),
    };
    finding.with("bytes_at_most", most)
}

fn available() -> Option<u64> {
    let machine = kibibytes(MACHINE, "MemAvailable:");
    let group = std::fs::read_to_string(Path::new(GROUP)).ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    [machine, group].into_iter().flatten().min()
}

/// The value of a line such as `VmRSS:  1234 kB`, in bytes.
fn kibibytes(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// What all servers together write, as far as it is known.
fn rate(observed: &Observed) -> Option<f64> {
    let rates = observed.sources.iter().filter_map(|closed| closed.rate);
    rates.reduce(|a, b| a + b)
}

fn seal_speed(config: &Config, observed: &Observed, trial: &Trial) -> Finding {
    let (speed, ratio) = (per_second(trial.bytes, trial.elapsed), ratio(trial));
    let subject = format!("zstd level {}", config.level);
    let seen = format!("{} by one lane, {ratio:.1} to 1", shown(speed));
    judge(
        "seal-speed",
        &subject,
        &seen,
        speed,
        rate(observed),
        "lower [compression] level",
    )
    .with("bytes_per_second", speed.round())
    .with("ratio", (ratio * 100.0).round() / 100.0)
}

fn upload_speed(observed: &Observed, speed: &Speed, trial: &Trial) -> Finding {
    let sent = speed.bytes_per_second;
    // What is sent is compressed.
    let written = rate(observed).map(|rate| rate / ratio(trial).max(f64::EPSILON));
    let seen = format!("{} by one lane", shown(sent));
    let hint = "look at the line to this destination, and at [queue] bandwidth-limit";
    judge("upload-speed", &speed.url, &seen, sent, written, hint)
        .with("bytes_per_second", sent.round())
}

/// `speed` of one lane against what must be kept up with, both in bytes per second.
fn judge(
    check: &'static str,
    subject: &str,
    seen: &str,
    speed: f64,
    needed: Option<f64>,
    hint: &str,
) -> Finding {
    let Some(needed) = needed else {
        let reason = format!("{seen}; too few closed files tell how much is written");
        return Finding::ok(check, subject, reason);
    };
    let reason = format!("{seen}; {} are needed", shown(needed));
    let finding = if speed < needed * MARGIN {
        Finding::warn(check, subject, reason, hint)
    } else {
        Finding::ok(check, subject, reason)
    };
    finding.with("needed_bytes_per_second", needed.round())
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn per_second(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / elapsed.as_secs_f64().max(f64::EPSILON)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn ratio(trial: &Trial) -> f64 {
    trial.bytes as f64 / (trial.sealed_bytes as f64).max(1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shown with three digits"
)]
fn shown(per_second: f64) -> String {
    format!("{}/s", ByteSize(per_second.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_bound_is_of_whole_lanes_and_grows_with_the_parts_of_huge_files() {
        let (part, caches) = (8 * MIB, PAGE_CACHE * u64::from(MAX_CONNECTIONS));
        let one = bound(1, 0, 0, 0);
        assert_eq!(one, seal::MEMORY + part + caches);
        let sealing = places_for(4) * seal::MEMORY;
        assert_eq!(bound(4, 0, 0, 0), sealing + 4 * part + caches);
        assert_eq!(bound(1, 0, MIB, MIB), one + 2 * MIB);
        // A binlog of a tebibyte has parts of 105 MiB.
        assert_eq!(bound(1, MIB * MIB, 0, 0), one + 97 * MIB);
    }

    #[test]
    fn whoever_does_not_keep_up_with_a_margin_is_warned() {
        let judged = |speed, needed| judge("seal-speed", "zstd", "x", speed, needed, "y").verdict;
        assert_eq!(judged(1.0, None), Verdict::Ok);
        assert_eq!(judged(10.0, Some(5.0)), Verdict::Ok);
        assert_eq!(judged(10.0, Some(5.1)), Verdict::Warn);
    }
}
