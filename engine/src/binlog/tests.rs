//! The scanner against real files with an independent reader's word on them (`fixtures`), against
//! files made event by event (`made`), and against bytes that no server wrote (`hostile`); and events that are handed on (`passing`).

mod fixtures;
mod hostile;
mod made;
mod passing;

use std::path::PathBuf;

use super::*;

/// What one pass tells.
type Scan = Result<(Summary, Vec<Boundary>), Refusal>;

/// One pass, in chunks of these sizes, over and over; the whole at once if there are none.
fn scan_in_chunks(bytes: &[u8], sizes: &[usize]) -> Scan {
    let mut scanner = Scanner::new();
    let mut boundaries = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, behind) = rest.split_at(rest.len().min(*size));
        scanner.push(chunk)?;
        boundaries.append(&mut scanner.take_boundaries());
        rest = behind;
    }
    scanner.push(rest)?;
    boundaries.append(&mut scanner.take_boundaries());
    assert_eq!(scanner.offset(), bytes.len() as u64);
    Ok((scanner.finish()?, boundaries))
}

fn scan(bytes: &[u8]) -> Scan {
    scan_in_chunks(bytes, &[])
}

fn summary(bytes: &[u8]) -> Summary {
    scan(bytes).unwrap().0
}

fn damage(bytes: &[u8]) -> (u64, String) {
    let damage = summary(bytes).damage.unwrap();
    (damage.offset, damage.reason)
}

fn fixture_path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/binlog")).join(name)
}

fn fixture(name: &str) -> Vec<u8> {
    let path = fixture_path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fixtures that are whole binlogs.
fn chains() -> impl Iterator<Item = String> {
    let chain =
        |dir: &'static str, files: u32| (1..=files).map(move |n| format!("{dir}/binlog.{n:06}"));
    chain("mysql-9.7", 14)
        .chain(chain("mysql-9.7-anonymous", 2))
        .chain(chain("mysql-9.7-crashed", 2))
}

/// Offsets of all events, by their lengths alone, and the end of the last one.
fn event_offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = vec![MAGIC.len()];
    while let Some(length) = bytes
        .get(offsets[offsets.len() - 1] + 9..)
        .and_then(<[_]>::first_chunk)
    {
        offsets.push(offsets[offsets.len() - 1] + u32::from_le_bytes(*length) as usize);
    }
    offsets
}
