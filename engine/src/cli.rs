//! The command line of `gtide`.

mod adopt;
mod backup;
mod check;
mod companion;
mod init;
mod key;
mod parity;
mod purge;
mod queue;
mod run;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::exit::{self, Exit};
use crate::terminal::{self, Format, Itself, LogFor, Terminal};
use crate::traces::Traces;

/// Archives MySQL binary logs to object storage: in order, once, verified.
#[derive(Debug, Parser)]
#[command(
    name = "gtide",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
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
    #[command(flatten)]
    terminal: Terminal,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an annotated gtide.toml and a key
    Init(init::Init),
    /// Archive closed binary logs, as a daemon or once
    Run(run::Run),
    /// Prove that everything between here and a first archived file works
    Check(check::Check),
    /// Show what is archived, what waits, and what is in the way
    Status(status::Status),
    /// Show what waits, try it again now, stop it and let it go on
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Record base backups, and list them
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Show which binary logs the servers may forget, and make them
    Purge(purge::PurgeArgs),
    /// Prove beside an older job, by SHA-256, that it can be retired
    #[command(subcommand)]
    Parity(parity::Parity),
    /// Take what an older job keeps into the archive
    Adopt(adopt::Adopt),
    /// Make encryption keys
    #[command(subcommand)]
    Key(key::Key),
    #[command(flatten)]
    Itself(Itself),
    /// A companion program: `gtide restore …`, `gtide tui …`
    #[command(external_subcommand)]
    Companion(Vec<OsString>),
}

/// Runs the program and says how it ended.
pub fn main() -> Exit {
    let cli = Cli::parse();
    let traces = match Traces::from_environment() {
        Ok(traces) => traces,
        Err(error) => return exit::report(&error.into()),
    };
    let layer = traces.as_ref().map(Traces::layer);
    cli.global.terminal.start_beside(LogFor::Operator, layer);
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Init(init) => init.run(&cli.global),
        Command::Run(run) => run.run(&cli.global),
        Command::Check(_) => check::Check::run(&cli.global),
        Command::Status(status) => status.run(&cli.global),
        Command::Queue(queue) => queue.run(&cli.global),
        Command::Backup(backup) => backup.run(&cli.global),
        Command::Purge(purge) => purge.run(&cli.global),
        Command::Parity(parity) => parity.run(&cli.global),
        Command::Adopt(adopt) => adopt.run(&cli.global),
        Command::Key(key) => key.run(&cli.global),
        Command::Itself(itself) => {
            itself
                .run(Cli::command())
                .context("write to stdout or the folder")?;
            Ok(Exit::Ok)
        }
        Command::Companion(args) => companion::exec(&args),
    }
}

/// Runs a command's asynchronous part. What still blocks when it ends is not waited for: it has no
/// effect that starting again would not find.
fn block_on(
    work: impl Future<Output = anyhow::Result<Exit>> + Send + 'static,
) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async { tokio::spawn(work).await });
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => outcome,
        Err(join) => std::panic::resume_unwind(join.into_panic()),
    }
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    terminal::print_json(value).context("write to stdout")
}

fn print(text: &str) -> anyhow::Result<()> {
    terminal::print(text).context("write to stdout")
}
