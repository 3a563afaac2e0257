//! Where a dump begins, or why it cannot. Pure, but for the cut in the first file.

use engine::gtid::GtidSet;

use super::answer::Refusal;
use super::dump::named;
use super::request::{ByGtid, FromPosition};
use crate::part::{Part, Step};

/// Offset of a file's first event.
const FIRST_EVENT: u64 = 4;

/// Where a dump begins, and what is left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begin {
    /// The first file's number in the offer.
    pub(super) first: usize,
    /// Where in it; none for where its part begins.
    pub(super) from: Option<u64>,
    /// What the client has, or wants not.
    pub(super) executed: GtidSet,
    /// It asks by GTID.
    pub(super) by_gtid: bool,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The files, in order.
    pub(super) steps: &'a [Step],
    /// What was executed before the first of them.
    pub(super) before: &'a GtidSet,
    /// What is left out for everyone.
    pub(super) skip: &'a GtidSet,
}

impl Scope<'_> {
    /// Where one begins who names a place.
    pub(super) fn by_position(&self, asked: &FromPosition) -> Result<Begin, Refusal> {
        let first = self.named(&asked.file)?;
        Ok(Begin {
            first,
            from: self.place(first, asked.position)?,
            executed: self.skip.clone(),
            by_gtid: false,
        })
    }

    /// Where one begins who says what it has.
    pub(super) fn by_gtid(&self, asked: &ByGtid) -> Result<Begin, Refusal> {
        let executed = asked.executed.union(self.skip);
        let first = if asked.from.file.is_empty() {
            let lacks = |step: &Step| step.anonymous || !step.adds.subtract(&executed).is_empty();
            let first = self.steps.iter().position(lacks);
            first.unwrap_or(self.steps.len())
        } else {
            self.named(&asked.from.file)?
        };
        let from = if asked.from.file.is_empty() {
            None
        } else {
            self.place(first, asked.from.position)?
        };
        self.has_all_before(&executed)?;
        Ok(Begin {
            first,
            from,
            executed,
            by_gtid: true,
        })
    }

    /// What was executed before the first file must be had: it is not here. A client that names a later file, as
    /// `mysqlbinlog` does, knows what it leaves out.
    fn has_all_before(&self, executed: &GtidSet) -> Result<(), Refusal> {
        let missing = self.before.subtract(executed);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::fatal(format!(
            "Cannot replicate because the source purged required binary logs: what is served begins behind {}, which \
             the replica lacks. Provision the replica from a backup that has them, or serve a plan that begins \
             with what it has.",
            named(&missing)
        )))
    }

    fn named(&self, file: &str) -> Result<usize, Refusal> {
        if file.is_empty() {
            return Ok(0);
        }
        let mut found = self.steps.iter().enumerate();
        let mut found = found
            .by_ref()
            .filter(|(_, step)| step.part.file.file_name() == file);
        let Some((number, first)) = found.next() else {
            return Err(Refusal::fatal(
                "Could not find first log file name in binary log index file",
            ));
        };
        // Of one file there may be several parts; several servers may have files of one name.
        if found.any(|(_, step)| step.part.file.identity != first.part.file.identity) {
            return Err(Refusal::fatal(format!(
                "several servers' files are named {file}: ask by GTID (SOURCE_AUTO_POSITION = 1)"
            )));
        }
        Ok(number)
    }

    /// A place in a file, judged by what is served of it.
    fn place(&self, number: usize, position: u64) -> Result<Option<u64>, Refusal> {
        let refused = |why: &str| {
            Err(Refusal::fatal(format!(
                "Client requested source to start replication from position {why}"
            )))
        };
        let Some(step) = self.steps.get(number) else {
            return Ok(None);
        };
        let (part, size) = (&step.part, step.part.file.size);
        match position {
            ..FIRST_EVENT => refused("< 4"),
            FIRST_EVENT => Ok(None),
            _ if position > size => refused("> file size"),
            _ if position < part.from.unwrap_or(0) || position > part.to.unwrap_or(size) => {
                refused("that is not served of this file")
            }
            _ => Ok(Some(position)),
        }
    }
}

impl Begin {
    /// What is to be sent of the file with this number.
    pub(super) fn part(&self, number: usize, steps: &[Step]) -> Option<Part> {
        let mut part = steps.get(number)?.part.clone();
        if number == self.first && self.from.is_some() {
            part.from = part.from.max(self.from);
        }
        Some(part)
    }
}
