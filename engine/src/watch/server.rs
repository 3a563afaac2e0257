//! What the server's own files say: whose they are, and which there are. No server is asked (TRAPS 13).

use std::path::PathBuf;

use uuid::Uuid;

use super::WatchError;
use crate::binlog::index::{self, IndexEntry};
use crate::config::SourceConfig;

/// The largest index that is read: 2 million names of 64 bytes.
const MAX_INDEX_LEN: u64 = 128 * 1024 * 1024;

/// The `server_uuid` of a configured source: the configuration's, else that of `auto.cnf`.
///
/// # Errors
/// When `auto.cnf` cannot be read or holds none.
pub fn server_uuid(config: &SourceConfig) -> Result<Uuid, WatchError> {
    if let Some(uuid) = config.server_uuid {
        return Ok(uuid);
    }
    let path = auto_cnf(config);
    let text = std::fs::read_to_string(&path).map_err(|source| WatchError::Read {
        path: path.clone(),
        source,
    })?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| matches!(key.trim(), "server-uuid" | "server_uuid"))
        .find_map(|(_, value)| value.trim().parse().ok())
        .ok_or(WatchError::NoServerUuid { path })
}

/// Where a server keeps its `server_uuid`.
pub fn auto_cnf(config: &SourceConfig) -> PathBuf {
    config.datadir.join("auto.cnf")
}

/// The files in a source's index, as it is now (TRAPS 12).
///
/// # Errors
/// When it cannot be read or is no index.
pub fn read_index(config: &SourceConfig) -> Result<Vec<IndexEntry>, WatchError> {
    let path = &config.index;
    let read = |source| WatchError::Read {
        path: path.clone(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        // A pipe would be waited for.
        return Err(WatchError::NotAFile { path: path.clone() });
    }
    let len = metadata.len();
    if len > MAX_INDEX_LEN {
        return Err(WatchError::TooLong {
            path: path.clone(),
            len,
        });
    }
    let bytes = std::fs::read(path).map_err(read)?;
    index::parse_index(&bytes, &config.datadir).map_err(|source| WatchError::Index {
        path: path.clone(),
        source,
    })
}
