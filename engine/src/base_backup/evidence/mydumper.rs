//! mydumper: `metadata`, in the form since 0.14.1 and the one before.

use super::super::{Coordinates, Tool};
use super::{Parsed, finish, gtid_set, local_time, position, value};

pub(super) fn metadata(text: &str) -> Parsed {
    if text.contains("SHOW MASTER STATUS:") {
        return Some(old(text));
    }
    let named = ["[master]", "[source]", "[replication]"];
    let mut lines = text.lines();
    lines.find(|line| named.contains(&line.trim()))?;
    // Sections of tables follow.
    let section: Vec<&str> = lines.take_while(|line| !line.starts_with('[')).collect();
    let section = section.join("\n");
    Some(new(text, &section))
}

fn new(text: &str, section: &str) -> Result<super::Evidence, (Tool, String)> {
    let fail = |reason: String| (Tool::Mydumper, reason);
    let first = |keys: &[&str]| keys.iter().find_map(|key| value(section, key));
    let mut coordinates = Coordinates::unknown(Tool::Mydumper);
    let file = first(&["File", "SOURCE_LOG_FILE"]).unwrap_or_default();
    let offset = first(&["Position", "SOURCE_LOG_POS"]).unwrap_or_default();
    coordinates.position = position(file, offset).map_err(fail)?;
    if let Some(gtids) = first(&["Executed_Gtid_Set", "executed_gtid_set"]) {
        coordinates.gtid_set = Some(gtid_set(gtids).map_err(|error| fail(error.to_string()))?);
    }
    finish(coordinates, started(text))
}

/// `Log:`, `Pos:` and `GTID:`, indented below a heading.
fn old(text: &str) -> Result<super::Evidence, (Tool, String)> {
    let fail = |reason: String| (Tool::Mydumper, reason);
    let field = |name: &str| {
        let (_, status) = text.split_once("SHOW MASTER STATUS:")?;
        let status = status.split("\n\n").next()?;
        Some(status.split_once(name)?.1)
    };
    let line = |name| {
        field(name)
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default()
    };
    let mut coordinates = Coordinates::unknown(Tool::Mydumper);
    coordinates.position = position(line("Log:").trim(), line("Pos:").trim()).map_err(fail)?;
    if let Some(gtids) = field("GTID:")
        .map(str::trim)
        .filter(|gtids| !gtids.is_empty())
    {
        coordinates.gtid_set = Some(gtid_set(gtids).map_err(|error| fail(error.to_string()))?);
    }
    finish(coordinates, started(text))
}

fn started(text: &str) -> Option<jiff::civil::DateTime> {
    local_time(text.split_once("Started dump at:")?.1.lines().next()?)
}
