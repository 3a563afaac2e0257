//! CLONE: the file `#clone/#view_status`, or `performance_schema.clone_status` as a client prints it.
//! The server writes binlog position and GTIDs when it first starts on the clone.

use jiff::Timestamp;

use super::super::{Coordinates, Tool};
use super::{Evidence, Parsed, finish, gtid_set, local_time, position};

/// The state of a clone that is complete (`Clone_handler` state in `#view_status`).
const COMPLETED: &str = "2";

pub(super) fn status(text: &str) -> Parsed {
    view_status(text)
        .or_else(|| vertical(text))
        .or_else(|| columns(text))
}

/// State and id; begin and end in µs; source; error number; error message; binlog file; position; GTID
/// set over the rest.
fn view_status(text: &str) -> Parsed {
    let mut lines = text.lines();
    let (state, _) = lines.next()?.split_once(' ')?;
    let (begin, end) = lines.next()?.split_once(' ')?;
    begin.parse::<i64>().ok()?;
    let end: i64 = end.parse().ok()?;
    let mut lines = lines.skip(3);
    let (file, offset) = (lines.next()?, lines.next()?);
    let gtids = lines.collect::<Vec<_>>().join("");
    let state = if state == COMPLETED {
        "Completed"
    } else {
        state
    };
    let evidence = read(state, file, offset, &gtids);
    Some(evidence.map(|mut evidence| {
        evidence.coordinates.taken_at = Timestamp::from_microsecond(end).ok();
        evidence
    }))
}

/// `NAME: value` lines, as `\G` or `--vertical` prints them.
fn vertical(text: &str) -> Parsed {
    let field = |name: &str| {
        let line = |line: &&str| line.trim_start().starts_with(name);
        let found = text.lines().find(line)?;
        Some(found.split_once(':')?.1.trim())
    };
    let (_, gtids) = text.split_once("GTID_EXECUTED:")?;
    let gtids = gtids.split("\n*").next().unwrap_or_default();
    let evidence = read(
        field("STATE:")?,
        field("BINLOG_FILE:")?,
        field("BINLOG_POSITION:")?,
        gtids,
    );
    let ended = field("END_TIME:").and_then(local_time);
    Some(evidence.map(|evidence| Evidence {
        local_time: ended,
        ..evidence
    }))
}

/// A heading and a row, separated by tabs, as the client prints them in batch mode.
fn columns(text: &str) -> Parsed {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split('\t').collect();
    let row: Vec<&str> = lines.next()?.split('\t').collect();
    let field = |name: &str| {
        let place = names.iter().position(|known| *known == name)?;
        row.get(place).copied()
    };
    let evidence = read(
        field("STATE")?,
        field("BINLOG_FILE")?,
        field("BINLOG_POSITION")?,
        field("GTID_EXECUTED")?,
    );
    let ended = field("END_TIME").and_then(local_time);
    Some(evidence.map(|evidence| Evidence {
        local_time: ended,
        ..evidence
    }))
}

fn read(state: &str, file: &str, offset: &str, gtids: &str) -> Result<Evidence, (Tool, String)> {
    let fail = |reason: String| (Tool::Clone, reason);
    if state != "Completed" {
        return Err(fail(format!(
            "the clone is not complete: its state is {state}"
        )));
    }
    if file.is_empty() && gtids.trim().is_empty() {
        let reason =
            "the server has not started on the clone yet: only then it writes its position";
        return Err(fail(reason.to_owned()));
    }
    let mut coordinates = Coordinates::unknown(Tool::Clone);
    coordinates.position = position(file, offset).map_err(fail)?;
    coordinates.gtid_set = Some(gtid_set(gtids).map_err(|error| fail(error.to_string()))?);
    finish(coordinates, None)
}
