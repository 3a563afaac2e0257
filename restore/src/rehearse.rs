//! `rehearse`: restores to a moment on a server that it starts itself, compares, and removes all of it: a drill for
//! every night.
//!
//! # What is compared
//! `gtid_executed` with what the plan says that it will be, exactly; and the answers to questions of one's own.
//!
//! # Limits
//! Those of [`scratch`] and of [`apply`](mod@crate::apply). That the base fits the archive is known by its GTIDs alone.

pub mod report;
pub mod scratch;

use engine::digest::Digest;
use engine::exit::{Diagnose, Exit};
use engine::gtid::GtidSet;
use engine::layout::SourceIdentity;

use self::report::{Answer, Outcome, Rehearsed};
use self::scratch::{Scratch, ScratchError, Settings};
use crate::apply::{self, ApplyError, Via};
use crate::plan::{Base, Invocation, Plan, StartAt};
use crate::planning::{Planner, PlanningError, Request};
use crate::serve::ANY_PORT;
use crate::server::{Server, ServerError};
use crate::target::Target;

/// What is to be rehearsed.
#[derive(Debug)]
pub struct Task<'a> {
    /// The archive.
    pub planner: Planner<'a>,
    /// The sources of the cluster.
    pub sources: &'a [SourceIdentity],
    /// What is asked for; where it begins is the server's to say.
    pub request: Request,
    /// The moment; none for a random one.
    pub target: Option<Target>,
    /// Decides which, of a random one.
    pub seed: u64,
    /// For the plan's commands.
    pub invocation: Invocation,
    /// The server.
    pub settings: &'a Settings,
    /// How the plan gets into it.
    pub via: Option<Via>,
    /// Questions to ask it afterwards.
    pub questions: &'a [String],
}

/// Why there was no rehearsal.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// There is no plan.
    #[error(transparent)]
    Planning(#[from] PlanningError),
    /// There is no server.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The server does not answer.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The plan could not be begun.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The plan begins with a base that is not at hand.
    #[error(
        "the plan begins with base backup {id} at {location}, and no data directory is named to begin with"
    )]
    NeedsBase {
        /// The backup.
        id: String,
        /// Where it lies.
        location: String,
    },
}

impl Diagnose for RehearseError {
    fn exit(&self) -> Exit {
        match self {
            Self::Planning(error) => error.exit(),
            Self::Scratch(error) => error.exit(),
            Self::Server(error) => error.exit(),
            Self::Apply(error) => error.exit(),
            Self::NeedsBase { .. } => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Planning(error) => error.hint(),
            Self::Scratch(error) => error.hint(),
            Self::Server(error) => error.hint(),
            Self::Apply(error) => error.hint(),
            Self::NeedsBase { .. } => Some(
                "restore it into a folder with the tool that made it, and name that: --base DIR"
                    .to_owned(),
            ),
        }
    }
}

/// Rehearses.
///
/// # Errors
/// When it could not be begun. All else is in the report.
pub async fn rehearse(task: Task<'_>) -> Result<(Rehearsed, Exit), RehearseError> {
    // An empty server needs a plan that begins so: nothing is started for one that does not.
    let from_nothing = match task.settings.base {
        Some(_) => None,
        None => Some(from_nothing(&task).await?),
    };
    let scratch = Scratch::start(task.settings).await?;
    let server = scratch.server();
    let plan = match from_nothing {
        Some(plan) => plan,
        None => choose(&task, StartAt::Executed(server.executed().await?)).await?,
    };
    let steps = task.planner.steps(&plan).await?;
    let (applied, exit) = apply::apply(apply::Task {
        archive: task.planner.archive,
        plan: &plan,
        steps: &steps,
        server,
        via: task.via,
        relaxed: false,
        listen: ANY_PORT,
        accepted: &[],
        check_only: false,
    })
    .await?;
    let mut report = Rehearsed::new(&task, &plan, applied);
    if exit != Exit::Ok {
        return Ok((report.end(Outcome::NotApplied, exit), exit));
    }
    if !report.is_same() {
        return Ok((report.end(Outcome::Different, Exit::Gap), Exit::Gap));
    }
    report.prepared = server.ask("XA RECOVER").await?.len() as u64;
    for question in task.questions {
        report.answers.push(ask(server, question).await);
    }
    let outcome = if report.answers.iter().all(|answer| answer.passed) {
        (Outcome::Complete, Exit::Ok)
    } else {
        (Outcome::Failed, Exit::Conflict)
    };
    Ok((report.end(outcome.0, outcome.1), outcome.1))
}

/// A plan for a server that has executed nothing, where the archive begins with one.
async fn from_nothing(task: &Task<'_>) -> Result<Plan, RehearseError> {
    let refused = match choose(task, StartAt::Executed(GtidSet::new())).await {
        Ok(plan) => return Ok(plan),
        Err(error @ PlanningError::Refused(_)) => error,
        Err(error) => return Err(error.into()),
    };
    // With a base it may be another matter.
    match choose(task, StartAt::Any).await?.base {
        Base::Backup { id, location, .. } => Err(RehearseError::NeedsBase {
            id: id.to_string(),
            location,
        }),
        Base::Stated | Base::Empty => Err(refused.into()),
    }
}

/// The plan to the moment; to one that the seed draws from all there are, if none is named.
async fn choose(task: &Task<'_>, start: StartAt) -> Result<Plan, PlanningError> {
    let plan = async |target: Target| {
        let request = Request {
            target,
            start: start.clone(),
            ..task.request.clone()
        };
        task.planner
            .plan(&request, task.sources, &task.invocation)
            .await
    };
    if let Some(target) = &task.target {
        return plan(target.clone()).await;
    }
    let latest = plan(Target::Latest).await?;
    match draw(&latest.adds, task.seed) {
        Some(gtids) => plan(Target::ToGtid { gtids }).await,
        None => Ok(latest),
    }
}

/// One of these, each as likely as any other.
fn draw(gtids: &GtidSet, seed: u64) -> Option<GtidSet> {
    let digest = Digest::of(&seed.to_be_bytes());
    let dice = digest
        .as_bytes()
        .first_chunk()
        .copied()
        .map(u64::from_be_bytes);
    let dice = u128::from(dice?);
    let mut skip = dice.checked_rem(gtids.count())?;
    for (tsid, first, last) in gtids.intervals() {
        let count = u128::from(last.saturating_sub(first)).saturating_add(1);
        if skip < count {
            let number = first.saturating_add(u64::try_from(skip).ok()?);
            let mut drawn = GtidSet::new();
            drawn.insert_range(tsid.clone(), number, number).ok()?;
            return Some(drawn);
        }
        skip = skip.saturating_sub(count);
    }
    None
}

/// A question passes with a value that is neither empty, NULL nor zero.
async fn ask(server: &Server, question: &str) -> Answer {
    let answer = match server.ask(question).await {
        Ok(rows) => {
            let first = rows.into_iter().next().unwrap_or_default();
            Ok(first.into_values().next().unwrap_or_default())
        }
        Err(error) => Err(error.to_string()),
    };
    let no = ["", "0", "NULL"];
    Answer {
        question: question.to_owned(),
        passed: answer
            .as_ref()
            .is_ok_and(|value| !no.contains(&value.as_str())),
        answer: answer.unwrap_or_else(|complaint| complaint),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_transaction_is_drawn_by_some_seed_and_no_other_one() {
        let uuid = "0d1a7e00-97a0-4000-8000-000000000001";
        let all: GtidSet = format!("{uuid}:3-5:9:tide:1-2").parse().unwrap();
        let drawn: BTreeSet<String> = (0..200)
            .map(|seed| draw(&all, seed).unwrap())
            .inspect(|one| assert!(all.is_superset(one) && one.count() == 1))
            .map(|one| one.to_string())
            .collect();
        assert_eq!(drawn.len() as u128, all.count());
        assert_eq!(draw(&GtidSet::new(), 1), None);
    }
}
