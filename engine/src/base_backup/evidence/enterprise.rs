//! MySQL Enterprise Backup: `meta/backup_variables.txt` and `meta/backup_gtid_executed.sql`.

use super::super::{Coordinates, Tool};
use super::{Parsed, finish, gtid_set, position, value};

/// `key=value` lines under `[backup_variables]`.
pub(super) fn variables(text: &str) -> Parsed {
    text.contains("[backup_variables]").then(|| {
        let fail = |reason: String| (Tool::EnterpriseBackup, reason);
        let mut coordinates = Coordinates::unknown(Tool::EnterpriseBackup);
        let place = value(text, "binlog_position").unwrap_or_default();
        let (file, offset) = place.rsplit_once(':').unwrap_or_default();
        coordinates.position = position(file, offset).map_err(fail)?;
        if let Some(gtids) = value(text, "gtid_executed") {
            coordinates.gtid_set = Some(gtid_set(gtids).map_err(|error| fail(error.to_string()))?);
        }
        coordinates.server_version = value(text, "mysql_version").map(str::to_owned);
        coordinates.tool_version = value(text, "meb_version").map(str::to_owned);
        finish(coordinates, None)
    })
}

/// The statement for a new replica, between comments that begin with `#`.
pub(super) fn gtid_executed(text: &str) -> Parsed {
    let begins = text.trim_start().starts_with("# On a new ");
    begins.then(|| {
        let fail = |reason: String| (Tool::EnterpriseBackup, reason);
        let statement = text.split_once("GTID_PURGED");
        let quoted = statement.and_then(|(_, behind)| behind.split('\'').nth(1));
        let gtids = quoted.ok_or_else(|| fail("no GTID_PURGED in it".to_owned()))?;
        let mut coordinates = Coordinates::unknown(Tool::EnterpriseBackup);
        coordinates.gtid_set = Some(gtid_set(gtids).map_err(|error| fail(error.to_string()))?);
        finish(coordinates, None)
    })
}
