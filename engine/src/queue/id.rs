//! Job ids: ULIDs made from what the job is about, so that queuing a file twice is harmless and the lowest id
//! of a lane is its lowest sequence.
//!
//! ```text
//! bytes 0..4  source    4..8  destination    8..16  sequence      big endian
//! ```

use ulid::Ulid;

use crate::layout::Sequence;
use crate::ledger::{ArchiveJob, DestinationId, Route, SourceId};

/// The id of a job. Its text ascends as its number does.
pub(super) fn of_job(job: &ArchiveJob) -> Ulid {
    let source = u128::from(job.route.source.0) << 96;
    let destination = u128::from(job.route.destination.0) << 64;
    let id = source | destination | u128::from(job.sequence.0);
    Ulid::from_bytes(id.to_be_bytes())
}

/// What the job of this id is about; none for text that is no id.
pub(super) fn parse(text: &str) -> Option<(Route, Sequence)> {
    let id = u128::from_be_bytes(Ulid::from_string(text).ok()?.to_bytes());
    let word = |shift: u32| u32::try_from((id >> shift) & u128::from(u32::MAX)).ok();
    let route = Route {
        source: SourceId(word(96)?),
        destination: DestinationId(word(64)?),
    };
    let sequence = u64::try_from(id & u128::from(u64::MAX)).ok()?;
    Some((route, Sequence(sequence)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn job(source: u32, destination: u32, sequence: u64) -> ArchiveJob {
        let route = Route {
            source: SourceId(source),
            destination: DestinationId(destination),
        };
        ArchiveJob::new(route, Sequence(sequence))
    }

    proptest! {
        #[test]
        fn ids_read_back_and_ascend_with_the_sequence(
            source: u32, destination: u32, a: u64, b: u64,
        ) {
            let text = |sequence| of_job(&job(source, destination, sequence)).to_string();
            let expected = job(source, destination, a);
            prop_assert_eq!(parse(&text(a)), Some((expected.route, expected.sequence)));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        }
    }

    /// Stored in databases: it may never change.
    #[test]
    fn golden_id() {
        assert_eq!(
            of_job(&job(1, 2, 123)).to_string(),
            "0000002000001000000000003V"
        );
        assert_eq!(parse("not an id"), None);
    }
}
