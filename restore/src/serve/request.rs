//! What a client asks for: the protocol's commands. Pure.
//!
//! Layouts after the server's `include/my_command.h` and `sql/rpl_source.cc` (`com_binlog_dump`,
//! `com_binlog_dump_gtid`).

use engine::gtid::GtidSet;

use super::payload::{Malformed, Payload};

/// Bytes of a request at most: a replica sends all that it has executed.
pub(super) const LONGEST_REQUEST: usize = 0xFF_FFFE;

/// `BINLOG_DUMP_NON_BLOCK`: the end of what there is ends the dump.
const NON_BLOCK: u16 = 1;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// The client leaves.
    Quit,
    /// Whether anyone is there.
    Ping,
    /// A statement.
    Query(String),
    /// A replica says who it is.
    RegisterReplica,
    /// Events from a place in a file.
    Dump(FromPosition),
    /// Events of all transactions but those that the replica has.
    DumpGtid(ByGtid),
    /// Anything else.
    Other(u8),
}

/// What is sent, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FromPosition {
    /// The file; the first one when it is empty.
    pub(super) file: String,
    /// Offset in it.
    pub(super) position: u64,
    /// Ends with what there is.
    pub(super) non_block: bool,
}

/// The same, but for what the replica has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ByGtid {
    /// Where to begin; where it is needed to when the file is empty.
    pub(super) from: FromPosition,
    /// What the replica has.
    pub(super) executed: GtidSet,
}

impl Request {
    /// Reads a command.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Payload(payload);
        Ok(match fields.u8()? {
            0x01 => Self::Quit,
            0x03 => Self::Query(String::from_utf8_lossy(fields.0).into_owned()),
            0x0E => Self::Ping,
            0x12 => Self::Dump(dump(fields)?),
            0x15 => Self::RegisterReplica,
            0x1E => Self::DumpGtid(dump_gtid(fields)?),
            other => Self::Other(other),
        })
    }
}

fn dump(mut fields: Payload<'_>) -> Result<FromPosition, Malformed> {
    let position = u64::from(fields.u32()?);
    let flags = fields.u16()?;
    let _server_id = fields.u32()?;
    Ok(FromPosition {
        file: name(fields.0)?,
        position,
        non_block: flags & NON_BLOCK != 0,
    })
}

fn dump_gtid(mut fields: Payload<'_>) -> Result<ByGtid, Malformed> {
    let flags = fields.u16()?;
    let _server_id = fields.u32()?;
    let file = name(fields.behind_u32()?)?;
    let position = fields.u64()?;
    let executed = GtidSet::decode(fields.behind_u32()?).map_err(|_| Malformed)?;
    Ok(ByGtid {
        from: FromPosition {
            file,
            position,
            non_block: flags & NON_BLOCK != 0,
        },
        executed,
    })
}

fn name(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::greeting::Answer;
    use super::super::statement::Statement;
    use super::*;

    #[test]
    fn a_dump_by_gtid_is_read_as_replicas_write_it() {
        let executed: GtidSet = "0d1a7e00-97a0-4000-8000-000000000001:1-5".parse().unwrap();
        let mut set = 1_u64.to_le_bytes().to_vec();
        set.extend(0x0d1a_7e00_97a0_4000_8000_0000_0000_0001_u128.to_be_bytes());
        set.extend([1_u64, 1, 6].iter().flat_map(|number| number.to_le_bytes()));
        let mut payload = vec![0x1E, 1, 0, 9, 0, 0, 0];
        payload.extend(13_u32.to_le_bytes());
        payload.extend(b"binlog.000004");
        payload.extend(4_u64.to_le_bytes());
        payload.extend(u32::try_from(set.len()).unwrap().to_le_bytes());
        payload.extend(set);
        let Request::DumpGtid(asked) = Request::parse(&payload).unwrap() else {
            panic!("not a dump");
        };
        assert_eq!(asked.executed, executed);
        assert_eq!(asked.from.file, "binlog.000004");
        assert!(asked.from.non_block);
        for len in 0..payload.len() {
            assert!(Request::parse(&payload[..len]).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_take_the_readers_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&bytes);
            for command in [0x12, 0x1E] {
                let _ = Request::parse(&[&[command], bytes.as_slice()].concat());
            }
            let _ = Answer::parse(&bytes);
            let _ = Statement::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_text_takes_the_reader_of_statements_down(text in "(SELECT|SET|SHOW|select)? ?[@a-z0-9_.,='() ]{0,60}") {
            let _ = Statement::parse(&text);
        }
    }
}
