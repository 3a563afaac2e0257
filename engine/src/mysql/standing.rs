//! The archive's GTIDs against the server's.
//!
//! Three questions, each of two sets. The three sets are read one after the other from a server and a ledger at work, so
//! the order in which they are read decides what an answer is worth: [`compare`] says which.

use crate::gtid::GtidSet;

/// What the archive and the server have of each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Executed there and not archived yet: what would be lost with the server now.
    pub waiting: GtidSet,
    /// Not archived, and in none of the server's binary logs any more. What waits in a pinned file is among it.
    pub purged_unarchived: GtidSet,
    /// Archived, and not executed there: the server was reset, was restored to an earlier moment, or is another one.
    pub unknown_to_server: GtidSet,
}

/// `before` and `after` are the archive's set before and after the server was asked: what was archived before must be
/// executed, and what is purged now must have been archived by now.
#[must_use]
pub fn compare(
    before: &GtidSet,
    executed: &GtidSet,
    purged: &GtidSet,
    after: &GtidSet,
) -> Standing {
    Standing {
        waiting: executed.subtract(after),
        purged_unarchived: purged.subtract(after),
        unknown_to_server: before.subtract(executed),
    }
}

/// What a replica has that its source has not. `replica` was read before `source`, or what came between would look
/// errant.
#[must_use]
pub fn errant(replica: &GtidSet, source: &GtidSet) -> GtidSet {
    replica.subtract(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).parse().unwrap()
    }

    #[test]
    fn what_is_committed_and_not_archived_waits() {
        let standing = compare(&set("A:1-5"), &set("A:1-9"), &set("A:1-3"), &set("A:1-6"));
        assert_eq!(standing.waiting, set("A:7-9"));
        assert!(standing.purged_unarchived.is_empty() && standing.unknown_to_server.is_empty());
    }

    /// Both archived after the first look and purged before the last one.
    #[test]
    fn what_was_archived_and_purged_meanwhile_is_not_lost() {
        let standing = compare(&set("A:1-5"), &set("A:1-9"), &set("A:1-7"), &set("A:1-7"));
        assert!(standing.purged_unarchived.is_empty());
    }

    #[test]
    fn what_the_server_purged_before_it_was_archived_is_named() {
        let standing = compare(&set("A:1-5"), &set("A:1-9"), &set("A:1-7"), &set("A:1-5"));
        assert_eq!(standing.purged_unarchived, set("A:6-7"));
    }

    #[test]
    fn a_server_that_was_reset_lacks_what_is_archived() {
        let standing = compare(&set("A:1-5"), &set("A:1-2"), &set(""), &set("A:1-5"));
        assert_eq!(standing.unknown_to_server, set("A:3-5"));
    }

    #[test]
    fn a_write_on_a_replica_is_errant() {
        let b = "3e11fa47-71ca-11e1-9e33-c80aa9429563:1";
        let replica = set(&format!("A:1-5,{b}"));
        assert_eq!(errant(&replica, &set("A:1-9")), set(b));
    }
}
