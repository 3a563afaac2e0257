//! The archiver in this process, with a clock that runs sixty times as fast: so do all its delays between attempts.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use engine::clock::{Clock, SystemClock};
use engine::config::Config;
use engine::daemon::Archiver;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::archiver::Site;

const TIMES: i32 = 60;

#[derive(Debug, Clone, Copy)]
struct FastClock {
    real: Instant,
    began: Timestamp,
}

impl FastClock {
    fn elapsed(&self) -> SignedDuration {
        SignedDuration::try_from(self.real.elapsed()).unwrap() * TIMES
    }
}

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        self.began + self.elapsed()
    }
}

/// An archiver at work in a thread of its own.
pub struct Running {
    clock: FastClock,
    stop: CancellationToken,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Starts the daemon of this site.
    pub fn start(site: &Site) -> Self {
        let clock = FastClock {
            real: Instant::now(),
            began: SystemClock.now(),
        };
        let config = Config::load(&site.workspace.config()).unwrap();
        let stop = CancellationToken::new();
        let told = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(async {
                let archiver = Archiver::open(&config, Arc::new(clock), false).await?;
                archiver.run(&told).await
            })
        });
        Self {
            clock,
            stop,
            thread,
        }
    }

    /// How long it has been at work, by its clock.
    pub fn elapsed(&self) -> SignedDuration {
        self.clock.elapsed()
    }

    /// As by SIGTERM.
    pub fn stop(self) {
        self.stop.cancel();
        self.thread.join().unwrap().unwrap();
    }
}
