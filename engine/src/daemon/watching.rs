//! Scans a source for as long as this process has it, and says what is wrong with it once.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch::Receiver;

use super::Problem;
use super::destination::Opened;
use super::tenure::Tenure;
use super::trouble::Troubles;
use crate::config::SourceConfig;
use crate::exit::Exit;
use crate::ledger::DestinationId;
use crate::retry::RetryClass;
use crate::watch::{self, POLL, Scan, Watch, WatchError};

/// Events this close together are one scan.
const SETTLE: Duration = Duration::from_millis(50);

/// A scan that takes longer waits for something: closed files are held meanwhile, and again after as long.
const HOLD_AFTER: Duration = Duration::from_secs(2);

/// A source in trouble that only a person can end is scanned again this often: each time may read whole files.
const TROUBLE_POLL: Duration = Duration::from_mins(1);

/// One source under watch, and what was said of it.
pub(super) struct Watching<'a> {
    tenure: &'a Tenure,
    watch: Watch,
    trouble: &'a mut Troubles,
    /// Failed scans in a row.
    failures: u32,
    unpinned: Option<String>,
    late: Vec<String>,
}

/// What a scan means for the next one.
enum Next {
    After(Duration),
    /// The server is another one.
    Never,
}

impl<'a> Watching<'a> {
    pub(super) fn new(
        tenure: &'a Tenure,
        config: &SourceConfig,
        trouble: &'a mut Troubles,
    ) -> Self {
        let watch = Watch {
            config: config.clone(),
            pins: tenure.pins(),
            include_last: tenure.parts.include_last,
        };
        Self {
            tenure,
            watch,
            trouble,
            failures: 0,
            unpinned: None,
            late: Vec::new(),
        }
    }

    /// Scans until the server has another `server_uuid` than the source's. Dropping it between or within scans is
    /// safe.
    pub(super) async fn run(mut self, mut openings: Receiver<Opened>) {
        let mut changes = changes(&self.watch.config);
        let mut served = Opened::new();
        loop {
            let opened = openings.borrow_and_update().clone();
            let fresh: Vec<_> = opened.difference(&served).copied().collect();
            let (outcome, held) = self.look_and_hold(&opened, &fresh).await;
            match &outcome {
                // What was held may have been archived and let go of before: the next scan goes through it.
                Ok(_) if held => served.clear(),
                Ok(_) => served = opened,
                // What numbering the files are of is for a person to say.
                Err(error) if Problem::of(error).exit == Exit::Conflict => {}
                // The database is away, say. Whatever else: what is closed is held, and gone through once it is back.
                Err(_) => {
                    served.clear();
                    let _ = self.tenure.pin_closed(&self.watch.config).await;
                }
            }
            let Next::After(pause) = self.judge(outcome).await else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(()) = changes.next() => tokio::time::sleep(SETTLE).await,
                // The senders live as long as the routes.
                Ok(()) = openings.changed() => {}
            }
        }
    }

    /// One scan. While it waits for a database that does not answer, what is closed is held; says whether that was so.
    async fn look_and_hold(
        &self,
        opened: &Opened,
        fresh: &[DestinationId],
    ) -> (anyhow::Result<Option<Scan>>, bool) {
        let mut looking = pin!(self.look(opened, fresh));
        let mut held = false;
        loop {
            tokio::select! {
                outcome = &mut looking => return (outcome, held),
                () = tokio::time::sleep(HOLD_AFTER) => {
                    let _ = self.tenure.pin_closed(&self.watch.config).await;
                    held = true;
                }
            }
        }
    }

    /// One scan; none when the server is another one.
    async fn look(&self, opened: &Opened, fresh: &[DestinationId]) -> anyhow::Result<Option<Scan>> {
        let config = &self.watch.config;
        if watch::server_uuid(config)? != self.tenure.identity.server_uuid {
            return Ok(None);
        }
        // While neither bucket nor ledger can say what is archived, nothing can be said of a file but that it is there.
        if opened.is_empty() && !self.tenure.has_history().await? {
            self.tenure.pin_closed(config).await?;
            return Ok(Some(Scan::default()));
        }
        let scan = self.watch.scan(fresh).await?;
        self.tenure.note_archived().await?;
        Ok(Some(scan))
    }

    async fn judge(&mut self, outcome: anyhow::Result<Option<Scan>>) -> Next {
        match outcome {
            Ok(None) => Next::Never,
            Ok(Some(scan)) => {
                self.failures = 0;
                self.trouble.clear().await;
                self.tell(scan);
                Next::After(POLL)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                Next::After(self.judge_failure(&error).await)
            }
        }
    }

    async fn judge_failure(&mut self, error: &anyhow::Error) -> Duration {
        let watch_error = error.downcast_ref::<WatchError>();
        let class = watch_error.map(WatchError::retry_class);
        // The server is writing a line of its index, or makes a new auto.cnf: the next scan will tell.
        let passes = class != Some(RetryClass::Never)
            || matches!(
                watch_error,
                Some(WatchError::Read { .. } | WatchError::NoServerUuid { .. })
            );
        if passes && self.failures == 1 {
            let name = &self.watch.config.name;
            let error = format!("{error:#}");
            tracing::info!(source = name, error, "scan failed, to be tried again");
            return POLL;
        }
        self.trouble.set(Problem::of(error)).await;
        if passes { POLL } else { TROUBLE_POLL }
    }

    /// Says what is new.
    fn tell(&mut self, scan: Scan) {
        let name = &self.watch.config.name;
        if scan.late != self.late {
            for file in &scan.late {
                let Problem { error, hint, .. } = Problem::late(file);
                tracing::error!(source = name, error, hint, "gap");
            }
            self.late = scan.late;
        }
        if scan.unpinned != self.unpinned {
            warn_unpinned(name, scan.unpinned.as_deref());
            self.unpinned = scan.unpinned;
        }
    }
}

fn changes(config: &SourceConfig) -> BoxStream<'static, ()> {
    match watch::events::changes(&config.index) {
        Ok(changes) => changes.chain(futures::stream::pending()).boxed(),
        Err(error) => {
            let name = &config.name;
            tracing::warn!(source = name, %error, "no inotify: found by polling alone");
            futures::stream::pending().boxed()
        }
    }
}

pub(super) fn warn_unpinned(source: &str, reason: Option<&str>) {
    if let Some(reason) = reason {
        tracing::warn!(
            source,
            reason,
            "not pinned: files that the server expires before they are archived would be lost"
        );
    }
}
