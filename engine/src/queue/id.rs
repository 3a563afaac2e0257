//! Job ids: ULIDs made from what the job is about, so that queuing a file twice is harmless and the lowest id
//! of a lane is its lowest sequence.
//!
//! ```text
//! bytes 0..4  source    4..8  destination    8..16  sequence      big endian
//! ```

use ulid::Ulid;

use crate::layout::Sequence;
use crate::ledger::{DestinationId, Route, SourceId};

/// The id of a file's job on a route. Its text ascends as its number does.
pub(super) fn of_job(route: Route, sequence: Sequence) -> Ulid {
    let source = u128::from(route.source.0) << 96;
    let destination = u128::from(route.destination.0) << 64;
    let id = source | destination | u128::from(sequence.0);
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

    fn route(source: u32, destination: u32) -> Route {
        Route {
            source: SourceId(source),
            destination: DestinationId(destination),
        }
    }

    proptest! {
        #[test]
        fn ids_read_back_and_ascend_with_the_sequence(
            source: u32, destination: u32, a: u64, b: u64,
        ) {
            let route = route(source, destination);
            let text = |sequence| of_job(route, Sequence(sequence)).to_string();
            prop_assert_eq!(parse(&text(a)), Some((route, Sequence(a))));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        }
    }

    /// Stored in databases: it may never change.
    #[test]
    fn golden_id() {
        assert_eq!(
            of_job(route(1, 2), Sequence(123)).to_string(),
            "0000002000001000000000003V"
        );
        assert_eq!(parse("not an id"), None);
    }
}
