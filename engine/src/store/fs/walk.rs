//! Listing a directory tree in the byte order of its keys. Blocking.
//!
//! One folder's names are in memory at a time for each level of depth: a listing of a million objects
//! in one folder holds a million names.

use std::fs::{DirEntry, File};
use std::io;
use std::sync::Arc;
use std::vec::IntoIter;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::tree::Tree;
use crate::layout::ObjectKey;
use crate::store::location::STAGING;
use crate::store::{ListedObject, Operation, StoreError};

/// Walks the objects whose key begins with `prefix` and is greater than `start_after`, ascending.
#[derive(Debug)]
pub(super) struct Walk {
    tree: Arc<Tree>,
    prefix: String,
    start_after: Option<String>,
    /// The folders that we are in, outermost first. `None` before the first step and after an error.
    open: Option<Vec<Folder>>,
    failed: bool,
}

/// A folder that we are in.
#[derive(Debug)]
struct Folder {
    /// Its key: empty, or with a slash at its end.
    key: String,
    /// Itself, so that each name in it is looked up in one step; `None` where it is gone.
    dir: Option<File>,
    /// Those in it that are still to come, ascending.
    names: IntoIter<Name>,
}

/// The name of a file in a folder, or of a folder with a slash at its end. That slash makes the order of names the
/// order of keys: `a-b` stands before `a/b`, but `a0` behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Box<str>);

impl Name {
    fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }
}

impl Folder {
    /// Bytes in a file of it; `None` when that is gone.
    fn size(&self, name: &Name) -> io::Result<Option<u64>> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        match rustix::fs::statat(dir, &*name.0, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(u64::try_from(found.st_size).unwrap_or_default())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Walk {
    pub(super) fn new(tree: Arc<Tree>, prefix: String, start_after: Option<String>) -> Self {
        Self {
            tree,
            prefix,
            start_after,
            open: None,
            failed: false,
        }
    }

    /// What is listed, for messages.
    pub(super) fn url(&self) -> String {
        format!("{}/{}", self.tree.url(), self.prefix)
    }

    fn step(&mut self) -> Result<Option<ListedObject>, StoreError> {
        let io = |url: String| {
            move |source| StoreError::Io {
                operation: Operation::List,
                object: url,
                source,
            }
        };
        let mut open = match self.open.take() {
            Some(open) => open,
            None => vec![self.folder(String::new()).map_err(io(self.url()))?],
        };
        while let Some(folder) = open.last_mut() {
            let Some(name) = folder.names.next() else {
                open.pop();
                continue;
            };
            let key = format!("{}{}", folder.key, name.0);
            if name.is_folder() {
                open.push(self.folder(key).map_err(io(self.url()))?);
                continue;
            }
            // `None`: removed while we walked.
            if let Some(size) = folder.size(&name).map_err(io(self.url()))? {
                self.open = Some(open);
                let key = ObjectKey::from_listing(key);
                return Ok(Some(ListedObject { key, size }));
            }
        }
        self.open = Some(open);
        Ok(None)
    }

    /// The folder at `key`, and the names in it that may lead to what is asked for.
    fn folder(&self, key: String) -> io::Result<Folder> {
        let mut full = key.clone();
        let mut names = read_names(&self.tree, &key, |name| {
            full.truncate(key.len());
            full.push_str(&name.0);
            self.may_lead_on(&full)
        })?;
        names.sort_unstable();
        let names = names.into_iter();
        let dir = match File::open(self.tree.root().join(&key)) {
            Ok(dir) => Some(dir),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Folder { key, dir, names })
    }

    /// Whether what is asked for may be at or below this key.
    fn may_lead_on(&self, key: &str) -> bool {
        let is_folder = key.ends_with('/');
        let begins_right =
            key.starts_with(&self.prefix) || (is_folder && self.prefix.starts_with(key));
        let is_behind = self
            .start_after
            .as_deref()
            .is_none_or(|after| key > after || (is_folder && after.starts_with(key)));
        begins_right && is_behind
    }
}

impl Iterator for Walk {
    type Item = Result<ListedObject, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

/// The folders directly below `prefix`.
pub(super) fn folders(tree: &Tree, prefix: &str) -> Result<Vec<String>, StoreError> {
    let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    // A prefix in mid-name narrows the names of its folder.
    let narrowed = prefix.get(folder.len()..).unwrap_or_default();
    let wanted = |name: &Name| name.is_folder() && name.0.starts_with(narrowed);
    let names = read_names(tree, folder, wanted).map_err(|source| StoreError::Io {
        operation: Operation::List,
        object: format!("{}/{prefix}", tree.url()),
        source,
    })?;
    let keys = names.iter().map(|name| format!("{folder}{}", name.0));
    let mut folders: Vec<String> = keys.collect();
    folders.sort_unstable();
    Ok(folders)
}

/// The wanted names in `folder` (empty, or a key that ends in a slash), in no order. A folder that is not
/// there has none.
fn read_names(
    tree: &Tree,
    folder: &str,
    mut wanted: impl FnMut(&Name) -> bool,
) -> io::Result<Vec<Name>> {
    let entries = match std::fs::read_dir(tree.root().join(folder)) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(name_of(folder, &entry?)?.filter(&mut wanted));
    }
    Ok(names)
}

/// Of a folder: it is not there, or is something else.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// `None` for what is no part of the store: unfinished work, foreign things.
fn name_of(folder: &str, entry: &DirEntry) -> io::Result<Option<Name>> {
    let Ok(name) = entry.file_name().into_string() else {
        return Ok(None);
    };
    if folder.is_empty() && name == STAGING {
        return Ok(None);
    }
    let kind = match entry.file_type() {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let slash = match (kind.is_file(), kind.is_dir()) {
        (true, _) => "",
        (_, true) => "/",
        _ => return Ok(None),
    };
    Ok(Some(Name((name + slash).into())))
}
