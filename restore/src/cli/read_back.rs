//! `cat` and `fetch`: files of the archive as binary logs again.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use engine::exit::{Exit, Failure};
use futures::TryStreamExt;

use super::arguments::Selected;
use super::session::{Session, failed};
use crate::cat::{self, CatError};
use crate::entries;
use crate::fetch::{self, Fetched};
use crate::history::ArchivedFile;
use crate::object::Archive;
use crate::output;
use crate::part::Part;
use crate::plan::{Plan, commands};
use crate::progress::Progress;
use crate::selection::{Selection, Selector};

impl Session<'_> {
    pub(super) async fn cat(&self, selected: &Selected) -> anyhow::Result<Exit> {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Err(Failure {
                message: "binary logs are not written to a terminal".to_owned(),
                exit: Exit::Usage,
                hint: Some("pipe them into `mysqlbinlog -`, or write them with fetch".to_owned()),
            }
            .into());
        }
        let archive = self.archive()?;
        let parts = self.parts(selected, &archive).await?;
        let progress = Progress::bytes("cat", parts.iter().map(Part::bytes).sum());
        match cat::cat(&archive, &parts, &mut tokio::io::stdout(), &progress).await {
            // Whoever closed the pipe knows; the exit code says that not all was written.
            Err(CatError::Closed) => Ok(Exit::Interrupted),
            outcome => outcome.map(|()| Exit::Ok).map_err(failed),
        }
    }

    pub(super) async fn fetch(&self, selected: &Selected, dir: &Path) -> anyhow::Result<Exit> {
        let archive = self.archive()?;
        let wanted = match &self.plan {
            Some(plan) => self.fetched_by_plan(plan, &archive, dir).await?,
            None => vec![(dir.to_owned(), self.select(selected).await?.files)],
        };
        let mut report = Fetched::into(dir);
        for (folder, files) in wanted {
            let fetched = fetch::fetch(&archive, &files, &folder).await;
            report.files.extend(fetched.map_err(failed)?.files);
        }
        self.print(&report, Exit::Ok)
    }

    /// The files of a plan, and the folders that its commands expect them in.
    pub(super) async fn fetched_by_plan(
        &self,
        plan: &Plan,
        archive: &Archive,
        dir: &Path,
    ) -> anyhow::Result<Vec<(PathBuf, Vec<ArchivedFile>)>> {
        let parts = self.planner(archive).parts(plan).await.map_err(failed)?;
        let mut folders: BTreeMap<PathBuf, Vec<ArchivedFile>> = BTreeMap::new();
        // A file may be read in several parts.
        let mut named = HashSet::new();
        let places = commands::Fetched::below(dir, &plan.files);
        for (planned, part) in plan.files.iter().zip(parts) {
            if named.insert((&planned.source, planned.sequence)) {
                let files = folders.entry(places.folder_of(planned)).or_default();
                files.push(part.file);
            }
        }
        Ok(folders.into_iter().collect())
    }

    /// What the plan wants, or the whole files of a range.
    async fn parts(&self, selected: &Selected, archive: &Archive) -> anyhow::Result<Vec<Part>> {
        if let Some(plan) = &self.plan {
            return self.planner(archive).parts(plan).await.map_err(failed);
        }
        let selection = self.select(selected).await?;
        Ok(selection.files.into_iter().map(Part::whole).collect())
    }

    /// The files of one source that the command line names, after everything that the manifest can
    /// tell was checked.
    pub(super) async fn select(&self, selected: &Selected) -> anyhow::Result<Selection> {
        let range = selected.range.range()?;
        let source = self.only_source().await?;
        let mut selector = Selector::new(source.clone(), range, selected.accept_damage);
        let store = self.destination.store().as_ref();
        let mut entries = std::pin::pin!(entries::read(store, &source, range));
        while let Some(stored) = entries.try_next().await.map_err(failed)? {
            selector.push(&stored);
        }
        let selection = selector.finish().map_err(failed)?;
        for flaw in &selection.flaws {
            tracing::warn!("{}", output::printable(&flaw.to_string()));
        }
        Ok(selection)
    }
}
