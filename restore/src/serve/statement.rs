//! The few statements that replicas and `mysqlbinlog` 5.7 to 9.x send before they ask for events, and those with which
//! a person looks at a source. Pure.
//!
//! Words are compared as the server compares them: case and blanks do not count.

use std::time::Duration;

use engine::binlog::ChecksumAlgorithm;

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// `SELECT` of expressions.
    Select(Vec<Selected>),
    /// `SET` of what this connection wants.
    Set(Vec<Setting>),
    /// `SHOW BINARY LOGS`.
    BinaryLogs,
    /// `SHOW BINARY LOG STATUS`.
    BinaryLogStatus,
    /// `SHOW VARIABLES LIKE '…'`, with a plain name.
    Variable(String),
    /// Anything else.
    Other,
}

/// An expression, under the name that its column has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selected {
    /// As it was written.
    pub(super) column: String,
    /// What it is.
    pub(super) value: Expression,
}

/// What is selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// `VERSION()`.
    Version,
    /// `UNIX_TIMESTAMP()`.
    Time,
    /// A number.
    Number(u64),
    /// `@name`, in lower case.
    User(String),
    /// `@@GLOBAL.name`, in lower case.
    System(String),
}

/// What a connection may set. All else that it sets has no effect here, and is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// The checksum that it understands.
    Checksum(ChecksumAlgorithm),
    /// How often it wants to hear that nothing happened; none for never.
    Heartbeat(Option<Duration>),
    /// Something else of its own.
    Other,
}

impl Statement {
    /// Reads a statement.
    pub(super) fn parse(text: &str) -> Self {
        let words: Vec<&str> = text
            .trim()
            .trim_end_matches(';')
            .split_whitespace()
            .collect();
        let text = words.join(" ");
        let Some((verb, rest)) = text.split_once(' ') else {
            return Self::Other;
        };
        match verb.to_ascii_lowercase().as_str() {
            "select" => select(rest).map_or(Self::Other, Self::Select),
            "set" => set(rest).map_or(Self::Other, Self::Set),
            "show" => show(&rest.to_ascii_lowercase()),
            _ => Self::Other,
        }
    }
}

fn select(list: &str) -> Option<Vec<Selected>> {
    let lower = list.to_ascii_lowercase();
    let end = lower.strip_suffix(" limit 1").map_or(list.len(), str::len);
    let list = list.get(..end)?;
    list.split(',').map(selected).collect()
}

fn selected(item: &str) -> Option<Selected> {
    let item = item.trim();
    let lower = item.to_ascii_lowercase();
    let (expression, column) = match lower.find(" as ") {
        Some(at) => (lower.get(..at)?, item.get(at + 4..)?),
        None => (lower.as_str(), item),
    };
    Some(Selected {
        column: column.trim_matches(['`', '\'', '"']).to_owned(),
        value: self::expression(expression)?,
    })
}

fn expression(text: &str) -> Option<Expression> {
    if let Some(variable) = text.strip_prefix("@@") {
        let name = variable
            .strip_prefix("global.")
            .or(variable.strip_prefix("session."));
        return Some(Expression::System(word(name.unwrap_or(variable))?));
    }
    if let Some(variable) = text.strip_prefix('@') {
        return Some(Expression::User(word(variable)?));
    }
    match text {
        "version()" => Some(Expression::Version),
        "unix_timestamp()" => Some(Expression::Time),
        number => number.parse().ok().map(Expression::Number),
    }
}

fn word(text: &str) -> Option<String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_word && !text.is_empty()).then(|| text.to_owned())
}

/// Assignments to a connection's own variables, and how it writes text: nothing that another one would notice.
fn set(list: &str) -> Option<Vec<Setting>> {
    let lower = list.to_ascii_lowercase();
    if lower.starts_with("names ") || lower.starts_with("character set ") {
        return Some(vec![Setting::Other]);
    }
    lower.split(',').map(setting).collect()
}

fn setting(assignment: &str) -> Option<Setting> {
    let (name, value) = assignment.split_once('=')?;
    let name = name.trim().trim_end_matches(':').trim_end();
    let value = value.trim().trim_matches(['\'', '"']);
    let name = word(name.strip_prefix('@')?)?;
    Some(match name.as_str() {
        "source_binlog_checksum" | "master_binlog_checksum" => match value {
            "none" => Setting::Checksum(ChecksumAlgorithm::None),
            // What binlog_checksum is here: a client asks for it by this name.
            "crc32" | "@@global.binlog_checksum" => Setting::Checksum(ChecksumAlgorithm::Crc32),
            _ => return None,
        },
        "source_heartbeat_period" | "master_heartbeat_period" => {
            let nanoseconds: u64 = value.parse().ok()?;
            let period = Duration::from_nanos(nanoseconds);
            Setting::Heartbeat((!period.is_zero()).then_some(period))
        }
        _ => Setting::Other,
    })
}

fn show(what: &str) -> Statement {
    match what {
        "binary logs" | "master logs" => Statement::BinaryLogs,
        "binary log status" | "master status" => Statement::BinaryLogStatus,
        _ => {
            let what = what.strip_prefix("global ").unwrap_or(what);
            let name = what.strip_prefix("variables like ");
            let name = name.and_then(|name| word(name.trim_matches(['\'', '"'])));
            name.map_or(Statement::Other, Statement::Variable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Expression {
        let Statement::Select(mut selected) = Statement::parse(text) else {
            panic!("{text} is no SELECT");
        };
        assert_eq!(selected.len(), 1);
        selected.remove(0).value
    }

    /// Recorded from replicas and mysqlbinlog of 8.0 to 9.7.
    #[test]
    fn what_replicas_ask_is_understood() {
        let system = |name: &str| Expression::System(name.to_owned());
        assert_eq!(one("SELECT UNIX_TIMESTAMP()"), Expression::Time);
        assert_eq!(one("SELECT VERSION()"), Expression::Version);
        assert_eq!(one("SELECT @@GLOBAL.SERVER_ID"), system("server_id"));
        assert_eq!(one("SELECT @@GLOBAL.SERVER_UUID"), system("server_uuid"));
        assert_eq!(one("SELECT @@GLOBAL.GTID_MODE"), system("gtid_mode"));
        assert_eq!(
            one("select @@version_comment limit 1"),
            system("version_comment")
        );
        let user = Expression::User("source_binlog_checksum".to_owned());
        assert_eq!(one("SELECT @source_binlog_checksum"), user);
    }

    #[test]
    fn what_replicas_set_is_understood() {
        let set = |text: &str| Statement::parse(text);
        let both = |setting| Statement::Set(vec![setting, setting]);
        assert_eq!(
            set(
                "SET @master_heartbeat_period = 30000001024, @source_heartbeat_period = 30000001024"
            ),
            both(Setting::Heartbeat(Some(Duration::from_nanos(
                30_000_001_024
            ))))
        );
        assert_eq!(
            set(
                "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum"
            ),
            both(Setting::Checksum(ChecksumAlgorithm::Crc32))
        );
        assert_eq!(
            set("SET @master_binlog_checksum='NONE', @source_binlog_checksum='NONE'"),
            both(Setting::Checksum(ChecksumAlgorithm::None))
        );
        assert_eq!(
            set("SET @slave_uuid = '5e4a…', @replica_uuid = '5e4a…'"),
            both(Setting::Other)
        );
    }

    #[test]
    fn nothing_that_changes_a_server_is_understood() {
        for text in [
            "SET GLOBAL read_only = 1",
            "SET @@GLOBAL.read_only = 1",
            "SET PERSIST x = 1",
            "DROP TABLE t",
            "SELECT * FROM mysql.user",
            "SELECT SLEEP(10)",
            "FLUSH BINARY LOGS",
            "",
            ";",
        ] {
            assert_eq!(Statement::parse(text), Statement::Other, "{text}");
        }
    }

    #[test]
    fn a_person_may_look() {
        assert_eq!(
            Statement::parse("show  master\nlogs;"),
            Statement::BinaryLogs
        );
        assert_eq!(
            Statement::parse("SHOW BINARY LOG STATUS"),
            Statement::BinaryLogStatus
        );
        let variable = Statement::Variable("server_uuid".to_owned());
        assert_eq!(
            Statement::parse("SHOW VARIABLES LIKE 'SERVER_UUID'"),
            variable
        );
    }
}
