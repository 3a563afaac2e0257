//! `find`: looks for an accident in the archive.

use engine::exit::Exit;

use super::arguments::FindArguments;
use super::session::{Session, failed};
use crate::find::{self, Scope, Sought};
use crate::plan::commands;

impl Session<'_> {
    pub(super) async fn find(&self, arguments: &FindArguments) -> anyhow::Result<Exit> {
        let scope = Scope {
            sources: self.sources().await?,
            range: arguments.range.range()?,
        };
        let sought = Sought {
            tables: arguments.table.clone(),
            kinds: arguments.kind.iter().map(|kind| kind.0).collect(),
            gtids: arguments.gtid.as_ref().map(|set| set.0.clone()),
            from: arguments.from_time,
            to: arguments.to_time,
            limit: arguments.limit,
        };
        let archive = self.archive()?;
        let found = find::find(&archive, &self.destination, &scope, &sought).await;
        let mut found = found.map_err(failed)?;
        let config = std::path::absolute(&self.path)?;
        let destination = self.global.destination.as_deref();
        for hit in &mut found.transactions {
            let gtid = hit.gtid.as_ref();
            hit.plan = gtid.map(|gtid| commands::plan_before(&config, destination, gtid));
        }
        self.print(&found, Exit::Ok)
    }
}
