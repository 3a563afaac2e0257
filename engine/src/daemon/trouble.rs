//! Trouble of one source, or of one source with one destination: said once in the log, and kept where `gtide status`
//! finds it for as long as it lasts.

use std::sync::Arc;

use super::outcome::Problem;
use super::parts::Parts;
use crate::exit;
use crate::ledger::trouble_key;

/// What is in the way of one thing.
#[derive(Debug)]
pub(super) struct Troubles {
    parts: Arc<Parts>,
    source: String,
    destination: Option<String>,
    /// Under which the ledger keeps it; none for what has no row in `gtide status`.
    key: Option<String>,
    /// Said in the log as well.
    is_told: bool,
    now: Option<Problem>,
    /// The ledger has it as it is now. An earlier run may have left something there.
    is_recorded: bool,
}

impl Troubles {
    pub(super) fn of_source(parts: &Arc<Parts>, source: &str) -> Self {
        Self {
            parts: Arc::clone(parts),
            source: source.to_owned(),
            destination: None,
            key: Some(source.to_owned()),
            is_told: true,
            now: None,
            is_recorded: false,
        }
    }

    pub(super) fn of_destination(parts: &Arc<Parts>, source: &str, url: &str) -> Self {
        Self {
            destination: Some(url.to_owned()),
            key: Some(trouble_key(source, url)),
            ..Self::of_source(parts, source)
        }
    }

    /// For the log only.
    pub(super) fn unrecorded(self) -> Self {
        Self { key: None, ..self }
    }

    /// For the ledger only: the program's output says it.
    pub(super) fn untold(self) -> Self {
        Self {
            is_told: false,
            ..self
        }
    }

    /// Something is in the way: said, unless it was said already.
    pub(super) async fn set(&mut self, problem: Problem) {
        let is_new = self.now.as_ref() != Some(&problem);
        if is_new && self.is_told {
            let (source, error, hint) = (&self.source, &problem.error, &problem.hint);
            if let Some(destination) = &self.destination {
                tracing::error!(source, destination, error, hint, "destination stopped");
            } else {
                tracing::error!(source, error, hint, "source stopped");
            }
        }
        self.now = Some(problem);
        if is_new || !self.is_recorded {
            self.record(is_new).await;
        }
    }

    /// Nothing is in the way any more.
    pub(super) async fn clear(&mut self) {
        let is_over = self.now.take().is_some();
        if is_over && self.is_told {
            let (source, destination) = (&self.source, self.destination.as_deref());
            tracing::info!(source, destination, "the trouble is over");
        }
        if is_over || !self.is_recorded {
            self.record(is_over).await;
        }
    }

    /// A ledger that cannot be written is said once for each change.
    async fn record(&mut self, is_change: bool) {
        let Some(key) = &self.key else {
            self.is_recorded = true;
            return;
        };
        let now = self.parts.clock.now();
        let trouble = self.now.as_ref().map(|problem| problem.trouble(now));
        let recorded = self.parts.ledger.set_trouble(key, trouble.as_ref()).await;
        self.is_recorded = recorded.is_ok();
        if let Err(error) = recorded
            && is_change
        {
            let error = exit::chain(&error);
            tracing::warn!(source = self.source, error, "the ledger cannot be written");
        }
    }
}
