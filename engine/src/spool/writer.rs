//! Who writes manifest entries: the text in them, and by it whether an entry is another archiver's.
//!
//! An archiver is known by its spool: `<spool>/id` holds a random id, made once. Host names will not do: they change,
//! and a container has another one after each start.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{SpoolError, io_error};
use crate::durable_fs;

/// Program and version.
const PROGRAM: &str = concat!("gtide ", env!("CARGO_PKG_VERSION"));

/// Before the id.
const SPOOL: &str = ", spool ";

/// Digits of an id, in hexadecimal.
const ID_LEN: usize = 12;

/// Characters of a host's name that are told.
const MAX_HOST_LEN: usize = 64;

/// Characters of another's text that are repeated.
const MAX_SHOWN: usize = 160;

/// Others of whom it is remembered that they were told of; later ones are not told of.
const MAX_TOLD: usize = 100;

/// This archiver, as entries name it.
#[derive(Debug)]
pub struct Writer {
    id: String,
    text: String,
    /// Ids of others, by destination.
    told: Mutex<HashSet<(String, String)>>,
}

impl Writer {
    /// Reads the spool's id, or makes it.
    pub(super) fn of_spool(dir: &Path) -> Result<Self, SpoolError> {
        let path = dir.join("id");
        let id = match read_id(&path) {
            Ok(Some(id)) => id,
            Ok(None) => make_id(&path)?,
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        Ok(Self::new(&host(), id))
    }

    fn new(host: &str, id: String) -> Self {
        Self {
            text: format!("{PROGRAM} on {host}{SPOOL}{id}"),
            id,
            told: Mutex::default(),
        }
    }

    /// For entries.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whom to tell of when an entry at this destination has another archiver's `writer`: said once for each. None for
    /// this archiver's own, and for text that names no spool.
    pub fn rival(&self, destination: &str, writer: &str) -> Option<String> {
        let (_, id) = writer.rsplit_once(SPOOL)?;
        if id == self.id {
            return None;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let other = (destination.to_owned(), shown(id));
        (told.len() < MAX_TOLD && told.insert(other)).then(|| shown(writer))
    }
}

/// Text of somebody else, fit for a log.
fn shown(text: &str) -> String {
    let text = text.chars().take(MAX_SHOWN);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// None when there is none, or when it was emptied or damaged.
fn read_id(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let id = text.trim();
            let is_id = id.len() == ID_LEN && id.bytes().all(|b| b.is_ascii_hexdigit());
            Ok(is_id.then(|| id.to_owned()))
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Ok(None),
            _ => Err(error),
        },
    }
}

fn make_id(path: &Path) -> Result<String, SpoolError> {
    let mut id = uuid::Uuid::new_v4().simple().to_string();
    id.truncate(ID_LEN);
    durable_fs::replace(path, format!("{id}\n").as_bytes()).map_err(io_error("write", path))?;
    Ok(id)
}

fn host() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let name = name.chars().filter(|c| c.is_ascii_graphic() && *c != ',');
    let name: String = name.take(MAX_HOST_LEN).collect();
    if name.is_empty() {
        "a host without a name".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(id: &str) -> Writer {
        Writer::new("db1", id.to_owned())
    }

    #[test]
    fn the_id_is_made_once_and_made_again_only_when_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let first = Writer::of_spool(dir.path()).unwrap();
        assert_eq!(first.id.len(), ID_LEN);
        assert!(first.text().starts_with("gtide "), "{first:?}");
        assert_eq!(Writer::of_spool(dir.path()).unwrap().id, first.id);
        durable_fs::replace(&dir.path().join("id"), b"\xFF\xFE").unwrap();
        assert_ne!(Writer::of_spool(dir.path()).unwrap().id, first.id);
    }

    #[test]
    fn another_archiver_is_told_of_once_for_each_destination() {
        let (ours, other) = (writer("0123456789ab"), writer("ba9876543210"));
        assert_eq!(ours.rival("file:///a", ours.text()), None);
        let rival = ours.rival("file:///a", other.text());
        assert_eq!(rival.as_deref(), Some(other.text()));
        assert_eq!(ours.rival("file:///a", other.text()), None);
        assert!(ours.rival("file:///b", other.text()).is_some());
    }

    #[test]
    fn the_same_spool_on_a_renamed_host_and_text_of_earlier_versions_are_nobody_else() {
        let ours = writer("0123456789ab");
        let renamed = Writer::new("db2", "0123456789ab".to_owned());
        assert_eq!(ours.rival("file:///a", renamed.text()), None);
        assert_eq!(ours.rival("file:///a", "gtide 0.1.0"), None);
        assert_eq!(ours.rival("file:///a", ""), None);
    }

    #[test]
    fn what_another_wrote_is_cut_and_cannot_forge_a_log_line() {
        let ours = writer("0123456789ab");
        let long = format!("x\n{}{SPOOL}f", "y".repeat(1_000));
        let rival = ours.rival("file:///a", &long).unwrap();
        assert!(rival.len() <= MAX_SHOWN && !rival.contains('\n'), "{rival}");
    }
}
