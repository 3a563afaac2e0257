//! The command line of `gtide-tui`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, Parser, ValueEnum};
use engine::clock::{Clock, SystemClock};
use engine::config::{self, Config};
use engine::exit::{self, Exit, Failure};
use engine::ledger::{PICTURE_VERSION, Picture};
use engine::terminal::{self, Itself};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::connection::Connection;
use crate::model::{Link, Looks, Model, Screen};
use crate::session::Left;
use crate::update::{Message, update};
use crate::{keys, session, view};

/// Shows the queue, the retries and the watermarks, and acts on them.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Debug, Parser)]
#[command(name = "gtide-tui", version, max_term_width = 100)]
struct Cli {
    /// The configuration [default: ./gtide.toml, then /etc/gtide/gtide.toml]
    #[arg(long, value_name = "FILE", env = "GTIDE_CONFIG")]
    config: Option<PathBuf>,
    /// Print one frame and exit: for scripts and bug reports
    #[arg(long)]
    once: bool,
    /// Change nothing: no retry, no pause
    #[arg(long)]
    read_only: bool,
    /// The screen to begin with
    #[arg(long, value_enum, default_value_t = First::Overview)]
    screen: First,
    /// Keep the last picture in this file, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Show the picture in this file, without a database
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Between two looks at the database, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Draw with ASCII alone [default: unless the locale is UTF-8]
    #[arg(long)]
    ascii: bool,
    /// Print the keys, as Markdown, and exit
    #[arg(long)]
    keys: bool,
    #[command(subcommand)]
    itself: Option<Itself>,
}

/// A screen, as the command line names it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum First {
    Overview,
    Queue,
    Retries,
    Watermarks,
    Parity,
    Events,
}

/// Runs the program and says how it ended.
pub fn main() -> Exit {
    match run(&Cli::parse()) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    if let Some(itself) = &cli.itself {
        itself
            .run(Cli::command())
            .context("write to stdout or the folder")?;
        return Ok(Exit::Ok);
    }
    if cli.keys {
        terminal::print(&keys::markdown()).context("write to stdout")?;
        return Ok(Exit::Ok);
    }
    let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !cli.once && !has_terminal {
        return Err(Failure {
            message: "the console needs a terminal".to_owned(),
            exit: Exit::Usage,
            hint: Some("`gtide-tui --once` prints one frame".to_owned()),
        }
        .into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut model = Model::new(
        SystemClock.now(),
        looks(cli),
        cli.read_only || cli.replay.is_some(),
        terminal::operator(),
    );
    model.screen = cli.screen.into();
    let connection = match &cli.replay {
        Some(path) => {
            let picture = replay(path)?;
            model.now = picture.taken;
            model.link = Link::Replay;
            update(&mut model, Message::Seen(Box::new(picture)));
            None
        }
        None => Some(connect(cli)?),
    };
    if cli.once {
        if let Some(connection) = connection {
            let picture = runtime.block_on(connection.once())?;
            model.now = picture.taken;
            update(&mut model, Message::Seen(Box::new(picture)));
        }
        print_frame(&model);
        return Ok(Exit::Ok);
    }
    let outcome = runtime.block_on(session::run(model, connection));
    // A statement under way is not waited for.
    runtime.shutdown_background();
    match outcome.context("use the terminal")? {
        Left::ByKey => Ok(Exit::Ok),
        Left::BySignal => Ok(Exit::Interrupted),
    }
}

fn connect(cli: &Cli) -> anyhow::Result<Connection> {
    let config = Config::load(&config::find(cli.config.as_deref())?)?;
    Ok(Connection {
        database: config.queue.database,
        every: Duration::from_secs(cli.every),
        record: cli.record.clone(),
    })
}

fn replay(path: &Path) -> anyhow::Result<Picture> {
    let refuse = |reason: String| Failure {
        message: format!("{}: {reason}", path.display()),
        exit: Exit::Usage,
        hint: Some("name a file that `gtide-tui --record FILE` made".to_owned()),
    };
    let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let picture: Picture =
        serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    if picture.version != PICTURE_VERSION {
        let version = picture.version;
        let reason = format!("recorded in version {version}, this program reads {PICTURE_VERSION}");
        return Err(refuse(reason).into());
    }
    Ok(picture)
}

fn print_frame(model: &Model) {
    let (width, height) = ratatui::crossterm::terminal::size().unwrap_or(view::DEFAULT_SIZE);
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    view::draw(model, area, &mut buffer);
    // A reader that went away early has seen what it wanted.
    let _ = terminal::print(&view::text(&buffer));
}

/// Colour unless `NO_COLOR` is set to anything; Unicode where the locale says so.
fn looks(cli: &Cli) -> Looks {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(variable);
    let is_utf8 = locale.is_some_and(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    Looks {
        colour: variable("NO_COLOR").is_none(),
        ascii: cli.ascii || !is_utf8,
    }
}

impl From<First> for Screen {
    fn from(first: First) -> Self {
        match first {
            First::Overview => Self::Overview,
            First::Queue => Self::Queue,
            First::Retries => Self::Retries,
            First::Watermarks => Self::Watermarks,
            First::Parity => Self::Parity,
            First::Events => Self::Events,
        }
    }
}
