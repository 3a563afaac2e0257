//! `rehearse`: a restore on a server of its own, and nothing left of it.

use std::path::{Path, PathBuf};

use engine::clock::{Clock, SystemClock};
use engine::exit::{self, Exit};
use engine::gtid::GtidSet;

use super::arguments::Rehearsal;
use super::session::{Session, failed};
use crate::plan::{Invocation, StartAt};
use crate::planning::Request;
use crate::rehearse::scratch::Settings;
use crate::rehearse::{self, Task};
use crate::target::Target;

impl Session<'_> {
    pub(super) async fn rehearse(&self, rehearsal: &Rehearsal) -> anyhow::Result<Exit> {
        let (cluster, lead, sources) = self.history().await?;
        let archive = self.archive()?;
        let absolute = |path: &Path| std::path::absolute(path);
        let settings = Settings {
            mysqld: rehearsal.mysqld.clone(),
            options: rehearsal.mysqld_option.clone(),
            parent: rehearsal.scratch.clone().unwrap_or_else(std::env::temp_dir),
            base: rehearsal.base.as_deref().map(absolute).transpose()?,
        };
        // Any number that is another one each time.
        let now = || SystemClock.now().as_microsecond().unsigned_abs();
        let task = Task {
            planner: self.planner(&archive),
            sources: &sources,
            request: Request {
                cluster,
                target: Target::Latest,
                start: StartAt::Any,
                lead,
                skip: GtidSet::new(),
                accept_damage: rehearsal.accept_damage,
            },
            target: rehearsal.moment.target(),
            seed: rehearsal.seed.unwrap_or_else(now),
            invocation: Invocation {
                config: absolute(&self.path)?,
                destination: self.global.destination.clone(),
                plan: PathBuf::from("plan.json"),
                dir: PathBuf::from("binlogs"),
            },
            settings: &settings,
            via: rehearsal.via,
            questions: &rehearsal.check_sql,
        };
        let (report, exit) = rehearse::rehearse(task).await.map_err(failed)?;
        let printed = self.print(&report, exit)?;
        if let Some((complaint, hint)) = report.complaint() {
            exit::show(&complaint, hint.as_deref());
        }
        Ok(printed)
    }
}
