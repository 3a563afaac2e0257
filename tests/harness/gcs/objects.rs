//! Objects and listings.

use std::collections::BTreeSet;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Gcs;
use super::exchange::{Answer, Asked, Refused, crc32c_text, json_answer, refuse};
use super::state::{Object, State};

/// The most of one page.
const MAX_PAGE: usize = 1000;

/// An object's metadata.
pub(super) fn resource(name: &str, object: &Object) -> Value {
    json!({
        "kind": "storage#object",
        "bucket": Gcs::BUCKET,
        "name": name,
        "generation": object.generation.to_string(),
        "metageneration": "1",
        "size": object.body.len().to_string(),
        "crc32c": crc32c_text(object.crc32c),
        "storageClass": "STANDARD",
    })
}

pub(super) fn get(asked: &Asked, name: &str, state: &State) -> Result<Answer, Refused> {
    asked.allow(&["alt", "fields", "generation"])?;
    let found = state.objects.get(name).filter(|object| {
        let wanted = asked.query("generation");
        wanted.is_none_or(|wanted| wanted == object.generation.to_string())
    });
    let object = found.ok_or_else(|| {
        let message = format!("No such object: {}/{name}", Gcs::BUCKET);
        refuse(404, "notFound", &message)
    })?;
    match asked.query("alt") {
        None | Some("json") => {
            let resource = resource(name, object);
            Ok(json_answer(&select(&resource, asked.query("fields"))?))
        }
        Some("media") => media(asked, object),
        Some(_) => Err(refuse(400, "invalidParameter", "Unknown alt")),
    }
}

pub(super) fn remove(asked: &Asked, name: &str, state: &mut State) -> Result<Answer, Refused> {
    asked.allow(&[])?;
    if state.objects.remove(name).is_none() {
        let message = format!("No such object: {}/{name}", Gcs::BUCKET);
        return Err(refuse(404, "notFound", &message));
    }
    let answer = Response::builder().status(StatusCode::NO_CONTENT);
    Ok(answer.body(Full::<Bytes>::default()).unwrap())
}

fn media(asked: &Asked, object: &Object) -> Result<Answer, Refused> {
    let size = object.body.len() as u64;
    let mut answer = Response::builder()
        .header("x-goog-generation", object.generation)
        .header("x-goog-metageneration", 1)
        .header("x-goog-stored-content-length", size)
        .header("x-goog-stored-content-encoding", "identity")
        .header("x-goog-storage-class", "STANDARD")
        .header(
            "x-goog-hash",
            format!("crc32c={}", crc32c_text(object.crc32c)),
        );
    let body = match asked.header(RANGE.as_str()) {
        None => object.body.clone(),
        Some(range) => {
            let Some((first, end)) = asked_range(range, size) else {
                let mut refused = refuse(
                    416,
                    "requestedRangeNotSatisfiable",
                    "Request range not satisfiable",
                );
                let header = format!("bytes */{size}").parse().unwrap();
                refused.headers_mut().insert(CONTENT_RANGE, header);
                return Err(refused);
            };
            answer = answer
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, format!("bytes {first}-{}/{size}", end - 1));
            let (first, end) = (usize::try_from(first), usize::try_from(end));
            object.body.slice(first.unwrap()..end.unwrap())
        }
    };
    Ok(answer.body(Full::<Bytes>::from(body)).unwrap())
}

/// The bytes that `bytes=FIRST-LAST` or `bytes=FIRST-` asks for, as far as there are any.
fn asked_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = match last {
        "" => size,
        last => last.parse::<u64>().ok()?.checked_add(1)?.min(size),
    };
    (first < end).then_some((first, end))
}

pub(super) fn list(asked: &Asked, state: &State) -> Result<Answer, Refused> {
    asked.allow(&[
        "prefix",
        "delimiter",
        "startOffset",
        "pageToken",
        "maxResults",
        "fields",
    ])?;
    let prefix = asked.query("prefix").unwrap_or_default();
    let from = asked.query("startOffset").unwrap_or_default();
    let delimiter = asked.query("delimiter").filter(|text| !text.is_empty());
    let size = asked.query("maxResults").map(|text| text.parse().unwrap());
    let size = size.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    // Of another listing it means nothing.
    let listing = [prefix, from, delimiter.unwrap_or_default()].join("\n");
    let behind = match asked.query("pageToken") {
        None => None,
        Some(token) => Some(behind(token, &listing)?),
    };

    let mut items = Vec::new();
    let mut prefixes = BTreeSet::new();
    let mut last = String::new();
    let mut is_cut = false;
    for (name, object) in &state.objects {
        if !name.starts_with(prefix) || name.as_str() < from {
            continue;
        }
        let folder = delimiter.and_then(|delimiter| {
            let at = name[prefix.len()..].find(delimiter)?;
            Some(name[..prefix.len() + at + delimiter.len()].to_owned())
        });
        let place = folder.as_ref().unwrap_or(name);
        if behind.as_ref().is_some_and(|behind| place <= behind) || prefixes.contains(place) {
            continue;
        }
        if items.len() + prefixes.len() == size {
            is_cut = true;
            break;
        }
        last.clone_from(place);
        match folder {
            Some(folder) => {
                prefixes.insert(folder);
            }
            None => items.push(resource(name, object)),
        }
    }
    let mut page = json!({"kind": "storage#objects"});
    if !items.is_empty() {
        page["items"] = items.into();
    }
    if !prefixes.is_empty() {
        page["prefixes"] = prefixes.into_iter().collect();
    }
    if is_cut {
        let token = format!("{last}\n{listing}");
        page["nextPageToken"] = data_encoding::BASE64.encode(token.as_bytes()).into();
    }
    Ok(json_answer(&select(&page, asked.query("fields"))?))
}

/// The last name of the page before.
fn behind(token: &str, listing: &str) -> Result<String, Refused> {
    let refused = || refuse(400, "invalid", "Invalid page token");
    let text = data_encoding::BASE64.decode(token.as_bytes());
    let text = text.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(refused)?;
    let (last, of) = text.split_once('\n').ok_or_else(refused)?;
    if of == listing {
        Ok(last.to_owned())
    } else {
        Err(refused())
    }
}

/// Of an answer the fields that were asked for: `a,b(c,d)`.
fn select(value: &Value, fields: Option<&str>) -> Result<Value, Refused> {
    let Some(fields) = fields else {
        return Ok(value.clone());
    };
    let mut selected = Map::new();
    for (name, inner) in split(fields)? {
        let Some(field) = value.get(name) else {
            continue;
        };
        let field = match (inner, field) {
            (Some(inner), Value::Array(items)) => {
                let items = items.iter().map(|item| select(item, Some(inner)));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (Some(inner), field) => select(field, Some(inner))?,
            (None, field) => field.clone(),
        };
        selected.insert(name.to_owned(), field);
    }
    Ok(Value::Object(selected))
}

fn split(fields: &str) -> Result<Vec<(&str, Option<&str>)>, Refused> {
    let refused = || refuse(400, "invalidParameter", "Invalid field selection");
    let mut rest = fields;
    let mut split = Vec::new();
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() {
            return Err(refused());
        }
        rest = &rest[end..];
        let mut inner = None;
        if let Some(nested) = rest.strip_prefix('(') {
            let end = nested.find(')').ok_or_else(refused)?;
            inner = Some(&nested[..end]);
            rest = &nested[end + 1..];
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
        split.push((name, inner));
    }
    Ok(split)
}
