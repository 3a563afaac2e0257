//! The first bytes of an object: what it is, whose it is, how its data key is wrapped (FORMAT.md §3).
//!
//! The header is not secret, and authentic only once a block or the index was opened: its digest is
//! part of the associated data of each.

use data_encoding::HEXUPPER;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ArchiveError, KeyId, MAX_HEADER, ObjectIdentity, SealingKey, VERSION, WrappedKey};
use crate::digest::Digest;
use crate::layout::{ClusterName, Sequence, SourceIdentity};

/// In the manner of PNG: a high bit and line ends, so that text conversions show.
pub(super) const MAGIC: [u8; 8] = [0x89, b'G', b'T', b'B', b'\r', b'\n', 0x1A, b'\n'];

/// Bytes before the header's JSON: magic, version, reserved, header length.
const PREFIX_SIZE: usize = 16;

const CIPHER: &str = "AES-256-GCM";
const COMPRESSION: &str = "zstd";

/// The header's JSON, in this order (FORMAT.md §3.2). Stored: any change is a new format version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderJson {
    cluster: ClusterName,
    server_uuid: Uuid,
    incarnation: u32,
    sequence: Sequence,
    file_name: String,
    cipher: String,
    compression: String,
    key_id: KeyId,
    wrapped_key: WrappedKey,
}

/// What an object says of itself. Not yet authentic: see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    identity: ObjectIdentity,
    key_id: KeyId,
    wrapped_key: WrappedKey,
    digest: Digest,
    size: u64,
}

impl Header {
    /// Reads a header from an object's first bytes; `None` while more are needed, of which there are
    /// at most [`MAX_HEADER`] and 16.
    ///
    /// # Errors
    /// [`ArchiveError::NotAnObject`], [`ArchiveError::UnsupportedVersion`], [`ArchiveError::Limit`] and
    /// [`ArchiveError::MalformedHeader`], as soon as the bytes that show it are there.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, ArchiveError> {
        let Some(length) = parse_prefix(bytes)? else {
            return Ok(None);
        };
        let size = PREFIX_SIZE + length;
        let (Some(bytes), Some(json)) = (bytes.get(..size), bytes.get(PREFIX_SIZE..size)) else {
            return Ok(None);
        };
        let wire: HeaderJson =
            serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        // One header, one spelling: what is hashed is what was understood.
        if serde_json::to_vec(&wire).ok().as_deref() != Some(json) {
            return Err(malformed("its JSON is not canonical"));
        }
        if wire.cipher != CIPHER {
            return Err(malformed(format!("unknown cipher {:?}", wire.cipher)));
        }
        if wire.compression != COMPRESSION {
            return Err(malformed(format!(
                "unknown compression {:?}",
                wire.compression
            )));
        }
        Ok(Some(Self {
            identity: ObjectIdentity {
                source: SourceIdentity {
                    cluster: wire.cluster,
                    server_uuid: wire.server_uuid,
                    incarnation: wire.incarnation,
                },
                sequence: wire.sequence,
                file_name: wire.file_name,
            },
            key_id: wire.key_id,
            wrapped_key: wire.wrapped_key,
            digest: Digest::of(bytes),
            size: size as u64,
        }))
    }

    /// The bytes that begin an object, and their digest.
    pub(super) fn encode(key: &SealingKey) -> Result<(Vec<u8>, Digest), ArchiveError> {
        let wire = HeaderJson {
            cluster: key.identity.source.cluster.clone(),
            server_uuid: key.identity.source.server_uuid,
            incarnation: key.identity.source.incarnation,
            sequence: key.identity.sequence,
            file_name: key.identity.file_name.clone(),
            cipher: CIPHER.to_owned(),
            compression: COMPRESSION.to_owned(),
            key_id: key.key_id.clone(),
            wrapped_key: key.wrapped_key.clone(),
        };
        let json = serde_json::to_vec(&wire).map_err(|error| malformed(error.to_string()))?;
        let length = check_length(json.len() as u64)?;
        let mut bytes = Vec::with_capacity(PREFIX_SIZE + json.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(json);
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }

    /// Refuses an object that says it is another file's.
    ///
    /// # Errors
    /// [`ArchiveError::Identity`], which names both.
    pub fn require(&self, expected: &ObjectIdentity) -> Result<(), ArchiveError> {
        if self.identity == *expected {
            Ok(())
        } else {
            Err(ArchiveError::Identity {
                expected: Box::new(expected.clone()),
                found: Box::new(self.identity.clone()),
            })
        }
    }

    /// Whose object it says it is.
    pub fn identity(&self) -> &ObjectIdentity {
        &self.identity
    }

    /// The key-encryption key that wrapped the data key.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The data key's envelope.
    pub fn wrapped_key(&self) -> &WrappedKey {
        &self.wrapped_key
    }

    /// SHA-256 of all bytes of the header, from the magic on.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes of the header, from the magic on: the offset of the first block.
    pub fn size(&self) -> u64 {
        self.size
    }
}

fn malformed(reason: impl Into<String>) -> ArchiveError {
    ArchiveError::MalformedHeader {
        reason: reason.into(),
    }
}

fn check_length(length: u64) -> Result<u32, ArchiveError> {
    u32::try_from(length)
        .ok()
        .filter(|length| *length as usize <= MAX_HEADER)
        .ok_or(ArchiveError::Limit {
            part: super::Part::Header,
            unit: "bytes of JSON",
            found: length,
            max: MAX_HEADER as u64,
        })
}

/// The header's length, once the 16 bytes of the prefix are there.
fn parse_prefix(bytes: &[u8]) -> Result<Option<usize>, ArchiveError> {
    let known = bytes.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic);
    if !known {
        let found: Vec<u8> = bytes.iter().copied().take(MAGIC.len()).collect();
        return Err(ArchiveError::NotAnObject {
            found: HEXUPPER.encode(&found),
        });
    }
    let Some(prefix) = bytes.first_chunk::<PREFIX_SIZE>() else {
        return Ok(None);
    };
    let [.., v0, v1, r0, r1, l0, l1, l2, l3] = *prefix;
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(ArchiveError::UnsupportedVersion { found: version });
    }
    if [r0, r1] != [0, 0] {
        return Err(malformed("its reserved bytes are not zero"));
    }
    let length = check_length(u64::from(u32::from_le_bytes([l0, l1, l2, l3])))?;
    Ok(Some(length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{identity, key_encryption_key};

    fn encoded() -> Vec<u8> {
        let key = key_encryption_key(1).new_data_key(&identity(1)).unwrap();
        Header::encode(&key).unwrap().0
    }

    fn with_json(json: &str) -> Vec<u8> {
        let mut bytes = encoded()[..12].to_vec();
        bytes.extend(u32::try_from(json.len()).unwrap().to_le_bytes());
        bytes.extend(json.as_bytes());
        bytes
    }

    #[test]
    fn a_header_comes_back_from_any_prefix_that_holds_it() {
        let bytes = encoded();
        for length in 0..bytes.len() {
            assert_eq!(Header::parse(&bytes[..length]).unwrap(), None, "{length}");
        }
        let header = Header::parse(&bytes).unwrap().unwrap();
        assert_eq!(header.identity(), &identity(1));
        assert_eq!(header.size(), bytes.len() as u64);
        assert_eq!(header.digest(), Digest::of(&bytes));
        let with_more = [&bytes[..], &[1, 2, 3]].concat();
        assert_eq!(Header::parse(&with_more).unwrap(), Some(header));
    }

    /// Whitespace, another order, an unknown or a doubled key: understood or not, refused.
    #[test]
    fn json_with_another_spelling_is_refused() {
        let bytes = encoded();
        let json = str::from_utf8(&bytes[16..]).unwrap();
        assert!(Header::parse(&with_json(json)).unwrap().is_some());
        for wrong in [
            json.replacen(':', ": ", 1),
            json.replace("\"sequence\":1", "\"sequence\":01"),
            json.replace("3e11fa47", "3E11FA47"),
            json.replacen('{', "{\"extra\":1,", 1),
            json.replacen("\"sequence\":1,", "\"sequence\":1,\"sequence\":1,", 1),
            json.replace("\"sequence\":1,", ""),
            json.replace("AES-256-GCM", "AES-128-GCM"),
            json.replace("zstd", "none"),
            format!("{json} "),
            String::new(),
            "[]".to_owned(),
        ] {
            assert!(
                matches!(
                    Header::parse(&with_json(&wrong)),
                    Err(ArchiveError::MalformedHeader { .. })
                ),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_header_that_claims_to_be_huge_is_refused_at_its_prefix() {
        let mut bytes = encoded();
        bytes[12..16].copy_from_slice(&[0xFF; 4]);
        assert!(matches!(
            Header::parse(&bytes[..16]),
            Err(ArchiveError::Limit { .. })
        ));
    }

    #[test]
    fn other_files_are_refused_at_their_first_byte() {
        for other in [&b"\xFEbin"[..], b"GTB", b"\x89GTB\n\n", b"{"] {
            assert!(matches!(
                Header::parse(other),
                Err(ArchiveError::NotAnObject { .. })
            ));
        }
    }

    #[test]
    fn a_later_version_is_named_not_guessed() {
        let mut bytes = encoded();
        bytes[8] = 2;
        let error = Header::parse(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "archive format version 2 is unknown; this program reads version 1"
        );
    }

    #[test]
    fn a_header_too_long_to_be_read_is_not_written() {
        let mut identity = identity(1);
        identity.file_name = "x".repeat(MAX_HEADER);
        let key = key_encryption_key(1).new_data_key(&identity).unwrap();
        assert!(matches!(
            Header::encode(&key),
            Err(ArchiveError::Limit { .. })
        ));
    }
}
