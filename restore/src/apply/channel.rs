//! The replication channel through which a server's own applier replays: it works in parallel and speaks no SQL.
//!
//! # Temporary tables
//! Those of sessions that wrote statements live as long as the channel. One that is removed too early takes them along:
//! what reads them fails (1146), and what drops them is passed over by the server, GTID and all.
//!
//! # After a crash
//! Whoever is killed leaves the channel to its applier, which ends with the plan, or with what it got. The next run stops
//! it before anything else, and goes on behind what was executed until then: as a replica with the same channel, and
//! otherwise with another, unless a temporary table is open.

use std::process::{Command, Stdio};

use engine::exit::Exit;
use engine::gtid::GtidSet;

use super::{LOOK_EVERY, Stopped, Task, Via, check};
use crate::plan::Plan;
use crate::progress::Progress;
pub(super) use crate::serve::report::CHANNEL;
use crate::server::{MYSQL, Row, Server, ServerError};

/// What the applier does when no relay log is left (`Replica_SQL_Running_State`).
const HAS_READ_ALL: &str = "has read all relay log";

/// What went wrong in a worker: the channel's own status only says that something did.
const WORKER_ERROR: &str = "SELECT LAST_ERROR_MESSAGE AS message FROM \
    performance_schema.replication_applier_status_by_worker WHERE CHANNEL_NAME = 'gtide' AND LAST_ERROR_NUMBER <> 0 \
    ORDER BY LAST_ERROR_TIMESTAMP LIMIT 1";

/// The transactions that workers have in hand.
const WORKS: &str = "SELECT WORKER_ID FROM performance_schema.replication_applier_status_by_worker \
    WHERE CHANNEL_NAME = 'gtide' AND APPLYING_TRANSACTION <> ''";

/// The manual, *Replication and Temporary Tables*: 0 where a replica may be stopped. The second name is the only one
/// before 8.0.26, and goes on beside the first.
const OPEN_TABLES: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Replica_open_temp_tables', 'Slave_open_temp_tables')";

/// The server's replication channel.
pub(super) struct Channel<'a> {
    server: &'a Server,
}

impl<'a> Channel<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        Self { server }
    }

    pub(super) async fn ask(&self, question: &str) -> Result<Vec<Row>, ServerError> {
        self.server.ask(question).await
    }

    async fn status(&self) -> Result<Option<Row>, ServerError> {
        let channels = self.ask("SHOW REPLICA STATUS").await?;
        let ours = |row: &Row| row.get("Channel_Name").is_some_and(|name| name == CHANNEL);
        Ok(channels.into_iter().find(ours))
    }

    /// Stops it. From here on nothing is applied.
    async fn stop(&self) -> Result<(), ServerError> {
        self.ask(&stop()).await.map(drop)
    }

    /// Removes it, and its files.
    async fn remove(&self) -> Result<(), ServerError> {
        let remove = format!("RESET REPLICA ALL FOR CHANNEL '{CHANNEL}'");
        self.ask(&remove).await.map(drop)
    }

    /// Whether its applier holds a temporary table.
    async fn has_open_tables(&self) -> Result<bool, ServerError> {
        let rows = self.ask(OPEN_TABLES).await?;
        Ok(rows
            .iter()
            .any(|row| row.get("Value").is_some_and(|count| count != "0")))
    }

    /// Stops what a run that was killed left behind; what was executed until then. It stays for `via` where that goes on
    /// with it, if there is more to do.
    ///
    /// # Errors
    /// When the server fails, or a temporary table would be lost.
    pub(super) async fn take_over(&self, via: Via, plan: &Plan) -> Result<GtidSet, Stopped> {
        self.stop().await?;
        let executed = self.server.executed().await?;
        if !check::missing(plan, &executed).is_empty() {
            if via == Via::Replication {
                return Ok(executed);
            }
            if self.has_open_tables().await? {
                return Err(tables_open());
            }
        }
        self.remove().await?;
        Ok(executed)
    }

    /// Ends a run. After an error, the channel stays while a temporary table is open: for the next run.
    pub(super) async fn end(&self, outcome: Result<(), Stopped>) -> Result<(), Stopped> {
        let ended = self.stop_and_remove(outcome.is_err()).await;
        outcome?;
        Ok(ended?)
    }

    async fn stop_and_remove(&self, goes_on: bool) -> Result<(), ServerError> {
        if self.status().await?.is_none() {
            return Ok(());
        }
        self.stop().await?;
        if goes_on && self.has_open_tables().await? {
            return Ok(());
        }
        self.remove().await
    }

    /// Stops the channel of a run that is interrupted.
    pub(super) fn stop_when_dropped(&self) -> StopWhenDropped {
        StopWhenDropped(self.server.clone())
    }

    /// Waits until the applier has done what it can of `wanted`.
    pub(super) async fn follow(
        &self,
        task: Task<'_>,
        wanted: &GtidSet,
        progress: &Progress,
    ) -> Result<(), Stopped> {
        let all = task.plan.adds.count();
        let mut before = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(status) = self.status().await? else {
                return Err(applier("the replication channel was removed"));
            };
            let field = |name: &str| status.get(name).map(String::as_str).unwrap_or_default();
            let error = field("Last_SQL_Error");
            if !error.is_empty() {
                return Err(applier(
                    &self.worker_error().await.unwrap_or(error.to_owned()),
                ));
            }
            let is_fed = field("Replica_IO_Running") != "No";
            let error = field("Last_IO_Error");
            if !is_fed && !error.is_empty() {
                return Err(receiver(error));
            }
            if field("Replica_SQL_Running") != "Yes" {
                return Ok(());
            }
            let executed = self.server.executed().await.ok();
            if let Some(executed) = &executed {
                let done = task.plan.adds.intersect(executed).count();
                progress.note(format!("{done} of {all} transactions"));
            }
            // Behind the last event it waits for more: whether all was executed, the server says itself.
            let has_read_all = field("Replica_SQL_Running_State").contains(HAS_READ_ALL);
            if let (true, Some(executed)) = (has_read_all, &executed) {
                let retrieved = field("Retrieved_Gtid_Set").replace('\n', "");
                let retrieved = self.server.gtids(&retrieved)?;
                let comes_more =
                    is_fed && !wanted.subtract(executed).subtract(&retrieved).is_empty();
                if !comes_more && before.as_ref() == Some(executed) && !self.works().await? {
                    return Ok(());
                }
            }
            before = executed;
        }
    }

    /// Whether a worker has a transaction in hand.
    async fn works(&self) -> Result<bool, ServerError> {
        let rows = self.ask(WORKS).await?;
        Ok(!rows.is_empty())
    }

    async fn worker_error(&self) -> Option<String> {
        let rows = self.server.ask(WORKER_ERROR).await.ok()?;
        rows.into_iter().next()?.remove("message")
    }
}

fn applier(message: &str) -> Stopped {
    Stopped {
        message: format!("the server's applier: {message}"),
        exit: Exit::Conflict,
        hint: Some(
            "the server's error log may say more; the same command goes on where it stopped"
                .to_owned(),
        ),
    }
}

fn stop() -> String {
    format!("STOP REPLICA FOR CHANNEL '{CHANNEL}'")
}

fn tables_open() -> Stopped {
    Stopped {
        message: format!(
            "a run that was stopped left the replication channel `{CHANNEL}`, and a temporary table is open in it"
        ),
        exit: Exit::Conflict,
        hint: Some(
            "only --via replication goes on with them; or begin anew with the base backup"
                .to_owned(),
        ),
    }
}

/// The server got no more: what it was told is why.
fn receiver(message: &str) -> Stopped {
    Stopped {
        message: format!("the server's receiver: {message}"),
        exit: Exit::Conflict,
        hint: Some(
            "check that the server reaches this machine at --listen; the same command goes on where it stopped"
                .to_owned(),
        ),
    }
}

pub(super) struct StopWhenDropped(Server);

impl StopWhenDropped {
    pub(super) fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = Command::new(MYSQL)
            .args(self.0.options())
            .arg("--execute")
            .arg(stop())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
