//! The events of one part, read ahead.

use engine::binlog::passing::{Misframed, Passing, Piece};
use engine::exit::{Diagnose, Exit, chain};

use super::answer::Refusal;
use super::dump::DumpError;
use crate::object::{Prefetched, ReadError};

/// Why there is no next event.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventsError {
    /// The archive.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was archived is damaged.
    #[error("{file_name}: {source}")]
    Misframed {
        /// The file.
        file_name: String,
        /// How.
        source: Misframed,
    },
}

impl EventsError {
    /// Between two events. What may pass ends the connection, and the client comes again; what stays, it is told.
    pub(super) fn between_events(self) -> DumpError {
        match &self {
            Self::Read(error) if error.exit() == Exit::Transient => self.within_an_event(),
            _ => DumpError::Refused(Refusal::fatal(chain(&self))),
        }
    }

    /// Within an event the client cannot be told.
    pub(super) fn within_an_event(self) -> DumpError {
        DumpError::Broken(chain(&self))
    }
}

/// Gives one piece after the other.
#[derive(Debug)]
pub(super) struct Events {
    file_name: String,
    blocks: Prefetched,
    passing: Passing,
}

impl Events {
    pub(super) fn new(file_name: &str, blocks: Prefetched) -> Self {
        Self {
            file_name: file_name.to_owned(),
            blocks,
            passing: Passing::new(),
        }
    }

    /// The next piece; none at the end of the part.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, EventsError> {
        loop {
            let piece = self.passing.next();
            if let Some(piece) = piece.map_err(|error| self.misframed(error))? {
                return Ok(Some(piece));
            }
            let Some(block) = self.blocks.next().await? else {
                let end = self.passing.finish();
                return end.map(|()| None).map_err(|error| self.misframed(error));
            };
            self.passing.push(block);
        }
    }

    pub(super) fn misframed(&self, source: Misframed) -> EventsError {
        EventsError::Misframed {
            file_name: self.file_name.clone(),
            source,
        }
    }
}
