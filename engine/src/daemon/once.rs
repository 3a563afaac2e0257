//! One source, once: everything that is closed is archived as far as it can be, and what is in the way is told.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::outcome::{Problem, SourceOutcome};
use super::parts::Parts;
use super::predecessor::{look, take};
use super::source::{Begun, begin};
use super::tenure::Tenure;
use super::trouble::Troubles;
use super::watching::warn_unpinned;
use crate::config::SourceConfig;
use crate::exit::{Exit, Failure};
use crate::layout::SourceIdentity;
use crate::ledger::DestinationId;
use crate::queue::{QueueError, Settled};
use crate::rollup::Rollups;
use crate::watch::{Inode, Watch};

/// Archives a source until its lanes rest. None when `stop` fired before.
pub(super) async fn archive_once(
    parts: Arc<Parts>,
    config: SourceConfig,
    stop: CancellationToken,
) -> Option<SourceOutcome> {
    let mut run = Run {
        trouble: Troubles::of_source(&parts, &config.name).untold(),
        outcome: SourceOutcome::new(&config.name),
        works: Vec::new(),
        parts,
        config,
    };
    match run.archive(&stop).await {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => {
            let problem = Problem::of(&error);
            run.trouble.set(problem.clone()).await;
            run.outcome.problems.push(problem);
        }
    }
    Some(run.outcome)
}

/// One run of one source.
struct Run {
    parts: Arc<Parts>,
    config: SourceConfig,
    trouble: Troubles,
    outcome: SourceOutcome,
    /// The source, and behind it what is left of its predecessors.
    works: Vec<Work>,
}

/// A source, and where it can be archived now.
struct Work {
    tenure: Arc<Tenure>,
    opened: Vec<DestinationId>,
    /// Files archived before this run.
    before: u64,
}

impl Run {
    /// False when it was told to stop.
    async fn archive(&mut self, stop: &CancellationToken) -> anyhow::Result<bool> {
        let tenure = match begin(&self.parts, &self.config).await? {
            Begun::Ours(tenure) => Arc::new(tenure),
            // Its owner says how it is: nothing is recorded here.
            Begun::Held { identity, by } => {
                self.outcome.problems.push(Problem::held(&identity, &by));
                return Ok(true);
            }
        };
        tokio::select! {
            opened = self.open(&tenure) => opened?,
            () = stop.cancelled() => return Ok(false),
        }
        for work in &self.works {
            let source = work.tenure.source;
            self.parts.queue.retry_failed(source).await?;
        }
        let Some(settled) = self.work_off(stop).await? else {
            return Ok(false);
        };
        self.sum_up(&tenure, &settled).await?;
        Ok(true)
    }

    /// Opens what can be opened, and queues what is closed.
    async fn open(&mut self, tenure: &Arc<Tenure>) -> anyhow::Result<()> {
        // Before anything can fail that is far away. Why something is not pinned is told by the scan.
        let _ = tenure.pin_closed(&self.config).await;
        let (opened, problems) = open_all(tenure).await;
        self.outcome.problems.extend(problems);
        // What other archivers did is in the ledger now.
        let work = Work::of(Arc::clone(tenure), opened.clone()).await?;
        if !opened.is_empty() || tenure.has_history().await? {
            self.scan(tenure, &opened).await;
        }
        self.works.push(work);
        match look(tenure, &self.config).await {
            Ok((predecessors, present)) => {
                for identity in predecessors {
                    self.open_predecessor(identity, &present).await?;
                }
            }
            // Without the index it cannot be told what is left of them.
            Err(error) => self.add(Problem::of(&error)),
        }
        Ok(())
    }

    /// Adds a problem, unless it was told of already.
    fn add(&mut self, problem: Problem) {
        if !self.outcome.problems.contains(&problem) {
            self.outcome.problems.push(problem);
        }
    }

    async fn open_predecessor(
        &mut self,
        identity: SourceIdentity,
        present: &HashSet<Inode>,
    ) -> anyhow::Result<()> {
        let Some(tenure) = take(&self.parts, &self.config.name, &identity, present).await? else {
            let by = "another archiver";
            self.outcome.problems.push(Problem::held(&identity, by));
            return Ok(());
        };
        let (opened, problems) = open_all(&tenure).await;
        // A destination that is away was told of by the source itself.
        for problem in problems {
            self.add(problem);
        }
        self.works.push(Work::of(Arc::new(tenure), opened).await?);
        Ok(())
    }

    async fn scan(&mut self, tenure: &Tenure, opened: &[DestinationId]) {
        let watch = Watch {
            config: self.config.clone(),
            pins: tenure.pins(),
            include_last: self.parts.include_last,
        };
        let mut problems = Vec::new();
        match watch.scan(opened).await {
            Ok(scan) => {
                self.outcome.active = scan.active;
                let lost = scan.lost.iter().map(|file| Problem::lost(file));
                let late = scan.late.iter().map(|file| Problem::late(file));
                problems.extend(lost.chain(late));
                warn_unpinned(&self.config.name, scan.unpinned.as_deref());
            }
            Err(error) => problems.push(Problem::of(&error.into())),
        }
        match problems.first() {
            Some(problem) => self.trouble.set(problem.clone()).await,
            None => self.trouble.clear().await,
        }
        self.outcome.problems.extend(problems);
    }

    /// Runs the lanes until they rest. None when `stop` fired before.
    async fn work_off(&self, stop: &CancellationToken) -> anyhow::Result<Option<Settled>> {
        let lanes_stop = stop.child_token();
        let (mut lanes, mut routes) = (JoinSet::new(), Vec::new());
        for work in &self.works {
            for &destination in &work.opened {
                routes.push(work.tenure.route(destination));
                let (tenure, stop) = (Arc::clone(&work.tenure), lanes_stop.clone());
                lanes.spawn(async move { tenure.work(destination, stop).await });
            }
        }
        let settled = if routes.is_empty() {
            Ok(Some(Settled::default()))
        } else {
            tokio::select! {
                settled = self.parts.queue.settled(&routes) => Ok(Some(settled)),
                () = stop.cancelled() => Ok(None),
                Some(joined) = lanes.join_next() => Err(ended_early(joined)),
            }
        };
        lanes_stop.cancel();
        while lanes.join_next().await.is_some() {}
        for work in &self.works {
            work.tenure.clear_spool().await;
            if !stop.is_cancelled() {
                work.roll_up().await;
            }
        }
        // Whoever was faster: told to stop is told to stop.
        Ok(settled?.filter(|_| !stop.is_cancelled()))
    }

    async fn sum_up(&mut self, tenure: &Tenure, settled: &Settled) -> anyhow::Result<()> {
        for work in &self.works {
            let archived = work.tenure.archived_files().await?;
            self.outcome.archived += archived.saturating_sub(work.before);
            let required = self.parts.required_ids();
            self.outcome
                .add_settled(work.tenure.source, settled, &required);
        }
        self.outcome.watermark = tenure.watermark().await?.map(|sequence| sequence.0);
        self.outcome.gaps = tenure.gaps().await?;
        self.outcome.add_gap();
        Ok(())
    }
}

impl Work {
    async fn of(tenure: Arc<Tenure>, opened: Vec<DestinationId>) -> anyhow::Result<Self> {
        let before = tenure.archived_files().await?;
        Ok(Self {
            tenure,
            opened,
            before,
        })
    }

    async fn roll_up(&self) {
        let destinations = self.tenure.parts.destinations.iter();
        for destination in destinations.filter(|one| self.opened.contains(&one.id)) {
            let mut rollups = Rollups::of(self.tenure.identity.clone());
            self.tenure.roll_up(destination, &mut rollups).await;
        }
    }
}

/// Tries every destination once, all at the same time.
async fn open_all(tenure: &Tenure) -> (Vec<DestinationId>, Vec<Problem>) {
    let destinations = tenure.parts.destinations.iter();
    let tries = destinations.map(|destination| async move {
        let url = destination.store.url();
        let mut trouble = Troubles::of_destination(&tenure.parts, &tenure.name, url).untold();
        match tenure.open(destination).await {
            Ok(()) => {
                trouble.clear().await;
                tenure.sweep(destination).await;
                Ok(destination.id)
            }
            Err(error) => {
                let problem = Problem::of(&error);
                trouble.set(problem.clone()).await;
                Err(if destination.required {
                    problem
                } else {
                    problem.harmless()
                })
            }
        }
    });
    let (mut opened, mut problems) = (Vec::new(), Vec::new());
    for tried in futures::future::join_all(tries).await {
        match tried {
            Ok(destination) => opened.push(destination),
            Err(problem) => problems.push(problem),
        }
    }
    (opened, problems)
}

/// Lanes end by themselves only when they could not begin or the source was lost.
fn ended_early(joined: Result<Result<(), QueueError>, JoinError>) -> anyhow::Error {
    match joined {
        Ok(Ok(())) => Failure {
            message: "the claim was lost: another archiver may have the source".to_owned(),
            exit: Exit::Transient,
            hint: Some("see that the database can be reached, and run it again".to_owned()),
        }
        .into(),
        Ok(Err(error)) => error.into(),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => error.into(),
        },
    }
}
