//! How fast this machine seals, and what its compressor takes: measured, for `gtide check`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use uuid::Uuid;
use zeroize::Zeroizing;
use zstd::zstd_safe::{CCtx, CParameter};

use super::SealError;
use super::blocks::Blocks;
use crate::archive::key::KEY_SIZE;
use crate::archive::{
    ArchiveError, KeyEncryptionKey, KeyId, MAX_BLOCK_PLAIN, ObjectIdentity, ObjectWriter,
    SealingKey,
};
use crate::layout::{ClusterName, Sequence, SourceIdentity};

/// As much of a file as is sealed, in bytes: some whole blocks.
const SAMPLE: u64 = 4 * MAX_BLOCK_PLAIN as u64;

/// Names the key of a trial, which seals nothing that is kept.
const KEY_ID: &str = "trial";

/// The file that is said to be sealed.
const TRIAL_FILE: &str = "trial.000000";

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Bytes of the binlog that were sealed, again and again perhaps.
    pub bytes: u64,
    /// Bytes that they became.
    pub sealed_bytes: u64,
    /// In this time, by one thread.
    pub elapsed: Duration,
    /// Memory that the compressor took for a whole block, in bytes.
    pub compressor_bytes: u64,
}

/// Seals the beginning of a closed binlog file into nothing until `budget` is over, once at least. Blocks its thread.
///
/// # Errors
/// When it cannot be read or is no binlog.
pub fn try_sealing(
    path: &Path,
    cluster: &ClusterName,
    level: i32,
    budget: Duration,
) -> Result<Trial, SealError> {
    let sample = read_sample(path).map_err(|source| SealError::Read {
        path: path.to_owned(),
        source,
    })?;
    let archive = |source| SealError::Archive {
        path: path.to_owned(),
        source,
    };
    let mut trial = Trial {
        bytes: 0,
        sealed_bytes: 0,
        elapsed: Duration::ZERO,
        compressor_bytes: compressor_bytes(&sample, level).map_err(archive)?,
    };
    let begin = Instant::now();
    loop {
        let (identity, key) = subject(cluster).map_err(archive)?;
        let writer = ObjectWriter::create(io::sink(), &identity, key, level).map_err(archive)?;
        let mut blocks = Blocks::new(writer, None);
        blocks.push(&sample).map_err(|error| error.of(path))?;
        let sealed = blocks.finish().map_err(|error| error.of(path))?;
        trial.bytes = trial.bytes.saturating_add(sample.len() as u64);
        trial.sealed_bytes = trial.sealed_bytes.saturating_add(sealed.facts.size);
        trial.elapsed = begin.elapsed();
        if trial.elapsed >= budget {
            return Ok(trial);
        }
    }
}

fn read_sample(path: &Path) -> io::Result<Vec<u8>> {
    let mut sample = Vec::new();
    File::open(path)?.take(SAMPLE).read_to_end(&mut sample)?;
    Ok(sample)
}

/// What zstd says of its own memory after a block of the greatest size.
fn compressor_bytes(sample: &[u8], level: i32) -> Result<u64, ArchiveError> {
    let failed = |code| ArchiveError::Compress {
        part: crate::archive::Part::Block(0),
        source: io::Error::other(zstd::zstd_safe::get_error_name(code)),
    };
    let mut block = sample.to_vec();
    block.resize(MAX_BLOCK_PLAIN, 0);
    let mut context = CCtx::create();
    let level = CParameter::CompressionLevel(level);
    context.set_parameter(level).map_err(failed)?;
    let mut sealed = Vec::with_capacity(zstd::zstd_safe::compress_bound(block.len()));
    context.compress2(&mut sealed, &block).map_err(failed)?;
    Ok(context.sizeof() as u64)
}

/// A file that no server has (sequences begin at 1), and a key that nobody keeps.
fn subject(cluster: &ClusterName) -> Result<(ObjectIdentity, SealingKey), ArchiveError> {
    let identity = ObjectIdentity {
        source: SourceIdentity {
            cluster: cluster.clone(),
            server_uuid: Uuid::nil(),
            incarnation: 1,
        },
        sequence: Sequence(0),
        file_name: TRIAL_FILE.to_owned(),
    };
    let mut secret = Zeroizing::new([0; KEY_SIZE]);
    getrandom::fill(secret.as_mut_slice()).map_err(ArchiveError::Random)?;
    let id: KeyId = KEY_ID.parse().expect("printable ASCII is a key id");
    let key = KeyEncryptionKey::new(id, &secret).new_data_key(&identity)?;
    Ok((identity, key))
}
