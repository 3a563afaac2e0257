//! The machine's clock is wrong and is set right, by a day: what waits is tried in due time, and order does not care.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use engine::clock::{Clock, SystemClock};
use engine::config::Config;
use engine::daemon::Archiver;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::running::{names, status, wait_until, watermark, write_index};
use crate::workspace::{Workspace, code, stderr};

/// The machine's clock, off by some seconds.
#[derive(Debug, Default)]
struct WrongClock {
    off_by: AtomicI64,
}

const DAY: i64 = 24 * 60 * 60;

impl WrongClock {
    fn set(&self, off_by: i64) {
        self.off_by.store(off_by, Ordering::SeqCst);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        let off_by = SignedDuration::from_secs(self.off_by.load(Ordering::SeqCst));
        SystemClock.now() + off_by
    }
}

/// An archiver within this process.
pub struct Running {
    clock: Arc<WrongClock>,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Running {
    pub fn start(workspace: &Workspace) -> Self {
        let (clock, stop) = (Arc::new(WrongClock::default()), CancellationToken::new());
        let config = Config::load(&workspace.config()).unwrap();
        let (of_thread, stopped) = (Arc::clone(&clock), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let archiver = Archiver::open(&config, of_thread, false).await.unwrap();
                archiver.run(&stopped).await.unwrap();
            });
        });
        Self {
            clock,
            stop,
            thread,
        }
    }

    /// Sets the clock to so many seconds off.
    pub fn set_clock(&self, off_by: i64) {
        self.clock.set(off_by);
    }

    pub fn stop(self) {
        self.stop.cancel();
        self.thread.join().unwrap();
    }
}

/// The clock goes back and forth by a day while files are archived, and once while a file waits to be tried again.
#[test]
fn a_clock_that_jumps_by_a_day_delays_nothing() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let datadir = workspace.datadir();
    write_index(&datadir, &names(1..=3));
    let running = Running::start(&workspace);
    assert!(wait_until(|| watermark(&workspace, 1, "archive") == Some(2)));
    let mut last = 3;
    for off_by in [-DAY, DAY, 0] {
        // A file fails at one time, and is due at another.
        let seals = workspace.path().join("spool/seal");
        let aside = workspace.path().join("aside");
        fs::rename(&seals, &aside).unwrap();
        fs::write(&seals, "in the way").unwrap();
        last += 2;
        write_index(&datadir, &names(1..=last));
        let failing = || !status(&workspace)[0]["failing"].is_null();
        assert!(wait_until(failing), "{:?}", status(&workspace));
        fs::remove_file(&seals).unwrap();
        fs::rename(&aside, &seals).unwrap();
        running.set_clock(off_by);
        let begin = Instant::now();
        let archived = || watermark(&workspace, 1, "archive") == Some(last - 1);
        assert!(wait_until(archived), "{off_by}: {:?}", status(&workspace));
        let took = begin.elapsed();
        println!("off by {off_by} s: archived after {took:?}");
    }
    running.stop();
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}
