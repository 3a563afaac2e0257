//! What is in the way: one list from everything that the picture knows.

use engine::exit::Exit;
use engine::ledger::{
    AgentPicture, Pause, Picture, RoutePicture, SILENT_AFTER, ServerReport, ServerState, SourceId,
    SourcePicture, TroublePicture,
};
use engine::parity::report::ParityPicture;
use engine::parity::verdict::Word;
use jiff::Timestamp;

use super::{JobRow, State, retries, scope_words};
use crate::words::printable;

/// What a person should know of, the gravest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How grave.
    pub state: State,
    /// About what.
    pub about: String,
    /// What is the matter.
    pub text: String,
    /// What to check or run.
    pub hint: Option<String>,
}

/// Everything that is in the way, the gravest first.
pub fn findings(picture: &Picture, now: Timestamp) -> Vec<Finding> {
    let mut findings: Vec<Finding> = picture.troubles.iter().map(Finding::of_trouble).collect();
    for source in &picture.sources {
        let routes = source.routes.iter();
        findings.extend(routes.filter_map(|route| Finding::of_gaps(source, route)));
    }
    findings.extend(retries(picture, "").iter().filter_map(Finding::of_failure));
    let paused = picture.pauses.iter();
    findings.extend(paused.map(|pause| Finding::of_pause(picture, pause)));
    for agent in &picture.agents {
        findings.extend(Finding::of_agent(agent, now));
    }
    let servers = picture.servers.iter();
    findings.extend(servers.flat_map(|server| Finding::of_server(picture, server)));
    let runs = picture.parity.iter();
    findings.extend(runs.filter_map(|run| Finding::of_parity(picture, run)));
    findings.sort();
    findings
}

impl Finding {
    fn of_trouble(trouble: &TroublePicture) -> Self {
        let to = trouble.destination.as_deref();
        let to = to.map_or(String::new(), |url| format!(" to {}", printable(url)));
        Self {
            state: State::Stopped,
            about: format!("{}{to}", printable(&trouble.source)),
            text: printable(&trouble.error),
            hint: trouble.hint.as_deref().map(printable),
        }
    }

    fn of_gaps(source: &SourcePicture, route: &RoutePicture) -> Option<Self> {
        let (first, last) = route.gaps.first()?;
        let more = match route.gaps.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(Self {
            state: State::Gap,
            about: printable(&source.name),
            text: format!("sequences {first} to {last} were never archived{more}"),
            hint: Some("take a base backup: no recovery can cross the gap".to_owned()),
        })
    }

    fn of_failure(row: &JobRow<'_>) -> Option<Self> {
        let failure = row.job.failure.as_ref()?;
        let state = if row.is_stalled() {
            State::Stalled
        } else {
            State::Failing
        };
        Some(Self {
            state,
            about: format!("{} {}", printable(row.name()), printable(&row.file())),
            text: printable(&failure.message),
            hint: failure.hint.as_deref().map(printable),
        })
    }

    fn of_pause(picture: &Picture, pause: &Pause) -> Self {
        let reason = pause.reason.as_deref();
        let reason = reason.map_or(String::new(), |reason| format!(": {}", printable(reason)));
        let (by, since) = (printable(&pause.by), crate::words::moment(pause.since));
        Self {
            state: State::Paused,
            about: scope_words(picture, pause.scope),
            text: format!("since {since} by {by}{reason}"),
            hint: None,
        }
    }

    fn of_agent(agent: &AgentPicture, now: Timestamp) -> Option<Self> {
        let report = &agent.report;
        let about = format!("archiver on {}", printable(&report.host));
        if now.duration_since(agent.seen) > SILENT_AFTER {
            let (pid, since) = (report.pid, crate::words::since(agent.seen, now));
            return Some(Self {
                state: State::Stopped,
                about,
                text: format!("process {pid} has not reported for {since}"),
                hint: Some("look whether it runs; what it pinned is kept".to_owned()),
            });
        }
        let paused = report.paused.as_ref()?;
        let (free, needed) = (report.free_bytes, paused.needed_bytes);
        Some(Self {
            state: State::Failing,
            about,
            text: format!(
                "sealing waits for room: {} free, {} needed",
                crate::words::bytes(free),
                crate::words::bytes(needed)
            ),
            hint: Some("free space there, or lower [spool] reserve".to_owned()),
        })
    }

    /// What is wrong by the server's own account, and its silence.
    fn of_server(picture: &Picture, server: &ServerState) -> Vec<Self> {
        let name = source_name(picture, server.source);
        let silence = server.silence.iter().map(|silence| Self {
            // Archiving goes on without it; a refusal is for a person.
            state: if silence.exit == Exit::Transient {
                State::Failing
            } else {
                State::Stalled
            },
            about: format!("server of {name}"),
            text: format!(
                "cannot be asked since {}: {}",
                crate::words::moment(silence.since),
                printable(&silence.error)
            ),
            hint: silence.hint.as_deref().map(printable),
        });
        let report = super::report(Some(server));
        let warnings = report.map_or_else(Vec::new, ServerReport::warnings);
        let warnings = warnings.into_iter().map(|warning| Self {
            state: match warning.exit {
                Exit::Ok => State::Failing,
                Exit::Gap => State::Gap,
                _ => State::Danger,
            },
            about: format!("server of {name}"),
            text: printable(&warning.message),
            hint: Some(warning.hint.to_owned()),
        });
        silence.chain(warnings).collect()
    }

    fn of_parity(picture: &Picture, run: &ParityPicture) -> Option<Self> {
        let verdict = run.verdict.as_ref()?;
        if verdict.verdict != Word::NoParity {
            return None;
        }
        let more = match verdict.reasons.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let first = verdict.reasons.first().map(|reason| printable(reason));
        Some(Self {
            state: State::Failing,
            about: format!("parallel run of {}", source_name(picture, run.source)),
            text: format!("no parity: {}{more}", first.unwrap_or_default()),
            hint: Some("the screen Parity shows each file".to_owned()),
        })
    }
}

fn source_name(picture: &Picture, id: SourceId) -> String {
    let source = picture.source(id);
    source.map_or_else(|| id.to_string(), |source| printable(&source.name))
}
