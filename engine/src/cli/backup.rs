//! `gtide backup …`: records of base backups.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use futures::TryStreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::{Format, Global};
use crate::base_backup::evidence::{self, Evidence, EvidenceError, MAX_TEXT};
use crate::base_backup::{Coordinates, MAX_RECORD_LEN, Position, Record, Tool, VERSION};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::digest::Digest;
use crate::exit::{Diagnose, Exit, Failure};
use crate::gtid::GtidSet;
use crate::layout::{BackupId, ObjectKey};
use crate::store::{self, ObjectStore, StoreError};

#[derive(Debug, Subcommand)]
pub(super) enum Backup {
    /// Record a base backup, so that plans can begin with it
    Add(Box<Add>),
    /// Show the base backups that are recorded
    Ls,
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// What the backup tool left behind: `xtrabackup_binlog_info`, `xtrabackup_info`,
    /// `backup_variables.txt`, a mysqldump, `@.json`, mydumper's `metadata`, `#clone/#view_status`, or what
    /// a client prints of `clone_status`; - is stdin
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the backup lies, for whoever restores it
    #[arg(long, value_name = "TEXT")]
    location: String,
    /// The transactions in it: `gtid_executed` after it was restored
    #[arg(long, value_name = "SET", value_parser = gtid_set)]
    gtid: Option<GtidSet>,
    /// Where in the server's binary log it ends
    #[arg(long, value_name = "FILE:POS", value_parser = position)]
    position: Option<Position>,
    /// The moment that it shows, RFC 3339
    #[arg(long, value_name = "TIME")]
    time: Option<Timestamp>,
    /// The time zone of times that the tool wrote without one [default: this machine's]
    #[arg(long, value_name = "ZONE", value_parser = time_zone)]
    time_zone: Option<TimeZone>,
    /// The server that was backed up
    #[arg(long, value_name = "UUID")]
    server_uuid: Option<Uuid>,
    /// Its name in the archive [default: time and digest]
    #[arg(long, value_name = "NAME")]
    id: Option<BackupId>,
}

fn gtid_set(text: &str) -> Result<GtidSet, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn position(text: &str) -> Result<Position, String> {
    let parts = text.rsplit_once(':');
    let parsed = parts.and_then(|(file, offset)| Position::new(file, offset.parse().ok()?));
    parsed.ok_or_else(|| "write a binlog file's name, a colon and an offset".to_owned())
}

fn time_zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|error| error.to_string())
}

impl Backup {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let config = Config::load(&config::find(global.config.as_deref())?)?;
        let format = global.terminal.format;
        match self {
            Self::Add(add) => {
                let record = add.record(&config)?;
                super::block_on(async move { store_record(&config, &record, format).await })
            }
            Self::Ls => super::block_on(async move { list(&config, format).await }),
        }
    }
}

impl Add {
    fn record(self, config: &Config) -> anyhow::Result<Record> {
        let coordinates = self.coordinates()?;
        let recorded_at = SystemClock.now();
        let id = match self.id {
            Some(id) => id,
            None => default_id(&coordinates, &self.location, recorded_at)?,
        };
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        Ok(Record {
            version: VERSION,
            id,
            cluster: config.cluster.clone(),
            coordinates,
            location: self.location,
            recorded_at,
            writer: format!("gtide {} on {host}", env!("CARGO_PKG_VERSION")),
        })
    }

    /// What the files say, and what was stated; the two must not contradict each other.
    fn coordinates(&self) -> anyhow::Result<Coordinates> {
        let mut texts = Vec::new();
        for path in &self.files {
            texts.push((path.display().to_string(), read_text(path)?));
        }
        let texts = texts
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        let Evidence {
            mut coordinates,
            local_time,
        } = match evidence::read(texts) {
            Ok(evidence) => evidence,
            Err(EvidenceError::Nothing) if self.gtid.is_some() || self.position.is_some() => {
                Evidence {
                    coordinates: Coordinates::unknown(Tool::Stated),
                    local_time: None,
                }
            }
            Err(error) => return Err(failure(&error)),
        };
        let stated = [
            self.gtid
                .as_ref()
                .zip(coordinates.gtid_set.as_ref())
                .is_some_and(|(a, b)| a != b),
            self.position
                .as_ref()
                .zip(coordinates.position.as_ref())
                .is_some_and(|(a, b)| a != b),
        ];
        if stated.contains(&true) {
            return Err(Failure {
                message: "what is stated contradicts what the files say".to_owned(),
                exit: Exit::Conflict,
                hint: Some("leave out --gtid and --position, or the files".to_owned()),
            }
            .into());
        }
        coordinates.gtid_set = coordinates.gtid_set.or_else(|| self.gtid.clone());
        coordinates.position = coordinates.position.or_else(|| self.position.clone());
        coordinates.server_uuid = self.server_uuid.or(coordinates.server_uuid);
        let zone = self.time_zone.clone().unwrap_or_else(TimeZone::system);
        let local = local_time.and_then(|time| zone.to_timestamp(time).ok());
        coordinates.taken_at = self.time.or(coordinates.taken_at).or(local);
        Ok(coordinates)
    }
}

fn failure(error: &(impl Diagnose + 'static)) -> anyhow::Error {
    Failure {
        message: crate::exit::chain(error),
        exit: error.exit(),
        hint: error.hint(),
    }
    .into()
}

/// The beginning of a file: dumps may be of any size.
fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let limit = MAX_TEXT as u64;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure {
        message: format!("read {}: {error}", path.display()),
        exit: Exit::Usage,
        hint: Some("check that the file exists and that this user may read it".to_owned()),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `20261122T203704Z-1a2b3c4d`: sorts by time, and differs for different backups.
fn default_id(
    coordinates: &Coordinates,
    location: &str,
    recorded_at: Timestamp,
) -> anyhow::Result<BackupId> {
    let time = coordinates.taken_at.unwrap_or(recorded_at);
    let what = serde_json::to_vec(&(coordinates, location)).context("encode a base backup")?;
    let digest = Digest::of(&what).to_string();
    let digest = digest.get(..8).unwrap_or_default();
    let id = format!("{}-{digest}", time.strftime("%Y%m%dT%H%M%SZ"));
    Ok(id.parse()?)
}

/// Writes the record to every destination. One that is there already with the same facts is done.
async fn store_record(config: &Config, record: &Record, format: Format) -> anyhow::Result<Exit> {
    let bytes = Bytes::from(record.to_bytes().context("encode a base backup")?);
    let key = record.key();
    for destination in &config.destinations {
        let store = store::connect(&destination.store)?;
        match store.put_if_absent(&key, bytes.clone()).await {
            Ok(()) => {}
            Err(StoreError::AlreadyExists { .. }) => compare(store.as_ref(), &key, record).await?,
            Err(error) => return Err(error.into()),
        }
    }
    match format {
        Format::Human => super::print(&format!("{}\n", record.id))?,
        Format::Json => super::print_json(record)?,
    }
    if record.coordinates.gtid_set.is_none() {
        anstream::eprintln!(
            "No GTID set is stated: plans can begin with this backup only if its binlog position is in an archived file."
        );
    }
    Ok(Exit::Ok)
}

async fn compare(store: &dyn ObjectStore, key: &ObjectKey, record: &Record) -> anyhow::Result<()> {
    let there = store::read_all(store, key, MAX_RECORD_LEN).await?;
    let there = Record::parse(key, &there).map_err(|error| failure(&error))?;
    if there.coordinates == record.coordinates && there.location == record.location {
        return Ok(());
    }
    Err(Failure {
        message: format!("{}: {key} is another backup", store.url()),
        exit: Exit::Conflict,
        hint: Some("give this one another --id".to_owned()),
    }
    .into())
}

/// The records at the first destination: all have the same.
async fn list(config: &Config, format: Format) -> anyhow::Result<Exit> {
    let mut records = Vec::new();
    if let Some(destination) = config.destinations.first() {
        let store: Arc<dyn ObjectStore> = store::connect(&destination.store)?;
        let prefix = ObjectKey::base_prefix(&config.cluster);
        let mut listing = store.list(&prefix, None);
        while let Some(listed) = listing.try_next().await? {
            if listed.key.parse_base_backup().is_none() {
                continue;
            }
            let bytes = store::read_all(store.as_ref(), &listed.key, MAX_RECORD_LEN).await?;
            records.push(Record::parse(&listed.key, &bytes).map_err(|error| failure(&error))?);
        }
    }
    match format {
        Format::Human => super::print(&table(&records))?,
        Format::Json => super::print_json(&serde_json::json!({
            "report_version": 1,
            "backups": records,
        }))?,
    }
    Ok(Exit::Ok)
}

fn table(records: &[Record]) -> String {
    if records.is_empty() {
        return "no base backups are recorded\n".to_owned();
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["ID", "TAKEN AT", "TOOL", "POSITION", "GTIDS", "LOCATION"]);
    for record in records {
        let coordinates = &record.coordinates;
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        table.add_row([
            record.id.to_string(),
            text(coordinates.taken_at.map(|time| time.to_string())),
            coordinates.tool.name().to_owned(),
            text(coordinates.position.as_ref().map(ToString::to_string)),
            text(coordinates.gtid_set.as_ref().map(ToString::to_string)),
            record.location.escape_debug().to_string(),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}
