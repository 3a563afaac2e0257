//! Finds the cuts in archived files: reads as few blocks as can decide.
//!
//! # Order
//! Block 0 for the file's header, then either the blocks up to where the cut can be, or those from
//! there to the file's end, whichever are fewer bytes; what the file adds on the other side follows
//! from its manifest entry. Where the end does not decide, the file is read from its beginning.
//!
//! # Limits
//! Those of [`RangedFile`], and the GTIDs of one file as a set.

pub mod scope;

use engine::binlog::{Refusal, Scanner};
use engine::exit::{Diagnose, Exit};
use engine::gtid::GtidSet;
use engine::layout::ObjectKey;

use self::scope::Scope;
use crate::copies::RangedFile;
use crate::cut::{Cut, Search, Seeker};
use crate::history::ArchivedFile;
use crate::object::{Archive, ReadError};

/// Why a cut could not be found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// A block could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is no binlog.
    #[error("{key}")]
    Refused {
        /// The archive object.
        key: ObjectKey,
        /// What it is.
        #[source]
        source: Refusal,
    },
    /// The manifest entry says that the file holds what it does not.
    #[error("{key}: what its manifest entry lists is not in the file")]
    NotFound {
        /// The archive object.
        key: ObjectKey,
    },
}

impl Diagnose for LocateError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read(error) => error.exit(),
            Self::Refused { source, .. } => source.exit(),
            Self::NotFound { .. } => Exit::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            Self::Refused { .. } => None,
            Self::NotFound { .. } => Some(
                "the entry was altered: compare it with the same key at another destination"
                    .to_owned(),
            ),
        }
    }
}

/// What a search found, and what it read.
#[derive(Debug)]
pub struct Located {
    /// The cut.
    pub cut: Cut,
    /// Bytes of the object that were read, header and index included.
    pub fetched: u64,
}

/// Looks for a cut in `file`, which adds `added`.
///
/// # Errors
/// When the object cannot be read, or does not hold what its entry says.
pub async fn locate(
    archive: &Archive,
    file: &ArchivedFile,
    added: &GtidSet,
    search: &Search,
) -> Result<Located, LocateError> {
    let mut ranged = archive.open_ranged(file).await?;
    let scope = Scope::of(ranged.index(), search);
    let mut fetched = ranged.opened_bytes();
    if let Some(from) = scope.suffix_from {
        let seeker = Seeker::new(search.clone());
        let pass = Pass::run(&mut ranged, file.key(), seeker, Some(from)).await?;
        fetched = fetched.saturating_add(pass.fetched);
        if pass.is_complete
            && let Some(cut) = pass.seeker.finish(added, false)
        {
            let cut = with_stragglers(cut, &ranged, search);
            return Ok(Located { cut, fetched });
        }
    }
    ranged.end_at(
        scope
            .likely
            .saturating_add(1)
            .min(ranged.index().blocks.len()),
    );
    let seeker = Seeker::new(search.clone());
    let pass = Pass::run(&mut ranged, file.key(), seeker, None).await?;
    fetched = fetched.saturating_add(pass.fetched);
    let cut = pass.seeker.finish(added, true);
    let cut = cut.ok_or_else(|| LocateError::NotFound {
        key: file.key().clone(),
    })?;
    let cut = with_stragglers(cut, &ranged, search);
    Ok(Located { cut, fetched })
}

/// Blocks behind the cut that were not read may hold transactions that were committed in time.
fn with_stragglers(mut cut: Cut, ranged: &RangedFile, search: &Search) -> Cut {
    if let (Search::After(time), Some(offset)) = (search, cut.offset) {
        let behind = ranged.index().blocks.iter();
        let mut behind = behind.filter(|block| block.plain_offset > offset);
        cut.stragglers |= behind.any(|block| block.first_commit.is_some_and(|c| c <= *time));
    }
    cut
}

/// One reading of a file, from its beginning or from a block on.
struct Pass {
    scanner: Scanner,
    seeker: Seeker,
    fetched: u64,
    /// A suffix could be joined to the file's header, and was read without damage to its end.
    is_complete: bool,
}

impl Pass {
    async fn run(
        ranged: &mut RangedFile,
        key: &ObjectKey,
        seeker: Seeker,
        from: Option<usize>,
    ) -> Result<Self, LocateError> {
        let mut pass = Self {
            scanner: Scanner::new(),
            seeker,
            fetched: 0,
            is_complete: true,
        };
        let refused = |source| LocateError::Refused {
            key: key.clone(),
            source,
        };
        if let Some(from) = from {
            pass.is_complete = pass.skip_to(ranged, from).await?;
            if !pass.is_complete {
                return Ok(pass);
            }
        }
        for number in from.unwrap_or(0)..ranged.index().blocks.len() {
            let (_, plain) = ranged.read_block(number).await?;
            pass.fetched = pass.fetched.saturating_add(ranged.block_size(number));
            pass.scanner.push(&plain).map_err(refused)?;
            for boundary in pass.scanner.take_boundaries() {
                pass.seeker.push(&boundary);
            }
            // A suffix is read to its end: what it adds is subtracted.
            if from.is_none() && pass.seeker.is_decided() {
                break;
            }
        }
        Ok(pass)
    }

    /// Reads the file's header, and goes on at a block that begins with a transaction.
    async fn skip_to(
        &mut self,
        ranged: &mut RangedFile,
        block: usize,
    ) -> Result<bool, LocateError> {
        let Some(target) = ranged.index().blocks.get(block).map(|b| b.plain_offset) else {
            return Ok(false);
        };
        ranged.end_at(1);
        let header = Header::read(ranged).await?;
        ranged.end_at(ranged.index().blocks.len());
        self.fetched = self.fetched.saturating_add(header.fetched);
        let whole = self.scanner.push(&header.bytes).is_ok();
        Ok(whole && self.scanner.skip_to(target))
    }
}

/// The bytes of a file before its first transaction: magic, `FormatDescription`, `PREVIOUS_GTIDS`.
#[derive(Debug)]
pub struct Header {
    /// The bytes; all of the file when no transaction begins in it.
    pub bytes: bytes::Bytes,
    /// Bytes of the object that were read for it.
    pub fetched: u64,
}

impl Header {
    /// Reads it: seldom more than the file's first block.
    ///
    /// # Errors
    /// When a block cannot be read.
    pub async fn read(ranged: &mut RangedFile) -> Result<Self, ReadError> {
        let mut scanner = Scanner::new();
        let mut bytes = bytes::BytesMut::new();
        let mut fetched = 0_u64;
        for number in 0..ranged.index().blocks.len() {
            let (_, plain) = ranged.read_block(number).await?;
            fetched = fetched.saturating_add(ranged.block_size(number));
            // What is no binlog has no header to be told from the rest.
            let is_binlog = scanner.push(&plain).is_ok();
            bytes.extend_from_slice(&plain);
            let first = scanner.take_boundaries().into_iter().next();
            if let Some(end) = first.and_then(|first| usize::try_from(first.offset).ok()) {
                bytes.truncate(end);
                break;
            }
            if !is_binlog || bytes.len() > MAX_FILE_HEADER {
                break;
            }
        }
        Ok(Self {
            bytes: bytes.freeze(),
            fetched,
        })
    }
}

/// No header is longer, in bytes: a `PREVIOUS_GTIDS` event that is read, and some.
const MAX_FILE_HEADER: usize = 64 * 1024 * 1024;
