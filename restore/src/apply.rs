//! `apply`: runs a plan on a server, checked before and afterwards.
//!
//! # Invariants
//! - Nothing is written to the server while a check has a problem.
//! - It goes on where the server's `gtid_executed` says that it is, so that it can be run again after
//!   whatever stopped it. It ends well only when `gtid_executed` contains the plan.
//! - The first error of the server ends it. A transaction that was begun is rolled back by the server.
//! - Its children die with it.
//!
//! # Limits
//! Those of [`crate::cat`], and the GTID sets of the plan's files. Nothing is written to this machine's
//! disk, but for the relay logs of [`Via::Relay`].

mod channel;
pub mod check;
mod durability;
pub mod facts;
pub mod pipe;
pub mod relay;
mod replication;
pub mod report;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use engine::exit::{Diagnose, Exit, chain};
use engine::gtid::GtidSet;
use serde::Serialize;

use self::channel::Channel;
use self::check::{Inputs, Status};
use self::durability::Relaxed;
use self::facts::{Clients, Facts};
use self::report::{Applied, Outcome, StoppedAt};
use crate::cut::Search;
use crate::locate::{self, LocateError};
use crate::object::Archive;
use crate::part::{Part, Step};
use crate::plan::Plan;
use crate::planning::PlanningError;
use crate::progress::Progress;
use crate::server::{Server, ServerError};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a plan gets into the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// As SQL, through mysqlbinlog and mysql: works wherever a client gets in
    Pipe,
    /// As relay logs, by the server's own parallel applier: many times faster, on the server's machine only
    Relay,
    /// As a replica of the archive, by the server's own parallel applier: as fast, from any machine that it reaches
    Replication,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// The plan.
    pub plan: &'a Plan,
    /// Its files.
    pub steps: &'a [Step],
    /// The server.
    pub server: &'a Server,
    /// How; none for the fastest way that the server allows.
    pub via: Option<Via>,
    /// With relaxed durability.
    pub relaxed: bool,
    /// Where a replica finds this program; port 0 is any.
    pub listen: SocketAddr,
    /// Names of checks whose problem is accepted.
    pub accepted: &'a [String],
    /// Only the checks.
    pub check_only: bool,
}

/// Why a plan was not run, or its end is not known.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The server cannot be asked.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A saved plan is of another archive, or an entry cannot be read.
    #[error(transparent)]
    Planning(#[from] PlanningError),
    /// Where to go on cannot be found.
    #[error(transparent)]
    Locate(#[from] LocateError),
}

impl Diagnose for ApplyError {
    fn exit(&self) -> Exit {
        match self {
            Self::Server(error) => error.exit(),
            Self::Planning(error) => error.exit(),
            Self::Locate(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Server(error) => error.hint(),
            Self::Planning(error) => error.hint(),
            Self::Locate(error) => error.hint(),
        }
    }
}

/// Why replaying ended before the plan's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Who ended it, and what it says.
    pub message: String,
    /// What the program exits with.
    pub exit: Exit,
    /// What to check or run.
    pub hint: Option<String>,
}

impl From<ServerError> for Stopped {
    fn from(error: ServerError) -> Self {
        Self {
            message: chain(&error),
            exit: error.exit(),
            hint: error.hint(),
        }
    }
}

/// Runs the plan.
///
/// # Errors
/// When it could not be begun, or the server does not say how it ended. All else is in the report.
pub async fn apply(task: Task<'_>) -> Result<(Applied, Exit), ApplyError> {
    let began = Instant::now();
    let mut facts = Facts::ask(task.server).await?;
    let mut inputs = Inputs {
        plan: task.plan,
        steps: task.steps,
        facts: &facts,
        clients: None,
        via: task.via.unwrap_or(Via::Replication),
        listen: task.listen,
        accepted: task.accepted,
    };
    if task.via.is_none() && !check::allows_replication(inputs) {
        inputs.via = Via::Pipe;
    }
    let via = inputs.via;
    let clients = match via {
        Via::Pipe => Some(Clients::ask().await?),
        Via::Relay | Via::Replication => None,
    };
    inputs.clients = clients.as_ref();
    let checks = check::judge(inputs);
    let mut report = Applied::new(task, via, &facts, checks);
    let problems = report
        .checks
        .iter()
        .filter(|check| check.status == Status::Problem);
    let exit = problems
        .map(|check| check.exit)
        .fold(Exit::Ok, Exit::graver);
    if exit != Exit::Ok {
        return Ok((report.end(Outcome::Refused, exit), exit));
    }
    if task.check_only {
        return Ok((report.end(Outcome::Checked, Exit::Ok), Exit::Ok));
    }
    let stopped = match take_over(task, via, &mut facts).await {
        Ok(()) => go_on(task, via, &facts, &mut report).await?,
        Err(stopped) => Some(stopped),
    };
    let executed = match (task.server.executed().await, &stopped) {
        (Ok(executed), _) => executed,
        // The reason why it stopped says more.
        (Err(_), Some(_)) => facts.executed.clone(),
        (Err(error), None) => return Err(error.into()),
    };
    report.seconds = began.elapsed().as_secs_f64();
    Ok(conclude(task, report, &facts.executed, &executed, stopped).await)
}

/// What a run that was killed left to the server's applier was applied until now.
async fn take_over(task: Task<'_>, via: Via, facts: &mut Facts) -> Result<(), Stopped> {
    if facts.leftover {
        let channel = Channel::new(task.server);
        facts.executed = channel.take_over(via, task.plan).await?;
    }
    Ok(())
}

/// Replays what the server lacks.
async fn go_on(
    task: Task<'_>,
    via: Via,
    facts: &Facts,
    report: &mut Applied,
) -> Result<Option<Stopped>, ApplyError> {
    report.began_with = facts.executed.clone();
    let missing = check::missing(task.plan, &facts.executed);
    if missing.is_empty() && !task.steps.iter().any(|step| step.anonymous) {
        return Ok(None);
    }
    let parts = remaining(task, &facts.executed).await?;
    report.replay_bytes = parts.iter().map(Part::bytes).sum();
    Ok(replay(task, via, facts, &parts).await)
}

async fn replay(task: Task<'_>, via: Via, facts: &Facts, parts: &[Part]) -> Option<Stopped> {
    let relaxed = match task.relaxed.then(|| Relaxed::begin(task.server)) {
        Some(relaxed) => match relaxed.await {
            Ok(relaxed) => Some(relaxed),
            Err(stopped) => return Some(stopped),
        },
        None => None,
    };
    let stopped = replay_as_it_is(task, via, facts, parts).await;
    let restored = match relaxed {
        Some(relaxed) => relaxed.end().await.err(),
        None => None,
    };
    stopped.or(restored)
}

async fn replay_as_it_is(
    task: Task<'_>,
    via: Via,
    facts: &Facts,
    parts: &[Part],
) -> Option<Stopped> {
    let progress = Progress::bytes("apply", parts.iter().map(Part::bytes).sum());
    let outcome = match via {
        Via::Pipe => pipe::run(task, parts, &progress).await,
        Via::Relay => relay::run(task, facts, parts, &progress).await,
        Via::Replication => replication::run(task, facts, &progress).await,
    };
    outcome.err()
}

/// Shows how far the server is, until it is dropped.
async fn watch(task: Task<'_>, progress: &Progress) -> Infallible {
    let all = task.plan.adds.count();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // Whoever waits for the end says what is wrong with the server.
        if let Ok(executed) = task.server.executed().await {
            let done = task.plan.adds.intersect(&executed).count();
            progress.note(format!("{done} of {all} transactions"));
        }
    }
}

/// What the server still lacks: from its first transaction that is not executed, to the end.
async fn remaining(task: Task<'_>, executed: &GtidSet) -> Result<Vec<Part>, ApplyError> {
    let lacks = |step: &Step| {
        !task
            .plan
            .adds
            .intersect(&step.adds)
            .subtract(executed)
            .is_empty()
    };
    let begun = !task.plan.adds.is_disjoint(executed);
    let first = task.steps.iter().position(lacks).filter(|_| begun);
    let steps = task.steps.get(first.unwrap_or(0)..).unwrap_or_default();
    let mut parts: Vec<Part> = steps.iter().map(|step| step.part.clone()).collect();
    if let (true, Some(step), Some(part)) = (begun, steps.first(), parts.first_mut()) {
        let executed = executed.union(&task.plan.skip);
        let search = Search::Outside(executed);
        let located = locate::locate(task.archive, &step.part.file, &step.adds, &search).await?;
        part.from = part.from.max(located.cut.offset);
    }
    Ok(parts)
}

async fn conclude(
    task: Task<'_>,
    mut report: Applied,
    before: &GtidSet,
    executed: &GtidSet,
    stopped: Option<Stopped>,
) -> (Applied, Exit) {
    let done = task.plan.adds.intersect(executed).subtract(before);
    report.transactions = u64::try_from(done.count()).unwrap_or(u64::MAX);
    report.missing = check::missing(task.plan, executed);
    report.beyond = executed.subtract(&task.plan.executed);
    report.executed = executed.clone();
    if let Some(stopped) = stopped {
        let exit = stopped.exit;
        report.stopped = Some(stopped_at(task, executed, stopped).await);
        return (report.end(Outcome::Stopped, exit), exit);
    }
    if report.missing.is_empty() {
        return (report.end(Outcome::Complete, Exit::Ok), Exit::Ok);
    }
    (report.end(Outcome::Incomplete, Exit::Gap), Exit::Gap)
}

/// The first transaction that is not executed: what the error is about.
async fn stopped_at(task: Task<'_>, executed: &GtidSet, stopped: Stopped) -> StoppedAt {
    let mut at = StoppedAt::new(stopped);
    let executed = executed.union(&task.plan.skip).union(&task.plan.start);
    for step in task.steps {
        if task
            .plan
            .adds
            .intersect(&step.adds)
            .subtract(&executed)
            .is_empty()
        {
            continue;
        }
        at.in_file(&step.part.file);
        let search = Search::Outside(executed);
        let found = locate::locate(task.archive, &step.part.file, &step.adds, &search).await;
        if let Ok(found) = found {
            at.position = found.cut.offset;
            at.gtid = found.cut.next.and_then(|mark| mark.gtid);
        }
        break;
    }
    at
}
