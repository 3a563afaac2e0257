//! Where the older job keeps its manifests and its files: a folder, S3 or Google, by one path or a pattern.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use glob::Pattern;

use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::layout::ObjectKey;
use crate::store::{self, ByteStream, ObjectStore, StoreConfig, StoreError};

/// A manifest of more bytes is not read: a million lines are a tenth of it.
pub const MAX_MANIFEST: usize = 1 << 30;

/// A pattern that matches more is a mistake.
pub const MAX_OBJECTS: usize = 100_000;

/// Manifests, and the files beside them.
#[derive(Debug)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    /// What the URL of everything in it begins with.
    root: String,
    /// What every key that matches begins with.
    prefix: String,
    pattern: Pattern,
}

impl Place {
    /// What `/path`, `file:///path`, `s3://bucket/key` or `gs://bucket/key` means; `*`, `?` and `[…]` match within it.
    /// A bucket is reached as a destination of the configuration on the same kind of store is.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn open(spec: &str, config: &Config) -> anyhow::Result<Self> {
        let url = match spec.split_once("://") {
            Some(_) => spec.to_owned(),
            None => format!("file://{}", std::path::absolute(spec)?.display()),
        };
        let (root, key) = split(&url).ok_or_else(|| Failure {
            message: format!("{spec:?} names no file"),
            exit: Exit::Usage,
            hint: Some(
                "write a path, file:///path, s3://bucket/key or gs://bucket/key; * matches within a name"
                    .to_owned(),
            ),
        })?;
        let pattern = Pattern::new(key).map_err(|error| Failure {
            message: format!("{spec:?} is no pattern: {error}"),
            exit: Exit::Usage,
            hint: Some("escape a literal [ as [[]".to_owned()),
        })?;
        let prefix = key.split(['*', '?', '[']).next().unwrap_or_default();
        Ok(Self {
            store: store::connect(&settings(root, config))?,
            root: root.to_owned(),
            prefix: prefix.to_owned(),
            pattern,
        })
    }

    /// The objects that match now: manifests, or the files themselves.
    ///
    /// # Errors
    /// Those of the store, and when there are too many.
    pub async fn objects(&self) -> anyhow::Result<Vec<ObjectKey>> {
        let mut found = Vec::new();
        let mut listed = self.store.list(&self.prefix, None);
        while let Some(object) = listed.try_next().await? {
            if self.pattern.matches(object.key.as_str()) {
                found.push(object.key);
            }
            if found.len() > MAX_OBJECTS {
                return Err(Failure {
                    message: format!("{}: more than {MAX_OBJECTS} objects", self.pattern),
                    exit: Exit::Usage,
                    hint: Some("name them more narrowly".to_owned()),
                }
                .into());
            }
        }
        Ok(found)
    }

    /// An object's URL.
    #[must_use]
    pub fn url_of(&self, object: &ObjectKey) -> String {
        format!("{}{object}", self.root)
    }

    /// The manifest of this URL, if it is one of this place's.
    #[must_use]
    pub fn manifest(&self, url: &str) -> Option<ObjectKey> {
        let key = url.strip_prefix(&self.root)?;
        self.pattern
            .matches(key)
            .then(|| ObjectKey::from_listing(key))
    }

    /// A manifest's bytes.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read(&self, manifest: &ObjectKey) -> Result<Bytes, StoreError> {
        store::read_all(self.store.as_ref(), manifest, MAX_MANIFEST).await
    }

    /// An object's bytes as they come.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open_object(&self, object: &ObjectKey) -> Result<ByteStream, StoreError> {
        self.store.get(object, None).await
    }

    /// The size of a file that a manifest lists, if it is there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn size(
        &self,
        manifest: &ObjectKey,
        listed: &str,
    ) -> Result<Option<u64>, StoreError> {
        let meta = self.store.head(&beside(manifest, listed)).await?;
        Ok(meta.map(|meta| meta.size))
    }

    /// A file that a manifest lists: named from the manifest's own folder, as `sha256sum -c` is run.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open_listed(
        &self,
        manifest: &ObjectKey,
        listed: &str,
    ) -> Result<ByteStream, StoreError> {
        self.store.get(&beside(manifest, listed), None).await
    }
}

/// Root and key of a URL: the bucket, or the folder before the first wildcard.
fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let rest_at = url.len() - rest.len();
    let root = match scheme {
        "file" => {
            let literal = rest.split(['*', '?', '[']).next()?;
            rest_at + literal.rfind('/')? + 1
        }
        _ => rest_at + rest.find('/')? + 1,
    };
    let (root, key) = url.split_at_checked(root)?;
    (!key.is_empty() && !key.ends_with('/')).then_some((root, key))
}

fn settings(root: &str, config: &Config) -> StoreConfig {
    let scheme = |url: &str| url.split_once("://").map(|(scheme, _)| scheme.to_owned());
    let mut known = config.destinations.iter().map(|d| &d.store);
    let alike = known.find(|store| scheme(&store.url) == scheme(root));
    StoreConfig {
        url: root.to_owned(),
        ..alike.cloned().unwrap_or_default()
    }
}

/// A job that lists a file by another folder's path has it beside the manifest all the same, or nowhere that we can see.
fn beside(manifest: &ObjectKey, listed: &str) -> ObjectKey {
    let folder = manifest.as_str().rsplit_once('/');
    let folder = folder.map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let listed = listed.trim_start_matches("./");
    if listed.starts_with('/') || listed.split('/').any(|part| part == "..") {
        let name = listed.rsplit('/').next().unwrap_or(listed);
        return ObjectKey::from_listing(format!("{folder}{name}"));
    }
    ObjectKey::from_listing(format!("{folder}{listed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_root_and_a_key() {
        assert_eq!(
            split("file:///backup/SUMS"),
            Some(("file:///backup/", "SUMS"))
        );
        assert_eq!(
            split("s3://bucket/a/b/*.sha256"),
            Some(("s3://bucket/", "a/b/*.sha256"))
        );
        assert_eq!(
            split("file:///backup/2026-*/SUMS"),
            Some(("file:///backup/", "2026-*/SUMS"))
        );
        for url in ["s3://bucket", "s3://bucket/", "file:///", "file:///backup/"] {
            assert_eq!(split(url), None, "{url}");
        }
    }

    #[test]
    fn a_listed_file_lies_beside_its_manifest() {
        let of = |manifest: &str, listed| {
            let key = beside(&ObjectKey::from_listing(manifest), listed);
            key.as_str().to_owned()
        };
        assert_eq!(of("db1/SUMS", "binlog.000001.gz"), "db1/binlog.000001.gz");
        assert_eq!(
            of("db1/SUMS", "./day/binlog.000001"),
            "db1/day/binlog.000001"
        );
        assert_eq!(
            of("db1/SUMS", "/var/lib/mysql/binlog.000001"),
            "db1/binlog.000001"
        );
        assert_eq!(of("db1/SUMS", "../../etc/passwd"), "db1/passwd");
        assert_eq!(of("SUMS", "binlog.000001"), "binlog.000001");
    }
}
