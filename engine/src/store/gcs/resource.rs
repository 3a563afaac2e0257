//! What the service says of an object.

use serde::Deserialize;

use super::failure::Failing;
use crate::store::{StoreError, crc32c_from_base64};

/// The fields to ask for.
pub(super) const FIELDS: &str = "name,size,crc32c";

/// An object's metadata, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resource {
    /// Bytes in it.
    pub(super) size: u64,
    /// CRC32C of all of it.
    pub(super) crc32c: Option<u32>,
}

/// The same in JSON, which says 64-bit numbers as text.
#[derive(Deserialize)]
struct Wire {
    size: String,
    crc32c: Option<String>,
}

impl Resource {
    /// `size` that is missing is none that could be meant.
    pub(super) fn new(size: Option<u64>, crc32c: Option<u32>) -> Self {
        Self {
            size: size.unwrap_or(u64::MAX),
            crc32c,
        }
    }

    pub(super) fn parse(body: &[u8], failing: &Failing) -> Result<Self, StoreError> {
        let wire: Wire = serde_json::from_slice(body)
            .map_err(|error| failing.oddly(format!("an object without its metadata: {error}")))?;
        let size = wire.size.parse();
        Ok(Self {
            size: size.map_err(|_| failing.oddly("an object whose size is no number"))?,
            crc32c: wire.crc32c.as_deref().and_then(crc32c_from_base64),
        })
    }

    /// Whether it is the object that was meant: a service that ignores checksums must not go unseen.
    pub(super) fn is(self, size: u64, crc32c: u32, failing: &Failing) -> Result<(), StoreError> {
        if self.size != size {
            let reason = format!("the object has {} bytes, expected {size}", self.size);
            return Err(failing.mismatch(reason));
        }
        match self.crc32c {
            Some(stored) if stored != crc32c => {
                let Failing { operation, object } = failing.clone();
                Err(StoreError::crc_mismatch(operation, object, stored, crc32c))
            }
            // A service that tells none is read back by whoever verifies.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Operation;

    #[test]
    fn an_object_is_compared_by_size_and_checksum() {
        let failing = Failing {
            operation: Operation::Put,
            object: "gs://bucket/key".to_owned(),
        };
        let parsed = Resource::parse(br#"{"size": "9", "crc32c": "4waSgw=="}"#, &failing);
        let parsed = parsed.unwrap();
        assert_eq!(parsed, Resource::new(Some(9), Some(0xE306_9283)));
        assert!(parsed.is(9, 0xE306_9283, &failing).is_ok());
        for (size, crc32c) in [(8, 0xE306_9283), (9, 0)] {
            let wrong = parsed.is(size, crc32c, &failing);
            assert!(
                matches!(wrong, Err(StoreError::Mismatch { .. })),
                "{wrong:?}"
            );
        }
        for odd in ["", "{}", r#"{"size": "many"}"#, r#"{"size": "-1"}"#] {
            let error = Resource::parse(odd.as_bytes(), &failing).unwrap_err();
            assert!(matches!(error, StoreError::Protocol { .. }), "{odd}");
        }
    }
}
