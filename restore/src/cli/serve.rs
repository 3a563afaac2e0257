//! `serve`: a plan or a range, as a source of replication.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use engine::exit::{Exit, Failure};
use zeroize::Zeroizing;

use super::arguments::Serving;
use super::session::{Session, failed};
use crate::object::Archive;
use crate::serve::listener::{Certificate, Listener};
use crate::serve::offer::Offer;
use crate::serve::report::Served;
use crate::serve::{Access, ServeError};

impl Session<'_> {
    /// Serves until it is interrupted.
    pub(super) async fn serve(&self, serving: &Serving) -> anyhow::Result<Exit> {
        let offer = Arc::new(self.offer(serving).await?);
        let access = match &serving.password_file {
            Some(file) => Access {
                user: serving.user.clone(),
                password: password_in(file)?,
            },
            None => Access::made(&serving.user).map_err(|error| failed(ServeError::from(error)))?,
        };
        let access = Arc::new(access);
        let listener = listen(serving.listen, &offer, &access)
            .await
            .map_err(failed)?;
        let shown = serving.password_file.is_none().then_some(&access.password);
        let report = Served::new(&offer, &listener, &access.user, shown.map(|p| p.as_str()));
        self.print(&report, Exit::Ok)?;
        match listener.run().await {}
    }

    async fn offer(&self, serving: &Serving) -> anyhow::Result<Offer> {
        let archive = self.archive()?;
        if let Some(plan) = &self.plan {
            let steps = self.planner(&archive).steps(plan).await.map_err(failed)?;
            return Ok(Offer::of_plan(archive, plan, steps, serving.server_id));
        }
        self.offer_of_range(serving, archive).await
    }

    async fn offer_of_range(&self, serving: &Serving, archive: Archive) -> anyhow::Result<Offer> {
        let selection = self.select(&serving.wanted.selected).await?;
        let planner = self.planner(&archive);
        let steps = planner.steps_of_files(&selection.files).await;
        let (before, steps) = steps.map_err(failed)?;
        Ok(Offer::of_files(archive, steps, before, serving.server_id))
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
