//! `gtide check`: proves that everything between here and a first archived file works.

use std::fmt::Write as _;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use super::{Format, Global};
use crate::check;
use crate::clock::SystemClock;
use crate::config;
use crate::exit::Exit;
use crate::finding::{Finding, Verdict, exit_of};

/// Version of the JSON report: additive changes keep it.
const REPORT_VERSION: u32 = 1;

/// The widest name of a check, for the column.
const NAME_WIDTH: usize = 30;

/// Writes small probes to each destination (some 8 MiB) and takes them away again. Changes nothing that a running
/// archiver has.
#[derive(Debug, Args)]
pub(super) struct Check {}

/// The field names are a contract with scripts.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    /// The exit code of this program, by its name.
    exit: Exit,
    findings: Vec<Finding>,
}

impl Check {
    pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
        let path = config::find(global.config.as_deref())?;
        let format = global.terminal.format;
        super::block_on(async move {
            let mut findings = Vec::new();
            let mut printed = Ok(());
            let tell = |finding: Finding| {
                if format == Format::Human && printed.is_ok() {
                    printed = super::print(&line(&finding));
                }
                findings.push(finding);
            };
            Box::pin(check::run(&path, Arc::new(SystemClock), tell)).await;
            printed?;
            let exit = exit_of(&findings);
            match format {
                Format::Human => super::print(&summary(&findings))?,
                Format::Json => super::print_json(&Report {
                    version: REPORT_VERSION,
                    exit,
                    findings,
                })?,
            }
            Ok(exit)
        })
    }
}

fn line(finding: &Finding) -> String {
    let (word, style) = match finding.verdict {
        Verdict::Ok => ("ok", Style::new().fg_color(Some(AnsiColor::Green.into()))),
        Verdict::Warn => ("warn", AnsiColor::Yellow.on_default().bold()),
        Verdict::Fail => ("fail", AnsiColor::Red.on_default().bold()),
    };
    let Finding {
        check,
        subject,
        reason,
        hint,
        ..
    } = finding;
    let mut text =
        format!("{style}{word:<4}{style:#}  {check:<NAME_WIDTH$}  {subject}: {reason}\n");
    if let Some(hint) = hint {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:6}{:NAME_WIDTH$}  hint: {hint}", "", "");
    }
    text
}

fn summary(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let (ok, warn, fail) = (
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail),
    );
    format!("\n{ok} ok, {warn} to look at, {fail} failed\n")
}
