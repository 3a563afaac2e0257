//! Files on their way: the lanes' first ones (Queue), or those that failed (Retries).

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Widget, Wrap};

use crate::model::{Model, Screen};
use crate::rows::{JobRow, State};
use crate::words::{bytes, class, moment, printable, since, span, until};

/// From so many columns on, the time is shown that an upload has left.
const LEFT_FITS: u16 = 76;

/// From so many columns on, sizes and destinations are shown.
const WIDE: u16 = 100;

/// From so many columns on, an upload's rate is shown.
const WIDER: u16 = 120;

/// Lines below the retries, for the selected one's whole error.
const WHOLE_ERROR: u16 = 7;

/// Columns of a file's name: `mysql-bin.000123`.
const FILE: Constraint = Constraint::Length(17);

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    if model.screen == Screen::Queue {
        queue(model, area, buffer);
        return;
    }
    let rows = model.jobs();
    let Some(selected) = rows.get(model.cursor().row) else {
        retries(model, &rows, area, buffer);
        return;
    };
    let [top, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(WHOLE_ERROR)]).areas(area);
    retries(model, &rows, top, buffer);
    whole_error(model, selected, bottom, buffer);
}

fn queue(model: &Model, area: Rect, buffer: &mut Buffer) {
    let is_wide = area.width >= WIDE;
    let mut header = vec!["Source", "Lane", "File", "Step", "For", "Behind it"];
    let mut widths = vec![
        Constraint::Fill(2),
        Constraint::Length(4),
        FILE,
        Constraint::Length(17),
        Constraint::Length(7),
        Constraint::Length(9),
    ];
    if area.width >= LEFT_FITS {
        header.push("Left");
        widths.push(Constraint::Length(7));
    }
    if area.width >= WIDER {
        header.push("Rate");
        widths.push(Constraint::Length(12));
    }
    if is_wide {
        header.extend(["Size", "Destination"]);
        widths.extend([Constraint::Length(10), Constraint::Fill(3)]);
    }
    let rows = model.jobs();
    let lines = rows.iter().map(|row| {
        let job = row.job;
        let state = state(row);
        let age = job.began.filter(|_| is_running(row));
        let more = row.lane.queued.saturating_sub(row.place as u64 + 1);
        let mut cells = vec![
            Cell::new(printable(row.name())),
            Cell::new(row.lane.name.lane.to_string()),
            Cell::new(printable(&row.file())),
            Cell::new(step(model, row)).style(model.looks.state(state)),
            Cell::new(age.map_or(String::new(), |at| since(at, model.now))),
            Cell::new(more.to_string()),
        ];
        let left = row.upload.and_then(|upload| upload.left());
        if area.width >= LEFT_FITS {
            cells.push(Cell::new(left.map_or_else(String::new, span)));
        }
        if area.width >= WIDER {
            let rate = row.upload.and_then(|upload| upload.rate);
            cells.push(Cell::new(
                rate.map_or_else(String::new, |rate| format!("{}/s", bytes(rate))),
            ));
        }
        if is_wide {
            cells.push(Cell::new(job.size.map_or("-".to_owned(), bytes)));
            let column = cells.len();
            let url = super::destination(model, row.url(), &widths, column, area);
            cells.push(Cell::new(url));
        }
        Row::new(cells)
    });
    let lines = lines.collect();
    super::table(model, &header, widths, lines, area, buffer);
}

/// Where it is on its way; an upload in parts as a bar.
fn step(model: &Model, row: &JobRow<'_>) -> String {
    row.upload.map_or_else(
        || row.step().to_owned(),
        |upload| model.looks.bar(upload.done, upload.total),
    )
}

fn is_running(row: &JobRow<'_>) -> bool {
    row.job.status == engine::ledger::JobStatus::Running
}

fn state(row: &JobRow<'_>) -> State {
    match () {
        () if is_running(row) => State::Archiving,
        () if row.is_stalled() => State::Stalled,
        () if row.has_failed() => State::Failing,
        () if row.paused => State::Paused,
        () => State::Current,
    }
}

fn retries(model: &Model, rows: &[JobRow<'_>], area: Rect, buffer: &mut Buffer) {
    let header = [
        "Source", "File", "State", "Attempts", "Next try", "Class", "Error",
    ];
    let widths = vec![
        Constraint::Fill(2),
        FILE,
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Fill(3),
    ];
    let lines = rows.iter().map(|row| {
        let job = row.job;
        let state = if row.is_stalled() {
            State::Stalled
        } else {
            State::Failing
        };
        let next = if is_running(row) {
            "running".to_owned()
        } else {
            until(job.run_at, model.now)
        };
        let failure = job.failure.as_ref();
        let error = failure.map_or(String::new(), |f| printable(&f.message));
        Row::new(vec![
            Cell::new(printable(row.name())),
            Cell::new(printable(&row.file())),
            Cell::new(model.looks.state_words(state)).style(model.looks.state(state)),
            Cell::new(job.attempts.to_string()),
            Cell::new(next),
            Cell::new(failure.map_or("", |f| class(f.class))),
            Cell::new(error),
        ])
    });
    let lines = lines.collect();
    super::table(model, &header, widths, lines, area, buffer);
}

fn whole_error(model: &Model, row: &JobRow<'_>, area: Rect, buffer: &mut Buffer) {
    let looks = model.looks;
    let title = format!("{} to {}", printable(&row.file()), printable(row.url()));
    let mut lines = Vec::new();
    if let Some(failure) = &row.job.failure {
        lines.push(Line::raw(printable(&failure.message)));
        if let Some(hint) = &failure.hint {
            lines.push(Line::styled(
                format!("hint: {}", printable(hint)),
                looks.strong(),
            ));
        }
    }
    if let Some(ended) = row.job.ended {
        let words = format!("last attempt ended {}", moment(ended));
        lines.push(Line::styled(words, looks.faint()));
    }
    Paragraph::new(lines)
        .wrap(Wrap { trim: true })
        .block(looks.block(&title))
        .render(area, buffer);
}
