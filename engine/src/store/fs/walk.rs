//! Listing a directory tree in the byte order of its keys. Blocking.
//!
//! One folder's names are in memory at a time for each level of depth: a listing of a million objects
//! in one folder holds a million names.

use std::fs::DirEntry;
use std::io;
use std::sync::Arc;
use std::vec::IntoIter;

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
    open: Option<Vec<IntoIter<Name>>>,
    failed: bool,
}

/// A name in the tree: `key` of a file, or of a folder with a slash at its end. That slash makes the
/// order of names the order of keys: `a-b` stands before `a/b`, but `a0` behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    key: String,
}

impl Name {
    fn is_folder(&self) -> bool {
        self.key.ends_with('/')
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
            None => vec![self.names("").map_err(io(self.url()))?],
        };
        while let Some(folder) = open.last_mut() {
            let Some(name) = folder.next() else {
                open.pop();
                continue;
            };
            if name.is_folder() {
                open.push(self.names(&name.key).map_err(io(self.url()))?);
                continue;
            }
            match self.tree.root().join(&name.key).symlink_metadata() {
                Ok(metadata) => {
                    self.open = Some(open);
                    return Ok(Some(ListedObject {
                        key: ObjectKey::from_listing(name.key),
                        size: metadata.len(),
                    }));
                }
                // Removed while we walked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io(self.url())(error)),
            }
        }
        self.open = Some(open);
        Ok(None)
    }

    /// The names in `folder` that may lead to what is asked for, ascending.
    fn names(&self, folder: &str) -> io::Result<IntoIter<Name>> {
        let mut names = read_names(&self.tree, folder, |name| self.may_lead_on(name))?;
        names.sort_unstable();
        Ok(names.into_iter())
    }

    fn may_lead_on(&self, name: &Name) -> bool {
        let key = name.key.as_str();
        let begins_right =
            key.starts_with(&self.prefix) || (name.is_folder() && self.prefix.starts_with(key));
        let is_behind = self
            .start_after
            .as_deref()
            .is_none_or(|after| key > after || (name.is_folder() && after.starts_with(key)));
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
    let wanted =
        |name: &Name| name.is_folder() && name.key.starts_with(prefix) && name.key != prefix;
    let names = read_names(tree, folder, wanted).map_err(|source| StoreError::Io {
        operation: Operation::List,
        object: format!("{}/{prefix}", tree.url()),
        source,
    })?;
    let mut folders: Vec<String> = names.into_iter().map(|name| name.key).collect();
    folders.sort_unstable();
    Ok(folders)
}

/// The wanted names in `folder` (empty, or a key that ends in a slash), in no order. A folder that is not
/// there has none.
fn read_names(tree: &Tree, folder: &str, wanted: impl Fn(&Name) -> bool) -> io::Result<Vec<Name>> {
    let entries = match std::fs::read_dir(tree.root().join(folder)) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(name_of(folder, &entry?)?.filter(&wanted));
    }
    Ok(names)
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
    Ok(Some(Name {
        key: format!("{folder}{name}{slash}"),
    }))
}
