//! The plan as relay logs: its files in the server's own folder, replayed by the server's own applier,
//! which works in parallel and speaks no SQL.
//!
//! # How
//! The files are written under the names that a replication channel gives its relay logs; then the
//! channel is made, at the first of them, and its applier started until the plan's transactions. No
//! server is ever connected to. When the applier stops, the channel is removed, and its files with it.
//!
//! # Limits
//! The folder takes all files of the plan at once. It must be on this machine, and writable. Whoever is
//! killed leaves the channel to its applier, which ends with the plan; the next run removes it.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine::durable_fs;
use engine::exit::{Diagnose, Exit, chain};
use engine::gtid::GtidSet;
use tokio::io::AsyncWriteExt;

use super::facts::Facts;
use super::{LOOK_EVERY, Stopped, Task, check};
use crate::object::Archive;
use crate::part::Part;
use crate::progress::Progress;
use crate::server::{MYSQL, Row, Server, quoted};

/// The replication channel.
pub(super) const CHANNEL: &str = "gtide";

/// What the applier does when no relay log is left (`Replica_SQL_Running_State`).
const HAS_READ_ALL: &str = "has read all relay log";

/// Replays `parts`.
///
/// # Errors
/// When the archive, the folder or the server ends it.
pub(super) async fn run(
    task: Task<'_>,
    facts: &Facts,
    parts: &[Part],
    progress: &Progress,
) -> Result<(), Stopped> {
    let logs = RelayLogs {
        prefix: facts.relay_log.clone(),
    };
    let channel = Channel {
        server: task.server,
    };
    channel.remove().await?;
    logs.write(task.archive, parts, progress).await?;
    let wanted = check::missing(task.plan, &facts.executed);
    let guard = StopWhenDropped(task.server.clone());
    let outcome = match channel.start(&logs, &wanted).await {
        Ok(()) => channel.follow(task, progress).await,
        Err(stopped) => Err(stopped),
    };
    let removed = channel.remove().await;
    guard.disarm();
    outcome.and(removed)
}

/// The names of the channel's files.
struct RelayLogs {
    /// `relay_log_basename`.
    prefix: PathBuf,
}

impl RelayLogs {
    fn path(&self, extension: &str) -> PathBuf {
        let mut path = self.prefix.clone().into_os_string();
        path.push(format!("-{CHANNEL}.{extension}"));
        path.into()
    }

    fn log(&self, number: usize) -> PathBuf {
        self.path(&format!("{number:06}"))
    }

    async fn write(
        &self,
        archive: &Archive,
        parts: &[Part],
        progress: &Progress,
    ) -> Result<(), Stopped> {
        let folder = durable_fs::parent_of(&self.prefix);
        let owner = folder
            .metadata()
            .map_err(|error| unwritable(folder, &error))?;
        let mut index = String::new();
        for (number, part) in (1..).zip(parts) {
            let path = self.log(number);
            self.write_log(archive, part, &path, progress).await?;
            chown(&path, Some(owner.uid()), Some(owner.gid()))
                .map_err(|error| unwritable(&path, &error))?;
            let _ = writeln!(index, "{}", path.display());
        }
        let path = self.path("index");
        let written = durable_fs::replace(&path, index.as_bytes())
            .and_then(|()| chown(&path, Some(owner.uid()), Some(owner.gid())));
        written.map_err(|error| unwritable(&path, &error))
    }

    async fn write_log(
        &self,
        archive: &Archive,
        part: &Part,
        path: &Path,
        progress: &Progress,
    ) -> Result<(), Stopped> {
        let mut blocks = archive.prefetch_part(part);
        let file = tokio::fs::File::create(path).await;
        let mut file = file.map_err(|error| unwritable(path, &error))?;
        loop {
            let block = blocks.next().await.map_err(|error| Stopped {
                message: chain(&error),
                exit: error.exit(),
                hint: error.hint(),
            })?;
            let Some(block) = block else { break };
            let written = file.write_all(&block).await;
            written.map_err(|error| unwritable(path, &error))?;
            progress.add(block.len() as u64);
        }
        let flushed = file.flush().await;
        flushed.map_err(|error| unwritable(path, &error))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Stopped {
    Stopped {
        message: format!("write {}: {error}", path.display()),
        exit: Exit::Usage,
        hint: Some(
            "run it on the server's machine, as a user that may write to its relay logs' folder"
                .to_owned(),
        ),
    }
}

/// The server's replication channel.
struct Channel<'a> {
    server: &'a Server,
}

impl Channel<'_> {
    async fn ask(&self, question: &str) -> Result<Vec<Row>, Stopped> {
        self.server.ask(question).await.map_err(|error| Stopped {
            message: chain(&error),
            exit: error.exit(),
            hint: error.hint(),
        })
    }

    async fn status(&self) -> Result<Option<Row>, Stopped> {
        let channels = self.ask("SHOW REPLICA STATUS").await?;
        let ours = |row: &Row| row.get("Channel_Name").is_some_and(|name| name == CHANNEL);
        Ok(channels.into_iter().find(ours))
    }

    /// Removes the channel and its files, if there is one.
    async fn remove(&self) -> Result<(), Stopped> {
        if self.status().await?.is_none() {
            return Ok(());
        }
        let remove = format!(
            "STOP REPLICA FOR CHANNEL '{CHANNEL}'; RESET REPLICA ALL FOR CHANNEL '{CHANNEL}'"
        );
        self.ask(&remove).await.map(drop)
    }

    /// Makes the channel at the first file, and starts its applier.
    async fn start(&self, logs: &RelayLogs, wanted: &GtidSet) -> Result<(), Stopped> {
        let first = logs.log(1);
        let first = first.file_name().unwrap_or_default().to_string_lossy();
        let first = quoted(&first);
        let make = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{CHANNEL}', RELAY_LOG_FILE = {first}, RELAY_LOG_POS = 4 \
             FOR CHANNEL '{CHANNEL}'"
        );
        self.ask(&make).await?;
        let start = format!(
            "START REPLICA SQL_THREAD UNTIL SQL_AFTER_GTIDS = '{wanted}' FOR CHANNEL '{CHANNEL}'"
        );
        self.ask(&start).await.map(drop)
    }

    /// Waits for the applier's end.
    async fn follow(&self, task: Task<'_>, progress: &Progress) -> Result<(), Stopped> {
        let all = task.plan.adds.count();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(status) = self.status().await? else {
                return Err(applier("the replication channel was removed"));
            };
            let field = |name: &str| status.get(name).map(String::as_str).unwrap_or_default();
            let error = field("Last_SQL_Error");
            if !error.is_empty() {
                return Err(applier(error));
            }
            let over = field("Replica_SQL_Running") != "Yes";
            // Behind the last file it waits for more: whether all was executed, the server says itself.
            if over || field("Replica_SQL_Running_State").contains(HAS_READ_ALL) {
                return Ok(());
            }
            if let Ok(executed) = self.server.executed().await {
                let done = task.plan.adds.intersect(&executed).count();
                progress.note(format!("{done} of {all} transactions"));
            }
        }
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

/// Stops the applier of a run that is interrupted.
struct StopWhenDropped(Server);

impl StopWhenDropped {
    fn disarm(self) {
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
