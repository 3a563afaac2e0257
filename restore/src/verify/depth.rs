//! How much of each object is read.

use std::str::FromStr;

use engine::digest::Digest;
use engine::layout::ObjectKey;
use serde::{Serialize, Serializer};

/// How much of each object is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// All of it.
    Full,
    /// Nothing: the store says what size and which CRC32C it has.
    Quick,
    /// All of a random share of them, of the others nothing.
    Sample {
        /// How many.
        percent: Percent,
        /// Decides which: the same archive and seed are the same objects.
        seed: u64,
    },
}

impl Depth {
    /// Whether this object is read back.
    pub fn reads(self, key: &ObjectKey) -> bool {
        match self {
            Self::Full => true,
            Self::Quick => false,
            Self::Sample { percent, seed } => percent.takes(dice(seed, key)),
        }
    }

    /// Its name in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::Sample { .. } => "sample",
        }
    }
}

impl Serialize for Depth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// A number from 0 to 2³² that depends on nothing but seed and key, so that what is drawn depends on no order.
fn dice(seed: u64, key: &ObjectKey) -> u32 {
    let digest = Digest::of_parts(&[&seed.to_be_bytes(), key.as_str().as_bytes()]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A share: above 0, and 100 at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(f64);

impl Percent {
    fn takes(self, dice: u32) -> bool {
        f64::from(dice) < self.0 / 100.0 * (f64::from(u32::MAX) + 1.0)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err("not a number above 0 and up to 100".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(percent: &str, seed: u64) -> Vec<u32> {
        let depth = Depth::Sample {
            percent: percent.parse().unwrap(),
            seed,
        };
        let key = |number| ObjectKey::from_listing(format!("orders/{number}"));
        (0..10_000)
            .filter(|&number| depth.reads(&key(number)))
            .collect()
    }

    #[test]
    fn a_seed_draws_its_share_and_the_same_again() {
        let tenth = drawn("10", 1);
        assert!((900..1100).contains(&tenth.len()), "{}", tenth.len());
        assert_eq!(tenth, drawn("10", 1));
        assert_ne!(tenth, drawn("10", 2));
        // A larger share has all of a smaller one.
        let fifth = drawn("20", 1);
        assert!(tenth.iter().all(|number| fifth.contains(number)));
        assert_eq!(drawn("100", 1).len(), 10_000);
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["0", "-1", "100.1", "NaN", "inf", "", "5%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }
}
