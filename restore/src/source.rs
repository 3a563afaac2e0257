//! Which of the archive's sources a command is about.

use std::str::FromStr;

use engine::exit::{Diagnose, Exit};
use engine::layout::{ClusterName, SourceIdentity};

/// Fewer leading characters of a `server_uuid` are taken for a mistake.
pub const MIN_UUID_PREFIX: usize = 4;

/// What `--source` accepts: `SERVER_UUID[/INCARNATION]`, where the uuid may be cut short, or the
/// whole `CLUSTER/SERVER_UUID/INCARNATION` as `ls` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceName {
    cluster: Option<ClusterName>,
    uuid_prefix: String,
    incarnation: Option<u32>,
}

/// Why no source, or more than one, answers to a command's filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Text that names no source.
    #[error("{0:?} does not name a source")]
    Syntax(String),
    /// Nothing was ever archived here.
    #[error("{destination} holds no archive")]
    Empty {
        /// Where was looked.
        destination: String,
    },
    /// There are sources, but not this one.
    #[error("none of the sources in {destination} matches: it holds {}", list(.found))]
    NoMatch {
        /// Where was looked.
        destination: String,
        /// What is there.
        found: Vec<SourceIdentity>,
    },
    /// A command about one source has several to choose from.
    #[error("{} sources match: {}", .found.len(), list(.found))]
    Ambiguous {
        /// Those that match.
        found: Vec<SourceIdentity>,
    },
}

fn list(sources: &[SourceIdentity]) -> String {
    let names: Vec<String> = sources.iter().map(ToString::to_string).collect();
    names.join(", ")
}

impl Diagnose for SourceError {
    fn exit(&self) -> Exit {
        match self {
            Self::Empty { .. } => Exit::Gap,
            Self::Syntax(_) | Self::NoMatch { .. } | Self::Ambiguous { .. } => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Syntax(_) => {
                "write SERVER_UUID, SERVER_UUID/INCARNATION or CLUSTER/SERVER_UUID/INCARNATION"
            }
            Self::Empty { .. } => {
                "check the destination's url and prefix, or archive something with `gtide run`"
            }
            Self::NoMatch { .. } => "`gtide-restore ls` lists the sources",
            Self::Ambiguous { .. } => "name one of them with --source",
        };
        Some(hint.to_owned())
    }
}

impl FromStr for SourceName {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let syntax = || SourceError::Syntax(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let (cluster, uuid, incarnation) = match parts.as_slice() {
            [uuid] => (None, uuid, None),
            [uuid, incarnation] => (None, uuid, Some(incarnation)),
            [cluster, uuid, incarnation] => (Some(cluster), uuid, Some(incarnation)),
            _ => return Err(syntax()),
        };
        let uuid_like = |c: char| c.is_ascii_hexdigit() || c == '-';
        if uuid.len() < MIN_UUID_PREFIX || !uuid.chars().all(uuid_like) {
            return Err(syntax());
        }
        Ok(Self {
            cluster: cluster
                .map(|name| name.parse())
                .transpose()
                .map_err(|_| syntax())?,
            uuid_prefix: uuid.to_ascii_lowercase(),
            incarnation: incarnation
                .map(|n| n.parse())
                .transpose()
                .map_err(|_| syntax())?,
        })
    }
}

impl SourceName {
    fn matches(&self, source: &SourceIdentity) -> bool {
        self.cluster
            .as_ref()
            .is_none_or(|cluster| *cluster == source.cluster)
            && self
                .incarnation
                .is_none_or(|incarnation| incarnation == source.incarnation)
            && source
                .server_uuid
                .to_string()
                .starts_with(&self.uuid_prefix)
    }
}

/// The filter of a command: all sources, a cluster's, or those that a name matches.
#[derive(Debug, Clone, Default)]
pub struct SourceFilter {
    /// Only this cluster's.
    pub cluster: Option<ClusterName>,
    /// Only those that it names.
    pub name: Option<SourceName>,
}

impl SourceFilter {
    fn matches(&self, source: &SourceIdentity) -> bool {
        self.cluster
            .as_ref()
            .is_none_or(|cluster| *cluster == source.cluster)
            && self.name.as_ref().is_none_or(|name| name.matches(source))
    }

    /// Those of `found` that match.
    ///
    /// # Errors
    /// When `found` is empty, or nothing in it matches.
    pub fn some(
        &self,
        destination: &str,
        found: &[SourceIdentity],
    ) -> Result<Vec<SourceIdentity>, SourceError> {
        if found.is_empty() {
            return Err(SourceError::Empty {
                destination: destination.to_owned(),
            });
        }
        let matching: Vec<_> = found.iter().filter(|s| self.matches(s)).cloned().collect();
        if matching.is_empty() {
            let (destination, found) = (destination.to_owned(), found.to_vec());
            return Err(SourceError::NoMatch { destination, found });
        }
        Ok(matching)
    }

    /// The one of `found` that matches.
    ///
    /// # Errors
    /// When `found` is empty, or not exactly one in it matches.
    pub fn one(
        &self,
        destination: &str,
        found: &[SourceIdentity],
    ) -> Result<SourceIdentity, SourceError> {
        let mut matching = self.some(destination, found)?;
        match (matching.pop(), matching.is_empty()) {
            (Some(source), true) => Ok(source),
            (last, _) => {
                matching.extend(last);
                Err(SourceError::Ambiguous { found: matching })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/1";
    const TWO: &str = "orders/3e11fa47-71ca-11e1-9e33-c80aa9429562/2";
    const OTHER: &str = "billing/7c000000-71ca-11e1-9e33-c80aa9429562/1";

    fn identity(text: &str) -> SourceIdentity {
        let parts: Vec<&str> = text.split('/').collect();
        SourceIdentity {
            cluster: parts[0].parse().unwrap(),
            server_uuid: parts[1].parse().unwrap(),
            incarnation: parts[2].parse().unwrap(),
        }
    }

    fn found() -> Vec<SourceIdentity> {
        [ONE, TWO, OTHER].map(identity).to_vec()
    }

    fn named(name: &str) -> SourceFilter {
        SourceFilter {
            cluster: None,
            name: Some(name.parse().unwrap()),
        }
    }

    #[test]
    fn a_source_answers_to_its_uuid_cut_short_and_to_the_name_that_ls_prints() {
        for (name, source) in [("7c00", OTHER), ("3E11FA47/2", TWO), (ONE, ONE)] {
            assert_eq!(
                named(name).one("d", &found()),
                Ok(identity(source)),
                "{name}"
            );
        }
    }

    #[test]
    fn an_ambiguous_name_is_answered_with_the_sources_to_choose_from() {
        let error = named("3e11fa47").one("d", &found()).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert_eq!(error.to_string(), format!("2 sources match: {ONE}, {TWO}"));
        assert!(SourceFilter::default().one("d", &found()).is_err());
    }

    #[test]
    fn an_empty_archive_is_a_gap_and_a_wrong_name_is_wrong_usage() {
        assert_eq!(
            SourceFilter::default().one("d", &[]).unwrap_err().exit(),
            Exit::Gap
        );
        assert_eq!(
            named("ffff").some("d", &found()).unwrap_err().exit(),
            Exit::Usage
        );
    }

    #[test]
    fn a_cluster_narrows_the_choice() {
        let filter = SourceFilter {
            cluster: Some("billing".parse().unwrap()),
            name: None,
        };
        assert_eq!(filter.one("d", &found()), Ok(identity(OTHER)));
    }

    #[test]
    fn text_that_cannot_be_a_source_is_refused() {
        for text in [
            "",
            "3e1",
            "primary",
            "3e11fa47/x",
            "a/3e11fa47/1/2",
            "/3e11fa47/1",
        ] {
            assert!(text.parse::<SourceName>().is_err(), "{text:?}");
        }
    }
}
