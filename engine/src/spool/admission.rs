//! Who may seal now: the disk watermark.
//!
//! # Invariants
//! - Sealing begins when the file system has max(reserve, 2 × expected object size) free, apart from what is
//!   promised to seals under way in this process. Two lanes never count on the same bytes.
//! - Files are committed in order, and a spooled object goes only when its file is committed. So a file may take
//!   room only when what then remains is enough for every earlier file that is not sealed yet: else the later ones
//!   would fill the spool and wait for ever for the one that finds no room.
//! - To wait is no failure: it counts as no attempt, lasts until there is room, and is said once.
//!
//! # After a crash, when dropped
//! Promises and waiting are in memory and go with whoever held them.
//!
//! # Limits
//! Other processes that share the file system are seen as soon as they have written, not before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::expectation::Expectation;
use super::{Paused, Spool, SpoolError, io_error};
use crate::clock::{Clock, SystemClock};

/// Between two looks at the disk while there is no room.
pub const ADMISSION_POLL: Duration = Duration::from_secs(1);

/// The longest pause after the disk was full in the middle of sealing although there seemed to be room: a quota that
/// statvfs does not know, or another program that is quicker. The first is [`ADMISSION_POLL`]; it doubles.
pub const FULL_PAUSE_MAX: Duration = Duration::from_mins(1);

/// What a file needs to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// The source's name, for the log.
    pub source: &'a str,
    /// The file's, for the log.
    pub file: &'a str,
    /// Its size.
    pub size: u64,
    /// Sizes of the files before it that are not sealed yet.
    pub earlier: &'a [u64],
    /// How often the disk was full while it was being sealed.
    pub refused: u32,
}

/// Room that is promised to one seal until this is dropped.
#[derive(Debug)]
#[must_use = "the promise ends when it is dropped"]
pub struct Room {
    admission: Arc<Admission>,
    bytes: u64,
}

/// What the clones of a [`Spool`] share.
#[derive(Debug, Default)]
pub(super) struct Admission(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    expectation: Expectation,
    /// Bytes promised to seals under way.
    promised: u64,
    /// What each of those that wait needs, by a number of their own.
    waiting: BTreeMap<u64, u64>,
    last_number: u64,
    /// When the first of them began to wait.
    since: Option<Timestamp>,
    /// What was said about it.
    told: Option<Told>,
}

/// The file system below the spool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    /// Free for this user.
    pub(super) free: u64,
    /// All there is.
    pub(super) total: u64,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortage {
    /// Seals under way or earlier files come first; they need no help.
    Queueing,
    /// The disk has less than `needed` free.
    Breach { needed: u64 },
}

/// One that waits for the disk.
struct Waiting {
    admission: Arc<Admission>,
    number: u64,
}

impl Spool {
    /// Waits until there is room to seal a file. May wait for ever; drop it to give up.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub async fn admit(&self, need: &Need<'_>) -> Result<Room, SpoolError> {
        let mut waiting = None;
        if need.refused > 0 {
            let disk = self.disk().await?;
            let needed = self.admission.needed(need, self.reserve);
            waiting = Some(self.wait(need, disk, needed));
            let pause = ADMISSION_POLL.saturating_mul(1 << (need.refused - 1).min(8));
            tokio::time::sleep(pause.min(FULL_PAUSE_MAX)).await;
        }
        loop {
            let disk = self.disk().await?;
            match self.admission.take(need, disk.free, self.reserve) {
                Ok(room) => {
                    if waiting.is_some_and(Waiting::ends_the_pause) {
                        tracing::info!(dir = %self.dir.display(), free = disk.free, "room in the spool again: sealing goes on");
                    }
                    return Ok(room);
                }
                Err(Shortage::Breach { needed }) if waiting.is_none() => {
                    waiting = Some(self.wait(need, disk, needed));
                }
                Err(_) => {}
            }
            tokio::time::sleep(ADMISSION_POLL).await;
        }
    }

    /// Takes note of how large the object of a file became.
    pub fn learn(&self, plain: u64, sealed: u64) {
        self.admission.state().expectation.learn(plain, sealed);
    }

    pub(super) async fn disk(&self) -> Result<Disk, SpoolError> {
        let dir = self.dir.clone();
        let asked = tokio::task::spawn_blocking(move || Disk::of(&dir));
        match asked.await {
            Ok(disk) => disk,
            Err(join) => Err(io_error("statvfs", &self.dir)(std::io::Error::other(join))),
        }
    }

    /// Begins to wait, and says so once for all that do.
    fn wait(&self, need: &Need<'_>, disk: Disk, needed: u64) -> Waiting {
        let why = if needed > disk.total {
            Told::TooSmall
        } else {
            Told::Full
        };
        let (waiting, is_new) = Waiting::begin(&self.admission, needed, why);
        if is_new {
            let Disk { free, total } = disk;
            let (source, file, dir) = (need.source, need.file, self.dir.display());
            tracing::warn!(
                source, file, %dir, free, total, needed,
                hint = why.hint(),
                "sealing waits: {}", why.words()
            );
        }
        waiting
    }
}

/// What was said about waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// There may be room when something else has gone.
    Full,
    /// There can never be.
    TooSmall,
}

impl Told {
    fn words(self) -> &'static str {
        match self {
            Self::Full => "there is no room in the spool",
            Self::TooSmall => "all of the spool's file system is less than what is needed",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Full => {
                "free space there, or lower [spool] reserve; pins keep the files alive meanwhile"
            }
            Self::TooSmall => {
                "put [spool] dir on a larger file system, or lower [spool] reserve; pins keep the files alive meanwhile"
            }
        }
    }
}

impl Disk {
    pub(super) fn of(dir: &std::path::Path) -> Result<Self, SpoolError> {
        let stat =
            rustix::fs::statvfs(dir).map_err(|errno| io_error("statvfs", dir)(errno.into()))?;
        Ok(Self {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

impl Admission {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn needed(&self, need: &Need<'_>, reserve: u64) -> u64 {
        reserve.max(self.state().twice(need.size))
    }

    /// Promises room to a seal, if there is enough.
    fn take(self: &Arc<Self>, need: &Need<'_>, free: u64, reserve: u64) -> Result<Room, Shortage> {
        let mut state = self.state();
        let bytes = state.twice(need.size);
        let needed = reserve.max(bytes);
        if free < needed {
            return Err(Shortage::Breach { needed });
        }
        let earlier = need.earlier.iter().map(|&size| state.twice(size));
        let earlier = earlier.fold(0, u64::saturating_add);
        let wanted = match earlier {
            0 => needed,
            // Whichever of them comes next then finds the reserve and its own.
            earlier => reserve.saturating_add(bytes).saturating_add(earlier),
        };
        if free.saturating_sub(state.promised) < wanted {
            return Err(Shortage::Queueing);
        }
        state.promised = state.promised.saturating_add(bytes);
        Ok(Room {
            admission: Arc::clone(self),
            bytes,
        })
    }

    /// Since when sealing waits, and for how much.
    pub(super) fn paused(&self) -> Option<Paused> {
        let state = self.state();
        Some(Paused {
            since: state.since?,
            needed: state.waiting.values().copied().max().unwrap_or_default(),
        })
    }
}

impl State {
    fn twice(&self, size: u64) -> u64 {
        self.expectation.of(size).saturating_mul(2)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.promised = state.promised.saturating_sub(self.bytes);
    }
}

impl Waiting {
    /// Also says whether `why` was not said before.
    fn begin(admission: &Arc<Admission>, needed: u64, why: Told) -> (Self, bool) {
        let mut state = admission.state();
        state.last_number = state.last_number.wrapping_add(1);
        let number = state.last_number;
        let is_new = state.told < Some(why);
        state.told = state.told.max(Some(why));
        state.waiting.insert(number, needed);
        state.since.get_or_insert_with(|| SystemClock.now());
        let admission = Arc::clone(admission);
        (Self { admission, number }, is_new)
    }

    /// Ends waiting; is nobody left who does?
    fn ends_the_pause(self) -> bool {
        let admission = Arc::clone(&self.admission);
        drop(self);
        admission.state().waiting.is_empty()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.waiting.remove(&self.number);
        if state.waiting.is_empty() {
            state.since = None;
            state.told = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const RESERVE: u64 = 100 * MIB;

    fn need(size: u64, earlier: &[u64]) -> Need<'_> {
        Need {
            source: "db1",
            file: "binlog.000001",
            size,
            earlier,
            refused: 0,
        }
    }

    #[test]
    fn the_greater_of_the_reserve_and_twice_the_object_must_be_free() {
        let admission = Arc::<Admission>::default();
        let small = need(MIB, &[]);
        assert!(admission.take(&small, RESERVE, RESERVE).is_ok());
        let breach = Shortage::Breach { needed: RESERVE };
        let taken = admission.take(&small, RESERVE - 1, RESERVE);
        assert_eq!(taken.unwrap_err(), breach);
        let large = need(100 * MIB, &[]);
        let taken = admission.take(&large, 2 * RESERVE, RESERVE);
        assert!(matches!(taken, Err(Shortage::Breach { needed }) if needed > 200 * MIB));
        assert!(admission.take(&large, 3 * RESERVE, RESERVE).is_ok());
    }

    #[test]
    fn two_lanes_do_not_count_on_the_same_bytes() {
        let admission = Arc::<Admission>::default();
        let file = need(50 * MIB, &[]);
        let free = 210 * MIB;
        let first = admission.take(&file, free, 0).unwrap();
        let second = admission.take(&file, free, 0).unwrap();
        let third = admission.take(&file, free, 0);
        assert_eq!(third.unwrap_err(), Shortage::Queueing);
        drop(first);
        assert!(admission.take(&file, free, 0).is_ok());
        drop(second);
        assert_eq!(admission.state().promised, 0);
    }

    /// Else the later files, sealed and waiting for their turn, would keep the earlier one out for ever.
    #[test]
    fn a_later_file_leaves_room_for_the_earlier_ones() {
        let admission = Arc::<Admission>::default();
        let free = RESERVE + 10 * MIB;
        let later = need(MIB, &[20 * MIB]);
        let taken = admission.take(&later, free, RESERVE);
        assert_eq!(taken.unwrap_err(), Shortage::Queueing);
        assert!(admission.take(&need(20 * MIB, &[]), free, RESERVE).is_ok());
        let later = need(MIB, &[2 * MIB]);
        assert!(admission.take(&later, free, RESERVE).is_ok());
    }

    #[test]
    fn less_is_asked_for_once_files_were_seen_to_shrink() {
        let admission = Arc::<Admission>::default();
        let file = need(100 * MIB, &[]);
        assert!(admission.take(&file, 50 * MIB, 0).is_err());
        admission.state().expectation.learn(100 * MIB, 10 * MIB);
        assert!(admission.take(&file, 50 * MIB, 0).is_ok());
    }

    #[test]
    fn the_pause_lasts_from_the_first_that_waits_to_the_last() {
        let admission = Arc::<Admission>::default();
        assert_eq!(admission.paused(), None);
        let (first, is_new) = Waiting::begin(&admission, 5, Told::Full);
        assert!(is_new);
        let (second, is_new) = Waiting::begin(&admission, 9, Told::Full);
        assert!(!is_new, "said once");
        assert_eq!(admission.paused().unwrap().needed, 9);
        let (third, is_new) = Waiting::begin(&admission, 8, Told::TooSmall);
        assert!(is_new, "worse than what was said");
        assert!(!third.ends_the_pause());
        assert!(!second.ends_the_pause());
        assert_eq!(admission.paused().unwrap().needed, 5);
        drop(first);
        assert_eq!(admission.paused(), None);
    }
}
