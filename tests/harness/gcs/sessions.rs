//! Everything that makes an object.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;

use super::Gcs;
use super::exchange::{
    Answer, Asked, ContentRange, Refused, begun, crc32c_of, incomplete, json_answer,
    no_such_method, plain, refuse,
};
use super::objects::resource;
use super::state::{Life, Session, State};

/// What chunks are multiples of, but for the last one.
const GRAIN: usize = 256 * 1024;

/// What is to be made, and how it is checked.
#[derive(Debug)]
struct Meant {
    name: String,
    must_be_new: bool,
    crc32c: Option<u32>,
}

/// `POST /upload/…/o`
pub(super) fn insert(
    asked: &Asked,
    body: Bytes,
    state: &Arc<Mutex<State>>,
) -> Result<Answer, Refused> {
    if asked.method != Method::POST {
        return Err(no_such_method());
    }
    asked.allow(&["uploadType", "name", "ifGenerationMatch"])?;
    let mut state = state.lock().unwrap();
    match asked.query("uploadType") {
        Some("media") => {
            let meant = meant(asked, &Value::Null)?;
            make(&mut state, &meant, header_crc32c(asked)?, body)
        }
        Some("multipart") => {
            let (metadata, media) = related(asked, &body)
                .ok_or_else(|| refuse(400, "badRequest", "Malformed multipart body."))?;
            let meant = meant(asked, &metadata)?;
            make(&mut state, &meant, header_crc32c(asked)?, media)
        }
        Some("resumable") => {
            let metadata = match body.as_ref() {
                [] => Value::Null,
                json => serde_json::from_slice(json)
                    .map_err(|_| refuse(400, "parseError", "Parse Error"))?,
            };
            let meant = meant(asked, &metadata)?;
            check_precondition(&state, &meant)?;
            let nth = usize::try_from(state.number()).unwrap();
            let id = format!("session-{nth}-of-nobody-else");
            let session = Session {
                nth,
                name: meant.name,
                must_be_new: meant.must_be_new,
                crc32c: meant.crc32c,
                body: Vec::new(),
                life: Life::Open,
                received: 0,
                asked: 0,
            };
            state.sessions.insert(id.clone(), session);
            Ok(begun(asked, Gcs::BUCKET, &id))
        }
        _ => Err(refuse(400, "badRequest", "Unknown uploadType")),
    }
}

fn meant(asked: &Asked, metadata: &Value) -> Result<Meant, Refused> {
    let name = asked.query("name").or_else(|| metadata["name"].as_str());
    let name = name.ok_or_else(|| refuse(400, "required", "Required parameter: name"))?;
    let must_be_new = match asked.query("ifGenerationMatch") {
        None => false,
        Some("0") => true,
        Some(_) => return Err(refuse(400, "invalid", "Only generation 0 is served here")),
    };
    let crc32c = match &metadata["crc32c"] {
        Value::Null => None,
        text => {
            let crc32c = text.as_str().and_then(crc32c_of);
            Some(crc32c.ok_or_else(|| refuse(400, "invalid", "Invalid CRC32C"))?)
        }
    };
    Ok(Meant {
        name: name.to_owned(),
        must_be_new,
        crc32c,
    })
}

fn header_crc32c(asked: &Asked) -> Result<Option<u32>, Refused> {
    let Some(text) = asked.header("x-goog-hash") else {
        return Ok(None);
    };
    let crc32c = text
        .split(',')
        .find_map(|hash| hash.trim().strip_prefix("crc32c="));
    let crc32c = crc32c.and_then(crc32c_of);
    let crc32c = crc32c.ok_or_else(|| refuse(400, "invalid", "Invalid x-goog-hash"))?;
    Ok(Some(crc32c))
}

fn check_precondition(state: &State, meant: &Meant) -> Result<(), Refused> {
    if meant.must_be_new && state.objects.contains_key(&meant.name) {
        let message = "At least one of the pre-conditions you specified did not hold.";
        return Err(refuse(412, "conditionNotMet", message));
    }
    Ok(())
}

fn make(
    state: &mut State,
    meant: &Meant,
    header: Option<u32>,
    body: Bytes,
) -> Result<Answer, Refused> {
    let actual = crc32c::crc32c(&body);
    for expected in [meant.crc32c, header].into_iter().flatten() {
        if expected != actual {
            let message = "Provided CRC32C doesn't match calculated CRC32C.";
            return Err(refuse(400, "invalid", message));
        }
    }
    check_precondition(state, meant)?;
    state.replace(&meant.name, body);
    Ok(json_answer(&resource(
        &meant.name,
        &state.objects[&meant.name],
    )))
}

/// `multipart/related`: the metadata, then the media.
fn related(asked: &Asked, body: &Bytes) -> Option<(Value, Bytes)> {
    let content_type = asked.header("content-type")?;
    let boundary = content_type.strip_prefix("multipart/related; boundary=")?;
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let mut rest = body.strip_prefix(delimiter.as_bytes())?;
    let mut parts = Vec::new();
    let between = format!("\r\n{delimiter}");
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, between.as_bytes())?;
        let head = find(&part[..end], b"\r\n\r\n")? + 4;
        parts.push(body.slice_ref(&part[head..end]));
        rest = &part[end + between.len()..];
    }
    let [metadata, media] = parts.as_slice() else {
        return None;
    };
    rest.starts_with(b"--")
        .then(|| Some((serde_json::from_slice(metadata).ok()?, media.clone())))?
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    // The first byte alone, most of the time: bodies are megabytes.
    let first = *what.first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text[at..].starts_with(what) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// What came of a chunk. It breaks off when the client dies.
async fn as_far_as_it_comes(mut body: Incoming) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Err(_) => return (bytes, false),
        }
    }
    (bytes, true)
}

/// `PUT` and `DELETE` of a session.
pub(super) async fn serve(
    asked: &Asked,
    id: &str,
    body: Incoming,
    state: &Arc<Mutex<State>>,
) -> Result<Answer, Refused> {
    asked.allow(&["uploadType", "upload_id"])?;
    let (bytes, is_whole) = as_far_as_it_comes(body).await;
    let mut state = state.lock().unwrap();
    let keep_only = (!bytes.is_empty())
        .then(|| state.keep_only.pop_front())
        .flatten();
    let session = state.sessions.get_mut(id);
    let session = session.ok_or_else(|| plain(404, "Not Found"))?;
    session.received += bytes.len() as u64;
    match (session.life, &asked.method) {
        (Life::Open, &Method::PUT) => {}
        (Life::Open, &Method::DELETE) => {
            session.life = Life::Cancelled;
            return Err(plain(499, "Client Closed Request"));
        }
        (life, method) => return ended(&state, id, life, method),
    }
    let range = ContentRange::of(asked).ok_or_else(|| plain(400, "Invalid Content-Range"))?;
    let header = header_crc32c(asked)?;
    let kept = session.body.len();
    let Some((first, last)) = range.span else {
        if !bytes.is_empty() {
            return Err(plain(400, "A query has no body"));
        }
        session.asked += 1;
        return if range.total == Some(kept as u64) {
            finish(&mut state, id, header)
        } else {
            Ok(incomplete(kept))
        };
    };
    if first != kept as u64 {
        return Err(plain(
            400,
            "Chunks follow one another without gap or overlap",
        ));
    }
    let size = usize::try_from(last - first + 1).unwrap();
    if is_whole && bytes.len() != size {
        return Err(plain(400, "Content-Range and body differ"));
    }
    let is_last = range.total.is_some_and(|total| total == last + 1);
    if !is_last && !size.is_multiple_of(GRAIN) {
        return Err(plain(400, "Chunks are multiples of 256 KiB"));
    }
    let taken = keep_only.map_or(bytes.len(), |only| usize::try_from(only).unwrap());
    if is_whole && taken >= bytes.len() {
        session.body.extend_from_slice(&bytes);
        if is_last {
            return finish(&mut state, id, header);
        }
    } else {
        // As much as it likes, in its own grain.
        let taken = taken.min(bytes.len()) / GRAIN * GRAIN;
        session.body.extend_from_slice(&bytes[..taken]);
    }
    Ok(incomplete(session.body.len()))
}

/// What is answered for a session that takes nothing any more.
fn ended(state: &State, id: &str, life: Life, method: &Method) -> Result<Answer, Refused> {
    match life {
        Life::Done(generation) if method == Method::PUT => {
            let name = &state.sessions[id].name;
            let object = state.objects.get(name);
            let object = object.filter(|object| object.generation == generation);
            let object = object.ok_or_else(|| plain(410, "Gone"))?;
            Ok(json_answer(&resource(name, object)))
        }
        Life::Open => Err(no_such_method()),
        Life::Done(_) => Err(plain(404, "Not Found")),
        Life::Cancelled => Err(plain(499, "Client Closed Request")),
        Life::Expired | Life::Failed => Err(plain(410, "Gone")),
    }
}

fn finish(state: &mut State, id: &str, header: Option<u32>) -> Result<Answer, Refused> {
    let session = state.sessions.get_mut(id).unwrap();
    let meant = Meant {
        name: session.name.clone(),
        must_be_new: session.must_be_new,
        crc32c: session.crc32c,
    };
    let body = Bytes::copy_from_slice(&session.body);
    session.life = Life::Failed;
    let answer = make(state, &meant, header, body)?;
    let generation = state.objects[&meant.name].generation;
    state.sessions.get_mut(id).unwrap().life = Life::Done(generation);
    Ok(answer)
}
