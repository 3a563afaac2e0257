//! How many threads seal at once: fewer while the machine is busy, since it is MySQL's.
//!
//! # Owns
//! The places in which files are sealed: one for each file, and what no file wants for blocks of the others
//! (`seal::line`). Sealing is what costs CPU; uploads have their own limit (`store::bandwidth`), and
//! the disk has the classes of the unit.
//!
//! # How
//! Linux tells the share of time in which something that could run waited for a CPU: PSI, `some avg10` of
//! `/proc/pressure/cpu` (kernel documentation, accounting/psi). Above the limit a place is taken away at each look, and given
//! back below half of it. Sealing itself counts: more files at once than there are cores make no file ready sooner.
//!
//! # Invariants
//! - One place is always there.
//! - Who has a place waits for nothing that needs another one.
//!
//! # Limits
//! It follows with the ten seconds of the average. Where the kernel tells nothing, nothing is taken away. A place in use is
//! taken away when its file is sealed.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;

/// Where Linux tells it.
const CPU_PRESSURE: &str = "/proc/pressure/cpu";

/// A machine with fewer counts as one with so many.
const LEAST_CPUS: u64 = 2;

/// Between two looks: half of them see what the last one changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The places.
#[derive(Debug)]
pub struct Pace {
    places: Arc<Semaphore>,
    most: usize,
    now: AtomicUsize,
    yield_at: u8,
    pressure: PathBuf,
}

/// How many threads seal at once at most, where there may be so many uploads: no more than there are CPUs, since each
/// takes a whole one and some 14 MiB; two at least, so that one computes while another waits for the disk.
#[must_use]
pub fn places_for(uploads: u64) -> u64 {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    uploads.min((cpus as u64).max(LEAST_CPUS)).max(1)
}

/// What a look leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fewer,
    Same,
    More,
}

impl Pace {
    /// At most so many files at once, and fewer while the CPU's pressure is above `yield_at` percent; 0 is never.
    #[must_use]
    pub fn new(most: u64, yield_at: u8) -> Self {
        Self::of(most, yield_at, PathBuf::from(CPU_PRESSURE))
    }

    fn of(most: u64, yield_at: u8, pressure: PathBuf) -> Self {
        let most = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(most)),
            most,
            now: AtomicUsize::new(most),
            yield_at,
            pressure,
        }
    }

    /// How many places there are now.
    pub fn places(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Waits for a place. `None` never comes: the places are not closed.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// How many there are when the machine is at rest.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// A place, if there is one that nobody waits for.
    pub(super) fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Takes places away and gives them back, until it is dropped: then all are back.
    pub async fn keep(&self) -> Infallible {
        if self.yield_at == 0 {
            return std::future::pending().await;
        }
        let mut taken = Vec::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let busy = read(self.pressure.clone()).await.unwrap_or(0.0);
            match step(busy, self.yield_at, self.places(), self.most) {
                Step::Fewer => taken.extend(self.place().await),
                Step::More => drop(taken.pop()),
                Step::Same => continue,
            }
            let places = self.most.saturating_sub(taken.len());
            self.now.store(places, Ordering::Relaxed);
            tracing::debug!(busy, places, "files that may be sealed at once");
        }
    }
}

/// `busy` and `limit` are percent.
fn step(busy: f64, limit: u8, places: usize, most: usize) -> Step {
    let limit = f64::from(limit);
    if busy > limit && places > 1 {
        Step::Fewer
    } else if busy < limit / 2.0 && places < most {
        Step::More
    } else {
        Step::Same
    }
}

/// Percent of the last ten seconds.
async fn read(path: PathBuf) -> Option<f64> {
    let text = tokio::task::spawn_blocking(move || text(&path));
    some_avg10(&text.await.ok()??)
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Of `some avg10=1.53 avg60=…`.
fn some_avg10(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let mut fields = some.split(' ');
    let avg10 = fields.find_map(|field| field.strip_prefix("avg10="))?;
    avg10
        .parse()
        .ok()
        .filter(|percent: &f64| percent.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::durable_fs;

    const KERNEL: &str = "some avg10=12.34 avg60=0.40 avg300=5.02 total=3038448959\n\
                          full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn the_kernels_text_is_read() {
        assert_eq!(some_avg10(KERNEL), Some(12.34));
        for other in [
            "",
            "full avg10=1.00",
            "some avg60=1.00",
            "some avg10=NaN",
            "some avg10=",
        ] {
            assert_eq!(some_avg10(other), None, "{other:?}");
        }
    }

    #[test]
    fn this_machines_kernel_is_understood_where_it_tells() {
        if let Some(text) = text(Path::new(CPU_PRESSURE)) {
            assert!(some_avg10(&text).is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_place_is_left_and_never_more_than_all(
            looks in prop::collection::vec(0.0..100.0_f64, 0..100), limit in 1..=100_u8, most in 1..20_usize,
        ) {
            let mut places = most;
            for busy in looks {
                match step(busy, limit, places, most) {
                    Step::Fewer => places -= 1,
                    Step::More => places += 1,
                    Step::Same => {}
                }
                prop_assert!((1..=most).contains(&places));
            }
        }
    }

    fn tell(file: &Path, percent: u8) {
        let text = format!("some avg10={percent}.00 avg60=0.00 avg300=0.00 total=1\n");
        durable_fs::replace(file, text.as_bytes()).unwrap();
    }

    #[test]
    fn no_more_files_are_sealed_at_once_than_there_are_lanes_or_cpus() {
        assert_eq!(places_for(1), 1);
        assert_eq!(places_for(2), 2);
        let most = places_for(u64::MAX);
        let cpus = std::thread::available_parallelism().unwrap().get() as u64;
        assert_eq!(most, cpus.max(2));
    }

    async fn settles_at(pace: &Pace, places: usize) {
        while pace.places() != places {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_machine_has_one_place_and_an_idle_one_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        tell(file.path(), 90);
        let pace = Arc::new(Pace::of(4, 60, file.path().to_owned()));
        let held = pace.place().await;
        let keeper = Arc::clone(&pace);
        let keeper = tokio::spawn(async move { keeper.keep().await });
        settles_at(&pace, 1).await;
        assert_eq!(pace.places.available_permits(), 0, "the one is held");

        tell(file.path(), 10);
        settles_at(&pace, 4).await;
        assert_eq!(pace.places.available_permits(), 3);

        tell(file.path(), 90);
        settles_at(&pace, 1).await;
        keeper.abort();
        let _ = keeper.await;
        drop(held);
        assert_eq!(pace.places.available_permits(), 4, "who keeps it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_told_nothing_is_taken_away() {
        let pace = Arc::new(Pace::of(4, 60, PathBuf::from("/nowhere")));
        let keeper = Arc::clone(&pace);
        let keeper = tokio::spawn(async move { keeper.keep().await });
        tokio::time::sleep(LOOK_EVERY * 10).await;
        assert_eq!(pace.places(), 4);
        keeper.abort();
    }
}
