//! The parallel run beside an older job: how it stands, and its files on both sides.

use engine::parity::compare::Side;
use engine::parity::report::ParityPicture;
use engine::parity::verdict::{Verdict, Word};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Widget, Wrap};

use crate::model::Model;
use crate::rows::{ParityRow, State};
use crate::words::{moment, printable, span};

/// From so many columns on, causes are shown in the list.
const WIDE: u16 = 100;

/// Runs whose verdict is shown; the files of all are listed.
const MAX_RUNS: usize = 3;

/// Lines for the selected file: both sides, the cause in two, and the frame.
const BOTH_SIDES: u16 = 6;

/// Hex digits of a digest in the list; the whole ones stand below.
const DIGEST: usize = 12;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let runs = model.picture.as_ref().map_or(&[][..], |p| &p.parity);
    let rows = model.parity();
    let selected = rows.get(model.cursor().row);
    let shown = runs.len().min(MAX_RUNS);
    // Two lines each, and the frame.
    let above = u16::try_from(shown * 2 + 2).unwrap_or(0);
    let above = if runs.is_empty() {
        0
    } else {
        above.min(area.height / 3)
    };
    let below = if selected.is_some() { BOTH_SIDES } else { 0 };
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(above),
        Constraint::Fill(1),
        Constraint::Length(below),
    ])
    .areas(area);
    verdicts(model, runs, top, buffer);
    files(model, &rows, middle, buffer);
    if let Some(row) = selected {
        both_sides(model, row, bottom, buffer);
    }
}

fn verdicts(model: &Model, runs: &[ParityPicture], area: Rect, buffer: &mut Buffer) {
    let mut lines = Vec::new();
    for run in runs.iter().take(MAX_RUNS) {
        let source = model.picture.as_ref().and_then(|p| p.source(run.source));
        let name = source.map_or_else(|| run.source.to_string(), |s| printable(&s.name));
        let (word, style) = word(model, run);
        let mut spans = vec![
            Span::styled(format!("{name}: "), model.looks.strong()),
            Span::styled(word, style),
        ];
        if let Some(verdict) = &run.verdict {
            spans.push(Span::raw(format!("; {}", counts(verdict))));
        }
        lines.push(Line::from(spans));
        let reason = run.verdict.as_ref().and_then(|v| v.reasons.first());
        if let Some(reason) = reason {
            let words = format!("  {}", printable(reason));
            lines.push(Line::styled(words, model.looks.faint()));
        }
    }
    let title = match runs.len().saturating_sub(MAX_RUNS) {
        0 => "Parallel runs".to_owned(),
        more => format!("Parallel runs, and {more} more"),
    };
    Paragraph::new(lines)
        .block(model.looks.block(&title))
        .render(area, buffer);
}

fn word(model: &Model, run: &ParityPicture) -> (String, Style) {
    let looks = model.looks;
    let left = run.until.duration_since(model.now).as_secs();
    let Some(verdict) = &run.verdict else {
        let at = run.finished_at.map(moment).unwrap_or_default();
        return (format!("ended {at}"), looks.faint());
    };
    match verdict.verdict {
        Word::Parity => ("parity".to_owned(), looks.state(State::Current)),
        Word::NoParity if left > 0 => (
            format!("NO PARITY, {} left", span(left)),
            looks.state(State::Gap),
        ),
        Word::NoParity => ("NO PARITY".to_owned(), looks.state(State::Gap)),
        Word::NotYet if left > 0 => (
            format!("not yet, {} left", span(left)),
            looks.state(State::Archiving),
        ),
        Word::NotYet => ("not yet".to_owned(), looks.state(State::Archiving)),
    }
}

/// What there is none of is not said, but for matches.
pub(crate) fn counts(verdict: &Verdict) -> String {
    let mut words = format!("{} matched", verdict.matched);
    for (count, word) in [
        (verdict.late, "late"),
        (verdict.pending, "pending"),
        (verdict.mismatched, "mismatched"),
        (verdict.only_cron, "only cron"),
        (verdict.only_gtide, "only gtide"),
    ] {
        if count > 0 {
            words = format!("{words}, {count} {word}");
        }
    }
    words
}

fn files(model: &Model, rows: &[ParityRow<'_>], area: Rect, buffer: &mut Buffer) {
    let is_wide = area.width >= WIDE;
    let digits = u16::try_from(DIGEST).unwrap_or(0);
    let mut header = vec!["Source", "File", "Standing", "Cron", "Gtide"];
    let mut widths = vec![
        Constraint::Fill(2),
        Constraint::Length(17),
        Constraint::Length(12),
        Constraint::Length(digits),
        Constraint::Length(digits),
    ];
    if is_wide {
        header.push("Cause");
        widths.push(Constraint::Fill(5));
    }
    let lines = rows.iter().map(|row| {
        let (standing, style) = model.looks.standing(row.file.standing);
        let mut cells = vec![
            Cell::new(printable(row.name())),
            Cell::new(printable(&row.file.file_name)),
            Cell::new(standing).style(style),
            Cell::new(short(row.file.cron.as_ref())),
            Cell::new(short(row.file.gtide.as_ref())),
        ];
        if is_wide {
            let cause = row.file.cause.as_deref();
            cells.push(Cell::new(cause.map(printable).unwrap_or_default()));
        }
        Row::new(cells)
    });
    let lines = lines.collect();
    super::table(model, &header, widths, lines, area, buffer);
}

/// A digest's begin.
fn short(side: Option<&Side>) -> String {
    match side.map(|side| side.sha256) {
        None => "-".to_owned(),
        Some(None) => "not known".to_owned(),
        Some(Some(digest)) => digest.to_string().chars().take(DIGEST).collect(),
    }
}

/// What one side has, whole.
pub(crate) fn digest(side: Option<&Side>) -> String {
    match side.map(|side| side.sha256) {
        None => "has it not".to_owned(),
        Some(None) => "SHA-256 not known".to_owned(),
        Some(Some(digest)) => digest.to_string(),
    }
}

fn both_sides(model: &Model, row: &ParityRow<'_>, area: Rect, buffer: &mut Buffer) {
    let looks = model.looks;
    let side = |what: &'static str, side: Option<&Side>| {
        Line::from(vec![
            Span::styled(what, looks.faint()),
            Span::raw(digest(side)),
        ])
    };
    let mut lines = vec![
        side("cron  ", row.file.cron.as_ref()),
        side("gtide ", row.file.gtide.as_ref()),
    ];
    if let Some(cause) = &row.file.cause {
        lines.push(Line::raw(printable(cause)));
    }
    let title = format!("{} on both sides", printable(&row.file.file_name));
    Paragraph::new(lines)
        .wrap(Wrap { trim: true })
        .block(looks.block(&title))
        .render(area, buffer);
}
