//! Requests and answers: who may ask, what was asked, and in which form it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HOST, LOCATION, RANGE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::state::State;
use super::{Gcs, objects, sessions};

pub(super) type Answer = Response<Full<Bytes>>;

/// A refusal: how, and why.
pub(super) type Refused = Box<Answer>;

/// What was asked, but for its body.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: BTreeMap<String, String>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Refuses parameters that are none of these: a misspelt one must not pass for one that is not there.
    pub(super) fn allow(&self, known: &[&str]) -> Result<(), Refused> {
        match self
            .query
            .keys()
            .find(|name| !known.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => Err(refuse(
                400,
                "invalidParameter",
                &format!("Unknown parameter {name}"),
            )),
        }
    }
}

pub(super) async fn serve(
    request: Request<Incoming>,
    state: &Arc<Mutex<State>>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let asked = Asked {
        method: head.method,
        headers: head.headers,
        query: query.into_owned().collect(),
    };
    let path = head.uri.path().to_owned();
    let answer = route(&asked, &path, body, state).await;
    Ok(answer.unwrap_or_else(|refused| *refused))
}

async fn route(
    asked: &Asked,
    path: &str,
    body: Incoming,
    state: &Arc<Mutex<State>>,
) -> Result<Answer, Refused> {
    if path == "/token" {
        let body = whole(body).await?;
        return give_token(&mut state.lock().unwrap(), &body);
    }
    if let Some(rest) = path.strip_prefix("/upload/storage/v1/b/") {
        let bucket = rest.strip_suffix("/o").ok_or_else(no_such_method)?;
        if let Some(id) = asked.query("upload_id") {
            // Without a look at the credentials: the URI is the permission.
            return sessions::serve(asked, id, body, state).await;
        }
        authorize(asked, &state.lock().unwrap())?;
        check_bucket(bucket)?;
        let body = whole(body).await?;
        return sessions::insert(asked, body, state);
    }
    let rest = path
        .strip_prefix("/storage/v1/b/")
        .ok_or_else(no_such_method)?;
    let mut state = state.lock().unwrap();
    authorize(asked, &state)?;
    let removes = asked.method == Method::DELETE;
    if asked.method != Method::GET && !removes {
        return Err(no_such_method());
    }
    match rest.split_once("/o") {
        Some((bucket, "")) => {
            check_bucket(bucket)?;
            objects::list(asked, &state)
        }
        Some((bucket, object)) => {
            check_bucket(bucket)?;
            let name = object.strip_prefix('/').ok_or_else(no_such_method)?;
            // A slash in a name is not one in the path.
            if name.contains('/') {
                return Err(no_such_method());
            }
            let name = percent_decode_str(name).decode_utf8().unwrap();
            if removes {
                return objects::remove(asked, &name, &mut state);
            }
            objects::get(asked, &name, &state)
        }
        None => Err(no_such_method()),
    }
}

async fn whole(body: Incoming) -> Result<Bytes, Refused> {
    let body = body.collect().await;
    let body = body.map_err(|_| refuse(400, "badRequest", "The body broke off."))?;
    Ok(body.to_bytes())
}

fn authorize(asked: &Asked, state: &State) -> Result<(), Refused> {
    let token = asked.header(AUTHORIZATION.as_str());
    let token = token.and_then(|text| text.strip_prefix("Bearer "));
    match token {
        Some(token) if state.tokens.contains(token) => Ok(()),
        Some(_) => Err(refuse(401, "authError", "Invalid Credentials")),
        None => Err(refuse(
            401,
            "required",
            "Anonymous caller does not have access.",
        )),
    }
}

fn check_bucket(bucket: &str) -> Result<(), Refused> {
    match bucket {
        Gcs::BUCKET => Ok(()),
        Gcs::DENIED => Err(refuse(
            403,
            "forbidden",
            "tester does not have storage.objects.create access to the Google Cloud Storage object.",
        )),
        _ => Err(refuse(
            404,
            "notFound",
            "The specified bucket does not exist.",
        )),
    }
}

/// RFC 8693.
fn give_token(state: &mut State, body: &Bytes) -> Result<Answer, Refused> {
    if let Some(status) = state.refuse_tokens.pop_front() {
        return Err(refuse(status, "invalid_grant", "not now"));
    }
    let form = url::form_urlencoded::parse(body);
    let form: BTreeMap<String, String> = form.into_owned().collect();
    if form.get("subject_token").map(String::as_str) != Some("who-we-are") {
        return Err(refuse(400, "invalid_grant", "Who are you?"));
    }
    let token = format!("token-{}", state.number());
    state.tokens.insert(token.clone());
    Ok(json_answer(&json!({
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": state.token_life,
    })))
}

pub(super) fn json_answer(body: &serde_json::Value) -> Answer {
    let answer = Response::builder().header(CONTENT_TYPE, "application/json; charset=UTF-8");
    answer.body(Full::from(body.to_string())).unwrap()
}

pub(super) fn refuse(status: u16, reason: &str, message: &str) -> Refused {
    let error = json!({"reason": reason, "domain": "global", "message": message});
    let body = json!({"error": {"code": status, "message": message, "errors": [error]}});
    let mut answer = json_answer(&body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    Box::new(answer)
}

pub(super) fn no_such_method() -> Refused {
    refuse(404, "notFound", "There is no such method.")
}

/// As the upload service answers for sessions: in plain text.
pub(super) fn plain(status: u16, text: &'static str) -> Refused {
    let answer = Response::builder().status(status);
    Box::new(answer.body(Full::from(text)).unwrap())
}

/// A session that is not complete.
pub(super) fn incomplete(kept: usize) -> Answer {
    let mut answer = Response::builder().status(308);
    if kept > 0 {
        answer = answer.header(RANGE, format!("bytes=0-{}", kept - 1));
    }
    answer.body(Full::default()).unwrap()
}

/// A session that has begun, reached as this request was.
pub(super) fn begun(asked: &Asked, bucket: &str, id: &str) -> Answer {
    let host = asked.header(HOST.as_str()).unwrap();
    let uri =
        format!("http://{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}");
    let answer = Response::builder().header(LOCATION, uri);
    answer.body(Full::default()).unwrap()
}

/// `bytes 0-9/10`, `bytes 0-9/*`, `bytes */10` or `bytes */*`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContentRange {
    /// First and last byte.
    pub(super) span: Option<(u64, u64)>,
    /// Bytes of the whole object.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    pub(super) fn of(asked: &Asked) -> Option<Self> {
        let text = asked.header(CONTENT_RANGE.as_str())?;
        let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let span = match span {
            "*" => None,
            span => {
                let (first, last) = span.split_once('-')?;
                Some((first.parse().ok()?, last.parse().ok()?))
            }
        };
        let total = match total {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let is_possible = span
            .is_none_or(|(first, last)| first <= last && total.is_none_or(|total| last < total));
        is_possible.then_some(Self { span, total })
    }
}

/// The CRC32C in an `x-goog-hash` header or in metadata.
pub(super) fn crc32c_of(text: &str) -> Option<u32> {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

pub(super) fn crc32c_text(crc32c: u32) -> String {
    data_encoding::BASE64.encode(&crc32c.to_be_bytes())
}
