//! The configuration, and the files with secrets that it names.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::exit::Exit;
use crate::finding::Finding;

/// Permission to write, for the group and for others.
const WRITABLE: u32 = 0o022;

/// Permission to read, for others, and for the group.
const READABLE_BY_OTHERS: u32 = 0o004;
const READABLE_BY_GROUP: u32 = 0o040;

pub(super) fn check(path: &Path, config: &Config) -> Vec<Finding> {
    let mut found = vec![config_file(path, config)];
    found.extend(secrets(config).iter().map(|path| secret(path)));
    found
}

/// Whoever may write it decides where the archive goes.
fn config_file(path: &Path, config: &Config) -> Finding {
    let (check, subject) = ("config", path.display().to_string());
    let mode = match mode(path) {
        Ok(mode) => mode,
        Err(error) => return unreadable(check, path, &error),
    };
    let holds_password = has_password(&config.queue.database);
    if holds_password && mode & READABLE_BY_OTHERS != 0 {
        let reason =
            format!("others may read it (mode {mode:04o}), and [queue] database holds a password");
        let hint = format!("chmod o-r {subject}; or give the password by PGPASSWORD or ~/.pgpass");
        return Finding::fail(check, subject, Exit::Usage, reason, hint);
    }
    if mode & WRITABLE != 0 {
        let reason =
            format!("others may write it (mode {mode:04o}): they decide where the archive goes");
        let hint = format!("chmod go-w {subject}");
        return Finding::fail(check, subject, Exit::Usage, reason, hint);
    }
    Finding::ok(check, subject, format!("valid, mode {mode:04o}"))
}

fn has_password(database: &str) -> bool {
    database.starts_with("postgres")
        && url::Url::parse(database).is_ok_and(|url| url.password().is_some())
}

/// Every file that a `file:` reference names.
fn secrets(config: &Config) -> Vec<PathBuf> {
    let encryption = &config.encryption;
    let stores = config.destinations.iter();
    let credentials = stores.filter_map(|d| d.store.credentials.as_deref());
    let references = [encryption.key.as_str()].into_iter();
    let references = references
        .chain(encryption.old_keys.iter().map(String::as_str))
        .chain(encryption.credentials.as_deref())
        .chain(credentials);
    let mut files: Vec<PathBuf> = references
        .filter_map(|reference| reference.strip_prefix("file:"))
        .map(PathBuf::from)
        .collect();
    files.sort();
    files.dedup();
    files
}

fn secret(path: &Path) -> Finding {
    let (check, subject) = ("secret", path.display().to_string());
    let mode = match mode(path) {
        Ok(mode) => mode,
        Err(error) => return unreadable(check, path, &error),
    };
    if let Err(error) = std::fs::File::open(path) {
        return unreadable(check, path, &error);
    }
    let hint = format!("chmod 600 {subject}");
    if mode & READABLE_BY_OTHERS != 0 {
        let reason = format!("others may read it (mode {mode:04o}): it is no secret");
        return Finding::fail(check, subject, Exit::Usage, reason, hint);
    }
    if mode & READABLE_BY_GROUP != 0 {
        let reason = format!("its group may read it (mode {mode:04o})");
        return Finding::warn(check, subject, reason, hint);
    }
    Finding::ok(
        check,
        subject,
        format!("readable by its owner alone (mode {mode:04o})"),
    )
}

fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(std::fs::metadata(path)?.mode() & 0o7777)
}

fn unreadable(check: &'static str, path: &Path, error: &std::io::Error) -> Finding {
    let hint = "check the path, and that the user that runs gtide may read it";
    let subject = path.display().to_string();
    Finding::fail(
        check,
        subject,
        Exit::Usage,
        format!("cannot be read: {error}"),
        hint,
    )
}
