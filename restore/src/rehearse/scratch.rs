//! A server of one's own, for as long as a rehearsal takes.
//!
//! # Invariants
//! - It lives in a folder of its own, [`PREFIX`]…, that only this user may enter; it listens on a socket in there and
//!   nowhere else. The base is copied, never used itself.
//! - It dies with this program, however this program dies. The folder is removed with it, unless this program is killed
//!   by SIGKILL or the machine stops: then the folder is left, and nothing else.
//!
//! # Limits
//! The base is a data directory of a server that was shut down, with all that the server has in it: no tablespaces
//! elsewhere, no keyring. The folder takes a copy of it and what the plan adds.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use engine::durable_fs;
use engine::exit::{Diagnose, Exit};
use tempfile::TempDir;

use crate::server::{Address, Server};

/// What the folder's name begins with.
pub const PREFIX: &str = "gtide-rehearse-";

/// The user that the rehearsal logs in as. It has no password: nobody else gets to the socket.
const USER: &str = "gtide_rehearse";

/// The last one there is: an applier skips what bears its own server's, and nobody's files shall.
const SERVER_ID: &str = "--server-id=4294967295";

/// How often a server that starts is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Lines of the server's log that an error quotes.
const QUOTED_LINES: usize = 5;

/// What to start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's program.
    pub mysqld: PathBuf,
    /// Further options of it.
    pub options: Vec<String>,
    /// Where the folder is made.
    pub parent: PathBuf,
    /// The data directory to begin with a copy of; none for an empty server.
    pub base: Option<PathBuf>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The folder, or a file in it.
    #[error("{verb} {}", path.display())]
    Io {
        /// What was done.
        verb: &'static str,
        /// To which.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Not a data directory.
    #[error("{} is no data directory of a MySQL server: it has no mysql.ibd", path.display())]
    NoBase {
        /// What was named.
        path: PathBuf,
    },
    /// A program ended that should not have, or not so.
    #[error("{program}: {complaint}")]
    Ended {
        /// Which.
        program: String,
        /// How, or what it says.
        complaint: String,
    },
}

impl Diagnose for ScratchError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { verb: "run", .. } => {
                "install it and put it on PATH, or name it: --mysqld PATH"
            }
            Self::Io { .. } => {
                "check the folder, its free space and who may write there: --scratch DIR"
            }
            Self::NoBase { .. } => {
                "name a copy of the data directory of a server that was shut down"
            }
            Self::Ended { .. } => {
                "it must be of the base's series, and may need the options of the server that the base is of: \
                 --mysqld-option=--lower-case-table-names=1"
            }
        };
        Some(hint.to_owned())
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Scratch {
    server: Server,
    process: Child,
    /// Kills the server when its standard input ends, which is when this program dies.
    watchdog: Child,
    /// Last, so that it goes when nobody writes to it any more.
    _folder: TempDir,
}

impl Scratch {
    /// Makes the folder, and starts a server in it.
    ///
    /// # Errors
    /// When the base cannot be copied, or the server does not start.
    pub async fn start(settings: &Settings) -> Result<Self, ScratchError> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&settings.parent);
        let folder =
            folder.map_err(|source| io_error("make a folder in", &settings.parent, source))?;
        let place = Place {
            settings,
            folder: folder.path().to_owned(),
        };
        match &settings.base {
            Some(base) => place.copy(base).await?,
            None => place.initialise().await?,
        }
        let server = place.server()?;
        let process = place.spawn()?;
        let watchdog = watch(&process);
        let mut scratch = Self {
            server,
            process,
            watchdog: watchdog.map_err(|source| io_error("run", Path::new("sh"), source))?,
            _folder: folder,
        };
        scratch.ready(&place.log()).await?;
        Ok(scratch)
    }

    /// How it is reached.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until it answers, as long as it lives: recovery takes what it takes.
    async fn ready(&mut self, log: &Path) -> Result<(), ScratchError> {
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(ended("mysqld", &status.to_string(), log));
            }
            if self.server.ask("SELECT 1 AS one").await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The watchdog first, so that it cannot hit another process that gets the same id. Nothing that the server
        // has is wanted any more, so it need not shut down.
        for child in [&mut self.watchdog, &mut self.process] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The folder while it is filled.
struct Place<'a> {
    settings: &'a Settings,
    folder: PathBuf,
}

impl Place<'_> {
    fn datadir(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("mysqld.log")
    }

    async fn copy(&self, base: &Path) -> Result<(), ScratchError> {
        if !base.join("mysql.ibd").is_file() {
            return Err(ScratchError::NoBase {
                path: base.to_owned(),
            });
        }
        let mut copy = Command::new("cp");
        copy.args([
            "--recursive",
            "--preserve=mode,timestamps",
            "--reflink=auto",
            "--sparse=always",
        ])
        .arg(base)
        .arg(self.datadir());
        self.run(copy).await?;
        // The source's own identity: two servers with one would be taken for one.
        let identity = self.datadir().join("auto.cnf");
        if identity.exists() {
            durable_fs::remove(&identity)
                .map_err(|source| io_error("remove", &identity, source))?;
        }
        Ok(())
    }

    async fn initialise(&self) -> Result<(), ScratchError> {
        let mut mysqld = self.mysqld();
        mysqld.arg("--initialize-insecure");
        self.run(mysqld).await
    }

    /// Runs a program to its end.
    async fn run(&self, command: Command) -> Result<(), ScratchError> {
        let program = PathBuf::from(command.get_program());
        let mut command = tokio::process::Command::from(command);
        let output = command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        let output = output.map_err(|source| io_error("run", &program, source))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let how = format!("{}: {}", output.status, said.trim());
        Err(ended(&program.to_string_lossy(), &how, &self.log()))
    }

    fn mysqld(&self) -> Command {
        let mut command = Command::new(&self.settings.mysqld);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.datadir().display()))
            .arg(format!("--log-error={}", self.log().display()));
        if rustix::process::geteuid().is_root() {
            // Else it refuses. Nobody but root gets to its socket.
            command.arg("--user=root");
        }
        command.args(&self.settings.options);
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("mysqld.sock")
    }

    /// How clients log in; the user is made at the start.
    fn server(&self) -> Result<Server, ScratchError> {
        let write = |name: &str, text: &str| {
            let path = self.folder.join(name);
            let written = durable_fs::create_new(&path, text.as_bytes(), 0o600);
            written.map_err(|source| io_error("write", &path, source))?;
            Ok(path)
        };
        let user = format!("'{USER}'@'localhost'");
        let make = format!(
            "CREATE USER IF NOT EXISTS {user};\nGRANT ALL ON *.* TO {user} WITH GRANT OPTION;\n"
        );
        write("init.sql", &make)?;
        Ok(Server {
            address: Address::of_socket(USER, self.socket()),
            // A password in the usual option files would be another server's.
            defaults_file: Some(write("client.cnf", "[client]\n")?),
        })
    }

    /// Alone and quiet: no network, no events, no replication, nothing that was persisted, no binary log, and no
    /// durability that a scratch server has no use for.
    fn spawn(&self) -> Result<Child, ScratchError> {
        let mut command = self.mysqld();
        command
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!(
                "--pid-file={}",
                self.folder.join("mysqld.pid").display()
            ))
            .arg(format!(
                "--init-file={}",
                self.folder.join("init.sql").display()
            ))
            .args([
                "--skip-networking",
                SERVER_ID,
                "--loose-mysqlx=OFF",
                "--event-scheduler=OFF",
                "--skip-replica-start",
                "--persisted-globals-load=OFF",
                "--skip-log-bin",
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--max-allowed-packet=1G",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .args(&self.settings.options);
        let log = self.log();
        let output = File::options().create(true).append(true).open(&log);
        let output = output.map_err(|source| io_error("write", &log, source))?;
        let also = output
            .try_clone()
            .map_err(|source| io_error("write", &log, source))?;
        let spawned = command
            .stdin(Stdio::null())
            .stdout(also)
            .stderr(output)
            .spawn();
        spawned.map_err(|source| io_error("run", &self.settings.mysqld, source))
    }
}

/// A process that outlives this one for as long as it takes to kill the server.
fn watch(process: &Child) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", "cat; kill -9 \"$0\"", &process.id().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn io_error(verb: &'static str, path: &Path, source: io::Error) -> ScratchError {
    ScratchError::Io {
        verb,
        path: path.to_owned(),
        source,
    }
}

/// What a program that ended wrote to its log in the end.
fn ended(program: &str, how: &str, log: &Path) -> ScratchError {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("[ERROR]"))
        .collect();
    let quoted = errors
        .get(..QUOTED_LINES.min(errors.len()))
        .unwrap_or_default();
    ScratchError::Ended {
        program: program.to_owned(),
        complaint: [&[how.trim()], quoted].concat().join("; "),
    }
}
