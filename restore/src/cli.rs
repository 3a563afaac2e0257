//! The command line of `gtide-restore`.

mod apply;
mod arguments;
mod find;
mod inspect;
mod plan;
mod read_back;
mod rehearse;
mod serve;
mod session;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use engine::exit::{self, Exit};
use engine::terminal::{Itself, LogFor};
use tokio::signal::unix::{SignalKind, signal};

use self::arguments::{Command, Global};
use self::session::Session;

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
    command: Invoked,
}

#[derive(Debug, Subcommand)]
enum Invoked {
    #[command(flatten)]
    Archive(Command),
    #[command(flatten)]
    Itself(Itself),
}

/// Runs the program and says how it ended.
pub fn main() -> Exit {
    let cli = Cli::parse();
    cli.global.terminal.start(LogFor::Person);
    let outcome = match &cli.command {
        Invoked::Archive(command) => run(&cli.global, command),
        Invoked::Itself(itself) => {
            let done = itself.run(Cli::command());
            done.map(|()| Exit::Ok)
                .context("write to stdout or the folder")
        }
    };
    match outcome {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(async {
        // Heard from before anything is done: `ctrl_c()` would begin to listen when it is waited for first.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            exit = dispatch(global, command) => exit,
            _ = interrupt.recv() => Ok(Exit::Interrupted),
            _ = terminate.recv() => Ok(Exit::Interrupted),
        }
    });
    // Not by waiting: a write to a pipe that nobody reads would never end.
    runtime.shutdown_background();
    exit
}

async fn dispatch(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    let judges = matches!(command, Command::Verify(_));
    let session = Session::open(global, command.saved_plan(), judges).await?;
    match command {
        Command::Ls { files } => session.ls(*files).await,
        Command::Plan(planned) => session.plan(planned).await,
        Command::Cat(wanted) => session.cat(&wanted.selected).await,
        Command::Fetch { dir, wanted } => session.fetch(&wanted.selected, dir).await,
        Command::Serve(serving) => session.serve(serving).await,
        Command::Apply(applied) => session.apply(applied).await,
        Command::Rehearse(rehearsal) => session.rehearse(rehearsal).await,
        Command::Find(arguments) => session.find(arguments).await,
        Command::Verify(verified) => session.verify(verified).await,
    }
}
