//! What all commands share: an open destination, and what the command line says about it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::SystemClock;
use engine::config::{self, ReaderConfig};
use engine::exit::{self, Diagnose, Exit, Failure};
use engine::keyring::Keyring;
use engine::layout::SourceIdentity;

use super::arguments::Global;
use crate::cat::CatError;
use crate::destination::Destination;
use crate::object::Archive;
use crate::output::{self, Report};
use crate::plan::{MAX_PLAN_LEN, Plan, SavedPlanError};
use crate::planning::Planner;
use crate::source::SourceFilter;

/// An open destination, and what the command line says about it.
pub(super) struct Session<'a> {
    pub(super) global: &'a Global,
    /// The configuration's file.
    pub(super) path: PathBuf,
    config: ReaderConfig,
    pub(super) destination: Destination,
    /// Where files are read from that it lacks.
    others: Vec<Destination>,
    /// The saved plan that the command names.
    pub(super) plan: Option<Plan>,
}

impl<'a> Session<'a> {
    /// Opens the destination that is named, and that one alone. Else the first that answers, that of the saved plan
    /// before the others; but for who `judges` a destination, it is the configuration's first.
    pub(super) async fn open(
        global: &'a Global,
        saved_plan: Option<&Path>,
        judges: bool,
    ) -> anyhow::Result<Self> {
        let path = config::find(global.config.as_deref())?;
        let config = ReaderConfig::load(&path)?;
        let plan = saved_plan.map(read_plan).transpose()?;
        let planned = plan.as_ref().map(|plan| plan.destination.as_str());
        let named = global.destination.as_deref();
        let mut all = Destination::all(&config, named.or(planned)).map_err(failed)?;
        if judges || named.is_some() {
            all.truncate(1);
        }
        let all = Destination::first_that_answers(all).await.map_err(failed)?;
        let mut all = all.into_iter();
        let destination = all
            .next()
            .ok_or_else(|| anyhow::anyhow!("no destination"))?;
        Ok(Self {
            global,
            path,
            config,
            destination,
            others: all.collect(),
            plan,
        })
    }

    /// The saved plan of a command that names one.
    pub(super) fn saved_plan(&self) -> anyhow::Result<&Plan> {
        let missing = || Failure {
            message: "no saved plan is named".to_owned(),
            exit: Exit::Usage,
            hint: Some("name one with --plan".to_owned()),
        };
        Ok(self.plan.as_ref().ok_or_else(missing)?)
    }

    /// The sources that the destination holds, of the one cluster that is named or of all.
    pub(super) async fn found(&self) -> anyhow::Result<Vec<SourceIdentity>> {
        let found = self.destination.sources(self.global.cluster.as_ref()).await;
        found.map_err(failed)
    }

    /// Those of them that the command line names.
    pub(super) async fn sources(&self) -> anyhow::Result<Vec<SourceIdentity>> {
        let found = self.found().await?;
        let some = self.filter().some(self.destination.url(), &found);
        some.map_err(failed)
    }

    /// The one of them that the command line names.
    pub(super) async fn only_source(&self) -> anyhow::Result<SourceIdentity> {
        let found = self.found().await?;
        let one = self.filter().one(self.destination.url(), &found);
        one.map_err(failed)
    }

    pub(super) fn planner<'s>(&'s self, archive: &'s Archive) -> Planner<'s> {
        Planner {
            destination: &self.destination,
            archive,
            clock: &SystemClock,
        }
    }

    pub(super) fn filter(&self) -> SourceFilter {
        let Global {
            cluster, source, ..
        } = self.global;
        SourceFilter {
            cluster: cluster.clone(),
            name: source.clone(),
        }
    }

    pub(super) fn archive(&self) -> anyhow::Result<Archive> {
        let keyring = Arc::new(Keyring::open(&self.config.encryption)?);
        let at = |destination: &Destination| {
            Archive::new(Arc::clone(destination.store()), Arc::clone(&keyring))
        };
        let others = self.others.iter().map(at).collect();
        Ok(at(&self.destination).with_others(others))
    }

    pub(super) fn print(&self, report: &impl Report, exit: Exit) -> anyhow::Result<Exit> {
        match output::print(report, self.global.terminal.format) {
            Ok(()) => Ok(exit),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Interrupted),
            Err(error) => Err(failed(CatError::Write(error))),
        }
    }
}

fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let name = path.display().to_string();
    let read = || {
        let mut bytes = Vec::new();
        let limit = MAX_PLAN_LEN as u64;
        std::fs::File::open(path)?
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| {
        failed(SavedPlanError::Read {
            path: name.clone(),
            source,
        })
    })?;
    Plan::parse(&name, &bytes).map_err(failed)
}

/// One of this crate's errors, as the engine's `exit` shows it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
pub(super) fn failed(error: impl Diagnose + 'static) -> anyhow::Error {
    let failure = Failure {
        message: exit::chain(&error),
        exit: error.exit(),
        hint: error.hint(),
    };
    failure.into()
}
