//! The binlogs that an older job keeps, packed or not, without its manifests.

use std::path::Path;

use super::place::Place;
use super::sums::{self, Packing};
use super::unpack;
use crate::digest::Digest;
use crate::exit::{Exit, Failure};
use crate::layout::{ObjectKey, Sequence};

/// A binlog as the older job keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Where.
    pub key: ObjectKey,
    /// Its name on the server.
    pub binlog: String,
    /// The number at the end of that name.
    pub sequence: Sequence,
    packing: Packing,
}

/// The binlogs among the objects of a place, by ascending sequence. What has no binlog's name is passed over.
///
/// # Errors
/// Those of the store; and when two are of one sequence, since it cannot be told which of them is meant.
pub async fn binlogs(place: &Place) -> anyhow::Result<Vec<KeptFile>> {
    let mut kept: Vec<KeptFile> = place.objects().await?.into_iter().filter_map(of).collect();
    kept.sort_by(|a, b| (a.sequence, &a.key).cmp(&(b.sequence, &b.key)));
    let twice = kept.windows(2).find_map(|pair| match pair {
        [a, b] if a.sequence == b.sequence => Some((a, b)),
        _ => None,
    });
    if let Some((a, b)) = twice {
        return Err(Failure {
            message: format!(
                "{} and {} are both number {}",
                place.url_of(&a.key),
                place.url_of(&b.key),
                a.sequence
            ),
            exit: Exit::Usage,
            hint: Some("name the files of one server and one numbering, in one form: --from 'DIR/binlog.*.gz'".to_owned()),
        }
        .into());
    }
    Ok(kept)
}

fn of(key: ObjectKey) -> Option<KeptFile> {
    let (binlog, packing) = sums::binlog_name(key.as_str())?;
    let (binlog, sequence) = (binlog.to_owned(), Sequence::of_file_name(binlog).ok()?);
    Some(KeptFile {
        key,
        binlog,
        sequence,
        packing,
    })
}

/// Writes a kept binlog to `to` as the server wrote it, and says its digest and size. An older file there is replaced.
///
/// # Errors
/// What the store, the unpacker and the disk say.
pub async fn unpack_to(
    place: &Place,
    kept: &KeptFile,
    to: &Path,
) -> std::io::Result<(Digest, u64)> {
    let stream = place.open_object(&kept.key).await;
    let stream = stream.map_err(std::io::Error::other)?;
    let out = std::fs::File::create(to)?;
    let contents = unpack::unpack(stream, kept.packing, out).await?;
    Ok((contents.plain, contents.plain_size))
}
