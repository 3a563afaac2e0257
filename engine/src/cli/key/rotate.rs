//! `gtide key rotate`: edits the configuration in place.
//!
//! Nothing is written before the new key has made a data key and opened it again; then the file is replaced at once,
//! with its comments as they were.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use toml_edit::{Array, DocumentMut, Item, Value};

use super::{Format, Global};
use crate::config::{self, Config, EncryptionConfig};
use crate::durable_fs;
use crate::exit::{Exit, Failure};
use crate::keyring::{self, Keyring};

#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    /// As in the configuration: `file:PATH` (made when it is not there; relative to the configuration's folder),
    /// `aws-kms:ARN`, `gcp-kms:projects/…`
    #[arg(value_name = "REFERENCE")]
    reference: String,
}

impl Rotate {
    pub(in crate::cli) fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let path = config::find(global.config.as_deref())?;
        // Through a link, the file that it names is edited.
        let path = path.canonicalize().unwrap_or(path);
        let config = Config::load(&path)?;
        let format = global.terminal.format;
        super::super::block_on(async move { self.rotate(&path, &config, format).await })
    }

    async fn rotate(&self, path: &Path, config: &Config, format: Format) -> anyhow::Result<Exit> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let before = Edited::before(&text)?;
        let edited = before.rotated(&self.reference)?;
        let encryption = config::encryption_of(path, &edited.text)?;
        if encryption.key == config.encryption.key {
            return Err(refuse(
                format!("{} seals new objects already", self.reference),
                "name the key that is to follow it",
            ));
        }
        let made = make_key_file(&encryption.key)?;
        let keyring = Keyring::open(&EncryptionConfig {
            old_keys: Vec::new(),
            ..encryption.clone()
        })?;
        let id = keyring.try_current(&config.cluster).await?;
        // The former keys must still be there: what they sealed is opened with them.
        Keyring::open(&encryption)?;
        durable_fs::replace(path, edited.text.as_bytes())
            .with_context(|| format!("write {}", path.display()))?;
        match format {
            Format::Human => super::super::print(&format!("{id}\n"))?,
            Format::Json => super::super::print_json(&serde_json::json!({
                "key_id": id.as_str(), "key": self.reference, "former": before.key,
                "config": path, "made": made,
            }))?,
        }
        if made.is_some() {
            super::keep_a_copy();
        }
        anstream::eprintln!(
            "{} is in `old-keys`: it opens what it sealed. A running daemon takes the new key at SIGHUP, \
             or when it is started again.\nNext: gtide --config {} key rewrap",
            before.key,
            path.display()
        );
        Ok(Exit::Ok)
    }
}

fn refuse(message: String, hint: &str) -> anyhow::Error {
    Failure {
        message,
        exit: Exit::Usage,
        hint: Some(hint.to_owned()),
    }
    .into()
}

/// Makes the file of a `file:` reference where there is none.
fn make_key_file(reference: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = reference.strip_prefix("file:").map(PathBuf::from) else {
        return Ok(None);
    };
    // A dangling link is somebody's key that is not there now: no other is put in its place.
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    keyring::create_key_file(&path)?;
    Ok(Some(path))
}

/// A configuration's text.
struct Edited {
    text: String,
    /// The key that seals new objects, as typed.
    key: String,
}

impl Edited {
    fn before(text: &str) -> anyhow::Result<Self> {
        let document: DocumentMut = text.parse().context("read the configuration")?;
        let key = document
            .get("encryption")
            .and_then(|table| table.get("key"));
        let key = key.and_then(Item::as_str);
        Ok(Self {
            text: text.to_owned(),
            key: key.context("[encryption] key is not there")?.to_owned(),
        })
    }

    /// The same with `reference` as the key, and the key of before as the first of the old ones.
    fn rotated(&self, reference: &str) -> anyhow::Result<Self> {
        let mut document: DocumentMut = self.text.parse().context("read the configuration")?;
        let encryption = document
            .get_mut("encryption")
            .and_then(Item::as_table_like_mut)
            .context("[encryption] is not a table")?;
        if let Some(key) = encryption.get_mut("key").and_then(Item::as_value_mut) {
            let decor = key.decor().clone();
            *key = Value::from(reference);
            *key.decor_mut() = decor;
        }
        let old = encryption
            .entry("old-keys")
            .or_insert_with(|| Item::Value(Value::Array(Array::new())));
        let old = old.as_array_mut().context("`old-keys` is not an array")?;
        // One that comes back to office is not a former one any more.
        old.retain(|former| {
            former
                .as_str()
                .is_none_or(|former| former != reference && former != self.key)
        });
        insert_first(old, &self.key);
        Ok(Self {
            text: document.to_string(),
            key: reference.to_owned(),
        })
    }
}

/// In the style of the elements that are there: on a line of its own where they are.
fn insert_first(array: &mut Array, text: &str) {
    let mut value = Value::from(text);
    if let Some(first) = array.get(0) {
        let prefix = first.decor().prefix().and_then(|prefix| prefix.as_str());
        let on_line = prefix.filter(|prefix| prefix.contains('\n') && !prefix.contains('#'));
        if let Some(prefix) = on_line {
            value.decor_mut().set_prefix(prefix);
        } else if prefix.is_none_or(str::is_empty)
            && let Some(first) = array.get_mut(0)
        {
            first.decor_mut().set_prefix(" ");
        }
    }
    array.insert_formatted(0, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(text: &str, reference: &str) -> String {
        let before = Edited::before(text).unwrap();
        before.rotated(reference).unwrap().text
    }

    #[test]
    fn comments_stay_and_the_former_key_comes_first() {
        let text = "# mine\n[encryption] # keys\n# Kept in the safe.\nkey = \"file:a\" # since 2025\n\
                    # nothing else\n[compression]\nlevel = 3\n";
        let once = rotated(text, "file:b");
        assert_eq!(
            once,
            "# mine\n[encryption] # keys\n# Kept in the safe.\nkey = \"file:b\" # since 2025\n\
             old-keys = [\"file:a\"]\n# nothing else\n[compression]\nlevel = 3\n"
        );
        let twice = rotated(&once, "aws-kms:alias/x");
        assert!(
            twice.contains(
                "key = \"aws-kms:alias/x\" # since 2025\nold-keys = [\"file:b\", \"file:a\"]"
            ),
            "{twice}"
        );
        let back = rotated(&twice, "file:a");
        assert!(
            back.contains("old-keys = [\"aws-kms:alias/x\", \"file:b\"]"),
            "{back}"
        );
    }

    #[test]
    fn a_list_over_several_lines_stays_one() {
        let text = "[encryption]\nkey = \"file:b\"\nold-keys = [\n  \"file:a\", # 2024\n]\n";
        assert_eq!(
            rotated(text, "file:c"),
            "[encryption]\nkey = \"file:c\"\nold-keys = [\n  \"file:b\",\n  \"file:a\", # 2024\n]\n"
        );
    }

    #[test]
    fn a_table_in_one_line_is_edited_too() {
        let text = "encryption = { key = \"file:a\" }\n";
        let edited = rotated(text, "file:b");
        let read: toml::Table = toml::from_str(&edited).unwrap();
        assert_eq!(read["encryption"]["key"].as_str(), Some("file:b"));
        assert_eq!(read["encryption"]["old-keys"][0].as_str(), Some("file:a"));
    }
}
