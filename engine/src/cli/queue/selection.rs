//! The part of the queue that a command line names.

use std::collections::BTreeSet;

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::ledger::{Ledger, QueueScope, Source};

/// A source, whole or in part.
#[derive(Debug, Args)]
pub(in crate::cli) struct Selection {
    /// The source: its configured name or its server's uuid, with all its incarnations
    #[arg(value_name = "SOURCE")]
    pub(super) source: String,
    /// Only what goes to this destination
    #[arg(long, value_name = "URL")]
    pub(super) destination: Option<String>,
    /// Only this lane, from 0
    #[arg(long, value_name = "N")]
    pub(super) lane: Option<u32>,
}

impl Selection {
    /// One for each incarnation of the source.
    pub(super) async fn scopes(&self, ledger: &Ledger) -> anyhow::Result<Vec<QueueScope>> {
        let sources = ledger.sources().await?;
        let named = named(&sources, &self.source)?;
        let destination = match &self.destination {
            None => None,
            Some(url) => {
                let destinations = ledger.destinations().await?;
                let found = destinations.iter().find(|d| &d.url == url);
                Some(found.ok_or_else(|| unknown("destination", url))?.id)
            }
        };
        let scope = |source: &Source| QueueScope {
            source: source.id,
            destination,
            lane: self.lane,
        };
        Ok(named.into_iter().map(scope).collect())
    }

    /// As it is typed again.
    pub(super) fn words(&self) -> String {
        let mut words = vec![self.source.clone()];
        if let Some(url) = &self.destination {
            words.extend(["--destination".to_owned(), url.clone()]);
        }
        if let Some(lane) = self.lane {
            words.extend(["--lane".to_owned(), lane.to_string()]);
        }
        shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
    }
}

/// The sources of this name or `server_uuid`; they must be of one server.
pub(super) fn named<'a>(sources: &'a [Source], name: &str) -> Result<Vec<&'a Source>, Failure> {
    let is_named = |source: &&Source| {
        source.name == name || source.identity.server_uuid.to_string() == name.to_lowercase()
    };
    let found: Vec<&Source> = sources.iter().filter(is_named).collect();
    let servers: BTreeSet<String> = found
        .iter()
        .map(|source| source.identity.server_uuid.to_string())
        .collect();
    match servers.len() {
        0 => Err(unknown("source", name)),
        1 => Ok(found),
        _ => Err(Failure {
            message: format!("several servers are called {name}"),
            exit: Exit::Usage,
            hint: Some(format!(
                "name one by its server_uuid: {}",
                servers.into_iter().collect::<Vec<_>>().join(", ")
            )),
        }),
    }
}

fn unknown(what: &str, name: &str) -> Failure {
    Failure {
        message: format!("the ledger knows no {what} {name}"),
        exit: Exit::Usage,
        hint: Some("`gtide status` lists sources and destinations".to_owned()),
    }
}
