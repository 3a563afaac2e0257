//! The encoding of a GTID set in a `PREVIOUS_GTIDS` event.
//!
//! After the server's `Gtid_set::encode` and `add_gtid_encoding` (`sql/rpl_gtid_set.cc`), all
//! integers little-endian:
//!
//! ```text
//! u64  count of TSIDs. Its top byte is the format: 0 classic, the count in the other seven bytes;
//!      1 tagged (8.3+), the count in the six middle bytes and 1 in the lowest again (TRAPS 8)
//! per TSID, in print order
//!      16 bytes  uuid
//!      tagged only: varint length of the tag, its bytes; length 0 is the untagged TSID
//!      u64       count of intervals
//!      per interval  u64 first, u64 one past the last; ascending, with a gap before each
//! ```

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{GtidSet, MAX_GNO, MAX_TAG_LEN, Tag, Tsid};
use crate::exit::{Diagnose, Exit};

/// Bytes that are no encoded GTID set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed GTID set encoding at byte {at}: {reason}")]
pub struct EncodingError {
    /// Offset of the offending part within the encoding.
    pub at: usize,
    /// Why.
    pub reason: String,
}

impl Diagnose for EncodingError {
    fn exit(&self) -> Exit {
        Exit::Corrupt
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

impl GtidSet {
    /// Decodes the body of a `PREVIOUS_GTIDS` event, which must hold the set and nothing else.
    ///
    /// # Errors
    /// When the bytes are not such an encoding to the last byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let mut input = Input { bytes, at: 0 };
        let (tagged, tsids) = input.format_and_count()?;
        let mut by_tsid: BTreeMap<Tsid, Vec<(u64, u64)>> = BTreeMap::new();
        for _ in 0..tsids {
            let tsid = input.tsid(tagged)?;
            let intervals = input.intervals()?;
            by_tsid.entry(tsid).or_default().extend(intervals);
        }
        if input.at == bytes.len() {
            Ok(Self::from_unordered(by_tsid))
        } else {
            Err(input.error(format!("{} bytes left over", bytes.len() - input.at)))
        }
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn error(&self, reason: impl Into<String>) -> EncodingError {
        EncodingError {
            at: self.at,
            reason: reason.into(),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], EncodingError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (taken, _) = rest
            .split_at_checked(len)
            .ok_or_else(|| self.error(format!("{len} bytes expected, {} left", rest.len())))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EncodingError> {
        let at = self.at;
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| EncodingError {
            at,
            reason: "out of bounds".to_owned(),
        })
    }

    fn u64(&mut self) -> Result<u64, EncodingError> {
        self.array().map(u64::from_le_bytes)
    }

    fn format_and_count(&mut self) -> Result<(bool, u64), EncodingError> {
        let [low, middle @ .., format] = self.array::<8>()?;
        let [b1, b2, b3, b4, b5, b6] = middle;
        match (format, low) {
            (0, _) => Ok((false, u64::from_le_bytes([low, b1, b2, b3, b4, b5, b6, 0]))),
            (1, 1) => Ok((true, u64::from_le_bytes([b1, b2, b3, b4, b5, b6, 0, 0]))),
            _ => {
                self.at = 0;
                Err(self.error(format!("unknown format {format}")))
            }
        }
    }

    fn tsid(&mut self, tagged: bool) -> Result<Tsid, EncodingError> {
        let uuid = Uuid::from_bytes(self.array()?);
        let tag = if tagged { self.tag()? } else { None };
        Ok(Tsid { uuid, tag })
    }

    fn tag(&mut self) -> Result<Option<Tag>, EncodingError> {
        // A varint of one byte, which all lengths up to 127 take, is the length times two.
        let [len] = self.array()?;
        let len = usize::from(len);
        if len % 2 == 1 || len / 2 > MAX_TAG_LEN {
            self.at -= 1;
            return Err(self.error("a tag longer than 32 characters"));
        }
        let tag = self.take(len / 2)?;
        if tag.is_empty() {
            return Ok(None);
        }
        let parsed = std::str::from_utf8(tag)
            .ok()
            .and_then(|tag| tag.parse().ok());
        parsed
            .map(Some)
            .ok_or_else(|| self.error(format!("invalid tag \"{}\"", tag.escape_ascii())))
    }

    fn intervals(&mut self) -> Result<Vec<(u64, u64)>, EncodingError> {
        let at = self.at;
        let count = self.u64()?;
        let len = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(16));
        let len = len.unwrap_or(usize::MAX);
        if count == 0 {
            return Err(EncodingError {
                at,
                reason: "a TSID without intervals".to_owned(),
            });
        }
        let at = self.at;
        let (intervals, _) = self.take(len)?.as_chunks::<16>();
        let mut last_end = 0;
        let mut decoded = Vec::with_capacity(intervals.len());
        for (n, &[a0, a1, a2, a3, a4, a5, a6, a7, ref end @ ..]) in intervals.iter().enumerate() {
            let first = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
            let end = u64::from_le_bytes(*end);
            if first <= last_end || end <= first || end > MAX_GNO + 1 {
                let reason = format!("interval {first} to {end} behind {last_end}");
                return Err(EncodingError {
                    at: at + n * 16,
                    reason,
                });
            }
            last_end = end;
            decoded.push((first, end - 1));
        }
        Ok(decoded)
    }
}

#[cfg(test)]
impl GtidSet {
    /// The inverse of [`decode`](Self::decode), in the format that the server would choose.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let tagged = self.by_tsid.keys().any(|tsid| tsid.tag.is_some());
        let count = self.by_tsid.len() as u64;
        let count = if tagged {
            1 << 56 | count << 8 | 1
        } else {
            count
        };
        let mut out = count.to_le_bytes().to_vec();
        for (tsid, intervals) in &self.by_tsid {
            out.extend(tsid.uuid.as_bytes());
            if tagged {
                let tag = tsid.tag.as_ref().map_or("", Tag::as_str);
                out.push(u8::try_from(tag.len() * 2).unwrap());
                out.extend(tag.as_bytes());
            }
            out.extend((intervals.iter().count() as u64).to_le_bytes());
            for (first, last) in intervals.iter() {
                out.extend(first.to_le_bytes());
                out.extend((last + 1).to_le_bytes());
            }
        }
        out
    }
}
