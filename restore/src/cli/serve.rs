//! `serve`: a plan or a range, as a source of replication.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::exit::{Exit, Failure};
use engine::layout::Sequence;
use zeroize::Zeroizing;

use super::arguments::Serving;
use super::session::{Session, failed};
use crate::part::Step;
use crate::planning::Planner;
use crate::serve::listener::{Certificate, Listener};
use crate::serve::offer::Offer;
use crate::serve::report::Served;
use crate::serve::{Access, ServeError};

/// How often it is looked for files that were archived meanwhile.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);

impl Session<'_> {
    /// Serves until it is interrupted.
    pub(super) async fn serve(&self, serving: &Serving) -> anyhow::Result<Exit> {
        let archive = self.archive()?;
        let planner = self.planner(&archive);
        let offer = Arc::new(self.offer(serving, &planner).await?);
        let access = match &serving.password_file {
            Some(file) => Access {
                user: serving.user.clone(),
                password: password_in(file)?,
            },
            None => Access::made(&serving.user).map_err(|error| failed(ServeError::from(error)))?,
        };
        let access = Arc::new(access);
        let listener = listen(serving.listen, &offer, &access).await;
        let listener = listener.map_err(failed)?;
        let made = serving.password_file.is_none();
        let password = made.then_some(access.password.as_str());
        let report = Served::new(&offer, serving.follows(), &listener, &access.user, password);
        self.print(&report, Exit::Ok)?;
        tokio::select! {
            never = listener.run() => match never {},
            never = self.follow(serving, &planner, &offer), if serving.follows() => match never {},
        }
    }

    async fn offer(&self, serving: &Serving, planner: &Planner<'_>) -> anyhow::Result<Offer> {
        let (archive, server_id) = (planner.archive.clone(), serving.server_id);
        if let Some(plan) = &self.plan {
            let steps = planner.steps(plan).await.map_err(failed)?;
            return Ok(Offer::of_plan(archive, plan, steps, server_id));
        }
        let selection = self.select(&serving.wanted.selected).await?;
        let steps = planner.steps_of_files(&selection.files).await;
        let (before, steps) = steps.map_err(failed)?;
        Ok(Offer::of_files(archive, steps, before, server_id))
    }

    /// Looks for files that were archived meanwhile. What is wrong now may be right the next time: until then nothing
    /// more is served.
    async fn follow(&self, serving: &Serving, planner: &Planner<'_>, offer: &Offer) -> Infallible {
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            let Some(last) = offer.last() else { continue };
            match self.behind(last, serving, planner).await {
                Ok(more) if more.is_empty() => {}
                Ok(more) => {
                    tracing::info!("{} more files", more.len());
                    offer.append(more);
                }
                Err(error) => tracing::warn!("look for more files: {error:#}"),
            }
        }
    }

    /// The files behind this one. It is looked at once more: they must follow it.
    async fn behind(
        &self,
        last: Sequence,
        serving: &Serving,
        planner: &Planner<'_>,
    ) -> anyhow::Result<Vec<Step>> {
        let selected = serving.wanted.selected.from(last);
        let selection = self.select(&selected).await?;
        let more = selection.files.get(1..).unwrap_or_default();
        Ok(planner.steps_of_files(more).await.map_err(failed)?.1)
    }
}

async fn listen(
    address: SocketAddr,
    offer: &Arc<Offer>,
    access: &Arc<Access>,
) -> Result<Listener, ServeError> {
    let certificate = Certificate::made(&address.ip().to_string())?;
    Listener::bind(address, Arc::clone(offer), Arc::clone(access), certificate).await
}

/// The first line of a file.
fn password_in(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let unusable = |why: String| Failure {
        message: format!("{}: {why}", file.display()),
        exit: Exit::Usage,
        hint: Some("put the password, and nothing else, on the first line".to_owned()),
    };
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| unusable(error.to_string()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(unusable("no password in it".to_owned()).into()),
    }
}
