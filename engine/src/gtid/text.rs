//! GTIDs as text: reading what people and servers write, and printing as the server prints.
//!
//! Grammar, after the server's `Gtid_set::add_gtid_text` and `Gtid_set::to_string`
//! (`sql/rpl_gtid_set.cc`): `uuid:1-5:7:tag:1-3,uuid:1`. A tag holds for the intervals behind it, up
//! to the next tag or comma. White space may stand around every part, and parts between commas may
//! be empty. Where the server guesses, this reader refuses: a leading zero (the server reads an
//! octal number), an interval that ends before it begins and a uuid or tag without any interval (the
//! server drops them in silence).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use uuid::Uuid;

use super::interval::check;
use super::{Gtid, GtidSet, MAX_TAG_LEN, Tag, Tsid};
use crate::exit::{Diagnose, Exit};

/// How much of the offending text an error shows, in bytes: a set may be megabytes long.
const EXCERPT_LEN: usize = 80;

/// Length of a uuid's text with its dashes.
const UUID_LEN: usize = 36;

/// Text that is no GTID or GTID set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed GTID text {text:?}: {reason}")]
pub struct GtidError {
    /// The offending part, shortened.
    pub text: String,
    /// Why.
    pub reason: String,
}

impl GtidError {
    pub(super) fn new(text: &str, reason: impl Into<String>) -> Self {
        let text = if text.len() > EXCERPT_LEN {
            format!(
                "{}…",
                text.get(..text.floor_char_boundary(EXCERPT_LEN))
                    .unwrap_or_default()
            )
        } else {
            text.to_owned()
        };
        Self {
            text,
            reason: reason.into(),
        }
    }
}

impl Diagnose for GtidError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "write GTIDs as the server prints @@gtid_executed, uuid:1-5:7:tag:1-3,uuid:1"
                .to_owned(),
        )
    }
}

impl FromStr for Tag {
    type Err = GtidError;

    fn from_str(s: &str) -> Result<Self, GtidError> {
        let begins_well = s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if begins_well && s.len() <= MAX_TAG_LEN && s.chars().all(allowed) {
            Ok(Self(s.to_ascii_lowercase()))
        } else {
            let reason = "a tag is 1 to 32 of a-z, 0-9 and '_', not beginning with a digit";
            Err(GtidError::new(s, reason))
        }
    }
}

impl FromStr for Tsid {
    type Err = GtidError;

    fn from_str(s: &str) -> Result<Self, GtidError> {
        let (uuid, tag) = match s.split_once(':') {
            Some((uuid, tag)) => (uuid, Some(tag.trim_ascii().parse()?)),
            None => (s, None),
        };
        Ok(Self {
            uuid: parse_uuid(uuid.trim_ascii())?,
            tag,
        })
    }
}

impl FromStr for Gtid {
    type Err = GtidError;

    fn from_str(s: &str) -> Result<Self, GtidError> {
        let (tsid, gno) = s
            .rsplit_once(':')
            .ok_or_else(|| GtidError::new(s, "a GTID is uuid:number or uuid:tag:number"))?;
        let gno = parse_gno(gno.trim_ascii())?;
        check(gno, gno).map_err(|reason| GtidError::new(s, reason))?;
        Ok(Self {
            tsid: tsid.parse()?,
            gno,
        })
    }
}

impl FromStr for GtidSet {
    type Err = GtidError;

    fn from_str(s: &str) -> Result<Self, GtidError> {
        let mut by_tsid: BTreeMap<Tsid, Vec<(u64, u64)>> = BTreeMap::new();
        for element in s.split(',').map(str::trim_ascii).filter(|e| !e.is_empty()) {
            parse_element(element, &mut by_tsid)?;
        }
        Ok(Self::from_unordered(by_tsid))
    }
}

/// Reads `uuid:1-5:7:tag:1-3`.
fn parse_element(
    element: &str,
    by_tsid: &mut BTreeMap<Tsid, Vec<(u64, u64)>>,
) -> Result<(), GtidError> {
    let mut parts = element.split(':').map(str::trim_ascii);
    let uuid = parse_uuid(parts.next().unwrap_or_default())?;
    let mut parts = parts.peekable();
    let mut tag = None;
    loop {
        let mut intervals = Vec::new();
        while let Some(part) = parts.next_if(|part| part.starts_with(|c: char| c.is_ascii_digit()))
        {
            intervals.push(parse_interval(part)?);
        }
        let next_tag = parts.next().map(str::parse).transpose()?;
        if !intervals.is_empty() {
            by_tsid
                .entry(Tsid { uuid, tag })
                .or_default()
                .append(&mut intervals);
        } else if tag.is_some() || next_tag.is_none() {
            return Err(GtidError::new(
                element,
                "a uuid or tag without an interval behind it",
            ));
        }
        match next_tag {
            Some(next) => tag = Some(next),
            None => return Ok(()),
        }
    }
}

fn parse_interval(s: &str) -> Result<(u64, u64), GtidError> {
    let (first, last) = s.split_once('-').unwrap_or((s, s));
    let (first, last) = (
        parse_gno(first.trim_ascii())?,
        parse_gno(last.trim_ascii())?,
    );
    check(first, last).map_err(|reason| GtidError::new(s, reason))?;
    Ok((first, last))
}

fn parse_gno(s: &str) -> Result<u64, GtidError> {
    let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(GtidError::new(s, "a transaction number is decimal digits"));
    }
    if s.len() > 1 && s.starts_with('0') {
        return Err(GtidError::new(
            s,
            "a leading zero, which the server would read as octal",
        ));
    }
    s.parse()
        .map_err(|_| GtidError::new(s, "the last transaction number is 9223372036854775806"))
}

fn parse_uuid(s: &str) -> Result<Uuid, GtidError> {
    // The uuid crate also reads forms without dashes, in braces and as URNs; a GTID has but one.
    let uuid = if s.len() == UUID_LEN {
        Uuid::try_parse(s).ok()
    } else {
        None
    };
    uuid.ok_or_else(|| GtidError::new(s, "not a server uuid of 32 hex digits and 4 dashes"))
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uuid)?;
        match &self.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tsid, self.gno)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = None;
        for (tsid, intervals) in &self.by_tsid {
            if previous != Some(tsid.uuid) {
                if previous.is_some() {
                    f.write_char(',')?;
                }
                write!(f, "{}", tsid.uuid)?;
                previous = Some(tsid.uuid);
            }
            if let Some(tag) = &tsid.tag {
                write!(f, ":{tag}")?;
            }
            for (first, last) in intervals.iter() {
                write!(f, ":{first}")?;
                if first != last {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}
