//! MySQL Shell's dump utilities: `@.json`.

use serde::Deserialize;

use super::super::{Coordinates, Tool};
use super::{Parsed, finish, gtid_set, local_time, position};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dump {
    dumper: String,
    server_version: Option<String>,
    gtid_executed: Option<String>,
    #[serde(default)]
    gtid_executed_inconsistent: bool,
    consistent: Option<bool>,
    binlog_file: Option<String>,
    binlog_position: Option<u64>,
    begin: Option<String>,
}

pub(super) fn dump(text: &str) -> Parsed {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let dump: Dump = match serde_json::from_str(text) {
        Ok(dump) => dump,
        Err(error) => return Some(Err((Tool::MysqlShell, error.to_string()))),
    };
    Some(read(dump))
}

fn read(dump: Dump) -> Result<super::Evidence, (Tool, String)> {
    let fail = |reason: String| (Tool::MysqlShell, reason);
    if dump.gtid_executed_inconsistent || dump.consistent == Some(false) {
        let reason = "the dump says of itself that it is not consistent: no GTID set describes it";
        return Err(fail(reason.to_owned()));
    }
    let mut coordinates = Coordinates::unknown(Tool::MysqlShell);
    coordinates.tool_version = Some(dump.dumper);
    coordinates.server_version = dump.server_version;
    if let Some(gtids) = dump.gtid_executed {
        coordinates.gtid_set = Some(gtid_set(&gtids).map_err(|error| fail(error.to_string()))?);
    }
    if let (Some(file), Some(offset)) = (dump.binlog_file, dump.binlog_position) {
        coordinates.position = position(&file, &offset.to_string()).map_err(fail)?;
    }
    finish(coordinates, dump.begin.as_deref().and_then(local_time))
}
