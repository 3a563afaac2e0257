//! The resumable protocol: one session, one request at a time.
//!
//! ("Perform resumable uploads" in the service's documentation.) A session takes bytes where it stands and says how
//! many it has; everything else is [`upload`](super::upload)'s.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Method, RequestBuilder, StatusCode};
use url::Url;

use super::failure::{Answer, CLIENT_CLOSED_REQUEST, Failing};
use super::resource::Resource;
use super::{GcsStore, retry};
use crate::store::{StoreError, UploadFacts, UploadId, crc32c_to_base64};

/// What chunks are multiples of, but for the last one.
pub(super) const GRAIN: u64 = 256 * 1024;

const HASH: &str = "x-goog-hash";

/// A session, and what it is to become.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Session {
    uri: Url,
    /// Bytes of the whole object.
    pub(super) size: u64,
}

/// The URI is the permission to write.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session(…, {} bytes)", self.size)
    }
}

impl Session {
    /// `SIZE URI`: the service keeps no size, and whoever resumes has to know where parts end.
    pub(super) fn id(&self) -> UploadId {
        UploadId::new(format!("{} {}", self.size, self.uri))
    }

    /// `None`: no id of this kind of store.
    pub(super) fn parse(id: &UploadId) -> Option<Self> {
        let (size, uri) = id.as_str().split_once(' ')?;
        let (size, uri) = (size.parse().ok()?, Url::parse(uri).ok()?);
        matches!(uri.scheme(), "http" | "https").then_some(Self { uri, size })
    }
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has so many bytes.
    Persisted(u64),
    /// It has become this object.
    Done(Resource),
}

impl GcsStore {
    /// Begins a session.
    pub(super) async fn start(
        &self,
        failing: &Failing,
        name: &str,
        facts: &UploadFacts,
    ) -> Result<Session, StoreError> {
        let path = format!("/upload/storage/v1/b/{}/o", self.bucket.name);
        let mut url = self.connection.url(&path)?;
        url.query_pairs_mut()
            .append_pair("uploadType", "resumable")
            .append_pair("name", name)
            .append_pair("ifGenerationMatch", &super::NO_GENERATION.to_string());
        // The service compares it when the object is made.
        let metadata = format!(r#"{{"crc32c":"{}"}}"#, crc32c_to_base64(facts.crc32c));
        let answer = retry::attempts(|| async {
            let request = self.connection.request(Method::POST, &url);
            let request = request
                .header(CONTENT_TYPE, "application/json; charset=UTF-8")
                .body(metadata.clone());
            let answer = self.connection.authorized(request, failing).await?;
            match answer.status {
                StatusCode::OK | StatusCode::CREATED => Ok(answer),
                _ => Err(self.connection.refusal(failing, &answer)),
            }
        });
        let location = text(&answer.await?, LOCATION.as_str()).map(|text| Url::parse(&text));
        match location {
            Some(Ok(uri)) if self.connection.is_as_safe(&uri) => Ok(Session {
                uri,
                size: facts.size,
            }),
            _ => Err(failing.oddly("a session without a usable Location")),
        }
    }

    /// Asks how far it is.
    pub(super) async fn status(
        &self,
        failing: &Failing,
        session: &Session,
    ) -> Result<Progress, StoreError> {
        let request = self
            .connection
            .request(Method::PUT, &session.uri)
            .header(CONTENT_LENGTH, 0)
            .header(CONTENT_RANGE, "bytes */*");
        let timeout = self.connection.limits.timeouts.attempt;
        let answer = self.connection.exchange(request, timeout, failing).await?;
        progress(&answer, failing)
    }

    /// Sends bytes that others follow: a multiple of [`GRAIN`], at least one.
    pub(super) async fn send_chunk(
        &self,
        failing: &Failing,
        session: &Session,
        offset: u64,
        body: Bytes,
    ) -> Result<Progress, StoreError> {
        let range = span(offset, &body);
        let header = range.map(|range| format!("bytes {}-{}/*", range.start(), range.end()));
        let header = header.ok_or_else(|| failing.invalid("a chunk of no bytes"))?;
        let timeout = self.connection.limits.attempt_for(body.len() as u64);
        let request = self.chunk(session, &header, body);
        let answer = self.connection.exchange(request, timeout, failing).await?;
        progress(&answer, failing)
    }

    /// Sends the last bytes; none when the session has all.
    pub(super) async fn send_last(
        &self,
        failing: &Failing,
        session: &Session,
        offset: u64,
        body: Bytes,
        facts: &UploadFacts,
    ) -> Result<Progress, StoreError> {
        let size = facts.size;
        let header = match span(offset, &body) {
            Some(range) => format!("bytes {}-{}/{size}", range.start(), range.end()),
            None => format!("bytes */{size}"),
        };
        let limits = &self.connection.limits;
        let timeout = limits
            .timeouts
            .complete
            .max(limits.attempt_for(body.len() as u64));
        let hash = format!("crc32c={}", crc32c_to_base64(facts.crc32c));
        let request = self.chunk(session, &header, body).header(HASH, hash);
        let answer = self.connection.exchange(request, timeout, failing).await?;
        progress(&answer, failing)
    }

    fn chunk(&self, session: &Session, range: &str, body: Bytes) -> RequestBuilder {
        self.connection
            .request(Method::PUT, &session.uri)
            .header(CONTENT_LENGTH, body.len())
            .header(CONTENT_RANGE, range)
            .body(self.connection.body(body))
    }

    /// Ends it; that it has ended is no error.
    pub(super) async fn cancel(
        &self,
        failing: &Failing,
        session: &Session,
    ) -> Result<(), StoreError> {
        retry::attempts(|| async {
            let request = self
                .connection
                .request(Method::DELETE, &session.uri)
                .header(CONTENT_LENGTH, 0);
            let timeout = self.connection.limits.timeouts.attempt;
            let answer = self.connection.exchange(request, timeout, failing).await?;
            match answer.status.as_u16() {
                CLIENT_CLOSED_REQUEST | 200..=299 | 404 | 410 => Ok(()),
                _ => Err(failing.by_answer(&answer)),
            }
        })
        .await
    }
}

/// The bytes of `body`, first and last; `None` for no bytes.
fn span(offset: u64, body: &Bytes) -> Option<RangeInclusive<u64>> {
    let last = offset.checked_add(body.len() as u64)?.checked_sub(1)?;
    (last >= offset).then_some(offset..=last)
}

fn progress(answer: &Answer, failing: &Failing) -> Result<Progress, StoreError> {
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => {
            Resource::parse(&answer.body, failing).map(Progress::Done)
        }
        StatusCode::PERMANENT_REDIRECT => match text(answer, RANGE.as_str()) {
            None => Ok(Progress::Persisted(0)),
            Some(range) => persisted(&range)
                .map(Progress::Persisted)
                .ok_or_else(|| failing.oddly(format!("persisted Range {range:?}"))),
        },
        _ => Err(failing.by_answer(answer)),
    }
}

/// `bytes=0-262143`
fn persisted(range: &str) -> Option<u64> {
    let last: u64 = range.strip_prefix("bytes=0-")?.parse().ok()?;
    last.checked_add(1)
}

fn text(answer: &Answer, header: &str) -> Option<String> {
    let value = answer.headers.get(header)?;
    value.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_session_again_and_shows_nothing() {
        let session = Session {
            uri: Url::parse("https://host/upload?upload_id=hunter2").unwrap(),
            size: 12,
        };
        assert_eq!(Session::parse(&session.id()), Some(session.clone()));
        assert!(!format!("{session:?} {:?}", session.id()).contains("hunter2"));
        for other in [
            "",
            "https://host/",
            "x https://host/",
            "12 nothing",
            "12 file:///etc/passwd",
        ] {
            assert_eq!(Session::parse(&UploadId::new(other)), None, "{other}");
        }
    }

    #[test]
    fn ranges_are_understood_or_refused() {
        assert_eq!(persisted("bytes=0-262143"), Some(262_144));
        for odd in [
            "",
            "bytes=1-5",
            "0-5",
            "bytes=0-",
            "bytes=0-x",
            &format!("bytes=0-{}", u64::MAX),
        ] {
            assert_eq!(persisted(odd), None, "{odd}");
        }
        assert_eq!(span(10, &Bytes::from_static(b"ab")), Some(10..=11));
        assert_eq!(span(10, &Bytes::new()), None);
        assert_eq!(span(0, &Bytes::new()), None);
        assert_eq!(span(u64::MAX, &Bytes::from_static(b"ab")), None);
    }
}
