//! The replication channel through which a server's own applier replays: it works in parallel and speaks no SQL.
//!
//! # After a crash
//! Whoever is killed leaves the channel to its applier, which ends with the plan, or with what it got; the next run
//! removes it before anything else and goes on behind what was executed until then.

use std::process::{Command, Stdio};

use engine::exit::Exit;

use super::{LOOK_EVERY, Stopped, Task};
use crate::progress::Progress;
pub(super) use crate::serve::report::CHANNEL;
use crate::server::{MYSQL, Row, Server, ServerError};

/// What the applier does when no relay log is left (`Replica_SQL_Running_State`).
const HAS_READ_ALL: &str = "has read all relay log";

/// What went wrong in a worker: the channel's own status only says that something did.
const WORKER_ERROR: &str = "SELECT LAST_ERROR_MESSAGE AS message FROM \
    performance_schema.replication_applier_status_by_worker WHERE CHANNEL_NAME = 'gtide' AND LAST_ERROR_NUMBER <> 0 \
    ORDER BY LAST_ERROR_TIMESTAMP LIMIT 1";

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

    /// Removes the channel and its files; whether there was one. From here on nothing is applied.
    pub(super) async fn remove(&self) -> Result<bool, ServerError> {
        if self.status().await?.is_none() {
            return Ok(false);
        }
        let remove = format!(
            "STOP REPLICA FOR CHANNEL '{CHANNEL}'; RESET REPLICA ALL FOR CHANNEL '{CHANNEL}'"
        );
        self.ask(&remove).await?;
        Ok(true)
    }

    /// Stops the channel of a run that is interrupted.
    pub(super) fn stop_when_dropped(&self) -> StopWhenDropped {
        StopWhenDropped(self.server.clone())
    }

    /// Waits for the applier's end.
    pub(super) async fn follow(&self, task: Task<'_>, progress: &Progress) -> Result<(), Stopped> {
        let all = task.plan.adds.count();
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
            let over = field("Replica_SQL_Running") != "Yes";
            // Behind the last file it waits for more: whether all was executed, the server says itself.
            if over || !is_fed && field("Replica_SQL_Running_State").contains(HAS_READ_ALL) {
                return Ok(());
            }
            if let Ok(executed) = self.server.executed().await {
                let done = task.plan.adds.intersect(&executed).count();
                progress.note(format!("{done} of {all} transactions"));
            }
        }
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
            .arg(format!("STOP REPLICA FOR CHANNEL '{CHANNEL}'"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
