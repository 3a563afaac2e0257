//! Changes of the queue: asked for, confirmed, and what became of them.

use engine::ledger::{Pause, Picture, QueueScope};

use super::happened;
use crate::model::{Change, Model, Order, Overlay, Screen};
use crate::rows::{self, JobRow, RouteRow, scope_words};
use crate::words::count;

/// What the selected row stands for: a source, or a lane.
fn selected(model: &Model) -> Option<QueueScope> {
    let row = model.cursor().row;
    match model.screen {
        Screen::Overview | Screen::Watermarks => model.routes().get(row).map(RouteRow::scope),
        Screen::Queue | Screen::Retries => model.jobs().get(row).map(JobRow::scope),
        Screen::Parity | Screen::Events => None,
    }
}

pub(super) fn ask_retry(model: &mut Model) {
    let Some((picture, scope)) = model.picture.as_ref().zip(selected(model)) else {
        model.note = Some("nothing is selected".to_owned());
        return;
    };
    let failed = rows::retries(picture, "");
    let failed = failed.iter().filter(|row| scope.contains(row.lane.name));
    let names: Vec<String> = failed.map(JobRow::file).collect();
    let what = scope_words(picture, scope);
    if names.is_empty() {
        model.note = Some(format!("nothing of {what} has failed"));
        return;
    }
    let files = count(names.len() as u64, "failed file", "failed files");
    model.overlay = Some(Overlay::Confirm(Order {
        touches: format!("Retry {files} of {what} now"),
        means: format!("{}: due at once, attempts forgiven", few(&names)),
        change: Change::Retry(scope),
    }));
}

/// The first of many names.
fn few(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(super) fn ask_pause(model: &mut Model) {
    let Some((picture, scope)) = model.picture.as_ref().zip(selected(model)) else {
        model.note = Some("nothing is selected".to_owned());
        return;
    };
    let order = match standing(picture, scope) {
        Some(scope) => resume(picture, scope),
        None => pause(model, picture, scope),
    };
    model.overlay = Some(Overlay::Confirm(order));
}

/// A pause that the row stands under: that of a lane, else that of its source.
fn standing(picture: &Picture, scope: QueueScope) -> Option<QueueScope> {
    let covers = |pause: QueueScope| {
        let of_source = pause.source == scope.source;
        let source_whole = scope.destination.is_none();
        let of_destination = pause.destination.is_none() || pause.destination == scope.destination;
        let of_lane = pause.lane.is_none() || pause.lane == scope.lane;
        of_source && (source_whole || (of_destination && of_lane))
    };
    let mut pauses = picture.pauses.iter().map(|pause| pause.scope);
    // On a source, taking it back is for the source and every part of it.
    let found = pauses.find(|pause| covers(*pause))?;
    Some(if scope.destination.is_none() {
        scope
    } else {
        found
    })
}

fn pause(model: &Model, picture: &Picture, scope: QueueScope) -> Order {
    let what = scope_words(picture, scope);
    let lanes = picture.lanes.iter().filter(|l| scope.contains(l.name));
    let waiting = lanes.map(|lane| lane.queued).sum();
    let holds = if scope.lane.is_some() {
        "The other lanes soon wait for it: they commit in order. "
    } else {
        ""
    };
    Order {
        touches: format!("Pause {what}"),
        means: format!(
            "{} not be archived until it is resumed. {holds}What is under way is finished. Closed \
             files stay pinned on the server's disk meanwhile",
            count(waiting, "queued file will", "queued files will")
        ),
        change: Change::Pause(Pause {
            scope,
            by: model.operator.clone(),
            reason: None,
            since: model.now,
        }),
    }
}

fn resume(picture: &Picture, scope: QueueScope) -> Order {
    let pauses = picture.pauses.iter().map(|pause| pause.scope);
    let within = |pause: &QueueScope| {
        pause.source == scope.source
            && (scope.destination.is_none() || pause.destination == scope.destination)
            && (scope.lane.is_none() || pause.lane == scope.lane)
    };
    let taken = pauses.filter(within).count();
    Order {
        touches: format!("Resume {}", scope_words(picture, scope)),
        means: format!(
            "{} taken back; archiving goes on within seconds",
            count(taken as u64, "pause is", "pauses are")
        ),
        change: Change::Resume(scope),
    }
}

/// What became of a change: in the log of events, and as a note.
pub(super) fn changed(model: &mut Model, change: &Change, outcome: &Result<u64, String>) {
    let (verb, scope) = match change {
        Change::Retry(scope) => ("retry", *scope),
        Change::Pause(pause) => ("pause", pause.scope),
        Change::Resume(scope) => ("resume", *scope),
    };
    let picture = model.picture.as_ref();
    let what = picture.map_or(scope.source.to_string(), |p| scope_words(p, scope));
    let said = match (change, outcome) {
        (_, Err(error)) => format!("{verb} failed: {}", crate::words::printable(error)),
        (Change::Retry(_), Ok(files)) => {
            format!("{} due now", count(*files, "file is", "files are"))
        }
        (Change::Pause(_), Ok(_)) => "paused".to_owned(),
        (Change::Resume(_), Ok(pauses)) => {
            format!("{} taken back", count(*pauses, "pause", "pauses"))
        }
    };
    model.note = Some(format!("{what}: {said}"));
    match outcome {
        Ok(_) => happened::done(model, &what, &said),
        Err(_) => happened::bad(model, &what, &said),
    }
}
