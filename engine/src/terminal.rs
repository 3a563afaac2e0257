//! What the command lines of all programs share: colour, log and format flags, and stdout as data.
//!
//! Log lines go to stderr. stdout carries results only: a full disk or a reader that went away is an error there, not
//! a panic.

mod itself;

use std::io::{self, IsTerminal, Write};

use clap::{Args, ColorChoice, ValueEnum};
use serde::Serialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use self::itself::Itself;

/// The AWS SDK warns of every attempt that it repeats by itself, in lines of a kilobyte, and apalis reports a worker's
/// error once more beside the lane's own line.
const QUIET: &str = "aws_smithy_runtime=error,aws_config=error,aws_sdk_s3=error,apalis_core=off";

/// Flags of every command of every program.
#[derive(Debug, Clone, Copy, Args)]
pub struct Terminal {
    /// How results are written to stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, env = "GTIDE_FORMAT")]
    pub format: Format,
    /// When to use colour; `NO_COLOR` is respected
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    /// Say more on stderr; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Text and tables.
    #[default]
    Human,
    /// One JSON document.
    Json,
}

/// Who reads a program's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFor {
    /// Whoever runs it by hand: warnings, without times.
    Person,
    /// Whoever looks after a daemon: what it does, with times; JSON unless stderr is a terminal.
    Operator,
}

/// What hears of everything that is logged.
pub type LogLayer = Box<dyn Layer<Registry> + Send + Sync>;

impl Terminal {
    /// Sets up colour and log. To be called once, before anything is written.
    pub fn start(self, log: LogFor) {
        self.start_beside(log, None);
    }

    /// The same, and something else hears of it, too.
    pub fn start_beside(self, log: LogFor, other: Option<LogLayer>) {
        match self.color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        let filter = EnvFilter::try_from_env("GTIDE_LOG")
            .unwrap_or_else(|_| EnvFilter::new(self.default_filter(log)));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never);
        let lines: LogLayer = match log {
            LogFor::Person => lines.without_time().boxed(),
            LogFor::Operator if io::stderr().is_terminal() => lines.boxed(),
            LogFor::Operator => lines
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .boxed(),
        };
        let lines: LogLayer = lines.with_filter(filter).boxed();
        let layers: Vec<_> = std::iter::once(lines).chain(other).collect();
        tracing_subscriber::registry().with(layers).init();
    }

    fn default_filter(self, log: LogFor) -> String {
        match (self.verbose, log) {
            (0, LogFor::Person) => format!("warn,{QUIET}"),
            (0, LogFor::Operator) => format!("warn,engine=info,{QUIET}"),
            (1, _) => "info,engine=debug,restore=debug".to_owned(),
            _ => "debug,engine=trace,restore=trace".to_owned(),
        }
    }
}

/// Who runs this program, as `user@host`: for what other people will read.
pub fn operator() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    // Whoever is root by sudo is somebody.
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter();
    let mut names = user.filter_map(|name| std::env::var(name).ok());
    match names.find(|name| !name.is_empty()) {
        Some(user) => format!("{user}@{host}"),
        None => format!("uid {}@{host}", rustix::process::getuid().as_raw()),
    }
}

/// Writes text to stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes one JSON document to stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
