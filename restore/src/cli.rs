//! The command line of `gtide-restore`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use engine::config::{self, ReaderConfig};
use engine::exit::{self, Diagnose, Exit, Failure};
use engine::keyring::Keyring;
use engine::layout::{ClusterName, Sequence};
use engine::terminal::{LogFor, Terminal};
use futures::TryStreamExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::cat::{self, CatError};
use crate::destination::Destination;
use crate::entries;
use crate::fetch;
use crate::ls;
use crate::object::Archive;
use crate::output::{self, Report};
use crate::range::SequenceRange;
use crate::selection::{Selection, Selector};
use crate::source::{SourceFilter, SourceName};
use crate::verify::{self, Scope};

/// Reads an archive of MySQL binary logs: lists it, judges it, and gives the files back.
#[derive(Debug, Parser)]
#[command(name = "gtide-restore", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 unexpected, 2 usage or configuration, 3 gap, \
    4 corruption or authentication, 5 conflict, 6 transient: try again, 130 interrupted"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
struct Global {
    /// The configuration [default: ./gtide.toml, then /etc/gtide/gtide.toml]
    #[arg(long, global = true, value_name = "FILE", env = "GTIDE_CONFIG")]
    config: Option<PathBuf>,
    /// One of the configured destinations [default: the first]
    #[arg(long, global = true, value_name = "URL", env = "GTIDE_DESTINATION")]
    destination: Option<String>,
    /// Only this cluster's sources
    #[arg(long, global = true, value_name = "NAME", env = "GTIDE_CLUSTER")]
    cluster: Option<ClusterName>,
    /// Only this source: its uuid as `ls` prints it, or the beginning of it, and perhaps /INCARNATION
    #[arg(long, global = true, value_name = "SOURCE", env = "GTIDE_SOURCE")]
    source: Option<SourceName>,
    #[command(flatten)]
    terminal: Terminal,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is archived: files, GTIDs, times, gaps
    Ls {
        /// Show every file too
        #[arg(long)]
        files: bool,
    },
    /// Write binary logs to stdout as one stream, for `mysqlbinlog -`
    Cat(Selected),
    /// Write binary logs to a directory, under their own names
    Fetch {
        /// Where to; files that are there already are not fetched again
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        #[command(flatten)]
        selected: Selected,
    },
    /// Read everything back and judge it
    Verify(Range),
}

/// Which files.
#[derive(Debug, Args)]
struct Range {
    /// The first sequence, as in binlog.000042 [default: the archive's first]
    #[arg(long, value_name = "N", value_parser = sequence)]
    from_seq: Option<Sequence>,
    /// The last sequence, itself included [default: the archive's last]
    #[arg(long, value_name = "N", value_parser = sequence)]
    to_seq: Option<Sequence>,
}

/// Which files, and in which state.
#[derive(Debug, Args)]
struct Selected {
    #[command(flatten)]
    range: Range,
    /// Take files that were damaged before they were archived, byte for byte
    #[arg(long)]
    accept_damage: bool,
}

fn sequence(text: &str) -> Result<Sequence, String> {
    match text.parse().map(Sequence) {
        Ok(sequence) if (Sequence(1)..=Sequence::MAX).contains(&sequence) => Ok(sequence),
        _ => Err(format!("not a number from 1 to {}", Sequence::MAX)),
    }
}

impl Range {
    fn range(&self) -> anyhow::Result<SequenceRange> {
        SequenceRange::new(self.from_seq, self.to_seq).map_err(failed)
    }
}

/// Runs the program and says how it ended.
pub fn main() -> Exit {
    let cli = Cli::parse();
    cli.global.terminal.start(LogFor::Person);
    match run(&cli) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            exit = dispatch(&cli.global, &cli.command) => exit,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
            _ = terminate.recv() => Ok(Exit::Interrupted),
        }
    });
    // Not by waiting: a write to a pipe that nobody reads would never end.
    runtime.shutdown_background();
    exit
}

async fn dispatch(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref())?;
    let config = ReaderConfig::load(&path)?;
    let destination = Destination::open(&config, global.destination.as_deref()).map_err(failed)?;
    let session = Session {
        global,
        config,
        destination,
    };
    match command {
        Command::Ls { files } => session.ls(*files).await,
        Command::Cat(selected) => session.cat(selected).await,
        Command::Fetch { dir, selected } => session.fetch(selected, dir.clone()).await,
        Command::Verify(range) => session.verify(range).await,
    }
}

/// An open destination, and what the command line says about it.
struct Session<'a> {
    global: &'a Global,
    config: ReaderConfig,
    destination: Destination,
}

impl Session<'_> {
    async fn ls(&self, files: bool) -> anyhow::Result<Exit> {
        let found = self
            .destination
            .sources(self.global.cluster.as_ref())
            .await
            .map_err(failed)?;
        let sources = self
            .filter()
            .some(self.destination.url(), &found)
            .map_err(failed)?;
        let listing = ls::survey(&self.destination, &sources, files)
            .await
            .map_err(failed)?;
        self.print(&listing, Exit::Ok)
    }

    async fn cat(&self, selected: &Selected) -> anyhow::Result<Exit> {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Err(Failure {
                message: "binary logs are not written to a terminal".to_owned(),
                exit: Exit::Usage,
                hint: Some("pipe them into `mysqlbinlog -`, or write them with fetch".to_owned()),
            }
            .into());
        }
        let selection = self.select(selected).await?;
        let archive = self.archive()?;
        match cat::cat(&archive, &selection.files, &mut tokio::io::stdout()).await {
            // Whoever closed the pipe knows; the exit code says that not all was written.
            Err(CatError::Closed) => Ok(Exit::Interrupted),
            outcome => outcome.map(|()| Exit::Ok).map_err(failed),
        }
    }

    async fn fetch(&self, selected: &Selected, dir: PathBuf) -> anyhow::Result<Exit> {
        let selection = self.select(selected).await?;
        let archive = self.archive()?;
        let fetched = fetch::fetch(&archive, &selection.files, &dir)
            .await
            .map_err(failed)?;
        self.print(&fetched, Exit::Ok)
    }

    async fn verify(&self, range: &Range) -> anyhow::Result<Exit> {
        let range = range.range()?;
        let found = self
            .destination
            .sources(self.global.cluster.as_ref())
            .await
            .map_err(failed)?;
        let sources = self
            .filter()
            .some(self.destination.url(), &found)
            .map_err(failed)?;
        let scope = Scope {
            sources,
            range,
            whole_clusters: self.global.source.is_none(),
        };
        let archive = self.archive()?;
        let (report, exit) = verify::verify(&archive, &self.destination, &scope)
            .await
            .map_err(failed)?;
        self.print(&report, exit)
    }

    /// The files of one source that the command line names, after everything that the manifest can
    /// tell was checked.
    async fn select(&self, selected: &Selected) -> anyhow::Result<Selection> {
        let range = selected.range.range()?;
        let found = self
            .destination
            .sources(self.global.cluster.as_ref())
            .await
            .map_err(failed)?;
        let source = self
            .filter()
            .one(self.destination.url(), &found)
            .map_err(failed)?;
        let mut selector = Selector::new(source.clone(), range, selected.accept_damage);
        let store = self.destination.store().as_ref();
        let mut entries = std::pin::pin!(entries::read(store, &source, range));
        while let Some(stored) = entries.try_next().await.map_err(failed)? {
            selector.push(&stored);
        }
        let selection = selector.finish().map_err(failed)?;
        for flaw in &selection.flaws {
            tracing::warn!("{}", output::printable(&flaw.to_string()));
        }
        Ok(selection)
    }

    fn filter(&self) -> SourceFilter {
        let Global {
            cluster, source, ..
        } = self.global;
        SourceFilter {
            cluster: cluster.clone(),
            name: source.clone(),
        }
    }

    fn archive(&self) -> anyhow::Result<Archive> {
        let keyring = Arc::new(Keyring::open(&self.config.encryption)?);
        Ok(Archive::new(Arc::clone(self.destination.store()), keyring))
    }

    fn print(&self, report: &impl Report, exit: Exit) -> anyhow::Result<Exit> {
        match output::print(report, self.global.terminal.format) {
            Ok(()) => Ok(exit),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Interrupted),
            Err(error) => Err(failed(CatError::Write(error))),
        }
    }
}

/// One of this crate's errors, as the engine's `exit` shows it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
fn failed(error: impl Diagnose + 'static) -> anyhow::Error {
    let failure = Failure {
        message: exit::chain(&error),
        exit: error.exit(),
        hint: error.hint(),
    };
    failure.into()
}
