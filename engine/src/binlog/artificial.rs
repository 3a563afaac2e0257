//! Events that a source of replication makes for its replicas, which stand in no file.
//!
//! After the server's `sql/rpl_binlog_sender.cc`.

use super::ChecksumAlgorithm;
use super::event::{CHECKSUM_LEN, FLAG_IN_USE, FLAGS_OFFSET, HEADER_LEN};

/// `ROTATE_EVENT`.
const ROTATE: u8 = 4;

/// `HEARTBEAT_LOG_EVENT`.
const HEARTBEAT: u8 = 27;

/// `LOG_EVENT_ARTIFICIAL_F`: it stands in no file.
const ARTIFICIAL: u16 = 0x20;

/// Where the offset behind an event stands in its common header (`LOG_POS_OFFSET`).
const LOG_POS_OFFSET: usize = 13;

/// Where a `FormatDescription` event says when its server was started (`ST_CREATED_OFFSET` behind the header).
const CREATED_OFFSET: usize = HEADER_LEN + 2 + 50;

/// Says that what follows is of this file, from this position on.
pub fn rotate(server_id: u32, name: &str, position: u64, checksum: ChecksumAlgorithm) -> Vec<u8> {
    let mut body = position.to_le_bytes().to_vec();
    body.extend(name.as_bytes());
    event(ROTATE, server_id, 0, ARTIFICIAL, &body, checksum)
}

/// Says that there is nothing to be sent up to here. The position has 32 bits.
pub fn heartbeat(
    server_id: u32,
    name: &str,
    position: u32,
    checksum: ChecksumAlgorithm,
) -> Vec<u8> {
    event(HEARTBEAT, server_id, position, 0, name.as_bytes(), checksum)
}

/// A `FormatDescription` event of a file of which some transactions are not sent. Replicas drop temporary tables at one
/// that says when its server was started. The `IN_USE` flag is taken away.
pub fn without_created(event: Vec<u8>) -> Vec<u8> {
    without_in_use(zero(event, CREATED_OFFSET))
}

/// The same for who asked by position, and would count on from where this event stands. A replica that asks by GTID
/// MUST NOT get it: it rolls a transaction back of which it got a part at an event that states its position.
pub fn without_position(event: Vec<u8>) -> Vec<u8> {
    without_created(zero(event, LOG_POS_OFFSET))
}

fn zero(mut event: Vec<u8>, at: usize) -> Vec<u8> {
    if let Some(field) = event.get_mut(at..at + 4) {
        field.fill(0);
    }
    event
}

/// A `FormatDescription` event as of a file that was closed.
pub fn without_in_use(mut event: Vec<u8>) -> Vec<u8> {
    if let Some(flags) = event.get_mut(FLAGS_OFFSET) {
        *flags &= !FLAG_IN_USE;
    }
    // This event has a footer whether or not the others have; theirs says so in the byte before it.
    event.truncate(event.len().saturating_sub(CHECKSUM_LEN));
    seal(&mut event);
    event
}

fn event(
    kind: u8,
    server_id: u32,
    log_pos: u32,
    flags: u16,
    body: &[u8],
    checksum: ChecksumAlgorithm,
) -> Vec<u8> {
    let footer = match checksum {
        ChecksumAlgorithm::None => 0,
        ChecksumAlgorithm::Crc32 => CHECKSUM_LEN,
    };
    let length = HEADER_LEN + body.len() + footer;
    let mut event = Vec::with_capacity(length);
    event.extend([0; 4]);
    event.push(kind);
    event.extend(server_id.to_le_bytes());
    event.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    event.extend(log_pos.to_le_bytes());
    event.extend(flags.to_le_bytes());
    event.extend(body);
    if checksum == ChecksumAlgorithm::Crc32 {
        seal(&mut event);
    }
    event
}

fn seal(event: &mut Vec<u8>) {
    let crc = crc32fast::hash(event);
    event.extend(crc.to_le_bytes());
}
