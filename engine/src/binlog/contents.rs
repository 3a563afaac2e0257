//! What the events of one file say, one whole event after the other.
//!
//! # Behind the end
//! Rotate and Stop are a file's last events. Events behind one are read on, and the first of them is
//! an obstacle; the file's end is then what the last event is.

use std::ops::Range;

use super::event::{self, Defect, FormatDescription, Header, TransactionStart, kind};
use super::transaction::{Step, Transactions};
use super::{Boundary, ChecksumAlgorithm, Damage, End, Obstacle, Refusal, Summary};
use crate::gtid::GtidSet;

/// The longest event that is buffered to be interpreted, in bytes, but for `PREVIOUS_GTIDS`. The
/// greatest that servers write are Rotate with its file name of 512 bytes (`FN_REFLEN`), and
/// `FormatDescription` with one byte for each of up to 255 event types.
pub const MAX_SMALL_EVENT: u32 = 4096;

/// The longest `PREVIOUS_GTIDS` event that is buffered, in bytes: about a million intervals.
pub const MAX_PREVIOUS_GTIDS: u32 = 16 * 1024 * 1024;

/// How an event is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// A checksum follows the body.
    pub(super) has_footer: bool,
    /// The body is going to be interpreted.
    pub(super) keep: bool,
}

/// Why reading cannot go on.
#[derive(Debug)]
pub(super) enum Trouble {
    Refused(Refusal),
    Damaged(String),
}

/// What is known of the file so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    /// None before the first event.
    format: Option<Format>,
    previous_gtids: Option<GtidSet>,
    transactions: Transactions,
    events: u64,
    end: Option<End>,
    obstacle: Option<Obstacle>,
}

/// The first event.
#[derive(Debug, Clone)]
struct Format {
    description: FormatDescription,
    server_id: u32,
    in_use: bool,
}

impl Contents {
    /// Whether the first event has been read.
    pub(super) fn is_begun(&self) -> bool {
        self.format.is_some()
    }

    /// Whether no transaction is open.
    pub(super) fn is_between_transactions(&self) -> bool {
        !self.transactions.is_open()
    }

    /// How the event behind this header is to be read, or why it cannot be.
    pub(super) fn shape(&self, header: &Header) -> Result<Shape, String> {
        let is_format = header.kind == kind::FORMAT_DESCRIPTION;
        let has_footer = match &self.format {
            None if is_format => true,
            None => {
                return Err(format!(
                    "the first event is of type {}, not 15",
                    header.kind
                ));
            }
            Some(_) if is_format => return Err("a second FormatDescription event".to_owned()),
            Some(format) => format.description.checksum_algorithm == ChecksumAlgorithm::Crc32,
        };
        let is_small = header.length <= MAX_SMALL_EVENT;
        let must_keep = is_format || header.is_gtid() || header.kind == kind::ROTATE;
        if must_keep && !is_small {
            return Err(format!(
                "event length {} of type {}",
                header.length, header.kind
            ));
        }
        let keep = match header.kind {
            kind::PREVIOUS_GTIDS => header.length <= MAX_PREVIOUS_GTIDS,
            kind::QUERY => is_small && self.transactions.wants_statement(),
            _ => must_keep,
        };
        Ok(Shape { has_footer, keep })
    }

    /// Takes an event that is whole; its body, if [`shape`](Self::shape) said to keep it.
    pub(super) fn event(
        &mut self,
        header: &Header,
        at: Range<u64>,
        body: Option<&[u8]>,
    ) -> Result<(), Trouble> {
        let was_ended = self.end.is_some();
        let read = match header.kind {
            kind::FORMAT_DESCRIPTION => return self.begin(header, body.unwrap_or_default()),
            kind::PREVIOUS_GTIDS => self.previous_gtids(header, body),
            kind::ROTATE | kind::STOP => self.end(header, &at, body.unwrap_or_default()),
            _ if header.is_gtid() => self.begin_transaction(header, &at, body.unwrap_or_default()),
            _ => Ok(self.step(header, &at, body)),
        };
        let matter = match read {
            Ok(matter) => matter,
            Err(Defect::Unknown(reason)) => Some(reason),
            Err(Defect::Malformed(reason)) => return Err(Trouble::Damaged(reason)),
        };
        if was_ended {
            self.obstacle(at.start, header.kind, "an event behind the end of the file");
            self.end.take_if(|_| !header.is_end());
        }
        if let Some(reason) = matter {
            self.obstacle(at.start, header.kind, &reason);
        }
        self.events += 1;
        Ok(())
    }

    /// What an event is whose checksum is wrong.
    pub(super) fn mismatched(header: &Header, body: Option<&[u8]>, reason: String) -> Trouble {
        let body = body.filter(|_| header.kind == kind::FORMAT_DESCRIPTION);
        let version = body.and_then(event::server_version);
        // Another dialect's checksum is no damage, if the event names the dialect.
        match version.filter(|version| event::says_mariadb(version)) {
            Some(version) => Trouble::Refused(Refusal::MariaDb(version)),
            None => Trouble::Damaged(reason),
        }
    }

    /// Nothing more is read: the next event is damaged.
    pub(super) fn stop(&mut self) {
        self.transactions.stop();
    }

    pub(super) fn take_boundaries(&mut self) -> Vec<Boundary> {
        self.transactions.take_boundaries()
    }

    pub(super) fn previous_gtids_read(&self) -> Option<&GtidSet> {
        self.previous_gtids.as_ref()
    }

    /// Whole events so far.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The summary of a file of `size` bytes, read up to `last_position`.
    pub(super) fn summary(
        mut self,
        size: u64,
        last_position: u64,
        damage: Option<Damage>,
    ) -> Summary {
        if damage.is_none() && self.previous_gtids.is_none() {
            let reason = "the file has no PREVIOUS_GTIDS event";
            self.obstacle(last_position, kind::PREVIOUS_GTIDS, reason);
        }
        let format = self.format.unwrap_or_else(|| Format {
            description: FormatDescription::unread(),
            server_id: 0,
            in_use: false,
        });
        Summary {
            size,
            events: self.events,
            previous_gtids: self.previous_gtids.unwrap_or_default(),
            open_transaction: self.transactions.is_open(),
            added_gtids: self.transactions.added_gtids,
            first_commit: self.transactions.first_commit,
            last_commit: self.transactions.last_commit,
            earliest_commit: (self.transactions.earliest_commit)
                .filter(|_| self.transactions.earliest_commit != self.transactions.first_commit),
            latest_commit: (self.transactions.latest_commit)
                .filter(|_| self.transactions.latest_commit != self.transactions.last_commit),
            transactions: self.transactions.count,
            anonymous_transactions: self.transactions.anonymous,
            last_position,
            end: self.end.unwrap_or(End::None),
            in_use: format.in_use,
            server_version: format.description.server_version,
            server_id: format.server_id,
            checksum_algorithm: format.description.checksum_algorithm,
            damage,
            obstacle: self.obstacle,
        }
    }

    fn begin(&mut self, header: &Header, body: &[u8]) -> Result<(), Trouble> {
        let description = FormatDescription::parse(body).map_err(|defect| match defect {
            Defect::Malformed(reason) | Defect::Unknown(reason) => Trouble::Damaged(reason),
        })?;
        if description.is_mariadb() {
            return Err(Trouble::Refused(Refusal::MariaDb(
                description.server_version,
            )));
        }
        if header.is_relay_log() {
            return Err(Trouble::Refused(Refusal::RelayLog));
        }
        let (server_id, in_use) = (header.server_id, header.is_in_use());
        self.format = Some(Format {
            description,
            server_id,
            in_use,
        });
        self.events += 1;
        Ok(())
    }

    fn previous_gtids(
        &mut self,
        header: &Header,
        body: Option<&[u8]>,
    ) -> Result<Option<String>, Defect> {
        if self.previous_gtids.is_some() {
            return Err(Defect::Malformed(
                "a second PREVIOUS_GTIDS event".to_owned(),
            ));
        }
        let Some(body) = body else {
            self.previous_gtids = Some(GtidSet::new());
            return Ok(Some(format!(
                "{} bytes of GTIDs are not read",
                header.length
            )));
        };
        self.previous_gtids = Some(GtidSet::decode(self.behind_post_header(header, body)?)?);
        Ok(None)
    }

    fn begin_transaction(
        &mut self,
        header: &Header,
        at: &Range<u64>,
        body: &[u8],
    ) -> Result<Option<String>, Defect> {
        if self.previous_gtids.is_none() {
            self.obstacle(at.start, header.kind, "no PREVIOUS_GTIDS event before it");
        }
        let start = TransactionStart::parse(header.kind, body)?;
        Ok(self.transactions.begin(at, start))
    }

    fn step(&mut self, header: &Header, at: &Range<u64>, body: Option<&[u8]>) -> Option<String> {
        let statement = body.and_then(event::statement);
        let matter = self.transactions.step(Step {
            header,
            end: at.end,
            statement,
        });
        if header.kind == kind::INCIDENT {
            Some("an incident: the server says that changes are missing from its log".to_owned())
        } else if header.is_known() || header.is_ignorable() {
            matter
        } else {
            Some(format!(
                "event type {} is unknown to this version",
                header.kind
            ))
        }
    }

    fn end(
        &mut self,
        header: &Header,
        at: &Range<u64>,
        body: &[u8],
    ) -> Result<Option<String>, Defect> {
        let end = if header.kind == kind::STOP {
            End::Stop
        } else {
            End::Rotate {
                next: event::rotate_target(self.behind_post_header(header, body)?)?,
            }
        };
        self.end = Some(end);
        Ok(self.transactions.file_ends(at.start))
    }

    fn behind_post_header<'a>(&self, header: &Header, body: &'a [u8]) -> Result<&'a [u8], Defect> {
        match &self.format {
            Some(format) => format.description.behind_post_header(header, body),
            None => Ok(body),
        }
    }

    /// The first one counts.
    fn obstacle(&mut self, offset: u64, event_type: u8, reason: &str) {
        self.obstacle.get_or_insert_with(|| Obstacle {
            offset,
            event_type,
            reason: reason.to_owned(),
        });
    }
}
