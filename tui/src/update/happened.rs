//! What is different from the picture before: the events. A console that was opened later has not seen them.

use std::collections::{BTreeMap, BTreeSet};

use engine::ledger::{Picture, Route, SourcePicture};

use crate::model::{Event, EventKind, Link, MAX_EVENTS, MAX_HISTORY, Model};
use crate::rows::{self, Finding};
use crate::words::{count, printable};

pub(super) fn bad(model: &mut Model, about: &str, text: &str) {
    push(model, EventKind::Bad, about, text);
}

pub(super) fn done(model: &mut Model, about: &str, text: &str) {
    push(model, EventKind::Done, about, text);
}

fn push(model: &mut Model, kind: EventKind, about: &str, text: &str) {
    model.events.push_front(Event {
        at: model.now,
        kind,
        about: about.to_owned(),
        text: text.to_owned(),
    });
    model.events.truncate(MAX_EVENTS);
}

/// A new picture takes the place of the old one.
pub(super) fn seen(model: &mut Model, picture: Picture) {
    if model.link != Link::Replay {
        if let Link::Lost { since, .. } = model.link {
            let away = crate::words::since(since, model.now);
            let text = format!("can be read again, after {away}");
            push(model, EventKind::Good, "database", &text);
        }
        model.link = Link::Live;
    }
    if let Some(before) = model.picture.take() {
        commits(model, &before, &picture);
        findings(model, &before, &picture);
    }
    remember(model, &picture);
    model.picture = Some(picture);
}

/// What was archived meanwhile.
fn commits(model: &mut Model, before: &Picture, after: &Picture) {
    let old: BTreeMap<Route, u64> = heads(before)
        .map(|(route, _, head)| (route, head))
        .collect();
    for (route, source, head) in heads(after) {
        let Some(files) = old.get(&route).and_then(|old| head.checked_sub(*old)) else {
            continue;
        };
        if files > 0 {
            let url = source
                .routes
                .iter()
                .find(|r| r.destination == route.destination);
            let url = url.map_or(String::new(), |route| printable(&route.url));
            let files = count(files, "file", "files");
            let text = format!("{files} archived at {url}, through sequence {head}");
            push(model, EventKind::Good, &printable(&source.name), &text);
        }
    }
}

fn heads(picture: &Picture) -> impl Iterator<Item = (Route, &SourcePicture, u64)> {
    picture.sources.iter().flat_map(|source| {
        source.routes.iter().filter_map(move |at| {
            let route = Route {
                source: source.id,
                destination: at.destination,
            };
            Some((route, source, at.position.as_ref()?.head.0))
        })
    })
}

/// What came into the way, and what is no longer there.
fn findings(model: &mut Model, before: &Picture, after: &Picture) {
    let key = |finding: &Finding| (finding.about.clone(), finding.state);
    let old = rows::findings(before, model.now);
    let new = rows::findings(after, model.now);
    let old_keys: BTreeSet<_> = old.iter().map(key).collect();
    let new_keys: BTreeSet<_> = new.iter().map(key).collect();
    for finding in new.iter().filter(|f| !old_keys.contains(&key(f))) {
        let text = format!("{}: {}", finding.state.word(), finding.text);
        push(model, EventKind::Bad, &finding.about, &text);
    }
    for finding in old.iter().filter(|f| !new_keys.contains(&key(f))) {
        let text = format!("no longer {}", finding.state.word());
        push(model, EventKind::Good, &finding.about, &text);
    }
}

/// How far each route is behind, for the sparkline.
fn remember(model: &mut Model, picture: &Picture) {
    let mut present = BTreeSet::new();
    for row in rows::routes(picture, "") {
        let Some(at) = row.route else { continue };
        let route = Route {
            source: row.source.id,
            destination: at.destination,
        };
        present.insert(route);
        let history = model.history.entry(route).or_default();
        history.push_back(row.behind());
        if history.len() > MAX_HISTORY {
            history.pop_front();
        }
    }
    model.history.retain(|route, _| present.contains(route));
}
