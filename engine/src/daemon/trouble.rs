//! Trouble of one source, or of one source with one destination: said once in the log, and kept where `gtide status`
//! finds it for as long as it lasts.

use std::sync::Arc;

use super::outcome::Problem;
use super::parts::Parts;
use crate::exit;
use crate::ledger::TroubleScope;

/// What is in the way of one thing.
#[derive(Debug)]
pub(super) struct Troubles {
    parts: Arc<Parts>,
    scope: TroubleScope,
    /// Kept in the ledger; not what has no row in `gtide status`.
    is_kept: bool,
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
            scope: TroubleScope {
                agent: parts.agent.clone(),
                source_name: source.to_owned(),
                destination: None,
            },
            is_kept: true,
            is_told: true,
            now: None,
            is_recorded: false,
        }
    }

    pub(super) fn of_destination(parts: &Arc<Parts>, source: &str, url: &str) -> Self {
        let mut troubles = Self::of_source(parts, source);
        troubles.scope.destination = Some(url.to_owned());
        troubles
    }

    /// For the log only.
    pub(super) fn unrecorded(self) -> Self {
        Self {
            is_kept: false,
            ..self
        }
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
            let (source, destination) = self.names();
            let (error, hint) = (&problem.error, &problem.hint);
            if let Some(destination) = destination {
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
            let (source, destination) = self.names();
            tracing::info!(source, destination, "the trouble is over");
        }
        if is_over || !self.is_recorded {
            self.record(is_over).await;
        }
    }

    /// Source and destination, for the log.
    fn names(&self) -> (&str, Option<&str>) {
        (&self.scope.source_name, self.scope.destination.as_deref())
    }

    /// A ledger that cannot be written is said once for each change.
    async fn record(&mut self, is_change: bool) {
        if !self.is_kept {
            self.is_recorded = true;
            return;
        }
        let now = self.parts.clock.now();
        let trouble = self.now.as_ref().map(|problem| problem.trouble(now));
        let ledger = &self.parts.ledger;
        let recorded = ledger.set_trouble(&self.scope, trouble.as_ref()).await;
        self.is_recorded = recorded.is_ok();
        if let Err(error) = recorded
            && is_change
        {
            let error = exit::chain(&error);
            tracing::warn!(
                source = self.scope.source_name,
                error,
                "the ledger cannot be written"
            );
        }
    }
}
