//! What a store's URL and a key may look like. Pure.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{MAX_KEY_LEN, S3Settings, StoreConfig, StoreError};
use crate::layout::ObjectKey;

/// The directory at the root of a `file://` store where everything unfinished lives. No key may lead
/// into it, in any store, so that an archive can be copied from one store to another.
pub(super) const STAGING: &str = ".gtide-uploads";

/// The longest segment of a key, in bytes: `NAME_MAX` of the usual file systems.
const MAX_SEGMENT_LEN: usize = 255;

/// A store's URL, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// `file:///path`
    Directory {
        /// Absolute.
        path: PathBuf,
        /// Canonical, without a slash at the end.
        url: String,
    },
    /// `s3://bucket/prefix`
    S3(Bucket),
    /// `gs://bucket/prefix`
    Gcs(Bucket),
}

/// A bucket and the prefix of all keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Its name.
    pub(super) name: String,
    /// Empty, or ends in a slash.
    pub(super) prefix: String,
    /// Canonical, without a slash at the end.
    pub(super) url: String,
}

impl Location {
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let refuse = |what: &str, hint: &str| {
            Err(StoreError::Config {
                what: format!("{}: {what}", shown(text)),
                hint: hint.to_owned(),
            })
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse(
                "not the URL of a store",
                "write file:///absolute/path, s3://bucket/prefix or gs://bucket/prefix",
            );
        };
        match scheme {
            "file" if !rest.starts_with('/') && !rest.starts_with("localhost/") => refuse(
                "names a host, not a directory",
                "a local directory has three slashes: file:///absolute/path",
            ),
            "file" | "s3" | "gs" => match Url::parse(text) {
                Ok(url) if url.query().is_some() || url.fragment().is_some() => refuse(
                    "a store's URL has no query and no fragment",
                    "write '?' as %3F and '#' as %23",
                ),
                Ok(url) if has_authority_extras(&url) => refuse(
                    "a store's URL has no user, password or port",
                    "credentials go into `credentials`, an address into `endpoint`",
                ),
                Ok(url) if scheme == "file" => Self::directory(&url),
                Ok(url) if scheme == "s3" => Bucket::of(&url).map(Self::S3),
                Ok(url) => Bucket::of(&url).map(Self::Gcs),
                Err(error) => refuse(&error.to_string(), "write it as any URL, percent-encoded"),
            },
            _ => refuse(
                "no store has this scheme",
                "the schemes are file://, s3:// and gs://",
            ),
        }
    }

    fn directory(url: &Url) -> Result<Self, StoreError> {
        let refuse = |what: &str| StoreError::Config {
            what: format!("{url}: {what}"),
            hint: "write file:///absolute/path".to_owned(),
        };
        let path = url
            .to_file_path()
            .map_err(|()| refuse("not a local path"))?;
        // Without the slash at the end, if there is one.
        let path: PathBuf = path.components().collect();
        if path.parent().is_none() {
            return Err(refuse(
                "the root of the file system is no place for an archive",
            ));
        }
        let url = Url::from_file_path(&path).map_err(|()| refuse("not a local path"))?;
        Ok(Self::Directory {
            path,
            url: url.into(),
        })
    }
}

impl Bucket {
    fn of(url: &Url) -> Result<Self, StoreError> {
        let scheme = url.scheme();
        let refuse = |what: &str| StoreError::Config {
            what: format!("{url}: {what}"),
            hint: format!("write {scheme}://bucket/prefix"),
        };
        let name = url.host_str().unwrap_or_default();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !(3..=255).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(refuse("not a bucket name"));
        }
        let path = percent_decode_str(url.path()).decode_utf8();
        let path = path.map_err(|_| refuse("the prefix is not UTF-8"))?;
        let prefix = path.trim_matches('/');
        if let Some(defect) = (!prefix.is_empty()).then(|| key_defect(prefix)).flatten() {
            return Err(refuse(&format!("the prefix {defect}")));
        }
        let url = format!("{scheme}://{name}/{prefix}");
        Ok(Self {
            name: name.to_owned(),
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// The key as the service knows it.
    pub(super) fn full_key(&self, key: &ObjectKey) -> String {
        self.full_prefix(key.as_str())
    }

    /// The beginning of keys as the service knows them.
    pub(super) fn full_prefix(&self, prefix: &str) -> String {
        format!("{}{prefix}", self.prefix)
    }

    /// The key as the contract knows it. `None`: the service listed what was not asked for.
    pub(super) fn key_of(&self, full: &str) -> Option<ObjectKey> {
        let key = full.strip_prefix(&self.prefix)?;
        Some(ObjectKey::from_listing(key))
    }

    /// A look at the key, before it is sent anywhere.
    pub(super) fn check(&self, key: &ObjectKey) -> Result<(), StoreError> {
        check_key(key)?;
        if self.full_key(key).len() > MAX_KEY_LEN {
            return Err(StoreError::InvalidKey {
                key: key.clone(),
                reason: "has more than 1,024 bytes with the prefix before it",
            });
        }
        Ok(())
    }
}

fn has_authority_extras(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some() || url.port().is_some()
}

/// A URL for a message: without what may be a password.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => text.to_owned(),
    }
}

/// `gs://` buckets are found by their name alone.
pub(super) fn refuse_region(config: &StoreConfig) -> Result<(), StoreError> {
    refuse_s3_settings(config)?;
    match config.region {
        None => Ok(()),
        Some(_) => Err(StoreError::Config {
            what: format!("{}: `region` has no meaning for a gs:// bucket", config.url),
            hint: "remove `region`: a bucket of this kind is found by its name".to_owned(),
        }),
    }
}

fn refuse_s3_settings(config: &StoreConfig) -> Result<(), StoreError> {
    if config.s3 == S3Settings::default() {
        return Ok(());
    }
    Err(StoreError::Config {
        what: format!("{}: has settings that only s3:// buckets have", config.url),
        hint: "remove role, external-id, renew-ahead, addressing, dual-stack, sse, storage-class, tags, object-lock, \
               retain-days"
            .to_owned(),
    })
}

/// `file://` has no use for these, and whoever sets them means something else.
pub(super) fn refuse_cloud_settings(config: &StoreConfig) -> Result<(), StoreError> {
    refuse_s3_settings(config)?;
    let settings = [
        ("endpoint", &config.endpoint),
        ("region", &config.region),
        ("credentials", &config.credentials),
    ];
    match settings.iter().find(|(_, value)| value.is_some()) {
        None => Ok(()),
        Some((name, _)) => Err(StoreError::Config {
            what: format!("{}: `{name}` has no meaning for a directory", config.url),
            hint: format!("remove `{name}`, or use an s3:// or gs:// URL"),
        }),
    }
}

/// The URL of one object, for messages.
pub(super) fn object_url(store: &str, key: &ObjectKey) -> String {
    format!("{store}/{key}")
}

/// Refuses a key that some store could not hold, or that leads out of the store's place.
pub(super) fn check_key(key: &ObjectKey) -> Result<(), StoreError> {
    match key_defect(key.as_str()) {
        None => Ok(()),
        Some(reason) => Err(StoreError::InvalidKey {
            key: key.clone(),
            reason,
        }),
    }
}

fn key_defect(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("is empty");
    }
    if key.len() > MAX_KEY_LEN {
        return Some("has more than 1,024 bytes");
    }
    // Listings are XML, which cannot say them.
    if key.chars().any(char::is_control) {
        return Some("has a control character");
    }
    // SeaweedFS takes it for a slash.
    if key.contains('\\') {
        return Some("has a backslash");
    }
    if key.split('/').next() == Some(STAGING) {
        return Some("lies where unfinished uploads are kept");
    }
    key.split('/').find_map(|segment| match segment {
        "" => Some("begins or ends with a slash, or has two in a row"),
        "." | ".." => Some("has a segment '.' or '..'"),
        _ if segment.len() > MAX_SEGMENT_LEN => Some("has a segment of more than 255 bytes"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(url: &str) -> (String, String) {
        match Location::parse(url).unwrap() {
            Location::Directory { path, url } => (path.to_str().unwrap().to_owned(), url),
            other => panic!("{other:?}"),
        }
    }

    fn bucket(url: &str) -> Bucket {
        match Location::parse(url).unwrap() {
            Location::S3(bucket) | Location::Gcs(bucket) => bucket,
            other @ Location::Directory { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn file_urls_are_percent_decoded_and_lose_their_last_slash() {
        let plain = ("/srv/archive".to_owned(), "file:///srv/archive".to_owned());
        assert_eq!(directory("file:///srv/archive"), plain);
        assert_eq!(directory("file:///srv/archive/"), plain);
        assert_eq!(directory("file://localhost/srv/archive"), plain);
        let spaced = (
            "/srv/my archive".to_owned(),
            "file:///srv/my%20archive".to_owned(),
        );
        assert_eq!(directory("file:///srv/my%20archive"), spaced);
        assert_eq!(directory("file:///srv/my archive"), spaced);
        assert_eq!(directory("file:///srv/100%25").0, "/srv/100%");
    }

    #[test]
    fn s3_urls_are_a_bucket_and_a_prefix() {
        let plain = bucket("s3://backups");
        assert_eq!(
            (plain.name.as_str(), plain.prefix.as_str()),
            ("backups", "")
        );
        assert_eq!(plain.url, "s3://backups");
        let deep = bucket("s3://my.bucket-1/mysql/my%20prod/");
        assert_eq!(
            (deep.name.as_str(), deep.prefix.as_str()),
            ("my.bucket-1", "mysql/my prod/")
        );
        assert_eq!(deep.url, "s3://my.bucket-1/mysql/my prod");
    }

    #[test]
    fn gs_urls_are_a_bucket_and_a_prefix_too() {
        assert!(matches!(
            Location::parse("gs://my_bucket-1/mysql/").unwrap(),
            Location::Gcs(bucket) if bucket.prefix == "mysql/" && bucket.url == "gs://my_bucket-1/mysql"
        ));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_hint() {
        for (url, hint) in [
            ("/srv/archive", "file:///absolute/path"),
            ("", "file:///absolute/path"),
            ("file:/srv/archive", "file:///absolute/path"),
            ("file://srv/archive", "three slashes"),
            ("file://", "three slashes"),
            ("file:///", "file:///absolute/path"),
            ("file:///a#b", "%23"),
            ("file:///a?b", "%3F"),
            ("gs://", "gs://bucket/prefix"),
            ("gs://bucket/a//b", "gs://bucket/prefix"),
            ("https://bucket.s3.amazonaws.com/", "s3:// and gs://"),
            ("s3://", "s3://bucket/prefix"),
            ("s3://ab", "s3://bucket/prefix"),
            ("s3://bucket/a//b", "s3://bucket/prefix"),
            ("s3://bucket/%00", "s3://bucket/prefix"),
            ("s3://bucket/%FF", "s3://bucket/prefix"),
            ("s3://bucket:9000/x", "`endpoint`"),
        ] {
            match Location::parse(url) {
                Err(StoreError::Config { hint: given, .. }) => {
                    assert!(given.contains(hint), "{url}: {given}");
                }
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for url in ["s3://key:hunter2@bucket/prefix", "ftp://key:hunter2@host/x"] {
            let error = Location::parse(url).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn settings_of_s3_are_refused_for_a_directory() {
        let mut config = StoreConfig {
            url: "file:///srv/archive".to_owned(),
            ..StoreConfig::default()
        };
        assert!(refuse_cloud_settings(&config).is_ok());
        config.region = Some("eu-west-1".to_owned());
        let error = refuse_cloud_settings(&config).unwrap_err();
        assert!(error.to_string().contains("`region`"), "{error}");
    }

    #[test]
    fn keys_cannot_lead_out_of_the_store() {
        let long_segment = "x".repeat(256);
        let long_key = format!("{}x", "x/".repeat(512));
        for key in [
            "",
            "/etc/passwd",
            "../outside",
            "a/../../outside",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "a\\b",
            ".gtide-uploads/x",
            ".gtide-uploads",
            &long_segment,
            &long_key,
        ] {
            let refused = check_key(&ObjectKey::from_listing(key));
            assert!(
                matches!(refused, Err(StoreError::InvalidKey { .. })),
                "{key:?}"
            );
        }
        for key in [
            "a",
            "a/b.json",
            "..a/b..",
            "ä/=/%20/#?",
            ".hidden",
            "a/.gtide-uploads",
        ] {
            assert!(check_key(&ObjectKey::from_listing(key)).is_ok(), "{key:?}");
        }
    }
}
