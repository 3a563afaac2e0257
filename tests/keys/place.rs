//! An archiver with a few small binlogs, whose keys are what a test says.

use std::fs;
use std::process::Output;

use crate::archiver::{Database, Destination, Originals, Site, binlogs, originals};
use crate::workspace::code;
use tempfile::TempDir;

/// Makes a site with `files` closed binlogs of a few kilobytes, archived to a folder.
pub fn site(files: u64) -> (Site, Originals) {
    let datadir = TempDir::new().unwrap();
    let mut server = binlogs::Server::new(datadir.path(), 1);
    for _ in 0..files {
        server.rotate(datadir.path(), 1);
    }
    let site = Site::of(
        "keys",
        datadir.path(),
        Database::Sqlite,
        Destination::Folder,
    );
    let originals = originals(&site.workspace.datadir());
    (site, originals)
}

/// Puts these lines in the place of the key in the configuration.
pub fn set_encryption(site: &Site, lines: &str) {
    let path = site.workspace.config();
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("[encryption]\n").unwrap();
    let (_, tail) = rest.split_once("[compression]\n").unwrap();
    fs::write(
        path,
        format!("{head}[encryption]\n{lines}\n[compression]\n{tail}"),
    )
    .unwrap();
}

/// What `[encryption]` says.
pub fn encryption(site: &Site) -> toml::Table {
    let text = fs::read_to_string(site.workspace.config()).unwrap();
    let config: toml::Table = toml::from_str(&text).unwrap();
    config["encryption"].as_table().unwrap().clone()
}

/// `gtide key …`.
pub fn key(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.workspace.gtide();
    command.arg("key").args(arguments);
    command.args(["--format", "json"]).output().unwrap()
}

/// The key ids that the manifest entries name, in order.
pub fn sealed_with(site: &Site) -> Vec<String> {
    let folder = site.workspace.archived_folder().join("manifest");
    let names = site.workspace.archived("manifest");
    let key_id = |name: String| {
        let text = fs::read(folder.join(name)).unwrap();
        let entry: serde_json::Value = serde_json::from_slice(&text).unwrap();
        entry["object"]["key_id"].as_str().unwrap().to_owned()
    };
    names.into_iter().map(key_id).collect()
}

/// Everything verifies, or this is why not.
pub fn assert_verifies(site: &Site) {
    let output = site.workspace.verify();
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        code(&output),
        0,
        "{report}{}",
        crate::workspace::stderr(&output)
    );
    assert!(!report.contains("not an object of gtide's"), "{report}");
}
