//! Whether a rollup is a copy of the entries that are there.

use std::collections::BTreeMap;

use engine::digest::Digest;
use engine::exit::{self, Exit};
use engine::layout::{RollupName, Sequence};
use engine::manifest::rollup::{self, MAX_STORED_LEN};
use engine::store::{self, ObjectStore};

use crate::range::SequenceRange;

use super::finding::{Finding, Kind};

/// Judges a rollup against the digests of the entries that were read in `range`.
pub(super) async fn judge(
    store: &dyn ObjectStore,
    name: &RollupName,
    range: SequenceRange,
    entries: &BTreeMap<Sequence, Digest>,
) -> Option<Finding> {
    let is_beside =
        range.ends_before(name.first()) || range.from().is_some_and(|from| name.last() < from);
    if is_beside {
        return None;
    }
    let stored = match store::read_all(store, &name.key(), MAX_STORED_LEN).await {
        Ok(stored) => stored,
        Err(error) => return Some(Finding::of_rollup(name.key(), &error)),
    };
    let owned = name.clone();
    let decoding = tokio::task::spawn_blocking(move || rollup::decode(&owned, &stored));
    let message = match decoding.await {
        Ok(Ok(rollup)) => {
            let rolled = rollup.entries.iter();
            let rolled = rolled.map(|rolled| (rolled.entry.sequence, rolled.sha256));
            difference(name, range, &rolled.collect(), entries)?
        }
        Ok(Err(error)) => exit::chain(&error),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    };
    let finding = Finding::new(Kind::BadRollup, Exit::Corrupt, name.key(), message);
    Some(finding.advise(
        "the entries count: nothing is lost. Find out who changed it; once it is deleted, the next start of `gtide run` \
         writes it again",
    ))
}

/// The first entry that is another one here and there. One that is here alone is missing there, which is told of by
/// itself.
fn difference(
    name: &RollupName,
    range: SequenceRange,
    rolled: &BTreeMap<Sequence, Digest>,
    entries: &BTreeMap<Sequence, Digest>,
) -> Option<String> {
    let among = entries.range(name.first()..=name.last());
    among
        .filter(|(sequence, _)| range.contains(**sequence))
        .find(|(sequence, sha256)| rolled.get(sequence) != Some(sha256))
        .map(|(sequence, _)| match rolled.get(sequence) {
            Some(_) => {
                format!("holds another entry of sequence {sequence} than the one that is there")
            }
            None => format!("lacks the entry of sequence {sequence}, which is there"),
        })
}
