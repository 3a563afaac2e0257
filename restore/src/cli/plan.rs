//! `plan`: the way to a moment, printed and saved.

use std::path::{Path, PathBuf};

use engine::durable_fs;
use engine::exit::{Exit, Failure};
use engine::layout::{ClusterName, SourceIdentity};
use engine::terminal::{self, Format};

use super::arguments::{GtidSetText, Planned};
use super::session::{Session, failed};
use crate::output;
use crate::plan::{Invocation, Plan, StartAt, commands};
use crate::planning::{PlanningError, Request};

impl Session<'_> {
    pub(super) async fn plan(&self, planned: &Planned) -> anyhow::Result<Exit> {
        let Some(target) = planned.moment.target() else {
            return Err(Failure {
                message: "no moment is named".to_owned(),
                exit: Exit::Usage,
                hint: Some(
                    "name one: --to-time, --to-gtid, --before-gtid, --to-position or --to-latest"
                        .to_owned(),
                ),
            }
            .into());
        };
        let (cluster, lead, sources) = self.history().await?;
        let set = |text: &Option<GtidSetText>| text.as_ref().map(|GtidSetText(set)| set.clone());
        let start = self.start(planned).await?;
        let request = Request {
            cluster,
            target,
            start,
            lead,
            skip: set(&planned.skip_gtid).unwrap_or_default(),
            accept_damage: planned.accept_damage,
        };
        let archive = self.archive()?;
        let invocation = self.invocation(planned)?;
        let planner = self.planner(&archive);
        match planner.plan(&request, &sources, &invocation).await {
            Ok(plan) => self.give(&plan, planned),
            Err(PlanningError::Refused(refusal)) => {
                if self.global.terminal.format == Format::Json {
                    terminal::print_json(&refusal.report())?;
                }
                Err(failed(refusal))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The one cluster that a plan is about, the source of it that is named, and all of its sources.
    pub(super) async fn history(
        &self,
    ) -> anyhow::Result<(ClusterName, Option<SourceIdentity>, Vec<SourceIdentity>)> {
        let found = self.found().await?;
        let lead = match &self.global.source {
            Some(_) => {
                let lead = self.filter().one(self.destination.url(), &found);
                Some(lead.map_err(failed)?)
            }
            None => None,
        };
        let cluster = self.cluster(lead.as_ref(), &found)?;
        let sources = found
            .into_iter()
            .filter(|source| source.cluster == cluster)
            .collect();
        Ok((cluster, lead, sources))
    }

    /// Where the plan begins.
    async fn start(&self, planned: &Planned) -> anyhow::Result<StartAt> {
        if let Some(id) = &planned.from_backup {
            return Ok(StartAt::Backup(id.clone()));
        }
        if let Some(executed) = &planned.from_gtid_set {
            return Ok(StartAt::Executed(executed.clone()));
        }
        let Some(address) = &planned.target else {
            return Ok(StartAt::Any);
        };
        let server = planned.login.server(address.clone());
        let executed = server.executed().await.map_err(failed)?;
        Ok(StartAt::Executed(executed))
    }

    /// Saves and prints a plan.
    fn give(&self, plan: &Plan, planned: &Planned) -> anyhow::Result<Exit> {
        if let Some(path) = &planned.save {
            let saved = durable_fs::create_new(path, &plan.to_bytes()?, 0o644);
            saved.map_err(|error| Failure {
                message: format!("write {}: {error}", path.display()),
                exit: match error.kind() {
                    std::io::ErrorKind::AlreadyExists => Exit::Conflict,
                    _ => Exit::Usage,
                },
                hint: Some("--save writes a new file, and overwrites none".to_owned()),
            })?;
        }
        if planned.script {
            for warning in &plan.warnings {
                tracing::warn!("{}", output::printable(warning));
            }
            terminal::print(&commands::script(&plan.commands, &plan.summary()))?;
            return Ok(Exit::Ok);
        }
        self.print(plan, Exit::Ok)
    }

    /// The one cluster that a plan is about.
    fn cluster(
        &self,
        lead: Option<&SourceIdentity>,
        found: &[SourceIdentity],
    ) -> anyhow::Result<ClusterName> {
        if let Some(lead) = lead {
            return Ok(lead.cluster.clone());
        }
        let some = self.filter().some(self.destination.url(), found);
        let mut clusters: Vec<ClusterName> = some
            .map_err(failed)?
            .into_iter()
            .map(|source| source.cluster)
            .collect();
        clusters.dedup();
        match clusters.as_slice() {
            [only] => Ok(only.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(ClusterName::as_str).collect();
                Err(Failure {
                    message: format!("the archive holds several clusters: {}", names.join(", ")),
                    exit: Exit::Usage,
                    hint: Some("name one of them with --cluster".to_owned()),
                }
                .into())
            }
        }
    }

    fn invocation(&self, planned: &Planned) -> anyhow::Result<Invocation> {
        let absolute = |path: &Path| std::path::absolute(path);
        Ok(Invocation {
            config: absolute(&self.path)?,
            destination: self.global.destination.clone(),
            plan: match &planned.save {
                Some(path) => absolute(path)?,
                None => PathBuf::from("plan.json"),
            },
            dir: planned.dir.clone(),
        })
    }
}
