//! `gtide key …`.

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
}

impl Key {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let Self::New { file } = self;
        let id = keyring::create_key_file(&file)?;
        match global.terminal.format {
            Format::Human => super::print(&format!("{id} in {}\n", file.display()))?,
            Format::Json => {
                super::print_json(&serde_json::json!({ "key_id": id.as_str(), "file": file }))?;
            }
        }
        anstream::eprintln!(
            "Keep a copy apart from this machine and from the bucket: without this key the archive \
             cannot be read."
        );
        Ok(Exit::Ok)
    }
}
