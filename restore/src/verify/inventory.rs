//! What lies in the archive, by its keys: one listing, sorted by what each object is.
//!
//! # Limits
//! Some 100 bytes for each archived file. Of objects that are not gtide's, [`MAX_UNKNOWN`] are named.

use std::collections::{BTreeMap, BTreeSet};

use engine::layout::{
    KeyKind, ObjectKey, ProbeKey, RewrappedName, RollupName, Sequence, SourceIdentity,
};
use engine::store::ListedObject;

/// Objects of unknown purpose that are named; the rest is counted.
pub const MAX_UNKNOWN: usize = 1000;

/// A listing, sorted.
#[derive(Debug, Default)]
pub struct Inventory {
    /// What lies in each source's folder.
    pub sources: BTreeMap<SourceIdentity, SourceObjects>,
    /// Objects that this layout does not know.
    pub unknown: Vec<ObjectKey>,
    /// How many more there are of them.
    pub more_unknown: u64,
}

/// The objects of one source.
#[derive(Debug, Default)]
pub struct SourceObjects {
    /// Sequences that have an entry.
    pub entries: BTreeSet<Sequence>,
    /// Sequences that have an archive object, and its size.
    pub logs: BTreeMap<Sequence, u64>,
    /// Its data keys that were wrapped anew.
    pub rewrapped: Vec<RewrappedName>,
    /// Its rollups.
    pub rollups: Vec<RollupName>,
}

impl Inventory {
    /// Takes an object of the listing.
    pub fn add(&mut self, listed: ListedObject) {
        if let Some(name) = RewrappedName::parse(&listed.key) {
            let source = self.sources.entry(name.source.clone()).or_default();
            return source.rewrapped.push(name);
        }
        if let Some(name) = RollupName::parse(&listed.key) {
            let source = self.sources.entry(name.source.clone()).or_default();
            return source.rollups.push(name);
        }
        let Ok(parsed) = listed.key.parse() else {
            return self.add_foreign(listed.key);
        };
        let source = self.sources.entry(parsed.source).or_default();
        match parsed.kind {
            KeyKind::Log => {
                source.logs.insert(parsed.sequence, listed.size);
            }
            KeyKind::Manifest => {
                source.entries.insert(parsed.sequence);
            }
        }
    }

    fn add_foreign(&mut self, key: ObjectKey) {
        let is_probe = ProbeKey::parse(&key).is_some();
        if is_probe || is_layout_version(&key) || key.parse_base_backup().is_some() {
            return;
        }
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.push(key);
        } else {
            self.more_unknown = self.more_unknown.saturating_add(1);
        }
    }
}

/// Whether it is a cluster's `gtide.json`.
fn is_layout_version(key: &ObjectKey) -> bool {
    key.as_str()
        .split_once('/')
        .and_then(|(cluster, _)| cluster.parse().ok())
        .is_some_and(|cluster| ObjectKey::layout_version(&cluster) == *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/1";

    fn listing(keys: &[String]) -> Inventory {
        let mut inventory = Inventory::default();
        for (size, key) in keys.iter().enumerate() {
            let key = ObjectKey::from_listing(key.clone());
            inventory.add(ListedObject {
                key,
                size: size as u64,
            });
        }
        inventory
    }

    #[test]
    fn objects_are_sorted_by_what_their_keys_say_and_foreign_ones_are_kept_apart() {
        let inventory = listing(&[
            "orders/gtide.json".to_owned(),
            format!("{SOURCE}/log/0000000007.gtb"),
            format!("{SOURCE}/log/0000000007.gtb.bak"),
            format!("{SOURCE}/manifest/0000000008.json"),
            "orders/base/monday.json".to_owned(),
            "orders/check/3e11fa47-71ca-11e1-9e33-c80aa9429562".to_owned(),
            format!("{SOURCE}/keys/0000000007-0000000008-0123456789abcdef.json"),
            format!("{SOURCE}/keys/0000000008-0000000007-0123456789abcdef.json"),
            format!("{SOURCE}/rollup/0000000000-0000000999.json.zst"),
            format!("{SOURCE}/rollup/0000000007-0000001006.json.zst"),
            "orders/notes/gtide.json".to_owned(),
        ]);
        let (_, objects) = inventory.sources.first_key_value().unwrap();
        assert_eq!(objects.logs, BTreeMap::from([(Sequence(7), 1)]));
        assert_eq!(objects.entries, BTreeSet::from([Sequence(8)]));
        let unknown: Vec<&str> = inventory.unknown.iter().map(ObjectKey::as_str).collect();
        let backup = format!("{SOURCE}/log/0000000007.gtb.bak");
        let keys = format!("{SOURCE}/keys/0000000008-0000000007-0123456789abcdef.json");
        let rollup = format!("{SOURCE}/rollup/0000000007-0000001006.json.zst");
        assert_eq!(
            unknown,
            [&backup, &keys, &rollup, "orders/notes/gtide.json"]
        );
        assert_eq!((objects.rewrapped.len(), objects.rollups.len()), (1, 1));
    }

    #[test]
    fn a_flood_of_foreign_objects_is_counted_not_kept() {
        let keys: Vec<String> = (0..MAX_UNKNOWN + 5)
            .map(|n| format!("orders/x/{n}"))
            .collect();
        let inventory = listing(&keys);
        assert_eq!(
            (inventory.unknown.len(), inventory.more_unknown),
            (MAX_UNKNOWN, 5)
        );
    }
}
