//! Whether a plan may be run on a server: every question has an answer, and what is wrong a hint. Pure.

use std::net::SocketAddr;

use engine::exit::Exit;
use engine::gtid::GtidSet;
use serde::Serialize;

use super::Via;
use super::facts::{Clients, Facts, Version};
use crate::output::{self, gtids};
use crate::part::Step;
use crate::plan::{Plan, PlannedFile};

/// No statement of a replay is longer, in bytes (`max_allowed_packet` cannot be set higher).
const LONGEST_STATEMENT: u64 = 1 << 30;

/// The first version with the words that make a channel (release notes of 8.0.23).
const CHANGE_REPLICATION_SOURCE: Version = Version {
    series: (8, 0),
    patch: 23,
};

/// How many users a message names.
const MAX_NAMED: usize = 5;

/// Checks whose problem may be accepted; what the others find cannot be replayed onto.
pub const ACCEPTABLE: [&str; 6] = [
    "beyond",
    "version",
    "clients",
    "event_scheduler",
    "writers",
    "max_allowed_packet",
];

/// How a check ended. Part of `apply --format json`: additive changes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It cannot be known from here.
    Unknown,
    /// To be thought of.
    Warning,
    /// The plan is not run.
    Problem,
}

impl Status {
    /// The status as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The answer to one question. Part of `apply --format json`: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
    /// What the program exits with when this keeps it from running the plan.
    #[serde(skip)]
    pub exit: Exit,
}

impl Check {
    fn new(name: &'static str, status: Status, message: impl Into<String>) -> Self {
        Self {
            name,
            status,
            message: message.into(),
            hint: None,
            exit: Exit::Usage,
        }
    }

    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, message)
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    fn exits(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same as a warning, if its name is among `accepted`.
    fn accept(mut self, accepted: &[String]) -> Self {
        let may = self.status == Status::Problem && ACCEPTABLE.contains(&self.name);
        if may && accepted.iter().any(|name| name == self.name) {
            self.status = Status::Warning;
        }
        self
    }
}

/// All that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its files.
    pub steps: &'a [Step],
    /// The server.
    pub facts: &'a Facts,
    /// The clients; none where they replay nothing.
    pub clients: Option<&'a Clients>,
    /// How the plan is to be run.
    pub via: Via,
    /// Where a replica is to find this program.
    pub listen: SocketAddr,
    /// Names of checks whose problem is accepted.
    pub accepted: &'a [String],
}

/// Answers all questions.
pub fn judge(inputs: Inputs<'_>) -> Vec<Check> {
    let Inputs { facts, .. } = inputs;
    let mut checks = vec![
        start(inputs),
        beyond(inputs),
        gtid_mode(facts),
        version(inputs),
    ];
    checks.extend(inputs.clients.map(|clients| self::clients(inputs, clients)));
    checks.extend([
        event_scheduler(facts),
        writers(facts),
        max_allowed_packet(inputs),
        space(inputs),
    ]);
    checks.extend(anonymous(inputs));
    checks.extend((inputs.via == Via::Relay).then(|| relay_logs(inputs)));
    checks.extend((inputs.via == Via::Replication).then(|| replication(inputs)));
    let accept = |check: Check| check.accept(inputs.accepted);
    checks.into_iter().map(accept).collect()
}

/// Whether nothing speaks against the server's being a replica.
pub fn allows_replication(inputs: Inputs<'_>) -> bool {
    replication(inputs).status == Status::Ok
}

/// What begins must be there; of what follows, some may be: then the replay goes on behind it.
fn start(Inputs { plan, facts, .. }: Inputs<'_>) -> Check {
    let missing = plan.start.subtract(&facts.executed);
    let skipped = plan.skip.intersect(&facts.executed);
    let done = plan.adds.intersect(&facts.executed);
    let check = |status, message: String| Check::new("start", status, message).exits(Exit::Gap);
    if !missing.is_empty() {
        let message = format!("the server lacks {missing}, with which the plan begins");
        return check(Status::Problem, message).hint(
            "restore the plan's base first, or make a plan for this server with `plan --target`",
        );
    }
    if !skipped.is_empty() {
        let message = format!("the server has executed {skipped}, which the plan leaves out");
        return check(Status::Problem, message).hint("restore the plan's base anew");
    }
    let message = match (done.count(), plan.adds.count()) {
        (0, _) => "the server has executed what the plan begins with, and nothing of it".to_owned(),
        (done, all) if done == all => "the server has executed the whole plan".to_owned(),
        (done, all) => {
            format!("{done} of {all} transactions are executed already: it goes on there")
        }
    };
    check(Status::Ok, message)
}

/// What the server has and the plan does not know.
fn beyond(Inputs { plan, facts, .. }: Inputs<'_>) -> Check {
    let beyond = facts.executed.subtract(&plan.start.union(&plan.adds));
    if beyond.is_empty() {
        return Check::ok(
            "beyond",
            "the server has executed nothing that the plan does not know",
        );
    }
    let of_the_plan = beyond
        .tsids()
        .any(|tsid| plan.executed.tsids().any(|known| known == tsid));
    let message = format!(
        "the server has executed {}, which is not in the plan",
        gtids(&beyond)
    );
    if of_the_plan {
        return Check::new("beyond", Status::Problem, message)
            .exits(Exit::Gap)
            .hint("it is past the plan's target: restore the plan's base anew, or name a later target");
    }
    Check::new("beyond", Status::Warning, message)
        .hint("transactions of its own: its gtid_executed will not be the source's")
}

fn gtid_mode(facts: &Facts) -> Check {
    let message = format!("gtid_mode is {}", facts.gtid_mode);
    match facts.gtid_mode.as_str() {
        "ON" | "ON_PERMISSIVE" => Check::ok("gtid_mode", message),
        _ => Check::new("gtid_mode", Status::Problem, message)
            .hint("set gtid_mode=ON and enforce_gtid_consistency=ON: without, no transaction keeps its GTID"),
    }
}

/// The newest of the servers that wrote the files.
fn newest(steps: &[Step]) -> Option<Version> {
    let versions = steps
        .iter()
        .filter_map(|step| Version::find(&step.server_version));
    versions.max()
}

fn version(Inputs { steps, facts, .. }: Inputs<'_>) -> Check {
    let (Some(source), Some(target)) = (newest(steps), Version::find(&facts.version)) else {
        return Check::new("version", Status::Unknown, "no version to compare");
    };
    let message = format!("the server is {target}, the files are of {source}");
    if target.series < source.series {
        return Check::new("version", Status::Problem, message)
            .hint("restore into the series that wrote the files, or a newer one");
    }
    Check::ok("version", message)
}

fn clients(Inputs { steps, .. }: Inputs<'_>, clients: &Clients) -> Check {
    let texts = [&clients.mysqlbinlog, &clients.mysql];
    if let Some(foreign) = texts.iter().find(|text| text.contains("MariaDB")) {
        return Check::new(
            "clients",
            Status::Problem,
            format!("MariaDB's client: {foreign}"),
        )
        .hint("put MySQL's own mysqlbinlog and mysql first on PATH");
    }
    let oldest = texts.iter().filter_map(|text| Version::find(text)).min();
    let (Some(oldest), Some(source)) = (oldest, newest(steps)) else {
        return Check::new("clients", Status::Unknown, "no version to compare");
    };
    let message = format!("mysqlbinlog and mysql are {oldest}, the files are of {source}");
    if oldest.series < source.series {
        return Check::new("clients", Status::Problem, message)
            .hint("install clients at least as new as the server that wrote the files");
    }
    Check::ok("clients", message)
}

fn event_scheduler(facts: &Facts) -> Check {
    if facts.event_scheduler {
        return Check::new("event_scheduler", Status::Problem, "events run")
            .hint("SET GLOBAL event_scheduler = OFF: the replay has what events did, and they would do it once more");
    }
    Check::ok("event_scheduler", "no events run")
}

fn writers(facts: &Facts) -> Check {
    if facts.super_read_only {
        return Check::new("writers", Status::Problem, "super_read_only is ON: nobody may write")
            .hint("SET GLOBAL super_read_only = OFF; read_only may stay ON, if the user has CONNECTION_ADMIN");
    }
    if facts.applies {
        return Check::new(
            "writers",
            Status::Problem,
            "a replication channel applies transactions",
        )
        .hint("STOP REPLICA, until the plan is replayed");
    }
    let mut users = facts.sessions.clone();
    users.sort();
    users.dedup();
    users.truncate(MAX_NAMED);
    match (facts.sessions.len(), facts.read_only) {
        (0, _) => Check::ok("writers", "no other connections"),
        (others, true) => Check::ok(
            "writers",
            format!("{others} other connections, kept from writing by read_only"),
        ),
        (others, false) => Check::new(
            "writers",
            Status::Warning,
            format!("{others} other connections may write: {}", users.join(", ")),
        )
        .hint("keep them out: what they write is not in the archive"),
    }
}

/// A row event becomes a statement of Base64, a third longer; a file is no shorter than its longest event.
fn max_allowed_packet(
    Inputs {
        plan, facts, via, ..
    }: Inputs<'_>,
) -> Check {
    let allowed = facts.max_allowed_packet;
    let largest = plan.files.iter().map(PlannedFile::replay_bytes).max();
    let longest = largest.unwrap_or(0).saturating_mul(4) / 3;
    let message = format!("max_allowed_packet is {}", output::bytes(allowed));
    if via != Via::Pipe || allowed >= longest.min(LONGEST_STATEMENT) {
        return Check::ok("max_allowed_packet", message);
    }
    let message = format!("{message}, and the files may hold rows that do not fit");
    Check::new("max_allowed_packet", Status::Warning, message)
        .hint("SET GLOBAL max_allowed_packet = 1073741824, if rows may be larger than half of it")
}

/// The least that a replay writes: the server's own binary log, or the relay logs.
fn space(
    Inputs {
        plan, facts, via, ..
    }: Inputs<'_>,
) -> Check {
    let copies = 1 + u64::from(facts.log_bin) + u64::from(via != Via::Pipe);
    let needed = plan.replay_bytes.saturating_mul(copies);
    let Some(free) = facts.free_bytes else {
        let message = format!(
            "its data is not on this machine; it takes some {}",
            output::bytes(needed)
        );
        return Check::new("space", Status::Unknown, message);
    };
    let message = format!(
        "{} free for its data, and it takes some {}",
        output::bytes(free),
        output::bytes(needed)
    );
    if free < needed {
        return Check::new("space", Status::Warning, message)
            .hint("make room: a server whose disk is full waits, and does not end the replay");
    }
    Check::ok("space", message)
}

fn anonymous(
    Inputs {
        plan, steps, facts, ..
    }: Inputs<'_>,
) -> Option<Check> {
    steps.iter().find(|step| step.anonymous)?;
    let begun = !plan.adds.is_disjoint(&facts.executed);
    let (status, message) = if begun {
        (
            Status::Problem,
            "the plan has anonymous transactions and was begun: nobody knows where it ended",
        )
    } else {
        (
            Status::Warning,
            "the plan has anonymous transactions: run twice, they are executed twice",
        )
    };
    Some(
        Check::new("anonymous", status, message)
            .exits(Exit::Gap)
            .hint("whenever it does not end well, restore the plan's base anew"),
    )
}

/// A replica says by GTID what it lacks, and must reach this program.
fn replication(inputs: Inputs<'_>) -> Check {
    let Inputs { facts, listen, .. } = inputs;
    let problem =
        |message: String, hint| Check::new("replication", Status::Problem, message).hint(hint);
    if let Some(refused) = applier(inputs, "replication") {
        return refused;
    }
    if !facts.may_replicate {
        let message = "the user may not make a replication channel".to_owned();
        return problem(
            message,
            "GRANT REPLICATION_SLAVE_ADMIN, RELOAD ON *.*, or run it with --via pipe",
        );
    }
    if listen.ip().is_unspecified() {
        let message = format!("{} is no address that a replica can be told", listen.ip());
        return problem(message, "name one of this machine's: --listen ADDRESS:PORT");
    }
    if listen.ip().is_loopback() && !facts.is_here {
        let message = format!(
            "the server is on another machine, and does not reach {}",
            listen.ip()
        );
        return problem(
            message,
            "name an address of this machine that it reaches: --listen ADDRESS:PORT",
        );
    }
    Check::ok("replication", format!("from {}", listen.ip()))
}

/// What no applier of a channel takes: it skips in silence what bears its server's own number, and needs GTIDs.
fn applier(Inputs { steps, facts, .. }: Inputs<'_>, name: &'static str) -> Option<Check> {
    let problem =
        |message: String, hint| Some(Check::new(name, Status::Problem, message).hint(hint));
    if let Some(message) = too_old(&facts.version) {
        return problem(message, "run it with --via pipe");
    }
    if steps.iter().any(|step| step.anonymous) {
        let message = "the plan has anonymous transactions".to_owned();
        return problem(message, "run it with --via pipe");
    }
    if steps.iter().any(|step| step.server_id == facts.server_id) {
        let message = format!(
            "server_id is {}, as that of a server whose files are replayed",
            facts.server_id
        );
        return problem(
            message,
            "SET GLOBAL server_id to another number: an applier skips what bears its own",
        );
    }
    None
}

/// The server's own applier takes whole files.
fn relay_logs(inputs: Inputs<'_>) -> Check {
    let Inputs { plan, facts, .. } = inputs;
    let problem =
        |message: String, hint| Check::new("relay_logs", Status::Problem, message).hint(hint);
    if let Some(refused) = applier(inputs, "relay_logs") {
        return refused;
    }
    let folder = facts
        .relay_log
        .parent()
        .filter(|folder| facts.is_here && folder.is_dir());
    let Some(folder) = folder else {
        let message = format!("{} is not on this machine", facts.relay_log.display());
        return problem(
            message,
            "run it on the server's machine, or with --via replication",
        );
    };
    if !plan.skip.is_empty() {
        return problem(
            "the plan leaves transactions out".to_owned(),
            "run it with --via replication",
        );
    }
    Check::ok("relay_logs", format!("into {}", folder.display()))
}

/// Why a server of this version makes no channel; one that cannot be told may try.
fn too_old(version: &str) -> Option<String> {
    let found = Version::find(version).filter(|found| *found < CHANGE_REPLICATION_SOURCE)?;
    Some(format!(
        "the server is {found}, and CHANGE REPLICATION SOURCE came with {CHANGE_REPLICATION_SOURCE}"
    ))
}

/// What a plan lacks on a server that has executed `executed`.
pub fn missing(plan: &Plan, executed: &GtidSet) -> GtidSet {
    plan.adds.subtract(executed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_logs_are_not_for_servers_that_cannot_make_the_channel() {
        assert!(too_old("8.0.22").unwrap().contains("is 8.0.22"));
        assert!(too_old("5.7.44-log").is_some());
        for version in ["8.0.23", "8.0.36-28.1", "8.4.7", "9.7.0", "unheard of"] {
            assert_eq!(too_old(version), None, "{version}");
        }
    }
}
