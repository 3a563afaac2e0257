//! `gtide key rewrap`: at every destination, one after the other.

use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Format, Global};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::exit::{self, Diagnose, Exit, Failure};
use crate::keyring::Keyring;
use crate::manifest::rewrapped::MAX_KEYS;
use crate::rewrap::{self, Report};
use crate::store;

#[derive(Debug, Args)]
pub(in crate::cli) struct Rewrap {
    /// Only this one of the configured destinations [default: all]
    #[arg(long, value_name = "URL")]
    destination: Option<String>,
    /// Data keys in one object
    #[arg(long, hide = true, value_name = "N", default_value_t = MAX_KEYS, value_parser = batch)]
    batch: usize,
}

fn batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(batch) if (1..=MAX_KEYS).contains(&batch) => Ok(batch),
        _ => Err(format!("not a number from 1 to {MAX_KEYS}")),
    }
}

impl Rewrap {
    pub(in crate::cli) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let path = config::find(global.config.as_deref())?;
        let config = Config::load(&path)?;
        let format = global.terminal.format;
        super::super::block_on(async move {
            let keyring = Arc::new(Keyring::open(&config.encryption)?);
            let mut reports = Vec::new();
            for destination in self.chosen(&config)? {
                reports.push(self.at(destination, &config, &keyring).await?);
            }
            show(&reports, format)
        })
    }

    fn chosen<'a>(&self, config: &'a Config) -> anyhow::Result<Vec<&'a store::StoreConfig>> {
        let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
        let stores = config
            .destinations
            .iter()
            .map(|destination| &destination.store);
        let Some(url) = &self.destination else {
            return Ok(stores.collect());
        };
        let chosen: Vec<_> = stores.filter(|store| same(&store.url, url)).collect();
        if chosen.is_empty() {
            return Err(Failure {
                message: format!("{url} is none of the configured destinations"),
                exit: Exit::Usage,
                hint: Some("give --destination a url as [[destination]] spells it".to_owned()),
            }
            .into());
        }
        Ok(chosen)
    }

    async fn at(
        &self,
        destination: &store::StoreConfig,
        config: &Config,
        keyring: &Arc<Keyring>,
    ) -> anyhow::Result<Report> {
        let rewrap = rewrap::Rewrap {
            store: store::connect(destination)?,
            keyring: Arc::clone(keyring),
            cluster: &config.cluster,
            clock: &SystemClock,
            batch: self.batch,
        };
        // Hidden where stderr is no terminal.
        let bar = ProgressBar::new(0).with_prefix("rewrap");
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        let done = rewrap
            .run(&mut |files, done| {
                bar.set_length(files);
                bar.set_position(done);
            })
            .await;
        bar.finish_and_clear();
        done.map_err(|error| {
            Failure {
                message: exit::chain(&error),
                exit: error.exit(),
                hint: error.hint(),
            }
            .into()
        })
    }
}

fn show(reports: &[Report], format: Format) -> anyhow::Result<Exit> {
    match format {
        Format::Json => super::super::print_json(&serde_json::json!({ "destinations": reports }))?,
        Format::Human => {
            for report in reports {
                let Report {
                    destination,
                    key_id,
                    current,
                    covered,
                    rewrapped,
                    failed,
                    ..
                } = report;
                super::super::print(&format!(
                    "{destination}: {rewrapped} data keys wrapped anew under {key_id}, {covered} were already, \
                     {current} are sealed with it, {failed} failed\n"
                ))?;
            }
        }
    }
    let mut gravest = Exit::Ok;
    for report in reports {
        gravest = gravest.graver(report.exit);
        for trouble in &report.troubles {
            let error = format!("{}: {}", trouble.key, trouble.error);
            exit::show(&error, trouble.hint.as_deref());
        }
    }
    Ok(gravest)
}
