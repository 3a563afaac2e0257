//! Scans each source for as long as the archiver runs, and says what is wrong with it once.

use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Problem;
use crate::clock::{Clock, SystemClock};
use crate::exit;
use crate::retry::RetryClass;
use crate::watch::{self, Watch, WatchError};

/// Events this close together are one scan.
const SETTLE: Duration = Duration::from_millis(50);

/// A source in trouble is scanned again this often.
pub(super) const TROUBLE_POLL: Duration = Duration::from_mins(1);

/// Scans one source for as long as the archiver runs.
pub(super) async fn keep_watch(watch: Watch, stop: CancellationToken) {
    let name = &watch.config.name;
    let mut changes = match watch::events::changes(&watch.config.index) {
        Ok(changes) => changes.left_stream(),
        Err(error) => {
            tracing::warn!(source = name, %error, "no inotify: found by polling alone");
            futures::stream::pending().right_stream()
        }
    };
    let mut trouble = None;
    let mut unpinned = None;
    let mut late = Vec::new();
    let mut begun = false;
    loop {
        let outcome = if begun {
            watch.scan().await
        } else {
            watch.first_scan().await
        };
        let pause = match outcome {
            Ok(scan) => {
                if !begun || trouble.is_some() {
                    record(&watch, None).await;
                }
                begun = true;
                if trouble.take().is_some() {
                    tracing::info!(source = name, "scanned again, the trouble is over");
                }
                if scan.late != late {
                    for file in &scan.late {
                        let Problem { error, hint, .. } = Problem::late(file);
                        tracing::error!(source = name, error, hint, "gap");
                    }
                    late = scan.late;
                }
                if scan.unpinned != unpinned {
                    warn_unpinned(&watch, scan.unpinned.as_deref());
                    unpinned = scan.unpinned;
                }
                watch::POLL
            }
            // The server is writing a line of its index, say: the next scan will tell.
            Err(error) if error.retry_class() != RetryClass::Never && trouble.is_none() => {
                tracing::info!(
                    source = name,
                    error = exit::chain(&error),
                    "scan failed, to be tried again"
                );
                watch::POLL
            }
            Err(error) => {
                tell_trouble(name, error, &mut trouble);
                record(&watch, trouble.as_ref()).await;
                TROUBLE_POLL
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            Some(()) = changes.next() => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// Says a source's trouble once, not at every scan.
fn tell_trouble(name: &str, error: WatchError, told: &mut Option<Problem>) {
    let problem = Problem::of(&error.into());
    if told.as_ref() != Some(&problem) {
        tracing::error!(
            source = name,
            error = problem.error,
            hint = problem.hint,
            "source stopped"
        );
        *told = Some(problem);
    }
}

pub(super) fn warn_unpinned(watch: &Watch, reason: Option<&str>) {
    if let Some(reason) = reason {
        tracing::warn!(
            source = watch.config.name,
            reason,
            "not pinned: files that the server expires before they are archived would be lost"
        );
    }
}

/// Keeps a source's trouble, or that it is over, where `gtide status` finds it.
pub(super) async fn record(watch: &Watch, problem: Option<&Problem>) {
    let trouble = problem.map(|problem| problem.trouble(SystemClock.now()));
    let ledger = watch.queue.ledger();
    if let Err(error) = ledger
        .set_trouble(&watch.config.name, trouble.as_ref())
        .await
    {
        tracing::warn!(error = exit::chain(&error), "the ledger cannot be written");
    }
}
