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

use engine::durable_fs;
use engine::exit::{Diagnose, Exit, chain};
use engine::gtid::GtidSet;
use tokio::io::AsyncWriteExt;

use super::channel::{CHANNEL, Channel};
use super::facts::Facts;
use super::{Stopped, Task, check};
use crate::object::Archive;
use crate::part::Part;
use crate::progress::Progress;
use crate::server::quoted;

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
    let channel = Channel::new(task.server);
    logs.write(task.archive, parts, progress).await?;
    let wanted = check::missing(task.plan, &facts.executed);
    let guard = channel.stop_when_dropped();
    let outcome = match start(&channel, &logs, &wanted).await {
        Ok(()) => channel.follow(task, &wanted, progress).await,
        Err(stopped) => Err(stopped),
    };
    let outcome = channel.end(outcome).await;
    guard.disarm();
    outcome
}

/// Makes the channel at the first file, and starts its applier.
async fn start(channel: &Channel<'_>, logs: &RelayLogs, wanted: &GtidSet) -> Result<(), Stopped> {
    let first = logs.log(1);
    let first = first.file_name().unwrap_or_default().to_string_lossy();
    let first = quoted(&first);
    let make = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{CHANNEL}', RELAY_LOG_FILE = {first}, RELAY_LOG_POS = 4 \
         FOR CHANNEL '{CHANNEL}'"
    );
    channel.ask(&make).await?;
    let start = format!(
        "START REPLICA SQL_THREAD UNTIL SQL_AFTER_GTIDS = '{wanted}' FOR CHANNEL '{CHANNEL}'"
    );
    channel.ask(&start).await?;
    Ok(())
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
