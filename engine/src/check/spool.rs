//! The spool: writable, with room, and on a file system where pins work.

use std::path::PathBuf;

use bytesize::ByteSize;

use crate::config::Config;
use crate::exit::Exit;
use crate::finding::Finding;
use crate::spool::{Pin, Spool};

/// Room for so many times the reserve is comfortable.
const COMFORT: u64 = 2;

/// `closed` is of each source its name and a file to try to pin.
pub(super) fn check(config: &Config, closed: &[(String, PathBuf)]) -> Vec<Finding> {
    let subject = config.spool.dir.display().to_string();
    let spool = match Spool::open(&config.spool) {
        Ok(spool) => spool,
        Err(error) => return vec![Finding::error("spool-write", subject, &error.into())],
    };
    let written = match spool.try_write() {
        Ok(()) => Finding::ok("spool-write", &subject, "written, synced and removed"),
        Err(error) => Finding::error("spool-write", &subject, &error.into()),
    };
    let mut found = vec![written, room(config, &spool, &subject)];
    found.extend(
        closed
            .iter()
            .map(|(source, file)| pin(config, &spool, source, file)),
    );
    found
}

fn room(config: &Config, spool: &Spool, subject: &str) -> Finding {
    let (check, reserve) = ("spool-room", config.spool.reserve);
    let room = match spool.room() {
        Ok(room) => room,
        Err(error) => return Finding::error(check, subject, &error.into()),
    };
    let reason = format!(
        "{} of {} free, {} are kept in reserve",
        ByteSize(room.free),
        ByteSize(room.total),
        ByteSize(reserve)
    );
    let hint =
        "free space there, put [spool] dir on a larger file system, or lower [spool] reserve";
    let finding = if room.free < reserve {
        let reason = format!("{reason}: nothing is sealed before there is room");
        Finding::fail(check, subject, Exit::Transient, reason, hint)
    } else if room.free < reserve.saturating_mul(COMFORT) {
        Finding::warn(check, subject, reason, hint)
    } else {
        Finding::ok(check, subject, reason)
    };
    finding
        .with("free_bytes", room.free)
        .with("reserve_bytes", reserve)
}

fn pin(config: &Config, spool: &Spool, source: &str, file: &std::path::Path) -> Finding {
    let check = "spool-pin";
    let hint = "keep [spool] dir on the binlogs' file system, and run gtide as their owner: until then what the server \
                expires before it is archived is lost";
    if !config.spool.pin {
        let reason = "[spool] pin = false: files are not held";
        return Finding::warn(check, source, reason, hint);
    }
    match spool.try_pin(file) {
        Ok(Pin::Held) => {
            let reason = format!("{} was held by a hard link, and let go", file.display());
            Finding::ok(check, source, reason)
        }
        Ok(Pin::Impossible { reason }) => Finding::warn(check, source, reason, hint),
        Err(error) => Finding::error(check, source, &error.into()),
    }
}
