//! Scans a source for as long as this process has it, and says what is wrong with it once.

use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch::Receiver;

use super::Problem;
use super::destination::Opened;
use super::tenure::Tenure;
use super::trouble::Troubles;
use crate::config::SourceConfig;
use crate::exit::Exit;
use crate::ledger::{DestinationId, Fingerprint};
use crate::retry::RetryClass;
use crate::watch::{self, POLL, Scan, Watch, WatchError};

/// Events this close together are one scan.
const SETTLE: Duration = Duration::from_millis(50);

/// A scan that takes longer waits for something: closed files are held meanwhile, and again after as long.
const HOLD_AFTER: Duration = Duration::from_secs(2);

/// While the index stays as it is, a source is scanned this often all the same: a scan looks at every file that it lists.
const UNCHANGED_POLL: Duration = Duration::from_mins(1);

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
    /// How the index looked when all that was closed was pinned: it need not be done again before it looks otherwise.
    pinned: Option<Seen>,
}

/// What a scan means for the next one.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// What changes at the server is in its index.
    OnceChanged,
    After(Duration),
    /// The server is another one.
    Never,
}

/// How the index and `auto.cnf` looked; none that cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    index: Option<Fingerprint>,
    auto_cnf: Option<Fingerprint>,
}

impl Seen {
    fn now(config: &SourceConfig) -> Self {
        let look = |path: &Path| path.metadata().ok().as_ref().map(Fingerprint::of);
        Self {
            index: look(&config.index),
            auto_cnf: look(&watch::auto_cnf(config)),
        }
    }
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
            pinned: None,
        }
    }

    /// Scans until the server has another `server_uuid` than the source's. Dropping it between or within scans is
    /// safe.
    pub(super) async fn run(mut self, mut openings: Receiver<Opened>) {
        let mut changes = changes(&self.watch.config);
        let mut served = Opened::new();
        loop {
            let (seen, began) = (Seen::now(&self.watch.config), Instant::now());
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
            let next = self.judge(outcome).await;
            if matches!(next, Next::OnceChanged) {
                self.pinned = Some(seen);
            }
            let pause = async {
                match next {
                    Next::OnceChanged if held => tokio::time::sleep(POLL).await,
                    Next::OnceChanged => self.until_changed(seen, began).await,
                    Next::After(pause) => tokio::time::sleep(pause).await,
                    Next::Never => {}
                }
            };
            if matches!(next, Next::Never) {
                return;
            }
            tokio::select! {
                () = pause => {}
                Some(()) = changes.next() => tokio::time::sleep(SETTLE).await,
                // The senders live as long as the routes.
                Ok(()) = openings.changed() => {}
            }
        }
    }

    /// Waits until the server's files look otherwise than before the last scan, or that was long ago, or the database does
    /// not answer.
    async fn until_changed(&self, seen: Seen, began: Instant) {
        while began.elapsed() < UNCHANGED_POLL {
            tokio::time::sleep(POLL).await;
            let noted = tokio::time::timeout(HOLD_AFTER, self.tenure.note_archived()).await;
            if !matches!(noted, Ok(Ok(()))) || Seen::now(&self.watch.config) != seen {
                return;
            }
        }
    }

    /// One scan. While it waits for a database that does not answer, what was closed meanwhile is held; says whether
    /// that was so.
    async fn look_and_hold(
        &self,
        opened: &Opened,
        fresh: &[DestinationId],
    ) -> (anyhow::Result<Option<Scan>>, bool) {
        let config = &self.watch.config;
        let mut looking = pin!(self.look(opened, fresh));
        let (mut held, mut pinned) = (false, self.pinned);
        loop {
            tokio::select! {
                outcome = &mut looking => return (outcome, held),
                () = tokio::time::sleep(HOLD_AFTER) => {
                    // A scan of very many files takes long for no such reason.
                    let seen = Seen::now(config);
                    if pinned != Some(seen) {
                        let is_pinned = self.tenure.pin_closed(config).await.is_ok();
                        pinned = is_pinned.then_some(seen);
                        held = true;
                    }
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
                let is_at_risk = scan.unpinned.is_some();
                self.tell(scan);
                if is_at_risk {
                    Next::After(POLL)
                } else {
                    Next::OnceChanged
                }
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
