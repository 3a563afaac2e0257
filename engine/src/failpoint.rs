//! Places where a test may kill this program as `kill -9` would.
//!
//! `FAILPOINTS=kept=return` kills it the first time that it comes to the failpoint `kept`; `FAILPOINTS=kept=2*off->return` the
//! third time (the grammar is that of the `fail` crate). Builds without the feature `failpoints`, which only
//! tests turn on, contain none of it. The names are listed in engine/ARCHITECTURE.md.

/// A failpoint.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::here($name)
    };
}
pub(crate) use failpoint;

/// Makes the failpoints of the environment ready, for as long as the returned value lives.
#[cfg(feature = "failpoints")]
pub fn setup() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

#[cfg(feature = "failpoints")]
pub(crate) fn here(name: &'static str) {
    fail::fail_point!(name, |_| die());
}

/// SIGKILL: no destructor runs, no buffer is flushed.
#[cfg(feature = "failpoints")]
fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
