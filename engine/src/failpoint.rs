//! Places where a test may kill this program as `kill -9` would: before and after each durable step.
//!
//! `FAILPOINTS=kept=return` kills it the first time that it comes to the failpoint `kept`; `FAILPOINTS=kept=2*off->return` the
//! third time (the grammar is that of the `fail` crate). Builds without the feature `failpoints`, which only
//! tests turn on, contain none of it.
//!
//! | name | what is done, what is not |
//! |---|---|
//! | `pinned` | the file has its hard link, the ledger does not know it |
//! | `enqueued` | the file and its jobs are in the ledger |
//! | `before-seal` | there is a data key, nothing in the spool |
//! | `seal-block` | one block more lies in the nameless file |
//! | `before-keep` | the whole object lies in the nameless file |
//! | `kept` | the object has its name in the spool, the ledger does not know it |
//! | `sealed` | the ledger knows it |
//! | `before-begin-upload`, `begun` | the store gave an upload id, the ledger does not know it |
//! | `upload-recorded` | the ledger knows it, no part is sent |
//! | `before-part`, `part-sent` | the store acknowledged one part more |
//! | `parts-sent`, `before-complete` | it acknowledged all parts |
//! | `completed` | the object stands, not verified |
//! | `linked` | the same where the spooled object got a second name |
//! | `before-put`, `put` | the same for an object of one part |
//! | `before-verify`, `verified` | the store named our size and checksum |
//! | `before-turn` | the files before it may be uncommitted |
//! | `before-entry`, `entry-written` | the manifest entry stands, the ledger does not know it |
//! | `before-acknowledge`, `acknowledged` | commit, watermark and the job's end are in the ledger |
//! | `before-clear`, `cleared` | pin and spooled object are gone |

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
