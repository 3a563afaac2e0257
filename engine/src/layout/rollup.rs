//! The keys of rollups: the manifest entries of a thousand sequences in one object (FORMAT.md §11.1).

use super::{ObjectKey, SEQUENCE_DIGITS, Sequence, SourceIdentity};

/// Sequences of one rollup, whether each has an entry or not: as many as a store lists at once.
const SPAN: u64 = 1000;

/// What the name of a rollup says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RollupName {
    /// Whose entries it holds.
    pub source: SourceIdentity,
    /// A multiple of [`SPAN`].
    first: u64,
}

impl RollupName {
    /// The rollup in which the entry of this sequence belongs.
    pub fn of(source: SourceIdentity, sequence: Sequence) -> Self {
        let first = sequence.0 - sequence.0 % SPAN;
        Self { source, first }
    }

    /// The rollup behind this one.
    #[must_use]
    pub fn next(&self) -> Self {
        Self {
            source: self.source.clone(),
            first: self.first.saturating_add(SPAN),
        }
    }

    /// The first sequence that belongs in it.
    pub fn first(&self) -> Sequence {
        Sequence(self.first)
    }

    /// The last sequence that belongs in it.
    pub fn last(&self) -> Sequence {
        Sequence(self.first.saturating_add(SPAN - 1))
    }

    /// Does the entry of this sequence belong in it?
    pub fn spans(&self, sequence: Sequence) -> bool {
        (self.first()..=self.last()).contains(&sequence)
    }

    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        let (first, last) = (self.first().0, self.last().0);
        ObjectKey(format!(
            "{}{first:0SEQUENCE_DIGITS$}-{last:0SEQUENCE_DIGITS$}.json.zst",
            self.source.rollup_prefix()
        ))
    }

    /// What a key names, if it is a rollup's.
    pub fn parse(key: &ObjectKey) -> Option<Self> {
        let mut parts = key.as_str().split('/');
        let source = SourceIdentity {
            cluster: parts.next()?.parse().ok()?,
            server_uuid: parts.next()?.parse().ok()?,
            incarnation: parts.next()?.parse().ok()?,
        };
        let ("rollup", name) = (parts.next()?, parts.next()?) else {
            return None;
        };
        let first = name.split('-').next()?.parse().ok()?;
        let name = Self::of(source, Sequence(first));
        // Only the one canonical spelling names the object.
        (name.key() == *key).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/2";

    fn source() -> SourceIdentity {
        SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation: 2,
        }
    }

    #[test]
    fn names_are_as_documented_and_parse_back() {
        for (sequence, name) in [
            (1, "0000000000-0000000999"),
            (999, "0000000000-0000000999"),
            (1000, "0000001000-0000001999"),
            (2_147_483_647, "2147483000-2147483999"),
        ] {
            let rollup = RollupName::of(source(), Sequence(sequence));
            let key = rollup.key();
            assert_eq!(key.as_str(), format!("{SOURCE}/rollup/{name}.json.zst"));
            assert_eq!(RollupName::parse(&key), Some(rollup.clone()));
            assert!(rollup.spans(Sequence(sequence)));
            assert!(!rollup.spans(rollup.next().first()));
        }
    }

    #[test]
    fn other_keys_are_none() {
        for name in [
            "0000000001-0000001000.json.zst",
            "0000000000-0000001999.json.zst",
            "0-999.json.zst",
            "0000000000-0000000999.json",
            "0000000000-0000000999.json.zst.bak",
            "x/0000000000-0000000999.json.zst",
            "99999999999999999999-0000000999.json.zst",
            "18446744073709551615-18446744073709551615.json.zst",
            "",
        ] {
            let key = ObjectKey::from_listing(format!("{SOURCE}/rollup/{name}"));
            assert_eq!(RollupName::parse(&key), None, "{key}");
        }
        let key = format!("{SOURCE}/log/0000000000-0000000999.json.zst");
        assert_eq!(RollupName::parse(&ObjectKey::from_listing(key)), None);
    }
}
