//! A MySQL server to restore into, asked through MySQL's own client `mysql`.
//!
//! The client is needed anyway to replay a plan; and it knows every way to reach a server that its users know.
//!
//! # Invariants
//! - No secret is on a command line: passwords come from the client's option files.
//! - A child dies with the future that waits for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use engine::exit::{Diagnose, Exit};
use engine::gtid::{GtidError, GtidSet};
use tokio::process::Command;

pub use engine::server_address::{Address, AddressError};

/// The client.
pub const MYSQL: &str = "mysql";

/// Errors of the client itself, not of the server, begin here (`CR_MIN_ERROR` in the server's `include/errmsg.h`).
const FIRST_CLIENT_ERROR: u16 = 2000;

/// And end here (`CR_MAX_ERROR`).
const LAST_CLIENT_ERROR: u16 = 2999;

/// A server, and how its clients log in.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// The one option file that clients read, instead of their usual ones.
    pub defaults_file: Option<PathBuf>,
}

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A program could not be started.
    #[error("run {program}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client ended with an error.
    #[error("{address}: {complaint}")]
    Client {
        /// Which server.
        address: String,
        /// What it says.
        complaint: String,
    },
    /// The answer is not what was asked for.
    #[error("{address}: no {column} in the answer to {question}")]
    Answer {
        /// Which server.
        address: String,
        /// What was asked.
        question: String,
        /// What is missing in the answer.
        column: String,
    },
    /// A GTID set that cannot be read.
    #[error("{address}")]
    Gtids {
        /// Which server.
        address: String,
        /// Why.
        #[source]
        source: GtidError,
    },
}

impl Diagnose for ServerError {
    fn exit(&self) -> Exit {
        match self {
            Self::Spawn { .. } => Exit::Usage,
            Self::Client { complaint, .. } => exit_of(complaint),
            Self::Answer { .. } | Self::Gtids { .. } => Exit::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Spawn { .. } => {
                "install MySQL's own clients, mysql and mysqlbinlog, and put them on PATH"
            }
            Self::Client { complaint, .. } if exit_of(complaint) == Exit::Transient => {
                "check that the server runs and that --target names it"
            }
            Self::Client { .. } => {
                "check user and grants; the password belongs into an option file: --defaults-file, or ~/.my.cnf"
            }
            Self::Answer { .. } | Self::Gtids { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// The number in a client's complaint: `ERROR 1062 (23000) at line 5: …`.
pub fn error_number(complaint: &str) -> Option<u16> {
    let (_, rest) = complaint.split_once("ERROR ")?;
    rest.split(' ').next()?.parse().ok()
}

/// What a complaint means: a server that is not reached may be later; one that refuses will again.
pub fn exit_of(complaint: &str) -> Exit {
    match error_number(complaint) {
        Some(FIRST_CLIENT_ERROR..=LAST_CLIENT_ERROR) => Exit::Transient,
        Some(_) => Exit::Conflict,
        None => Exit::Usage,
    }
}

/// A row of an answer: values by the names of their columns.
pub type Row = BTreeMap<String, String>;

impl Server {
    /// The client's options that reach this server. An option file comes first: the client wants it so.
    pub fn options(&self) -> Vec<OsString> {
        let mut options = Vec::new();
        if let Some(file) = &self.defaults_file {
            let mut option = OsString::from("--defaults-file=");
            option.push(file);
            options.push(option);
        }
        options.extend(self.address.options().into_iter().map(OsString::from));
        options
    }

    /// The rows that the server answers with.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses.
    pub async fn ask(&self, question: &str) -> Result<Vec<Row>, ServerError> {
        let output = Command::new(MYSQL)
            .args(self.options())
            .args(["--batch", "--execute", question])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| ServerError::Spawn {
                program: MYSQL.to_owned(),
                source,
            })?;
        if !output.status.success() {
            return Err(ServerError::Client {
                address: self.address.to_string(),
                complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(rows(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The one value that the server answers with.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when there is no such column in the answer's first row.
    pub async fn value(&self, question: &str, column: &str) -> Result<String, ServerError> {
        let rows = self.ask(question).await?;
        let value = rows
            .into_iter()
            .next()
            .and_then(|mut row| row.remove(column));
        value.ok_or_else(|| ServerError::Answer {
            address: self.address.to_string(),
            question: question.to_owned(),
            column: column.to_owned(),
        })
    }

    /// `gtid_executed`.
    ///
    /// # Errors
    /// As [`value`](Self::value), and when it is no GTID set.
    pub async fn executed(&self) -> Result<GtidSet, ServerError> {
        let question = "SELECT REPLACE(@@GLOBAL.gtid_executed, CHAR(10), '') AS executed";
        self.gtids(&self.value(question, "executed").await?)
    }

    /// A GTID set of an answer.
    ///
    /// # Errors
    /// When it is none.
    pub fn gtids(&self, text: &str) -> Result<GtidSet, ServerError> {
        text.parse().map_err(|source| ServerError::Gtids {
            address: self.address.to_string(),
            source,
        })
    }
}

/// Text as a literal of SQL.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The client's batch output: a line of names, then a line for each row, fields between tabs.
fn rows(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let row = |line: &str| {
        let values = line.split('\t').map(str::to_owned);
        names
            .iter()
            .map(|&name| name.to_owned())
            .zip(values)
            .collect()
    };
    lines.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_rows_of_named_values() {
        let rows = rows("a\tb\n1\t\n2\tx y\n");
        let values: Vec<&str> = rows.iter().map(|row| row["b"].as_str()).collect();
        assert_eq!(values, ["", "x y"]);
        assert!(super::rows("").is_empty());
    }

    #[test]
    fn a_server_that_is_not_reached_may_be_later_and_one_that_refuses_will_again() {
        for (complaint, exit) in [
            (
                "ERROR 2002 (HY000): Can't connect to local MySQL server",
                Exit::Transient,
            ),
            (
                "ERROR 1062 (23000) at line 12: Duplicate entry",
                Exit::Conflict,
            ),
            ("mysql: [ERROR] unknown option '--nope'.", Exit::Usage),
        ] {
            assert_eq!(exit_of(complaint), exit, "{complaint}");
        }
    }
}
