//! What is served: the files of a plan or of a range, as one source of replication that never was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::gtid::GtidSet;
use engine::layout::Sequence;
use tokio::sync::watch;
use uuid::Uuid;

use super::answer::Refusal;
use super::begin::{Begin, Scope};
use super::request::{ByGtid, FromPosition};
use crate::apply::facts::Version;
use crate::cut::Search;
use crate::locate::{self, LocateError};
use crate::object::{Archive, Prefetched};
use crate::part::{Part, Step};
use crate::plan::Plan;

/// What is said of a server whose version nobody knows: the oldest whose replicas ask as newer ones do.
const UNKNOWN_VERSION: &str = "8.0.0";

/// Files, and as what server they are served.
#[derive(Debug)]
pub struct Offer {
    archive: Archive,
    /// It only grows, so that a number in it stays that of its file.
    steps: watch::Sender<Arc<Vec<Step>>>,
    /// What was executed before the first file.
    pub(super) before: GtidSet,
    /// What is left out for everyone.
    skip: GtidSet,
    /// `server_id`: no replica may have it.
    pub server_id: u32,
    /// `server_uuid`: no server has it.
    pub server_uuid: Uuid,
    sent: AtomicU64,
}

impl Offer {
    /// A plan.
    pub fn of_plan(archive: Archive, plan: &Plan, steps: Vec<Step>, server_id: u32) -> Self {
        Self {
            skip: plan.skip.clone(),
            ..Self::of_files(archive, steps, plan.start.clone(), server_id)
        }
    }

    /// Files of one server that follow each other; `before` was executed before the first of them.
    pub fn of_files(archive: Archive, steps: Vec<Step>, before: GtidSet, server_id: u32) -> Self {
        Self {
            archive,
            steps: watch::Sender::new(Arc::new(steps)),
            before,
            skip: GtidSet::new(),
            server_id,
            server_uuid: Uuid::new_v4(),
            sent: AtomicU64::new(0),
        }
    }

    /// More files, which follow the last one. Who waits for them gets them.
    pub fn append(&self, more: Vec<Step>) {
        self.steps
            .send_modify(|steps| Arc::make_mut(steps).extend(more));
    }

    /// The files as they are now.
    pub(super) fn steps(&self) -> Arc<Vec<Step>> {
        Arc::clone(&self.steps.borrow())
    }

    /// The last file's sequence.
    pub fn last(&self) -> Option<Sequence> {
        self.steps().last().map(|step| step.part.file.sequence())
    }

    /// Tells when there are more files.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Vec<Step>>> {
        self.steps.subscribe()
    }

    /// Bytes of events that were sent to all clients.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The newest of the servers that wrote the files.
    pub(super) fn version(&self) -> String {
        let steps = self.steps();
        let versions = steps.iter().map(|step| step.server_version.as_str());
        let newest = versions.max_by_key(|version| Version::find(version));
        let newest = newest.filter(|version| !version.is_empty());
        format!("{}-gtide", newest.unwrap_or(UNKNOWN_VERSION))
    }

    /// All that whoever has read everything has executed.
    pub(super) fn executed(&self) -> GtidSet {
        let mut executed = self.before.clone();
        for step in self.steps().iter() {
            executed.union_with(&step.adds);
        }
        executed.subtract(&self.skip)
    }

    /// `gtid_mode` of a server that writes such files.
    pub(super) fn gtid_mode(&self) -> &'static str {
        if self.steps().iter().any(|step| step.anonymous) {
            "OFF_PERMISSIVE"
        } else {
            "ON"
        }
    }

    pub(super) fn note_sent(&self, bytes: u32) {
        self.sent.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    pub(super) fn read(&self, part: &Part) -> Prefetched {
        self.archive.prefetch_part(part)
    }

    pub(super) fn by_position(&self, asked: &FromPosition) -> Result<Begin, Refusal> {
        self.scope(&self.steps()).by_position(asked)
    }

    /// Where a replica goes on; what it has of the first file is not read, where the file's index tells.
    pub(super) async fn by_gtid(
        &self,
        asked: &ByGtid,
    ) -> Result<Result<Begin, Refusal>, LocateError> {
        let steps = self.steps();
        let mut begin = match self.scope(&steps).by_gtid(asked) {
            Ok(begin) => begin,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(step) = steps.get(begin.first)
            && asked.from.file.is_empty()
            && !step.anonymous
            && !step.adds.is_disjoint(&begin.executed)
        {
            let search = Search::Outside(begin.executed.clone());
            let file = &step.part.file;
            let located = locate::locate(&self.archive, file, &step.adds, &search).await?;
            begin.from = located.cut.offset;
        }
        Ok(Ok(begin))
    }

    fn scope<'a>(&'a self, steps: &'a [Step]) -> Scope<'a> {
        Scope {
            steps,
            before: &self.before,
            skip: &self.skip,
        }
    }
}
