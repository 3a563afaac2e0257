//! The command line of `gtide`.

mod companion;
mod init;
mod key;
mod run;
mod status;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::exit::{self, Exit};

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
    /// How results are written to stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, env = "GTIDE_FORMAT")]
    format: Format,
    /// When to use colour; NO_COLOR is respected
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    /// Say more on stderr; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text and tables.
    Human,
    /// One JSON document.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an annotated gtide.toml and a key
    Init(init::Init),
    /// Archive closed binary logs, as a daemon or once
    Run(run::Run),
    /// Show what is archived, what waits, and what is in the way
    Status(status::Status),
    /// Make encryption keys
    #[command(subcommand)]
    Key(key::Key),
    /// A companion program: `gtide restore …`, `gtide tui …`
    #[command(external_subcommand)]
    Companion(Vec<OsString>),
}

/// Runs the program and says how it ended.
pub fn main() -> Exit {
    let cli = Cli::parse();
    apply_color(cli.global.color);
    start_log(cli.global.verbose);
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Init(init) => init.run(&cli.global),
        Command::Run(run) => run.run(&cli.global),
        Command::Status(_) => status::Status::run(&cli.global),
        Command::Key(key) => key.run(&cli.global),
        Command::Companion(args) => companion::exec(&args),
    }
}

fn apply_color(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Log lines go to stderr: for people on a terminal, as JSON otherwise.
fn start_log(verbose: u8) {
    let default = match verbose {
        0 => "warn,engine=info",
        1 => "info,engine=debug",
        _ => "debug,engine=trace",
    };
    let filter = EnvFilter::try_from_env("GTIDE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        builder
            .with_ansi(
                anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
            )
            .init();
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .init();
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
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes results to stdout. A full disk or a reader that went away is an error, not a panic.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("write to stdout")
}
