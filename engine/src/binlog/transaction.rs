//! Where transactions begin and end, and what they add up to.
//!
//! A transaction begins with its GTID event, also an anonymous one (MySQL 5.7+). Since 8.0.2 that
//! event states the length of the whole transaction; before, the end is found as the server's own
//! parser finds it (`libs/mysql/binlog/event/trx_boundary_parser.cpp`): by XID, XA PREPARE, COMMIT,
//! ROLLBACK, or a statement that stands alone. A length that contradicts the events is an obstacle,
//! and the events decide.

use std::ops::Range;

use jiff::Timestamp;

use super::Boundary;
use super::event::{Header, TransactionStart, kind};
use crate::gtid::{Gtid, GtidSet};

/// The transactions of one file, in file order.
#[derive(Debug, Clone, Default)]
pub(super) struct Transactions {
    open: Option<Open>,
    /// The end of the last transaction, while it may still be the start of the next.
    last_end: Option<u64>,
    boundaries: Vec<Boundary>,
    pub(super) added_gtids: GtidSet,
    pub(super) count: u64,
    pub(super) anonymous: u64,
    pub(super) first_commit: Option<Timestamp>,
    pub(super) last_commit: Option<Timestamp>,
    pub(super) earliest_commit: Option<Timestamp>,
    pub(super) latest_commit: Option<Timestamp>,
}

/// A transaction of which the end has not been reached.
#[derive(Debug, Clone)]
struct Open {
    start: u64,
    gtid: Option<Gtid>,
    commit: Option<Timestamp>,
    extent: Extent,
}

/// What decides where a transaction ends.
#[derive(Debug, Clone, Copy)]
enum Extent {
    /// The length that the GTID event stated: this is the offset behind the transaction.
    Stated(u64),
    /// Its events.
    Events {
        /// Within BEGIN or XA START.
        begun: bool,
    },
}

/// An event that is whole and begins no transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) header: &'a Header,
    /// Offset behind the event.
    pub(super) end: u64,
    /// Of a Query event that [`wants_statement`](Transactions::wants_statement).
    pub(super) statement: Option<&'a [u8]>,
}

impl Transactions {
    /// Whether the end of the open transaction may hang on the text of a Query event.
    pub(super) fn wants_statement(&self) -> bool {
        matches!(
            self.open,
            Some(Open {
                extent: Extent::Events { .. },
                ..
            })
        )
    }

    /// The GTID event `at` these offsets. Returns what is the matter with it.
    pub(super) fn begin(&mut self, at: &Range<u64>, start: TransactionStart) -> Option<String> {
        let Range { start: offset, end } = *at;
        let mut matter = self.force_end(offset);
        let stated = start.length.filter(|&length| length > 0);
        let stated = stated.map(|length| offset.saturating_add(length));
        let extent = match stated {
            Some(stated) if stated < end => {
                matter = Some("a transaction shorter than its GTID event".to_owned());
                Extent::Events { begun: false }
            }
            Some(stated) => Extent::Stated(stated),
            None => Extent::Events { begun: false },
        };
        self.last_end = None;
        let TransactionStart { gtid, commit, .. } = start;
        self.boundaries.push(Boundary {
            offset,
            gtid: gtid.clone(),
            commit,
        });
        self.open = Some(Open {
            start: offset,
            gtid,
            commit,
            extent,
        });
        if matches!(extent, Extent::Stated(stated) if stated == end) {
            self.complete(end);
        }
        matter
    }

    /// Any other event. Returns what is the matter with it.
    pub(super) fn step(&mut self, step: Step<'_>) -> Option<String> {
        self.flush_end();
        let Some(open) = &mut self.open else {
            return step.header.is_part_of_a_transaction().then(|| {
                let kind = step.header.kind;
                format!("an event of type {kind} outside of any transaction")
            });
        };
        match &mut open.extent {
            Extent::Stated(stated) if *stated < step.end => {
                let matter = format!(
                    "the transaction at {} states {} bytes, which end within this event",
                    open.start,
                    *stated - open.start
                );
                open.extent = Extent::Events { begun: true };
                self.complete_by_events(step);
                Some(matter)
            }
            Extent::Stated(stated) => {
                if *stated == step.end {
                    self.complete(step.end);
                }
                None
            }
            Extent::Events { .. } => {
                self.complete_by_events(step);
                None
            }
        }
    }

    /// The server ended the file at `offset`. Returns what is the matter with that.
    pub(super) fn file_ends(&mut self, offset: u64) -> Option<String> {
        let matter = self.force_end(offset);
        self.flush_end();
        matter
    }

    /// Nothing more is read: the next event is damaged.
    pub(super) fn stop(&mut self) {
        self.flush_end();
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn take_boundaries(&mut self) -> Vec<Boundary> {
        std::mem::take(&mut self.boundaries)
    }

    /// Something begins at `offset` that cannot be within a transaction: the open one is over.
    fn force_end(&mut self, offset: u64) -> Option<String> {
        let open = self.open.as_ref()?;
        let matter = match open.extent {
            Extent::Stated(stated) => {
                let length = stated - open.start;
                Some(format!(
                    "the transaction at {} states {length} bytes, past this event",
                    open.start
                ))
            }
            Extent::Events { .. } => None,
        };
        self.complete(offset);
        matter
    }

    fn complete_by_events(&mut self, step: Step<'_>) {
        let Some(Open {
            extent: Extent::Events { begun },
            ..
        }) = &mut self.open
        else {
            return;
        };
        let over = match step.header.kind {
            kind::XID | kind::XA_PREPARE => true,
            kind::QUERY => match Statement::of(step.statement.unwrap_or_default()) {
                Statement::Begin => {
                    *begun = true;
                    false
                }
                Statement::End => true,
                Statement::Other => !*begun,
            },
            _ => false,
        };
        if over {
            self.complete(step.end);
        }
    }

    fn complete(&mut self, end: u64) {
        let Some(Open { gtid, commit, .. }) = self.open.take() else {
            return;
        };
        self.last_end = Some(end);
        self.count += 1;
        self.first_commit = self.first_commit.or(commit);
        self.last_commit = commit.or(self.last_commit);
        self.earliest_commit = self.earliest_commit.into_iter().chain(commit).min();
        self.latest_commit = self.latest_commit.max(commit);
        match gtid {
            Some(gtid) => self
                .added_gtids
                .insert(gtid)
                .expect("the number was checked when the event was read"),
            None => self.anonymous += 1,
        }
    }

    /// The end of the last transaction is no other's start, so it is a boundary of its own.
    fn flush_end(&mut self) {
        if let Some(offset) = self.last_end.take() {
            self.boundaries.push(Boundary {
                offset,
                gtid: None,
                commit: None,
            });
        }
    }
}

/// What a statement does to a transaction's extent.
enum Statement {
    Begin,
    End,
    Other,
}

impl Statement {
    fn of(text: &[u8]) -> Self {
        let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
        let begins = |words: &[u8]| {
            text.get(..words.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(words))
        };
        if is(b"BEGIN") || begins(b"XA START") {
            Self::Begin
        } else if is(b"COMMIT") || is(b"ROLLBACK") || begins(b"XA COMMIT") || begins(b"XA ROLLBACK")
        {
            Self::End
        } else {
            Self::Other
        }
    }
}
