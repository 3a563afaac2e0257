//! The tagged GTID event (type 42, MySQL 8.3+), in the format of the server's serialization library
//! (TRAPS 8).
//!
//! After `libs/mysql/serialization/readme.md` and `Gtid_event::define_fields` in
//! `libs/mysql/binlog/event/control_events.h`; every integer is of variable length:
//!
//! ```text
//! version of the format, 1
//! size of the message, from the version on
//! 1 + id of the last field that must be understood; 0 if none
//! fields in ascending order of their ids, each as its id and its value:
//!   0 flags                        6 immediate commit timestamp, µs
//!   1 uuid, 16 integers            7 original commit timestamp, if another
//!   2 transaction number, signed   8 transaction length
//!   3 tag: length, bytes           9 immediate server version
//!   4 last committed, signed      10 original server version, if another
//!   5 sequence number, signed     11 commit group ticket, if any
//! ```
//!
//! Values do not say their length, so behind an unknown field nothing can be read; the writer says
//! whether that is allowed.

use uuid::Uuid;

use super::event::{Defect, TransactionStart, commit_time, gtid};
use super::fields::{Fields, Short};
use crate::gtid::{MAX_TAG_LEN, Tag};

/// `serialization_format_version`.
const FORMAT_VERSION: u64 = 1;

/// The last field that this reader knows.
const LAST_FIELD: u64 = 11;

pub(super) fn parse(body: &[u8]) -> Result<TransactionStart, Defect> {
    let mut fields = Fields(body);
    let version = fields.varlen()?;
    if version != FORMAT_VERSION {
        return Err(Defect::Unknown(format!(
            "serialization format version {version}"
        )));
    }
    let size = usize::try_from(fields.varlen()?).map_err(|_| Short)?;
    let needed = fields.varlen()?;
    if needed > LAST_FIELD + 1 {
        return Err(Defect::Unknown(format!(
            "field {} of a tagged GTID event",
            needed - 1
        )));
    }
    let metadata = body.len() - fields.len();
    let message = fields.take(size.checked_sub(metadata).ok_or(Short)?)?;
    parse_fields(Fields(message))
}

fn parse_fields(mut fields: Fields<'_>) -> Result<TransactionStart, Defect> {
    let (mut uuid, mut tag, mut gno) = (None, None, None);
    let mut start = TransactionStart::default();
    let mut next = 0;
    while fields.len() > 0 {
        let id = fields.varlen()?;
        if id < next {
            return Err(Defect::Malformed(format!("field {id} out of order")));
        }
        next = id + 1;
        match id {
            1 => uuid = Some(parse_uuid(&mut fields)?),
            2 => gno = Some(fields.varlen_signed()?),
            3 => tag = parse_tag(&mut fields)?,
            4 | 5 => _ = fields.varlen_signed()?,
            6 => start.commit = commit_time(fields.varlen()?)?,
            8 => start.length = Some(fields.varlen()?),
            0 | 7 | 9..=LAST_FIELD => _ = fields.varlen()?,
            _ => break,
        }
    }
    let (Some(uuid), Some(gno)) = (uuid, gno) else {
        return Err(Defect::Malformed(
            "a tagged GTID event without a GTID".to_owned(),
        ));
    };
    start.gtid = Some(gtid(uuid, tag, u64::try_from(gno).unwrap_or_default())?);
    Ok(start)
}

/// Sixteen integers of variable length: bytes from 0x80 take two.
fn parse_uuid(fields: &mut Fields<'_>) -> Result<Uuid, Defect> {
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        let value = fields.varlen()?;
        *byte = u8::try_from(value)
            .map_err(|_| Defect::Malformed(format!("{value} as a byte of a uuid")))?;
    }
    Ok(Uuid::from_bytes(bytes))
}

fn parse_tag(fields: &mut Fields<'_>) -> Result<Option<Tag>, Defect> {
    let len = usize::try_from(fields.varlen()?).map_err(|_| Short)?;
    if len > MAX_TAG_LEN {
        return Err(Defect::Malformed(format!("a tag of {len} characters")));
    }
    let text = fields.take(len)?;
    if text.is_empty() {
        return Ok(None);
    }
    let tag = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    let error = || Defect::Malformed(format!("invalid tag \"{}\"", text.escape_ascii()));
    tag.map(Some).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a tagged GTID event that MySQL 9.7.4 wrote, taken apart by hand.
    fn body() -> Vec<u8> {
        let mut body = vec![0x02, 0x6A, 0x00];
        body.extend([0x00, 0x00]); // flags 0
        body.extend([
            0x02, 0x1A, 0x34, 0xFC, 0x00, 0x5D, 0x02, 0x81, 0x02, 0x80, 0x00, 0x01, 0x02,
        ]);
        body.extend([0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02]); // uuid …97a0-4000-8000-000000000001
        body.extend([0x04, 0x04]); // number 1
        body.extend([0x06, 0x08, b't', b'i', b'd', b'e']);
        body.extend([0x08, 0x04, 0x0A, 0x08]); // last committed 1, sequence number 2
        body.extend([0x0C, 0x7F, 0x31, 0xA6, 0x80, 0xB9, 0xDD, 0x60, 0x06]);
        body.extend([0x10, 0x79, 0x04]); // transaction length
        body.extend([0x12, 0x83, 0x12, 0x0B]); // server version 90704
        body
    }

    #[test]
    fn a_tagged_gtid_event_of_a_server_is_read() {
        let body = body();
        assert_eq!(body.len(), 53, "the message size that it states");
        let start = parse(&body).unwrap();
        let gtid = start.gtid.unwrap().to_string();
        assert_eq!(gtid, "0d1a7e00-97a0-4000-8000-000000000001:tide:1");
        assert_eq!(start.length, Some(286));
        assert_eq!(
            start.commit.unwrap().as_microsecond(),
            1_795_355_276_518_961
        );
    }

    #[test]
    fn trap_8_fields_of_a_newer_server_are_skipped_or_reported_as_it_says() {
        let mut newer = body();
        newer.extend([0x18, 0xAA, 0xBB]); // field 12, of a type that is not known
        newer[1] += 3 << 1;
        assert_eq!(parse(&newer).unwrap(), parse(&body()).unwrap());
        newer[2] = 13 << 1;
        let reason = "field 12 of a tagged GTID event".to_owned();
        assert_eq!(parse(&newer), Err(Defect::Unknown(reason)));
        newer[0] = 2 << 1;
        assert!(matches!(parse(&newer), Err(Defect::Unknown(_))));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_read_without_panic() {
        let whole = body();
        for cut in 0..whole.len() {
            assert!(
                matches!(parse(&whole[..cut]), Err(Defect::Malformed(_))),
                "cut at {cut}"
            );
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            _ = parse(&flipped);
        }
    }
}
