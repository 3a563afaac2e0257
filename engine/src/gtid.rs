//! GTIDs and GTID sets, with tags (MySQL 8.3+), and the algebra over them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A tag of at most 32 characters `[a-z_][a-z0-9_]*` (TRAPS 8).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(String);

/// MySQL's TSID: a server uuid and perhaps a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tsid {
    /// The originating server.
    pub uuid: Uuid,
    /// None for a classic GTID.
    pub tag: Option<Tag>,
}

/// One transaction's global identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gtid {
    /// Who and which tag.
    pub tsid: Tsid,
    /// Transaction number, 1 to 2^63 - 2.
    pub gno: u64,
}

/// A set of GTIDs as sorted, disjoint, non-adjacent intervals per TSID.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GtidSet {
    intervals: BTreeMap<Tsid, Vec<(u64, u64)>>,
}

/// Text or bytes that are no GTID or GTID set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a GTID set: {reason}")]
pub struct GtidError {
    /// The offending part.
    pub text: String,
    /// Why.
    pub reason: String,
}
