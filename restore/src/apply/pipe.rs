//! The plan as a stream: `cat` in this process, into mysqlbinlog, into mysql. No file is written.

use std::process::{ExitStatus, Stdio};

use engine::exit::{Diagnose, Exit, chain};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::facts::MYSQLBINLOG;
use super::{Stopped, Task, watch};
use crate::cat::{self, CatError};
use crate::part::Part;
use crate::progress::Progress;
use crate::server::{self, MYSQL};

/// Bytes of a child's complaints that are kept: its last ones.
const MAX_COMPLAINT: usize = 16 * 1024;

/// Replays `parts`.
///
/// # Errors
/// When the archive, a client or the server ends it.
pub(super) async fn run(
    task: Task<'_>,
    parts: &[Part],
    progress: &Progress,
) -> Result<(), Stopped> {
    let mut clients = Pair::start(task)?;
    let Some(mut stdin) = clients.stdin.take() else {
        return Err(unexpected("mysqlbinlog has no standard input"));
    };
    let replay = async {
        let fed = cat::cat(task.archive, parts, &mut stdin, progress).await;
        match fed {
            Ok(()) | Err(CatError::Closed) => drop(stdin),
            // What was begun must not look like an end: no client lives to see the stream's.
            Err(_) => clients.kill(),
        }
        let ended = clients.end().await;
        match fed {
            Ok(()) | Err(CatError::Closed) => ended,
            Err(error) => Err(Stopped {
                message: chain(&error),
                exit: error.exit(),
                hint: error.hint(),
            }),
        }
    };
    tokio::select! {
        ended = replay => ended,
        never = watch(task, progress) => match never {},
    }
}

/// mysqlbinlog and mysql, joined. They die when this is dropped.
struct Pair {
    stdin: Option<ChildStdin>,
    mysqlbinlog: Client,
    mysql: Client,
}

struct Client {
    program: &'static str,
    child: Child,
    complaint: JoinHandle<String>,
}

impl Pair {
    fn start(task: Task<'_>) -> Result<Self, Stopped> {
        let mut decode = Command::new(MYSQLBINLOG);
        decode.arg("--no-defaults").env("TZ", "UTC");
        if !task.plan.skip.is_empty() {
            decode.arg(format!("--exclude-gtids={}", task.plan.skip));
        }
        decode.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut mysqlbinlog = Client::start(MYSQLBINLOG, decode)?;
        let sql = mysqlbinlog.child.stdout.take();
        let sql = sql.and_then(|sql| sql.into_owned_fd().ok());
        let sql = sql.ok_or_else(|| unexpected("mysqlbinlog has no standard output"))?;
        let mut execute = Command::new(MYSQL);
        execute
            .args(task.server.options())
            .arg("--binary-mode")
            .stdin(sql)
            .stdout(Stdio::null());
        Ok(Self {
            stdin: mysqlbinlog.child.stdin.take(),
            mysqlbinlog,
            mysql: Client::start(MYSQL, execute)?,
        })
    }

    fn kill(&mut self) {
        for client in [&mut self.mysql, &mut self.mysqlbinlog] {
            // It may have ended by itself.
            let _ = client.child.start_kill();
        }
    }

    /// Waits for both. When mysql fails, mysqlbinlog does too, for want of a reader: the one who ended it is asked.
    async fn end(&mut self) -> Result<(), Stopped> {
        let mysql = self.mysql.end().await;
        let mysqlbinlog = self.mysqlbinlog.end().await;
        mysql.and(mysqlbinlog)
    }
}

impl Client {
    fn start(program: &'static str, mut command: Command) -> Result<Self, Stopped> {
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| Stopped {
            message: format!("run {program}: {error}"),
            exit: Exit::Usage,
            hint: None,
        })?;
        let complaint = match child.stderr.take() {
            Some(stderr) => tokio::spawn(tail(stderr)),
            None => return Err(unexpected("a client has no standard error")),
        };
        Ok(Self {
            program,
            child,
            complaint,
        })
    }

    async fn end(&mut self) -> Result<(), Stopped> {
        let program = self.program;
        let status = self.child.wait().await;
        let status = status.map_err(|error| unexpected(&format!("wait for {program}: {error}")))?;
        let complaint = (&mut self.complaint).await.unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        Err(stopped(program, status, complaint.trim()))
    }
}

fn stopped(program: &str, status: ExitStatus, complaint: &str) -> Stopped {
    if complaint.is_empty() {
        return Stopped {
            message: format!("{program} ended with {status}"),
            exit: Exit::Unexpected,
            hint: None,
        };
    }
    let exit = server::exit_of(complaint);
    let hint = match exit {
        Exit::Transient => {
            "when the server is there again, the same command goes on where it stopped"
        }
        Exit::Conflict => {
            "the server's data is not what the source's was: look at the transaction with `cat` and mysqlbinlog --verbose; the same command goes on where it stopped"
        }
        _ => "look at the client's words; the same command goes on where it stopped",
    };
    Stopped {
        message: format!("{program}: {complaint}"),
        exit,
        hint: Some(hint.to_owned()),
    }
}

fn unexpected(message: &str) -> Stopped {
    Stopped {
        message: message.to_owned(),
        exit: Exit::Unexpected,
        hint: None,
    }
}

/// Reads to the end, and keeps the last bytes.
async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    while let Ok(1..) = from.read_buf(&mut kept).await {
        let surplus = kept.len().saturating_sub(MAX_COMPLAINT);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
