//! Dependencies point one way: what stands without a feature names nothing that needs one, so that `restore` and the
//! console can be built without the archiver. A build of the whole workspace would not notice, since it unifies
//! features; a build of each program by itself takes as long as all else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a module or a program is built with, from the least.
const FEATURES: [&str; 3] = ["", "ledger", "daemon"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rank(feature: &str) -> usize {
    let found = FEATURES.iter().position(|known| *known == feature);
    found.unwrap_or_else(|| panic!("another feature: {feature}"))
}

/// The engine's modules, and what each needs.
fn modules() -> BTreeMap<String, usize> {
    let text = read(&root().join("engine/src/lib.rs"));
    let mut modules = BTreeMap::new();
    let mut needs = 0;
    for line in text.lines() {
        if let Some(feature) = line.strip_prefix("#[cfg(feature = \"") {
            needs = rank(feature.trim_end_matches("\")]"));
        } else if let Some(name) = line
            .trim_start_matches("pub ")
            .strip_prefix("mod ")
            .filter(|_| line.ends_with(';'))
        {
            modules.insert(name.trim_end_matches(';').to_owned(), needs);
            needs = 0;
        } else {
            needs = 0;
        }
    }
    assert!(modules.len() > 20, "{modules:?}");
    modules
}

/// The optional dependencies, and what brings each in.
fn optional() -> BTreeMap<String, usize> {
    let text = read(&root().join("engine/Cargo.toml"));
    let mut optional = BTreeMap::new();
    for line in text.lines() {
        let Some((feature, list)) = line.split_once(" = [") else {
            continue;
        };
        let names = list.split('"').filter_map(|item| item.strip_prefix("dep:"));
        optional.extend(names.map(|name| (format!("{}::", name.replace('-', "_")), rank(feature))));
    }
    assert!(optional.contains_key("sqlx::"), "{optional:?}");
    optional
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|end| end == "rs") {
        found.push(path.to_owned());
    }
}

/// Every line that names something at `prefix` that needs more than `has`.
fn trespasses(
    path: &Path,
    prefix: &str,
    has: usize,
    named: &BTreeMap<String, usize>,
) -> Vec<String> {
    let text = read(path);
    // Tests are built with everything; a module's come last.
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(&text);
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    let mut is_gated = false;
    for line in lines {
        // What stands behind a feature's condition is there only with it.
        let was_gated = std::mem::replace(
            &mut is_gated,
            line.trim_start().starts_with("#[cfg(feature"),
        );
        if was_gated {
            continue;
        }
        for (name, _) in named.iter().filter(|(_, needs)| **needs > has) {
            if names(line, &format!("{prefix}{name}")) {
                found.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    found
}

/// Does a path in the line begin with this?
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let goes_on = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let ends = path.ends_with(':') || after.is_none_or(|c| c == ':' || !goes_on(c));
        !before.is_some_and(goes_on) && ends
    })
}

#[test]
fn no_module_names_what_needs_more_than_itself() {
    let (modules, optional) = (modules(), optional());
    let mut found = Vec::new();
    for (name, &has) in &modules {
        let folder = root().join("engine/src");
        let mut files = Vec::new();
        sources(&folder.join(format!("{name}.rs")), &mut files);
        if folder.join(name).is_dir() {
            sources(&folder.join(name), &mut files);
        }
        files.retain(|path| {
            path.file_name()
                .is_some_and(|file| file != "tests.rs" && file != "tiers.rs")
        });
        for file in files {
            found.extend(trespasses(&file, "crate::", has, &modules));
            found.extend(trespasses(&file, "", has, &optional));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_programs_name_only_what_they_are_built_with() {
    let modules = modules();
    for (program, feature) in [("restore", ""), ("tui", "ledger")] {
        let mut files = Vec::new();
        sources(&root().join(program).join("src"), &mut files);
        let trespasses = files
            .iter()
            .flat_map(|file| trespasses(file, "engine::", rank(feature), &modules));
        let found: Vec<String> = trespasses.collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn a_trespass_is_seen() {
    assert!(names("use crate::ledger::Ledger;", "crate::ledger"));
    assert!(names("    sqlx::query(…)", "sqlx::"));
    assert!(!names("return Err(fail(reason))", "fail::"));
    assert!(!names("use crate::ledgers;", "crate::ledger"));
    assert!(!names("let random = brand::new();", "rand"));
}
