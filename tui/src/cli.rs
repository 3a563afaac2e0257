//! The command line of `gtide-tui`.

use std::path::PathBuf;

use clap::Parser;
use engine::config::{self, Config};
use engine::exit::{self, Exit, Failure};
use engine::ledger::{Ledger, LedgerError};
use engine::terminal;

use crate::view;

/// Shows how far each source is archived, and what is in the way.
#[derive(Debug, Parser)]
#[command(name = "gtide-tui", version, max_term_width = 100)]
struct Cli {
    /// The configuration [default: ./gtide.toml, then /etc/gtide/gtide.toml]
    #[arg(long, value_name = "FILE", env = "GTIDE_CONFIG")]
    config: Option<PathBuf>,
    /// Print one frame and exit: for scripts and bug reports
    #[arg(long)]
    once: bool,
}

/// Runs the program and says how it ended.
pub fn main() -> Exit {
    match run(&Cli::parse()) {
        Ok(()) => Exit::Ok,
        Err(error) => exit::report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if !cli.once {
        return Err(Failure {
            message: "the interactive console is not in this version".to_owned(),
            exit: Exit::Usage,
            hint: Some("`gtide-tui --once` prints one frame, `gtide status` a table".to_owned()),
        }
        .into());
    }
    let config = Config::load(&config::find(cli.config.as_deref())?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (sources, troubles) = runtime.block_on(async {
        let ledger = Ledger::open_read_only(&config.queue.database).await?;
        Ok::<_, LedgerError>((ledger.status().await?, ledger.troubles().await?))
    })?;
    let (width, height) = ratatui::crossterm::terminal::size().unwrap_or(view::DEFAULT_SIZE);
    let frame = view::text(&view::overview(&sources, &troubles, width, height));
    // A reader that went away early has seen what it wanted.
    let _ = terminal::print(&frame);
    Ok(())
}
