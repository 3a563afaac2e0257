//! When an archiver lets go of what it holds of a file: the pin, and the sealed object.
//!
//! # Invariants
//! - Nothing is let go of before every required destination has the file.
//! - What only destinations lack that are not required is held for [`HOLD`] longer, so that they need not read it from
//!   another one; then the server's disk and the spool come first. They get it all the same (`pipeline::recall`).

use std::sync::Arc;

use jiff::SignedDuration;

use crate::clock::Clock;
use crate::ledger::{DestinationId, FileKey, Ledger, LedgerError};

/// How long a file that all required destinations have is held for the others.
const HOLD: SignedDuration = SignedDuration::from_hours(1);

/// Which destinations a file is held for.
#[derive(Debug, Clone)]
pub struct Release {
    /// All of them.
    pub destinations: Vec<DestinationId>,
    /// Those that are waited for: at least one.
    pub required: Vec<DestinationId>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Release {
    /// Is a file not needed here any more?
    ///
    /// # Errors
    /// What the database says.
    pub async fn is_due(&self, ledger: &Ledger, file: FileKey) -> Result<bool, LedgerError> {
        let Some(since) = ledger.committed_at_all(file, &self.required).await? else {
            return Ok(false);
        };
        if self.clock.now().duration_since(since) >= HOLD {
            return Ok(true);
        }
        let everywhere = ledger.committed_at_all(file, &self.destinations).await?;
        Ok(everywhere.is_some())
    }
}
