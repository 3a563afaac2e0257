//! Percona XtraBackup: `xtrabackup_binlog_info` and `xtrabackup_info`.

use super::super::{Coordinates, Tool};
use super::{Evidence, Parsed, finish, gtid_set, local_time, position, value};

/// `binlog.000003 <tab> 157 <tab> uuid:1-5`, the set over several lines; the last column is missing
/// without GTIDs.
pub(super) fn binlog_info(text: &str) -> Parsed {
    let mut columns = text.trim_end().splitn(3, '\t');
    let (file, offset) = (columns.next()?, columns.next()?);
    let place = position(file.trim(), offset.trim()).ok().flatten()?;
    let mut coordinates = Coordinates::unknown(Tool::Xtrabackup);
    coordinates.position = Some(place);
    Some(with_gtids(coordinates, columns.next()))
}

fn with_gtids(
    mut coordinates: Coordinates,
    gtids: Option<&str>,
) -> Result<Evidence, (Tool, String)> {
    if let Some(gtids) = gtids.map(str::trim).filter(|gtids| !gtids.is_empty()) {
        let set = gtid_set(gtids).map_err(|error| (Tool::Xtrabackup, error.to_string()))?;
        coordinates.gtid_set = Some(set);
    }
    finish(coordinates, None)
}

/// `key = value` lines, among them
/// `binlog_pos = filename 'binlog.000003', position '157', GTID of the last change 'uuid:1-5'`.
pub(super) fn info(text: &str) -> Parsed {
    let tool_version = value(text, "tool_version")?;
    let binlog = text.split_once("binlog_pos = ")?.1;
    let quoted = |label: &str| {
        let behind = binlog.split_once(label)?.1.split_once('\'')?.1;
        Some(behind.split_once('\'')?.0)
    };
    let mut coordinates = Coordinates::unknown(Tool::Xtrabackup);
    coordinates.tool_version = Some(tool_version.to_owned());
    coordinates.server_version = value(text, "server_version").map(str::to_owned);
    match position(
        quoted("filename").unwrap_or_default(),
        quoted("position").unwrap_or_default(),
    ) {
        Ok(place) => coordinates.position = place,
        Err(reason) => return Some(Err((Tool::Xtrabackup, reason))),
    }
    let ended = value(text, "end_time").and_then(local_time);
    let evidence = with_gtids(coordinates, quoted("GTID of the last change"));
    Some(evidence.map(|evidence| Evidence {
        local_time: ended,
        ..evidence
    }))
}
