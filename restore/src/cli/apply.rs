//! `apply`: a saved plan, run on a server.

use engine::exit::{self, Exit};

use super::arguments::Applied;
use super::session::{Session, failed};
use crate::apply::{self, ApplyError, Task};

impl Session<'_> {
    pub(super) async fn apply(&self, applied: &Applied) -> anyhow::Result<Exit> {
        let plan = self.saved_plan()?;
        let archive = self.archive()?;
        let server = applied.login.server(applied.target.clone());
        let steps = self.planner(&archive).steps(plan).await;
        let steps = steps.map_err(|error| failed(ApplyError::from(error)))?;
        let task = Task {
            archive: &archive,
            plan,
            steps: &steps,
            server: &server,
            via: applied.via,
            relaxed: applied.relaxed_durability,
            listen: applied.listen,
            accepted: &applied.accept,
            check_only: applied.check,
        };
        let (report, exit) = apply::apply(task).await.map_err(failed)?;
        let printed = self.print(&report, exit)?;
        if let Some((complaint, hint)) = report.complaint() {
            exit::show(&complaint, hint.as_deref());
        }
        Ok(printed)
    }
}
