//! The keys that the program accepts, deploy/CONFIG.md and the annotated example are one list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::super::*;

const REFERENCE: &str = include_str!("../../../../deploy/CONFIG.md");
const EXAMPLE: &str = include_str!("../../cli/gtide.example.toml");

/// Leads serde to the value of one key after the other, and finds out what is there: a table, of which it takes the
/// names of the keys, or something that is none.
struct Probe<'a> {
    way: &'a [&'static str],
    found: &'a mut Found,
}

#[derive(Default)]
struct Found {
    /// None for a value that is no table.
    keys: Option<&'static [&'static str]>,
    is_array: bool,
}

/// How every visit ends: nothing is to be read.
fn enough<T>() -> Result<T, Error> {
    Err(Error::custom("seen"))
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        enough()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.found.is_array = self.way.is_empty();
        visitor.visit_seq(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.way.is_empty() {
            self.found.keys = Some(keys);
            return enough();
        }
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Probe<'_> {
    type Error = Error;

    fn next_element_seed<T: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Self { way, found } = self;
        seed.deserialize(Probe { way, found }).map(Some)
    }
}

impl<'de> MapAccess<'de> for Probe<'_> {
    type Error = Error;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        seed.deserialize(self.way[0].into_deserializer()).map(Some)
    }

    fn next_value_seed<V: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Error> {
        let way = &self.way[1..];
        let found = &mut *self.found;
        seed.deserialize(Probe { way, found })
    }
}

fn probe(way: &[&'static str]) -> Found {
    let mut found = Found::default();
    let seen = Raw::deserialize(Probe {
        way,
        found: &mut found,
    });
    assert_eq!(seen.unwrap_err().to_string(), "seen", "{way:?}");
    found
}

/// Every key that is accepted, as messages name them: `cluster`, `[queue] lanes`, `[[source]] name`.
fn accepted() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for &key in probe(&[]).keys.unwrap() {
        let table = probe(&[key]);
        let Some(keys) = table.keys else {
            all.insert(key.to_owned());
            continue;
        };
        let name = if table.is_array {
            format!("[[{key}]]")
        } else {
            format!("[{key}]")
        };
        for &inner in keys {
            assert!(
                probe(&[key, inner]).keys.is_none(),
                "a table in a table: {key} {inner}"
            );
            all.insert(format!("{name} {inner}"));
        }
    }
    all
}

/// The reference's rows: type, default and meaning of every key.
fn documented() -> BTreeMap<String, [String; 3]> {
    let mut table = String::new();
    let mut rows = BTreeMap::new();
    for line in REFERENCE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.trim_matches('`');
            table = if name.starts_with('[') {
                format!("{name} ")
            } else {
                String::new()
            };
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<_> = row.split(" | ").collect();
            let [key, kind, default, meaning] = cells[..] else {
                panic!("{line}")
            };
            let key = format!("{table}{}", key.trim_end_matches('`'));
            let cells = [kind, default, meaning].map(str::to_owned);
            assert!(rows.insert(key, cells).is_none(), "twice: {line}");
        }
    }
    rows
}

/// `key` of `key = value`, also of one that stands as a comment.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start_matches('#').split_once(" = ")?;
    let is_key = |c: char| c.is_ascii_lowercase() || c == '-';
    key.chars().all(is_key).then_some(key)
}

/// A table's heading, also of one that stands as a comment.
fn table_of(line: &str) -> Option<&str> {
    let line = line.trim_start_matches('#');
    (line.starts_with('[') && line.ends_with(']')).then_some(line)
}

/// The example's keys, each with the number of its line.
fn shown() -> Vec<(String, usize)> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for (number, line) in EXAMPLE.lines().enumerate() {
        if let Some(name) = table_of(line) {
            table = format!("{name} ");
        } else if let Some(key) = key_of(line) {
            keys.push((format!("{table}{key}"), number));
        }
    }
    keys
}

#[test]
fn every_key_that_is_accepted_is_documented_and_no_other() {
    let accepted = accepted();
    assert!(accepted.contains("[[destination]] retain-days") && accepted.contains("[purge] auto"));
    let documented: BTreeSet<_> = documented().into_keys().collect();
    assert_eq!(documented, accepted, "deploy/CONFIG.md");
    let shown: BTreeSet<_> = shown().into_iter().map(|(key, _)| key).collect();
    assert_eq!(shown, accepted, "gtide.example.toml");
}

#[test]
fn every_key_has_a_type_a_default_and_a_meaning() {
    for (key, cells) in documented() {
        let empty = cells
            .iter()
            .any(|cell| cell.trim_matches(['|', ' ']).is_empty());
        assert!(!empty, "{key}: {cells:?}");
    }
}

#[test]
fn the_documented_defaults_are_the_programs() {
    let documented = documented();
    let of = |key: &str| documented[key][1].trim_matches('`').to_owned();
    let least = Config::load(&super::fixtures("valid/least.toml")).unwrap();
    assert_eq!(of("[queue] lanes"), DEFAULT_LANES.to_string());
    assert_eq!(of("[queue] max-attempts"), DEFAULT_MAX_ATTEMPTS.to_string());
    assert_eq!(of("[compression] level"), DEFAULT_LEVEL.to_string());
    assert_eq!(of("[metrics] listen"), DEFAULT_METRICS.to_string());
    assert_eq!(of("[[source]] incarnation"), "1");
    assert_eq!(least.sources[0].incarnation, 1);
    let size = of("[spool] reserve").parse::<ByteSize>().unwrap();
    assert_eq!(size.as_u64(), least.spool.reserve);
    for (key, is) in [
        ("[queue] shutdown-grace", DEFAULT_SHUTDOWN_GRACE),
        ("[purge] keep", DEFAULT_KEEP),
        (
            "[[destination]] renew-ahead",
            crate::cloud::aws::RENEW_AHEAD,
        ),
    ] {
        let said = of(key).parse::<SignedDuration>().unwrap();
        assert_eq!(Duration::try_from(said).unwrap(), is, "{key}");
    }
    for (key, is) in [
        ("[spool] pin", least.spool.pin),
        ("[purge] auto", least.purge.auto),
        ("[[destination]] required", least.destinations[0].required),
        (
            "[[destination]] dual-stack",
            least.destinations[0].store.s3.dual_stack,
        ),
    ] {
        assert_eq!(of(key), is.to_string(), "{key}");
    }
}

/// What stands there as a comment is right as it stands, too.
#[test]
fn every_line_of_the_example_that_is_a_comment_can_be_made_one_that_counts() {
    let lines: Vec<_> = EXAMPLE.lines().collect();
    let mut tried = 0;
    for (key, number) in shown() {
        if !lines[number].starts_with('#') {
            continue;
        }
        let same = shown().into_iter().filter(|(other, _)| *other == key);
        let instead: Vec<_> = same.map(|(_, number)| number).collect();
        let mut text = String::new();
        for (at, line) in lines.iter().enumerate() {
            if at != number && instead.contains(&at) {
                continue;
            }
            let is_its_table = at + 1 == number && table_of(line).is_some();
            let line = if at == number || is_its_table {
                line.trim_start_matches('#')
            } else {
                line
            };
            text.push_str(line);
            text.push('\n');
        }
        let text = text.replace("\"@CLUSTER@\"", "\"orders\"");
        let parsed = RawFile::parse(Path::new("gtide.toml"), &text);
        let words = parsed.err().map(|error| crate::exit::chain(&error));
        assert!(words.is_none(), "{key}: {words:?}");
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
}
