//! `gtide init`: an annotated configuration and a key.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Format, Global};
use crate::config::Config;
use crate::durable_fs;
use crate::exit::{Exit, Failure};
use crate::keyring::{self, Keyring};
use crate::layout::ClusterName;
use crate::store;

/// The annotated example; `@WORDS@` are filled in.
const EXAMPLE: &str = include_str!("gtide.example.toml");

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The cluster's name
    #[arg(long, default_value = "main")]
    cluster: ClusterName,
    /// The source's name
    #[arg(long, default_value = "mysql")]
    name: String,
    /// The server's binlog index file, its log-bin-index
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/mysql/binlog.index"
    )]
    index: PathBuf,
    /// Where the archive goes [default: file:// and `archive` beside the configuration]
    #[arg(long, value_name = "URL")]
    destination: Option<String>,
    /// Where pins and sealed objects lie, relative to the configuration; best on the binlogs'
    /// filesystem
    #[arg(long, value_name = "DIR", default_value = "spool")]
    spool: PathBuf,
    /// The queue's database, relative to the configuration: sqlite:PATH, or a postgres:// URL
    #[arg(long, value_name = "URL", default_value = "sqlite:gtide.db")]
    database: String,
    /// The key file, relative to the configuration; made unless it exists
    #[arg(long, value_name = "FILE", default_value = "gtide.key")]
    key: PathBuf,
}

impl Init {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let path = global
            .config
            .clone()
            .unwrap_or_else(|| PathBuf::from("gtide.toml"));
        let absolute =
            std::path::absolute(&path).with_context(|| format!("find {}", path.display()))?;
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        if path.exists() {
            return Err(Failure {
                message: format!("{} exists already", path.display()),
                exit: Exit::Conflict,
                hint: Some("name another with --config, or edit this one".to_owned()),
            }
            .into());
        }
        let text = self.text(folder)?;
        // What is about to be written must work: a path that cannot stand in TOML or a URL that means
        // nothing is found here, and nothing is left behind.
        let probe = tempfile::Builder::new().suffix(".toml").tempfile_in(folder);
        let probe = probe.with_context(|| format!("write in {}", folder.display()))?;
        probe
            .as_file()
            .write_all(text.as_bytes())
            .context("write a configuration")?;
        let config = Config::load(probe.path())?;
        config
            .destinations
            .iter()
            .try_for_each(|destination| store::connect(&destination.store).map(drop))?;
        let key = folder.join(&self.key);
        if key.exists() {
            Keyring::open(&config.encryption)?;
        }
        let new_key = if key.exists() {
            None
        } else {
            Some(keyring::create_key_file(&key)?)
        };
        durable_fs::create_new(&path, text.as_bytes(), 0o644)
            .with_context(|| format!("write {}", path.display()))?;
        match global.terminal.format {
            Format::Human => super::print(&format!("{}\n", path.display()))?,
            Format::Json => {
                super::print_json(&serde_json::json!({ "config": path, "key": key }))?;
            }
        }
        if let Some(id) = new_key {
            anstream::eprintln!(
                "Made key {id} in {}. Keep a copy apart from this machine and from the bucket: without it \
                 the archive cannot be read.",
                key.display()
            );
        }
        anstream::eprintln!("Next: gtide --config {} check", path.display());
        Ok(Exit::Ok)
    }

    fn text(&self, folder: &Path) -> anyhow::Result<String> {
        let index = std::path::absolute(&self.index)
            .with_context(|| format!("find {}", self.index.display()))?;
        let destination = match &self.destination {
            Some(url) => url.clone(),
            None => file_url(&folder.join("archive"))?,
        };
        let mut text = EXAMPLE.to_owned();
        for (word, value) in [
            ("@CLUSTER@", self.cluster.as_str()),
            ("@NAME@", &self.name),
            ("@INDEX@", path_text(&index)?),
            ("@DATABASE@", &self.database),
            ("@SPOOL@", path_text(&self.spool)?),
            ("@URL@", &destination),
            ("@KEY@", &format!("file:{}", path_text(&self.key)?)),
        ] {
            text = text.replace(
                &format!("\"{word}\""),
                &toml::Value::from(value).to_string(),
            );
        }
        Ok(text)
    }
}

fn path_text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

fn file_url(path: &Path) -> anyhow::Result<String> {
    let url = url::Url::from_file_path(path);
    let url = url.map_err(|()| anyhow::anyhow!("{} cannot become a URL", path.display()))?;
    Ok(url.to_string())
}
