//! mysqldump: the comments and statements before the first table.

use super::super::{Coordinates, Tool};
use super::{Parsed, finish, gtid_set, local_time, position};

/// `-- MySQL dump 10.13 …` and what follows. `GTID_PURGED` stands there as a statement or, by
/// `--set-gtid-purged=COMMENTED`, in a comment; the position by `--source-data` or `--master-data`.
pub(super) fn head(text: &str) -> Parsed {
    let first = text
        .lines()
        .find(|line| line.starts_with("-- MySQL dump "))?;
    let mut coordinates = Coordinates::unknown(Tool::Mysqldump);
    coordinates.tool_version = first
        .split_once("Distrib ")
        .and_then(|(_, version)| version.split([',', ' ']).next())
        .map(str::to_owned);
    coordinates.server_version = text
        .lines()
        .find_map(|line| line.strip_prefix("-- Server version"))
        .map(|version| version.trim().to_owned());
    Some(read(text, coordinates))
}

fn read(text: &str, mut coordinates: Coordinates) -> Result<super::Evidence, (Tool, String)> {
    let fail = |reason: String| (Tool::Mysqldump, reason);
    // Rows of a table may hold any text: what counts stands before the first table.
    let head = [
        "\n-- Table structure for",
        "\nCREATE TABLE ",
        "\nINSERT INTO ",
    ]
    .iter()
    .filter_map(|table| text.find(table))
    .min()
    .and_then(|end| text.get(..end))
    .unwrap_or(text);
    if let Some((_, statement)) = head.split_once("@@GLOBAL.GTID_PURGED=") {
        let set = purged(statement).ok_or_else(|| fail("GTID_PURGED is cut off".to_owned()))?;
        coordinates.gtid_set = Some(gtid_set(set).map_err(|error| fail(error.to_string()))?);
    }
    if let Some((file, offset)) = source(head) {
        coordinates.position = position(file, offset).map_err(fail)?;
    }
    let completed = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("-- Dump completed on "));
    finish(coordinates, completed.and_then(local_time))
}

/// The set in `/*!80000 '+'*/ 'uuid:1-5';` or `'+uuid:1-5';`, if all of it is there.
fn purged(statement: &str) -> Option<&str> {
    let statement = statement.trim_start();
    let quoted = statement
        .strip_prefix("/*!80000 '+'*/")
        .unwrap_or(statement);
    let mut parts = quoted.splitn(3, '\'');
    let (_, set, _behind) = (parts.next()?, parts.next()?, parts.next()?);
    Some(set.trim_start_matches('+'))
}

/// File and offset of `CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='…', SOURCE_LOG_POS=…;`, or with
/// the words of before 8.0.23.
fn source(head: &str) -> Option<(&str, &str)> {
    ["SOURCE_LOG_", "MASTER_LOG_"].iter().find_map(|word| {
        let (_, behind) = head.split_once(&format!("{word}FILE='"))?;
        let (file, behind) = behind.split_once('\'')?;
        let (_, offset) = behind.split_once(&format!("{word}POS="))?;
        let end = offset
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(offset.len());
        Some((file, offset.get(..end)?))
    })
}
