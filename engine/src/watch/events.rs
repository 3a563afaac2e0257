//! Hears when an index file changes, through inotify.
//!
//! Only the folder is watched, and only for names that appear, are renamed into place or closed
//! after writing: the server replaces its index by rename, and a busy datadir stays silent.
//!
//! Events are a convenience: the slow poll of [`super::POLL`] finds everything without them.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use futures::{Stream, StreamExt};
use inotify::{Inotify, WatchMask};

/// Room for at least one event with the longest name; more are read in turns.
const BUFFER_SIZE: usize = 4096;

/// Yields once for each change of the file at `path`. Ends when events cannot be had any more.
///
/// # Errors
/// When the kernel has no inotify instance left for this user, or the folder cannot be watched.
pub fn changes(path: &Path) -> io::Result<impl Stream<Item = ()> + Send + Unpin + use<>> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().map(OsStr::to_owned);
    let inotify = Inotify::init()?;
    let mask =
        WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::ONLYDIR;
    inotify
        .watches()
        .add(folder.unwrap_or(Path::new(".")), mask)?;
    let events = inotify.into_event_stream(vec![0; BUFFER_SIZE])?;
    Ok(Box::pin(
        events
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(move |event| {
                // An overflow of the kernel's queue has no name: something was missed, so look.
                let ours = event.is_ok_and(|event| event.name.is_none() || event.name == name);
                std::future::ready(ours.then_some(()))
            }),
    ))
}
