//! `gtide adopt`: an older job's binlogs into the archive.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::run::stop_on_signals;
use super::{Format, Global};
use crate::adopt::{Adoption, Report};
use crate::config::{self, Config, SourceConfig};
use crate::exit::{self, Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// Where the older job keeps them, plain, .gz, .zst or .lz4: a path, s3:// or gs://, * matches within it
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// The source that they are of [default: the only one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Go on behind a file that is missing or cannot be read; it cannot be taken in later
    #[arg(long)]
    accept_gaps: bool,
}

impl Adopt {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let config = Config::load(&config::find(global.config.as_deref())?)?;
        let format = global.terminal.format;
        super::block_on(async move {
            let stop = CancellationToken::new();
            stop_on_signals(stop.clone())?;
            let adoption =
                Adoption::new(&config, self.source(&config)?, &self.from, self.accept_gaps)?;
            // Hidden where stderr is no terminal.
            let bar = ProgressBar::new(0).with_prefix("adopt");
            if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
            let done = adoption
                .run(&stop, &mut |done, of| {
                    bar.set_length(of as u64);
                    bar.set_position(done as u64);
                })
                .await;
            bar.finish_and_clear();
            match done? {
                Some(report) => show(&report, format),
                None => Ok(Exit::Interrupted),
            }
        })
    }

    fn source<'a>(&self, config: &'a Config) -> Result<&'a SourceConfig, Failure> {
        let usage = |message: String, hint: &str| Failure {
            message,
            exit: Exit::Usage,
            hint: Some(hint.to_owned()),
        };
        match (&self.source, config.sources.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(usage(
                "several sources are configured".to_owned(),
                "name the one that the files are of with --source",
            )),
            (Some(name), sources) => {
                let found = sources.iter().find(|source| source.name == *name);
                let unknown = || {
                    usage(
                        format!("no source is called {name}"),
                        "`gtide status` lists them",
                    )
                };
                found.ok_or_else(unknown)
            }
        }
    }
}

fn show(report: &Report, format: Format) -> anyhow::Result<Exit> {
    let Report {
        source,
        found,
        adopted,
        archived_before,
        ..
    } = report;
    match format {
        Format::Json => super::print_json(report)?,
        Format::Human => super::print(&format!(
            "{source}: {found} found, {adopted} adopted, {archived_before} archived before\n"
        ))?,
    }
    for file in &report.unreadable {
        let error = format!("{}: {}", file.url, file.error);
        let hint = "look for another copy of it";
        exit::show(&error, Some(hint));
    }
    for problem in &report.problems {
        exit::show(&problem.error, problem.hint.as_deref());
    }
    Ok(report.exit())
}
