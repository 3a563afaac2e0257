//! One dump: the events of the offer's files, from where a client wants them, as a source of replication sends them.
//!
//! After the server's `sql/rpl_binlog_sender.cc`: before each file an artificial Rotate event that names it; the
//! file's events as they are, with their checksums; of transactions that the client has nothing, and behind them a
//! heartbeat with the position; at the end heartbeats, or for who does not wait an EOF packet.
//!
//! # Invariants
//! - An event is sent whole or the connection ends: what was sent before an error is a true beginning.
//! - What a client lacks and cannot get is refused by name before the first event.
//!
//! # Limits
//! Two parts are open, the one that is sent and the next one, of each
//! [`PREFETCHED_BLOCKS`](crate::object::PREFETCHED_BLOCKS) blocks. Of files beyond 4 GiB no heartbeat tells a
//! position: theirs has 32 bits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::binlog::passing::{self, EventHead, Kind};
use engine::binlog::{ChecksumAlgorithm, MAGIC, artificial};
use engine::gtid::GtidSet;
use tokio::sync::watch;

use super::answer::{EOF, Refusal};
use super::begin::Begin;
use super::events::{Events, EventsError};
use super::offer::Offer;
use super::packet::Packets;
use crate::object::Prefetched;
use crate::part::{Part, Step};

/// Before each event: all is well.
const EVENT_FOLLOWS: [u8; 1] = [0];

/// Offset of a file's first event.
const FIRST_EVENT: u32 = 4;

/// How long who wants no heartbeats is waited for before it is looked whether it is still there.
const QUIET: Duration = Duration::from_mins(1);

/// What the client wants of a dump.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    /// The checksum that it says it understands.
    pub(super) checksum: Option<ChecksumAlgorithm>,
    /// How often it wants to hear that nothing happened.
    pub(super) heartbeat: Option<Duration>,
    /// It ends with what there is.
    pub(super) non_block: bool,
}

/// Why a dump ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    /// The client is told, and stops.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The client is not told, and may come again.
    #[error("{0}")]
    Broken(String),
    /// The client left.
    #[error(transparent)]
    Connection(#[from] io::Error),
}

/// A dump under way.
pub(super) struct Dump<'a> {
    offer: &'a Offer,
    packets: &'a mut Packets,
    wishes: Wishes,
    begin: Begin,
    /// The checksum of what is sent now.
    checksum: ChecksumAlgorithm,
    /// The transaction that is read is left out.
    leaves_out: bool,
    /// Where the last transaction ends that was left out, if nothing was sent since.
    left_out_to: Option<u32>,
    place: Place,
}

/// Where the client thinks that it is.
#[derive(Debug, Default)]
struct Place {
    file_name: String,
    position: u32,
    /// The file is too long for positions of 32 bits.
    is_beyond: bool,
}

impl<'a> Dump<'a> {
    pub(super) fn new(
        offer: &'a Offer,
        packets: &'a mut Packets,
        wishes: Wishes,
        begin: Begin,
    ) -> Self {
        Self {
            checksum: wishes.checksum.unwrap_or(ChecksumAlgorithm::None),
            offer,
            packets,
            wishes,
            begin,
            leaves_out: false,
            left_out_to: None,
            place: Place::default(),
        }
    }

    /// Sends it all, and then waits until there is more, or the client leaves, if it waits.
    pub(super) async fn run(mut self) -> Result<(), DumpError> {
        let mut watched = self.offer.watch();
        let mut number = self.begin.first;
        loop {
            let steps = Arc::clone(&watched.borrow_and_update());
            let mut following = self.read(number, &steps);
            while let Some((part, blocks)) = following.take() {
                number += 1;
                following = self.read(number, &steps);
                let events = Events::new(part.file.file_name(), blocks);
                self.send_part(&part, events).await?;
            }
            if self.wishes.non_block {
                self.packets.write(&EOF).await?;
                return Ok(self.packets.flush().await?);
            }
            self.packets.flush().await?;
            if !self.wait(&mut watched).await? {
                return Ok(());
            }
        }
    }

    fn read(&self, number: usize, steps: &[Step]) -> Option<(Part, Prefetched)> {
        let part = self.begin.part(number, steps)?;
        let blocks = self.offer.read(&part);
        Some((part, blocks))
    }

    /// Whether there is more; not so when the client left. It hears from time to time that the connection lives.
    async fn wait(
        &mut self,
        watched: &mut watch::Receiver<Arc<Vec<Step>>>,
    ) -> Result<bool, DumpError> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.wishes.heartbeat.unwrap_or(QUIET)) => {}
                () = self.packets.left() => return Ok(false),
                more = watched.changed() => return Ok(more.is_ok()),
            }
            if self.wishes.heartbeat.is_some() {
                self.heartbeat().await?;
                self.packets.flush().await?;
            }
        }
    }

    async fn send_part(&mut self, part: &Part, mut events: Events) -> Result<(), DumpError> {
        // Who asks by GTID is sent a file from its beginning, whatever is left out of it.
        let from = part.from.filter(|_| !self.begin.by_gtid);
        let position = from.unwrap_or(MAGIC.len() as u64);
        let (server_id, name) = (self.offer.server_id, part.file.file_name());
        let rotate = artificial::rotate(server_id, name, position, self.checksum);
        self.send_made(&rotate).await?;
        self.leaves_out = false;
        self.place = Place {
            file_name: name.to_owned(),
            position: u32::try_from(position).unwrap_or(u32::MAX),
            is_beyond: u32::try_from(part.file.size).is_err(),
        };
        loop {
            let piece = events.next().await;
            let Some(piece) = piece.map_err(EventsError::between_events)? else {
                break;
            };
            // Whoever took an event took all of its pieces.
            let Some(head) = piece.begins else { continue };
            match self.look(part, head, piece.bytes, &events)? {
                Some(bytes) => self.send(head, &bytes, &mut events).await?,
                None if self.leaves_out => self.left_out_to = Some(head.end),
                None => {}
            }
        }
        self.tell_what_is_left_out().await
    }

    /// Whoever is sent nothing of a transaction still counts on from behind it.
    async fn tell_what_is_left_out(&mut self) -> Result<(), DumpError> {
        if let Some(position) = self.left_out_to.take() {
            self.place.position = position;
            self.heartbeat().await?;
        }
        Ok(())
    }

    /// What is sent of the first bytes of an event; none when it is left out.
    fn look(
        &mut self,
        part: &Part,
        head: EventHead,
        bytes: Bytes,
        events: &Events,
    ) -> Result<Option<Bytes>, DumpError> {
        let misread = |error| events.misframed(error).between_events();
        match head.kind {
            Kind::FormatDescription => {
                self.checksum = passing::checksum_algorithm(&bytes).map_err(misread)?;
                self.judge_checksum()?;
                let make = match (part.from, self.begin.by_gtid) {
                    (None, _) => artificial::without_in_use,
                    (Some(_), true) => artificial::without_created,
                    (Some(_), false) => artificial::without_position,
                };
                return Ok(Some(make(bytes.into()).into()));
            }
            // It is of the file's beginning.
            Kind::PreviousGtids if part.from.is_some() && !self.begin.by_gtid => return Ok(None),
            Kind::Gtid if !self.begin.executed.is_empty() => {
                let gtid = passing::gtid(&bytes, self.checksum).map_err(misread)?;
                self.leaves_out = self.begin.executed.contains(&gtid);
            }
            Kind::AnonymousGtid if self.begin.by_gtid => {
                let file = part.file.file_name();
                return Err(DumpError::Refused(Refusal::fatal(format!(
                    "Cannot replicate anonymous transaction when AUTO_POSITION = 1, at file {file}, position {}.",
                    head.end.wrapping_sub(head.length)
                ))));
            }
            Kind::AnonymousGtid | Kind::Rotate => self.leaves_out = false,
            _ => {}
        }
        Ok((!self.leaves_out).then_some(bytes))
    }

    /// A client that knows no checksums takes them for a part of the events.
    fn judge_checksum(&self) -> Result<(), DumpError> {
        if self.wishes.checksum.is_none() && self.checksum != ChecksumAlgorithm::None {
            return Err(DumpError::Refused(Refusal::fatal(
                "Replica can not handle replication events with the checksum that source is configured to log",
            )));
        }
        Ok(())
    }

    async fn send(
        &mut self,
        head: EventHead,
        bytes: &Bytes,
        events: &mut Events,
    ) -> Result<(), DumpError> {
        self.tell_what_is_left_out().await?;
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let mut outgoing = self.packets.outgoing(length.saturating_add(1)).await?;
        outgoing.write(&EVENT_FOLLOWS).await?;
        outgoing.write(bytes).await?;
        while outgoing.lacks() > 0 {
            let piece = events.next().await;
            let piece = piece.map_err(EventsError::within_an_event)?;
            let Some(piece) = piece else { break };
            outgoing.write(&piece.bytes).await?;
        }
        self.offer.note_sent(head.length);
        if head.kind == Kind::Rotate {
            let next = passing::rotate_target(bytes, self.checksum);
            self.place.file_name =
                next.map_err(|error| events.misframed(error).between_events())?;
            (self.place.position, self.place.is_beyond) = (FIRST_EVENT, false);
        } else {
            self.place.position = head.end;
        }
        Ok(())
    }

    async fn heartbeat(&mut self) -> Result<(), DumpError> {
        let Place {
            file_name,
            position,
            is_beyond,
        } = &self.place;
        if *is_beyond || file_name.is_empty() {
            return Ok(());
        }
        let server_id = self.offer.server_id;
        let event = artificial::heartbeat(server_id, file_name, *position, self.checksum);
        Ok(self.send_made(&event).await?)
    }

    async fn send_made(&mut self, event: &[u8]) -> io::Result<()> {
        let mut outgoing = self.packets.outgoing(event.len() + 1).await?;
        outgoing.write(&EVENT_FOLLOWS).await?;
        outgoing.write(event).await
    }
}

/// What a set of GTIDs is called in a message, which has little room.
pub(super) fn named(gtids: &GtidSet) -> String {
    const LONGEST: usize = 160;
    let text = gtids.to_string();
    if text.len() <= LONGEST {
        return text;
    }
    let end = text.floor_char_boundary(LONGEST);
    format!(
        "{}… ({} transactions)",
        text.get(..end).unwrap_or_default(),
        gtids.count()
    )
}
