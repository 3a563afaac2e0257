//! The server's durability while a plan is replayed: relaxed on request, and afterwards what it was.
//!
//! Nothing is lost by it that the archive does not have: a server that crashes in between is restored anew.
//!
//! # After a crash
//! Whoever is killed leaves the server relaxed; the statement that mends it was shown at the beginning. The next run takes
//! what it finds for what it was, and says so.

use std::process::{Command, Stdio};

use engine::exit::{Diagnose, chain};

use super::Stopped;
use crate::server::{MYSQL, Server, ServerError};

const ASK: &str =
    "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit AS flush, @@GLOBAL.sync_binlog AS sync";

/// Logs are written at each commit and synced once a second, binary logs whenever the system likes to.
const RELAX: &str = "SET GLOBAL innodb_flush_log_at_trx_commit = 2, GLOBAL sync_binlog = 0";

/// A server that was relaxed. It is made what it was when this is dropped.
pub(super) struct Relaxed<'a> {
    server: &'a Server,
    restore: String,
    is_over: bool,
}

impl<'a> Relaxed<'a> {
    pub(super) async fn begin(server: &'a Server) -> Result<Self, Stopped> {
        let flush = server
            .value(ASK, "flush")
            .await
            .map_err(|error| stopped(&error))?;
        let sync = server
            .value(ASK, "sync")
            .await
            .map_err(|error| stopped(&error))?;
        server.ask(RELAX).await.map_err(|error| stopped(&error))?;
        tracing::warn!("{}", told(&flush, &sync));
        // What was written meanwhile is synced before anyone relies on it.
        let restore = format!(
            "{}; FLUSH BINARY LOGS; FLUSH ENGINE LOGS",
            set(&flush, &sync)
        );
        Ok(Self {
            server,
            restore,
            is_over: false,
        })
    }

    /// Makes it what it was.
    pub(super) async fn end(mut self) -> Result<(), Stopped> {
        self.is_over = true;
        let restored = self.server.ask(&self.restore).await;
        restored.map(drop).map_err(|error| stopped(&error))
    }
}

impl Drop for Relaxed<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Nobody is left to be told.
        let _ = Command::new(MYSQL)
            .args(self.server.options())
            .args(["--execute", &self.restore])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn set(flush: &str, sync: &str) -> String {
    format!("SET GLOBAL innodb_flush_log_at_trx_commit = {flush}, GLOBAL sync_binlog = {sync}")
}

/// For whoever finds the server after this program was killed.
fn told(flush: &str, sync: &str) -> String {
    if set(flush, sync) == RELAX {
        let mend = set("1", "1");
        return format!(
            "the server's durability is relaxed already, perhaps by an apply that was killed, and is left so; afterwards: {mend}"
        );
    }
    let mend = set(flush, sync);
    format!("the server's durability is relaxed until the end; should this be killed: {mend}")
}

fn stopped(error: &ServerError) -> Stopped {
    Stopped {
        message: chain(error),
        exit: error.exit(),
        hint: error.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_it_was_is_told_and_what_was_left_relaxed_too() {
        let told_before = told("1", "1000");
        assert!(told_before.ends_with(
            "should this be killed: SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1000"
        ));
        let left = told("2", "0");
        assert!(left.contains("relaxed already") && left.ends_with("GLOBAL sync_binlog = 1"));
    }
}
