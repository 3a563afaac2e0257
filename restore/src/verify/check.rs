//! Judges one archived file: reads it back, or only asks the store for it.
//!
//! Besides what reading proves by itself (see [`crate::object`]), the binlog is parsed anew, every
//! event's CRC included, and what is found is compared with what the entry says.

use engine::binlog::{Refusal, Scanner, Summary};
use engine::exit::{Diagnose, Exit};
use engine::store::ObjectMeta;
use serde_json::{Map, Value};

use crate::history::{ArchivedFile, StoredEntry};
use crate::object::{Archive, ReadError};

use super::finding::{Finding, Kind, Subject};

/// The longest value that a message quotes, in characters.
const MAX_QUOTED: usize = 120;

/// A file to be judged.
#[derive(Debug)]
pub struct Suspect {
    file: ArchivedFile,
    /// The entry's own words on the binlog. As stored, so that fields which a later version adds
    /// to its summaries are not missed in entries of an earlier one.
    recorded: Map<String, Value>,
    /// The object's size in the listing.
    listed_size: Option<u64>,
}

/// The judgement.
#[derive(Debug)]
pub struct Judgement {
    /// What is wrong.
    pub finding: Option<Finding>,
    /// Bytes of binlog that came out.
    pub plain_bytes: u64,
    /// Bytes of the object that were to be read.
    pub read_bytes: u64,
    /// It was read back.
    pub was_read: bool,
}

impl Suspect {
    /// The file that `stored` describes as `file`.
    pub fn new(stored: &StoredEntry, file: ArchivedFile, listed_size: Option<u64>) -> Self {
        let recorded = match serde_json::from_slice(&stored.bytes) {
            Ok(Value::Object(mut entry)) => entry.remove("binlog"),
            _ => None,
        };
        let recorded = match recorded {
            Some(Value::Object(recorded)) => recorded,
            _ => Map::new(),
        };
        Self {
            file,
            recorded,
            listed_size,
        }
    }

    /// Reads the file back and judges it.
    pub async fn judge(self, archive: Archive) -> Judgement {
        let mut plain_bytes = 0;
        let outcome = self.read(&archive, &mut plain_bytes).await;
        let finding = outcome.err().map(|fault| self.finding(&fault));
        Judgement {
            finding,
            plain_bytes,
            read_bytes: self.file.object.facts.size,
            was_read: true,
        }
    }

    /// Asks the store for size and checksum, and judges those.
    pub async fn look(self, archive: Archive) -> Judgement {
        let outcome = match archive.store.head(self.file.key()).await {
            Ok(Some(meta)) => self.compare(&meta),
            Ok(None) => Err(ReadError::Missing {
                key: self.file.key().clone(),
            }),
            Err(error) => Err(error.into()),
        };
        Judgement {
            finding: outcome.err().map(|fault| self.finding(&fault.into())),
            plain_bytes: 0,
            read_bytes: 0,
            was_read: false,
        }
    }

    /// A store that knows no checksum says nothing about the content.
    fn compare(&self, meta: &ObjectMeta) -> Result<(), ReadError> {
        let facts = &self.file.object.facts;
        self.file
            .same("the size of the object", &meta.size, &facts.size)?;
        let crc32c = meta.crc32c.unwrap_or(facts.crc32c);
        self.file
            .same("the CRC32C of the object", &crc32c, &facts.crc32c)
    }

    async fn read(&self, archive: &Archive, plain_bytes: &mut u64) -> Result<(), Fault> {
        let mut reader = archive.open(&self.file).await?;
        let mut scanner = Scanner::new();
        while let Some(block) = reader.next().await? {
            *plain_bytes = plain_bytes.saturating_add(block.len() as u64);
            scanner.push(&block)?;
            // Boundaries are the sealer's; kept, they would grow with the file.
            drop(scanner.take_boundaries());
        }
        let differences = differences(&self.recorded, &scanner.finish()?);
        if differences.is_empty() {
            Ok(())
        } else {
            Err(Fault::Summary(differences))
        }
    }

    fn finding(&self, fault: &Fault) -> Finding {
        let key = self.file.key().clone();
        let mut finding = match fault {
            Fault::Read(error) => Finding::of_object(key, error),
            Fault::Refused(refusal) => {
                Finding::new(Kind::BadObject, Exit::Corrupt, key, refusal.to_string())
                    .advise(refusal.hint().unwrap_or_default())
            }
            Fault::Summary(differences) => {
                let message = format!(
                    "the binlog reads otherwise than its manifest entry says: {}",
                    differences.join(", ")
                );
                Finding::new(Kind::BadObject, Exit::Corrupt, key, message).advise(
                    "the entry was altered: compare it with the same key at another destination",
                )
            }
        };
        let recorded = self.file.object.facts.size;
        if let Some(size) = self.listed_size.filter(|&size| size != recorded) {
            let note = format!("; it is {size} bytes long, and its manifest entry says {recorded}");
            finding.message.push_str(&note);
        }
        let identity = &self.file.identity;
        finding.about(Subject {
            source: &identity.source,
            sequence: identity.sequence,
        })
    }
}

/// What is wrong with a file.
#[derive(Debug)]
enum Fault {
    /// It could not be read back.
    Read(ReadError),
    /// It is no binlog that gtide archives.
    Refused(Refusal),
    /// It is not the binlog that the entry describes.
    Summary(Vec<String>),
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The recorded fields that `found` has otherwise.
fn differences(recorded: &Map<String, Value>, found: &Summary) -> Vec<String> {
    let found = serde_json::to_value(found).unwrap_or_default();
    recorded
        .iter()
        .filter_map(|(field, recorded)| {
            let found = found.get(field)?;
            (found != recorded)
                .then(|| format!("{field} is {}, not {}", quote(found), quote(recorded)))
        })
        .collect()
}

fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
