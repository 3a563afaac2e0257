//! The archive object (`.gtb`): one binlog file, compressed and encrypted in blocks. FORMAT.md is the law.

use serde::{Deserialize, Serialize};

use crate::layout::{Sequence, SourceIdentity};

/// What an object is bound to: opening it as anything else fails (TRAPS 30).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectIdentity {
    /// Whose file.
    #[serde(flatten)]
    pub source: SourceIdentity,
    /// Which file.
    pub sequence: Sequence,
    /// Its name on the server.
    pub file_name: String,
}
