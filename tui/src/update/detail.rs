//! Everything known of a row: from the picture at once, from the file's record when it comes.

use engine::ledger::{FileKey, FileRow};
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::{Effect, copied};
use crate::model::{Detail, Model, Overlay, Screen};
use crate::rows::{JobRow, ParityRow, RouteRow, standing_word};
use crate::view::parity::{counts, digest};
use crate::view::server;
use crate::words::{bytes, class, moment, printable, since, span, until};

/// Lines of a page.
const PAGE: u16 = 10;

pub(super) fn open(model: &mut Model) -> Vec<Effect> {
    let Some(detail) = of_row(model) else {
        return Vec::new();
    };
    let awaits = detail.awaits;
    model.overlay = Some(Overlay::Detail(detail));
    awaits.map(Effect::ReadFile).into_iter().collect()
}

/// Keys while it is open.
pub(super) fn pressed(model: &mut Model, mut detail: Detail, key: KeyEvent) -> Vec<Effect> {
    let last = u16::try_from(detail.lines.len().saturating_sub(1)).unwrap_or(u16::MAX);
    let mut effects = Vec::new();
    match key.code {
        KeyCode::Char('q') => model.over = true,
        KeyCode::Esc | KeyCode::Enter => return Vec::new(),
        KeyCode::Char('j') | KeyCode::Down => detail.scroll = detail.scroll.saturating_add(1),
        KeyCode::Char('k') | KeyCode::Up => detail.scroll = detail.scroll.saturating_sub(1),
        KeyCode::PageDown => detail.scroll = detail.scroll.saturating_add(PAGE),
        KeyCode::PageUp => detail.scroll = detail.scroll.saturating_sub(PAGE),
        KeyCode::Char('g') | KeyCode::Home => detail.scroll = 0,
        KeyCode::Char('G') | KeyCode::End => detail.scroll = last,
        KeyCode::Char('y') => effects = copied(model, Some(text(&detail)), ""),
        _ => {}
    }
    detail.scroll = detail.scroll.min(last);
    model.overlay = Some(Overlay::Detail(detail));
    effects
}

/// As text, for the clipboard.
pub(super) fn text(detail: &Detail) -> String {
    let lines = detail.lines.iter();
    let lines = lines.map(|(what, value)| format!("{what}: {value}\n"));
    format!("{}\n{}", detail.title, lines.collect::<String>())
}

/// What the picture tells of the selected row.
pub(super) fn of_row(model: &Model) -> Option<Detail> {
    let row = model.cursor().row;
    match model.screen {
        Screen::Overview | Screen::Watermarks => {
            model.routes().get(row).map(|row| of_route(model, row))
        }
        Screen::Queue | Screen::Retries => model.jobs().get(row).map(|row| of_job(model, row)),
        Screen::Parity => model.parity().get(row).map(of_parity),
        Screen::Events => None,
    }
}

fn of_parity(row: &ParityRow<'_>) -> Detail {
    let (run, file) = (row.run, row.file);
    let mut detail = Detail {
        title: format!("{} {}", printable(row.name()), printable(&file.file_name)),
        ..Detail::default()
    };
    detail.add("standing", standing_word(file.standing));
    detail.add_some("cause", file.cause.as_deref().map(printable));
    for (what, side) in [("cron", &file.cron), ("gtide", &file.gtide)] {
        detail.add(what, digest(side.as_ref()));
        let size = side.as_ref().and_then(|side| side.size);
        detail.add_some("  size", size.map(bytes));
        detail.add_some("  at", side.as_ref().map(|side| moment(side.at)));
    }
    detail.add("run began", moment(run.started_at));
    detail.add("window is over", moment(run.until));
    detail.add_some("manifests read", run.scanned_at.map(moment));
    for manifest in &run.manifests {
        detail.add("manifests", printable(manifest));
    }
    if let Some(verdict) = &run.verdict {
        detail.add("files", counts(verdict));
        for reason in &verdict.reasons {
            detail.add("against parity", printable(reason));
        }
    }
    detail
}

fn of_route(model: &Model, row: &RouteRow<'_>) -> Detail {
    let identity = &row.source.identity;
    let mut detail = Detail {
        title: printable(row.name()),
        ..Detail::default()
    };
    detail.add("state", row.state.word());
    detail.add("cluster", identity.cluster.as_str());
    detail.add("server_uuid", identity.server_uuid);
    detail.add("incarnation", identity.incarnation);
    detail.add_some("newest file", row.source.newest);
    let Some(route) = row.route else {
        detail.add("destination", "nothing was archived or queued yet");
        return detail;
    };
    detail.add("destination", printable(&route.url));
    detail.add("files behind", row.behind());
    detail.add("queued jobs", route.queued);
    detail.add_some("waiting since", route.backlog.since.map(moment));
    for (first, last) in &route.gaps {
        detail.add("gap", format!("sequences {first} to {last}"));
    }
    if let Some(position) = &route.position {
        detail.add("first archived", position.first);
        detail.add("watermark", position.watermark);
        detail.add_some("its file", position.file_name.as_deref().map(printable));
        detail.add_some("archived through", position.through);
        detail.add("head", position.head);
        detail.add_some("committed", position.committed_at.map(moment));
        detail.add_some("GTIDs", position.gtids.as_deref().map(printable));
    }
    if let Some(server) = row.server {
        for (what, words) in server::lines(server, model.now) {
            detail.add(&format!("server {what}"), words);
        }
    }
    let pauses = model.picture.iter().flat_map(|picture| &picture.pauses);
    for pause in pauses.filter(|pause| pause.scope.source == row.source.id) {
        let (by, at) = (printable(&pause.by), moment(pause.since));
        let lane = pause
            .scope
            .lane
            .map_or("all".to_owned(), |l| format!("lane {l}"));
        let reason = pause.reason.as_deref().map(printable).unwrap_or_default();
        detail.add("paused", format!("{lane}, since {at} by {by} {reason}"));
    }
    detail
}

fn of_job(model: &Model, row: &JobRow<'_>) -> Detail {
    let job = row.job;
    let mut detail = Detail {
        title: format!("{} {}", printable(row.name()), printable(&row.file())),
        awaits: Some(FileKey {
            source: row.lane.name.route.source,
            sequence: job.sequence,
        }),
        ..Detail::default()
    };
    detail.add("destination", printable(row.url()));
    detail.add("lane", row.lane.name.lane);
    detail.add("sequence", job.sequence);
    detail.add("step", row.step());
    detail.add_some("size", job.size.map(bytes));
    detail.add_some("begun", job.began.map(moment));
    if let Some(upload) = row.upload {
        let (done, total) = (bytes(upload.done), bytes(upload.total));
        detail.add("uploaded", format!("{done} of {total}"));
        detail.add_some("rate", upload.rate.map(|rate| format!("{}/s", bytes(rate))));
        detail.add_some("left", upload.left().map(span));
    }
    if row.has_failed() {
        detail.add("failed attempts", job.attempts);
        let next = until(job.run_at, model.now);
        detail.add("next attempt", format!("{} ({next})", moment(job.run_at)));
        detail.add_some("last attempt ended", job.ended.map(moment));
    }
    if let Some(failure) = &job.failure {
        detail.add("class", class(failure.class));
        detail.add("error", printable(&failure.message));
        detail.add_some("hint", failure.hint.as_deref().map(printable));
        if failure.interruptions > 0 {
            detail.add("interruptions in a row", failure.interruptions);
        }
    }
    if let Some(source) = row.source {
        detail.add("server_uuid", source.identity.server_uuid);
        detail.add("incarnation", source.identity.incarnation);
    }
    detail
}

/// The record that an open detail waits for.
pub(super) fn add_file(model: &mut Model, key: FileKey, outcome: &Result<Option<FileRow>, String>) {
    let now = model.now;
    let Some(Overlay::Detail(detail)) = &mut model.overlay else {
        return;
    };
    if detail.awaits != Some(key) {
        return;
    }
    detail.awaits = None;
    match outcome {
        Err(error) => detail.add("record", printable(error)),
        Ok(None) => detail.add("record", "the ledger does not know this file any more"),
        Ok(Some(file)) => detail.add_record(file, now),
    }
}

impl Detail {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is shown was made for it"
    )]
    fn add(&mut self, what: &str, value: impl ToString) {
        self.lines.push((what.to_owned(), value.to_string()));
    }

    fn add_some(&mut self, what: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(what, value);
        }
    }

    fn add_record(&mut self, file: &FileRow, now: jiff::Timestamp) {
        let found = file.discovered_at;
        self.add(
            "found",
            format!("{} ({} ago)", moment(found), since(found, now)),
        );
        let path = file.path.as_ref();
        self.add_some("path", path.map(|p| printable(&p.display().to_string())));
        let Some(sealed) = &file.sealed else {
            self.add("sealed", "not yet");
            return;
        };
        // What the archiver keeps of a sealed file, field by field, whatever fields those are.
        match serde_json::from_str(&sealed.0) {
            Ok(value) => self.add_json("sealed", &value),
            Err(_) => self.add("sealed", printable(&sealed.0)),
        }
    }

    fn add_json(&mut self, what: &str, value: &serde_json::Value) {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    self.add_json(&format!("{what} {}", printable(name)), value);
                }
            }
            serde_json::Value::String(text) => self.add(what, printable(text)),
            other => self.add(what, printable(&other.to_string())),
        }
    }
}
