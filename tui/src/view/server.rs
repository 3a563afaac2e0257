//! The server beside the archive, as it said last: what it may forget, what it will remove, what it has that the archive has
//! not, and where it replicates from.

use engine::ledger::{ExpiryReport, PurgeReport, ServerReport, ServerState};
use jiff::Timestamp;

use crate::words::{bytes, count, moment, printable, since, span, until};

/// Channels that are told of.
const MAX_CHANNELS: usize = 8;

/// What, and what of it, the most needed first.
pub(crate) fn lines(server: &ServerState, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(silence) = &server.silence {
        let words = format!(
            "since {}: {}",
            moment(silence.since),
            printable(&silence.error)
        );
        lines.push(("SILENT", words));
    }
    let Some((answered, report)) = &server.answer else {
        return lines;
    };
    lines.push(("may go", may_go(report.purge.as_ref(), now)));
    lines.push(("expires", expires(report.expiry.as_ref(), now)));
    lines.push(("not archived", waiting(report)));
    for channel in report.channels.iter().take(MAX_CHANNELS) {
        let lag = channel.lag_seconds.map_or_else(
            || "nothing to apply".to_owned(),
            |seconds| format!("lag {}", span(i64::try_from(seconds).unwrap_or(i64::MAX))),
        );
        let (receiver, applier) = (printable(&channel.receiver), printable(&channel.applier));
        let mut words = format!(
            "{}: {lag}, receiver {receiver}, applier {applier}",
            printable(&channel.from)
        );
        if let Some(error) = &channel.error {
            words = format!("{words}: {}", printable(error));
        }
        lines.push(("replicates", words));
    }
    let role = if report.is_writable {
        "writable"
    } else {
        "read only"
    };
    let readers = count(u64::from(report.readers), "reader", "readers");
    lines.push((
        "answered",
        format!(
            "{} ago: {}, {role}, gtid_mode {}, {readers}",
            since(*answered, now),
            printable(&report.version),
            printable(&report.gtid_mode),
        ),
    ));
    lines
}

fn may_go(purge: Option<&PurgeReport>, now: Timestamp) -> String {
    let Some(purge) = purge else {
        return "not looked at yet".to_owned();
    };
    let stays = printable(&purge.stays);
    let age = since(purge.at, now);
    match &purge.up_to {
        Some(file) => format!(
            "up to {} ({}, {}); stays: {stays} ({age} ago)",
            printable(file),
            count(purge.files, "file", "files"),
            bytes(purge.bytes),
        ),
        None => format!("none; stays: {stays} ({age} ago)"),
    }
}

fn expires(expiry: Option<&ExpiryReport>, now: Timestamp) -> String {
    let Some(expiry) = expiry else {
        return "nothing that is not archived".to_owned();
    };
    let danger = if expiry.in_danger { "DANGER: " } else { "" };
    let pin = if expiry.is_pinned {
        "pinned"
    } else {
        "NOT pinned"
    };
    format!(
        "{danger}{} {}, {pin}, at {}",
        printable(&expiry.file_name),
        until(expiry.at, now),
        moment(expiry.at),
    )
}

fn waiting(report: &ServerReport) -> String {
    match report.waiting_transactions {
        0 => "nothing: all of gtid_executed is archived".to_owned(),
        number => format!(
            "{}: {}",
            count(number, "transaction", "transactions"),
            printable(&report.waiting)
        ),
    }
}
