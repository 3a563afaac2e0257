//! `ls` and `verify`: what the archive holds, and whether it is sound.

use engine::exit::Exit;

use super::arguments::Verified;
use super::session::{Session, failed};
use crate::ls;
use crate::verify::{self, Scope};

impl Session<'_> {
    pub(super) async fn ls(&self, files: bool) -> anyhow::Result<Exit> {
        let sources = self.sources().await?;
        let listing = ls::survey(&self.destination, &sources, files)
            .await
            .map_err(failed)?;
        self.print(&listing, Exit::Ok)
    }

    pub(super) async fn verify(&self, verified: &Verified) -> anyhow::Result<Exit> {
        let range = verified.range.range()?;
        let sources = self.sources().await?;
        let scope = Scope {
            sources,
            range,
            depth: verified.depth(),
            whole_clusters: self.global.source.is_none(),
        };
        let archive = self.archive()?;
        let (report, exit) = verify::verify(&archive, &self.destination, &scope)
            .await
            .map_err(failed)?;
        self.print(&report, exit)
    }
}
