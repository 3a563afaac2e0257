//! The servers beside the archive: one row for each that an archiver asks.

use comfy_table::Table;
use jiff::Timestamp;
use serde::Serialize;

use super::{Finding, new_table, or_dash};
use crate::exit::Exit;
use crate::ledger::{
    ChannelReport, Errant, ExpiryReport, ServerReport, ServerState, Silence, SourceStatus,
};

/// One source's server, as it answered last.
#[derive(Debug, Serialize)]
pub(super) struct ServerRow {
    source: String,
    /// When it answered last; null if it never did, and then all below is, too.
    answered: Option<Timestamp>,
    version: Option<String>,
    gtid_mode: Option<String>,
    is_writable: Option<bool>,
    /// Transactions that are executed and not archived yet.
    waiting_transactions: Option<u64>,
    waiting: Option<String>,
    never_archived: Option<String>,
    unknown_to_server: Option<String>,
    channels: Vec<ChannelReport>,
    errant: Vec<Errant>,
    readers: Option<u32>,
    expiry: Option<ExpiryReport>,
    /// Why it cannot be asked now.
    silence: Option<Silence>,
    #[serde(skip)]
    report: Option<ServerReport>,
}

pub(super) fn rows(servers: Vec<ServerState>, sources: &[SourceStatus]) -> Vec<ServerRow> {
    let name = |server: &ServerState| {
        let source = sources
            .iter()
            .find(|status| status.source.id == server.source);
        source.map_or_else(
            || server.source.to_string(),
            |status| status.source.name.clone(),
        )
    };
    let row = |server: ServerState| ServerRow::new(name(&server), server);
    servers.into_iter().map(row).collect()
}

impl ServerRow {
    fn new(source: String, server: ServerState) -> Self {
        let (answered, report) = server.answer.unzip();
        let of = report.as_ref();
        Self {
            source,
            answered,
            version: of.map(|report| report.version.clone()),
            gtid_mode: of.map(|report| report.gtid_mode.clone()),
            is_writable: of.map(|report| report.is_writable),
            waiting_transactions: of.map(|report| report.waiting_transactions),
            waiting: of.map(|report| report.waiting.clone()),
            never_archived: of.map(|report| report.never_archived.clone()),
            unknown_to_server: of.map(|report| report.unknown_to_server.clone()),
            channels: of.map_or_else(Vec::new, |report| report.channels.clone()),
            errant: of.map_or_else(Vec::new, |report| report.errant.clone()),
            readers: of.map(|report| report.readers),
            expiry: of.and_then(|report| report.expiry.clone()),
            silence: server.silence,
            report,
        }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        let name = &self.source;
        let silence = self.silence.iter().map(move |silence| Finding {
            error: format!(
                "{name}: the server cannot be asked since {:.0}: {}",
                silence.since, silence.error
            ),
            hint: silence.hint.clone(),
            // Archiving does not need it, and it may come back; a refusal is for a person.
            exit: if silence.exit == Exit::Transient {
                Exit::Ok
            } else {
                silence.exit
            },
        });
        let warnings = self.report.iter().flat_map(ServerReport::warnings);
        silence.chain(warnings.map(move |warning| Finding {
            error: format!("{name}: {}", warning.message),
            hint: Some(warning.hint.to_owned()),
            exit: warning.exit,
        }))
    }

    fn role(&self) -> String {
        let sources = self.channels.iter().map(|channel| channel.from.as_str());
        let sources: Vec<_> = sources.collect();
        match (sources.as_slice(), self.is_writable) {
            (_, None) => "-".to_owned(),
            ([], Some(true)) => "writable".to_owned(),
            ([], Some(false)) => "read only".to_owned(),
            (sources, _) => format!("replica of {}", sources.join(", ")),
        }
    }

    /// The channel that lags most.
    fn lag(&self) -> Option<String> {
        let lags = self
            .channels
            .iter()
            .map(|channel| channel.lag_seconds.unwrap_or(0));
        lags.max().map(|seconds| format!("{seconds}s"))
    }
}

pub(super) fn table(rows: &[ServerRow]) -> Table {
    let mut table = new_table();
    table.set_header([
        "SERVER",
        "VERSION",
        "ROLE",
        "GTID_MODE",
        "NOT ARCHIVED",
        "LAG",
        "EXPIRES",
        "ANSWERED",
    ]);
    for row in rows {
        let waiting = row.waiting_transactions;
        table.add_row([
            row.source.clone(),
            or_dash(row.version.as_ref()),
            row.role(),
            or_dash(row.gtid_mode.as_ref()),
            or_dash(waiting.map(|count| format!("{count} transactions"))),
            or_dash(row.lag()),
            or_dash(
                row.expiry
                    .as_ref()
                    .map(|expiry| format!("{:.0}", expiry.at)),
            ),
            or_dash(row.answered.map(|at| format!("{at:.0}"))),
        ]);
    }
    table
}
