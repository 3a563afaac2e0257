//! Keys of probes: what `gtide check` writes to a destination, and nothing else.
//!
//! A probe is the only thing in an archive that may be deleted; that a key is a probe's is kept by its type.

use uuid::Uuid;

use super::{ClusterName, ObjectKey};

/// The key of a probe: `<cluster>/check/<uuid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeKey(ObjectKey);

impl ProbeKey {
    /// The key of a probe with this name.
    pub fn new(cluster: &ClusterName, name: Uuid) -> Self {
        Self(ObjectKey(format!("{}{name}", Self::prefix(cluster))))
    }

    /// The prefix of a cluster's probes.
    pub fn prefix(cluster: &ClusterName) -> String {
        format!("{cluster}/check/")
    }

    /// The probe that the key names, if this layout made it.
    pub fn parse(key: &ObjectKey) -> Option<Self> {
        let (cluster, name) = key.as_str().split_once("/check/")?;
        let probe = Self::new(&cluster.parse().ok()?, name.parse().ok()?);
        (probe.0 == *key).then_some(probe)
    }

    /// As any object's.
    pub fn key(&self) -> &ObjectKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_key_is_a_probes() {
        let name = Uuid::from_u128(7);
        let probe = ProbeKey::new(&"orders".parse().unwrap(), name);
        assert_eq!(
            probe.key().as_str(),
            "orders/check/00000000-0000-0000-0000-000000000007"
        );
        assert_eq!(ProbeKey::parse(probe.key()), Some(probe));
        for key in [
            "orders/check/x",
            "orders/gtide.json",
            "orders/check/00000000-0000-0000-0000-000000000007/x",
            "orders/x/check/00000000-0000-0000-0000-000000000007",
            "orders/check/00000000000000000000000000000007",
            "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/2/log/0000000123.gtb",
        ] {
            assert_eq!(
                ProbeKey::parse(&ObjectKey::from_listing(key)),
                None,
                "{key}"
            );
        }
    }
}
