//! `gtide key …`.

mod rewrap;
mod rotate;

use std::path::PathBuf;

use clap::Subcommand;

use super::{Format, Global};
use crate::exit::Exit;
use crate::keyring;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a new key file, readable by this user only
    New {
        /// The file; it must not exist yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Seal new objects with another key; the one of before still opens what it sealed
    Rotate(rotate::Rotate),
    /// Wrap the data keys of older objects under the key of today, so that former keys are not needed any more
    Rewrap(rewrap::Rewrap),
}

impl Key {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::New { file } => new(&file, global),
            Self::Rotate(rotate) => rotate.run(global),
            Self::Rewrap(rewrap) => rewrap.run(global),
        }
    }
}

fn new(file: &std::path::Path, global: &Global) -> anyhow::Result<Exit> {
    let id = keyring::create_key_file(file)?;
    match global.terminal.format {
        Format::Human => super::print(&format!("{id} in {}\n", file.display()))?,
        Format::Json => {
            super::print_json(&serde_json::json!({ "key_id": id.as_str(), "file": file }))?;
        }
    }
    keep_a_copy();
    Ok(Exit::Ok)
}

fn keep_a_copy() {
    anstream::eprintln!(
        "Keep a copy apart from this machine and from the bucket: without this key the archive \
         cannot be read."
    );
}
