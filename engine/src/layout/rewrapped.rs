//! The keys of objects that hold data keys which were wrapped anew (FORMAT.md §8.6).

use super::{ObjectKey, SEQUENCE_DIGITS, Sequence, SourceIdentity};
use crate::digest::Digest;

/// Hexadecimal digits of the key id's digest in a name.
const KEY_DIGITS: usize = 16;

/// What the name of such an object says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RewrappedName {
    /// Whose data keys they are.
    pub source: SourceIdentity,
    /// The first file that it holds one of.
    pub first: Sequence,
    /// The last.
    pub last: Sequence,
    /// Under which key: the first digits of the SHA-256 of its id.
    key_digest: String,
}

impl RewrappedName {
    /// The name for data keys from `first` to `last` under the key with this id.
    pub fn new(source: SourceIdentity, first: Sequence, last: Sequence, key_id: &str) -> Self {
        let mut key_digest = Digest::of(key_id.as_bytes()).to_string();
        key_digest.truncate(KEY_DIGITS);
        Self {
            source,
            first,
            last,
            key_digest,
        }
    }

    /// Is it the name of data keys under the key with this id?
    pub fn is_under(&self, key_id: &str) -> bool {
        Digest::of(key_id.as_bytes())
            .to_string()
            .starts_with(&self.key_digest)
    }

    /// May it hold the data key of this file?
    pub fn spans(&self, sequence: Sequence) -> bool {
        (self.first..=self.last).contains(&sequence)
    }

    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        let (first, last) = (self.first.0, self.last.0);
        ObjectKey(format!(
            "{}{first:0SEQUENCE_DIGITS$}-{last:0SEQUENCE_DIGITS$}-{}.json",
            self.source.keys_prefix(),
            self.key_digest
        ))
    }

    /// What a key names, if it is such an object's.
    pub fn parse(key: &ObjectKey) -> Option<Self> {
        let mut parts = key.as_str().split('/');
        let source = SourceIdentity {
            cluster: parts.next()?.parse().ok()?,
            server_uuid: parts.next()?.parse().ok()?,
            incarnation: parts.next()?.parse().ok()?,
        };
        let ("keys", name, None) = (parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let mut fields = name.strip_suffix(".json")?.split('-');
        let (first, last) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let key_digest = fields.next()?.to_owned();
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_digest = key_digest.len() == KEY_DIGITS && key_digest.bytes().all(is_hex);
        let name = Self {
            source,
            first: Sequence(first),
            last: Sequence(last),
            key_digest,
        };
        let is_one = is_digest && name.first <= name.last && fields.next().is_none();
        // Only the one canonical spelling names the object.
        (is_one && name.key() == *key).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/2";

    #[test]
    fn names_are_as_documented_and_parse_back() {
        let source = SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation: 2,
        };
        let name = RewrappedName::new(source, Sequence(7), Sequence(1006), "file:0123");
        let text = name.key().to_string();
        let digest = text.strip_prefix(&format!("{SOURCE}/keys/0000000007-0000001006-"));
        assert_eq!(
            digest.map(str::len),
            Some(KEY_DIGITS + ".json".len()),
            "{text}"
        );
        assert_eq!(RewrappedName::parse(&name.key()), Some(name.clone()));
        assert!(name.is_under("file:0123") && !name.is_under("file:0124"));
        assert!(name.spans(Sequence(7)) && name.spans(Sequence(1006)));
        assert!(!name.spans(Sequence(6)) && !name.spans(Sequence(1007)));
    }

    #[test]
    fn other_keys_are_none() {
        let name = "0000000007-0000001006-0123456789abcdef.json";
        let parse = |key: String| RewrappedName::parse(&ObjectKey::from_listing(key));
        assert!(parse(format!("{SOURCE}/keys/{name}")).is_some());
        for key in [
            format!("{SOURCE}/log/{name}"),
            format!("{SOURCE}/keys/{name}.bak"),
            format!("{SOURCE}/keys/x/{name}"),
            format!("{SOURCE}/keys/7-1006-0123456789abcdef.json"),
            format!("{SOURCE}/keys/0000001006-0000000007-0123456789abcdef.json"),
            format!("{SOURCE}/keys/0000000007-0000001006-0123456789ABCDEF.json"),
            format!("{SOURCE}/keys/0000000007-0000001006-0123.json"),
            format!("{SOURCE}/keys/0000000007-0000001006-0123456789abcdef-1.json"),
        ] {
            assert_eq!(parse(key.clone()), None, "{key}");
        }
    }
}
