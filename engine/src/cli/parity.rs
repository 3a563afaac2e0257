//! `gtide parity …`: a parallel run beside the older job, its report, and the way off it.

mod text;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde::Serialize;

use super::{Format, Global};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::exit::{Exit, Failure};
use crate::ledger::{Ledger, ParityRun, Source};
use crate::older_job::{follow, place::Place};
use crate::parity::compare::Compared;
use crate::parity::report;
use crate::parity::verdict::{Verdict, Word};

#[derive(Debug, Subcommand)]
pub(super) enum Parity {
    /// Begin to compare with what an older job archives; the daemon follows both from then on
    Start(Start),
    /// Say how the comparison stands, and for each file that is not the same why
    Report(Report),
    /// End the comparison and print the way off the older job, if there is parity
    Finish(Selected),
}

#[derive(Debug, Args)]
pub(super) struct Selected {
    /// The source [default: the only one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Start {
    #[command(flatten)]
    selected: Selected,
    /// Where the older job's sha256sum manifests are: a path, s3:// or gs://, * matches within it
    #[arg(long, value_name = "PLACE", required = true)]
    manifest: Vec<String>,
    /// How long both must agree
    #[arg(long, value_name = "TIME", default_value = "72h", value_parser = duration)]
    window: SignedDuration,
    /// How much later one of them may have a file
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    grace: SignedDuration,
    /// Forget a run that has begun
    #[arg(long)]
    anew: bool,
}

#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    selected: Selected,
    /// As Markdown, for a ticket
    #[arg(long)]
    markdown: bool,
}

/// The whole report. The field names are a contract with scripts.
#[derive(Debug, Serialize)]
struct Whole {
    source: String,
    started_at: jiff::Timestamp,
    window_hours: f64,
    #[serde(flatten)]
    verdict: Verdict,
    files: Vec<Compared>,
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let parsed: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    let checked: Result<Duration, _> = parsed.try_into();
    checked
        .map(|_| parsed)
        .map_err(|_| "is negative".to_owned())
}

impl Parity {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let config = Config::load(&config::find(global.config.as_deref())?)?;
        let format = global.terminal.format;
        super::block_on(async move {
            let ledger = Ledger::open_existing(&config.queue.database).await?;
            match self {
                Self::Start(start) => start.run(&config, &ledger, format).await,
                Self::Report(report) => report.run(&config, &ledger, format).await,
                Self::Finish(selected) => selected.finish(&config, &ledger, format).await,
            }
        })
    }
}

impl Selected {
    /// The source in the ledger: its present incarnation.
    async fn source(&self, config: &Config, ledger: &Ledger) -> anyhow::Result<Source> {
        let name = match (&self.source, config.sources.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => &only.name,
            (None, _) => {
                return Err(
                    usage("several sources are configured", "name one with --source").into(),
                );
            }
        };
        let known = ledger.sources().await?;
        let mut known: Vec<_> = known
            .into_iter()
            .filter(|source| source.name == *name)
            .collect();
        known.sort_by_key(|source| source.identity.incarnation);
        let unknown = || {
            usage(
                &format!("nothing of {name} was ever archived"),
                "start `gtide run` first: parity compares two archives",
            )
        };
        Ok(known.pop().ok_or_else(unknown)?)
    }

    async fn begun(&self, config: &Config, ledger: &Ledger) -> anyhow::Result<(Source, ParityRun)> {
        let source = self.source(config, ledger).await?;
        let runs = ledger.parity_runs().await?;
        let run = runs.into_iter().find(|run| run.source == source.id);
        let run = run.ok_or_else(|| {
            usage(
                &format!("no parallel run of {} has begun", source.name),
                "`gtide parity start --manifest PLACE` begins one",
            )
        })?;
        Ok((source, run))
    }

    async fn finish(
        &self,
        config: &Config,
        ledger: &Ledger,
        format: Format,
    ) -> anyhow::Result<Exit> {
        let (source, run) = self.begun(config, ledger).await?;
        let whole = whole(config, ledger, &source, run).await?;
        if whole.verdict.verdict != Word::Parity {
            return Err(Failure {
                message: format!(
                    "there is no parity to finish on: {}",
                    whole.verdict.reasons.join("; ")
                ),
                exit: report::exit_of(whole.verdict.verdict),
                hint: Some("`gtide parity report` tells each file".to_owned()),
            }
            .into());
        }
        ledger.finish_parity(source.id, SystemClock.now()).await?;
        let expire = text::expire_seconds(&whole.files, config.purge.keep);
        match format {
            Format::Human => super::print(&text::runbook(&source.name, expire))?,
            Format::Json => super::print_json(&serde_json::json!({
                "source": source.name,
                "verdict": whole.verdict.verdict,
                "binlog_expire_logs_seconds": expire,
                "runbook": text::runbook(&source.name, expire),
            }))?,
        }
        Ok(Exit::Ok)
    }
}

impl Start {
    async fn run(self, config: &Config, ledger: &Ledger, format: Format) -> anyhow::Result<Exit> {
        let source = self.selected.source(config, ledger).await?;
        let runs = ledger.parity_runs().await?;
        let under_way = runs
            .iter()
            .find(|run| run.source == source.id && run.finished_at.is_none());
        if under_way.is_some() && !self.anew {
            return Err(usage(
                &format!("a parallel run of {} has begun already", source.name),
                "`gtide parity report` shows it; --anew forgets it and begins another",
            )
            .into());
        }
        let mut manifests = Vec::new();
        for spec in &self.manifest {
            let spec = absolute(spec)?;
            let found = Place::open(&spec, config)?.objects().await?;
            tracing::info!(
                place = spec,
                manifests = found.len(),
                "the older job's manifests"
            );
            manifests.push(spec);
        }
        let now = SystemClock.now();
        let run = ParityRun {
            source: source.id,
            started_at: now,
            window: self.window,
            grace: self.grace,
            manifests,
            finished_at: None,
            scanned_at: None,
            scan_error: None,
            unread: Vec::new(),
        };
        ledger.start_parity(&run).await?;
        follow::look(ledger, config, &run, now).await?;
        let until = now
            .saturating_add(self.window)
            .unwrap_or(jiff::Timestamp::MAX);
        match format {
            Format::Human => super::print(&format!(
                "{}: compared from now until {until:.0}; `gtide parity report` says how it stands\n",
                source.name
            ))?,
            Format::Json => super::print_json(&serde_json::json!({
                "source": source.name, "started_at": now, "until": until,
            }))?,
        }
        Ok(Exit::Ok)
    }
}

impl Report {
    async fn run(self, config: &Config, ledger: &Ledger, format: Format) -> anyhow::Result<Exit> {
        let (source, run) = self.selected.begun(config, ledger).await?;
        let whole = whole(config, ledger, &source, run).await?;
        match format {
            Format::Json => super::print_json(&whole)?,
            Format::Human if self.markdown => super::print(&text::markdown(&whole))?,
            Format::Human => super::print(&text::plain(&whole))?,
        }
        Ok(report::exit_of(whole.verdict.verdict))
    }
}

/// Looks at both sides now. Manifests that cannot be read are part of the answer, not the end of it.
async fn whole(
    config: &Config,
    ledger: &Ledger,
    source: &Source,
    run: ParityRun,
) -> anyhow::Result<Whole> {
    let now = SystemClock.now();
    if let Err(error) = follow::look(ledger, config, &run, now).await {
        tracing::debug!(error = format!("{error:#}"), "kept with the run");
    }
    let runs = ledger.parity_runs().await?;
    let run = runs
        .into_iter()
        .find(|other| other.source == run.source)
        .unwrap_or(run);
    let (files, verdict) = report::of(ledger, &run, now).await?;
    Ok(Whole {
        source: source.name.clone(),
        started_at: run.started_at,
        window_hours: run.window.as_secs_f64() / 3600.0,
        verdict,
        files,
    })
}

/// A path is kept so that a daemon in another folder finds it.
fn absolute(spec: &str) -> anyhow::Result<String> {
    if spec.contains("://") {
        return Ok(spec.to_owned());
    }
    Ok(std::path::absolute(spec)?.display().to_string())
}

fn usage(message: &str, hint: &str) -> Failure {
    Failure {
        message: message.to_owned(),
        exit: Exit::Usage,
        hint: Some(hint.to_owned()),
    }
}
