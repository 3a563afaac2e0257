//! The picture: from the model to terminal cells. Reads the model and nothing else.

mod events;
mod jobs;
mod overlay;
mod overview;
pub(crate) mod parity;
pub(crate) mod server;
mod watermarks;

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, StatefulWidget, Table, TableState, Widget, Wrap};

use crate::keys;
use crate::model::{Link, Model, Overlay, Screen};
use crate::words::{clock, moment, printable, shorten_url, since};

/// Columns and rows where there is no terminal to ask.
pub const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// The least that a frame needs; below, one line says so.
pub const MIN_SIZE: (u16, u16) = (60, 15);

/// From so many columns on, the program's name stands before the screens'.
const TITLE_FITS: u16 = 74;

/// From so many columns on, the screens' names stand apart.
const APART_FITS: u16 = 67;

/// A picture that is older than this says so in the headline, in seconds.
const STALE_AFTER: i64 = 10;

/// Columns between those of a table.
const COLUMN_SPACING: u16 = 1;

/// One frame.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        too_small(area, buffer);
        return;
    }
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    headline(model, head, buffer);
    match &model.overlay {
        Some(Overlay::Detail(detail)) => overlay::detail(model, detail, body, buffer),
        _ => screen(model, body, buffer),
    }
    match &model.overlay {
        Some(Overlay::Help) => overlay::help(model, body, buffer),
        Some(Overlay::Confirm(order)) => overlay::confirm(model, order, body, buffer),
        _ => {}
    }
    footer(model, foot, buffer);
}

/// The frame as lines of text without trailing blanks.
pub fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let mut text = String::new();
    for row in buffer.content().chunks(width) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    let (columns, rows) = MIN_SIZE;
    let words = format!(
        "{}x{} is too small: {columns}x{rows} are needed",
        area.width, area.height
    );
    Paragraph::new(words)
        .wrap(Wrap { trim: true })
        .render(area, buffer);
}

/// The screens, and how old what they show is.
fn headline(model: &Model, area: Rect, buffer: &mut Buffer) {
    let [tabs, rest] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let mut spans = Vec::new();
    if area.width >= TITLE_FITS {
        spans.push(Span::styled("gtide  ", model.looks.strong()));
    }
    for (at, screen) in Screen::ALL.iter().enumerate() {
        let label = if area.width >= APART_FITS {
            format!(" {} {} ", at + 1, screen.title())
        } else {
            format!("{} {}", at + 1, screen.title())
        };
        let style = if *screen == model.screen {
            model.looks.selected()
        } else {
            Style::new()
        };
        spans.push(Span::styled(label, style));
        if area.width < APART_FITS {
            spans.push(Span::raw(" "));
        }
    }
    Line::from(spans).render(tabs, buffer);
    let (words, style) = age(model);
    let database = model.picture.as_ref().map(|p| printable(&p.database));
    let database = database.unwrap_or_default();
    let mode = if model.read_only { "  read-only" } else { "" };
    let right = u16::try_from(words.chars().count()).unwrap_or(u16::MAX);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(right)]).areas(rest);
    Line::styled(format!("{database}{mode}"), model.looks.faint()).render(left, buffer);
    Line::styled(words, style)
        .alignment(Alignment::Right)
        .render(right, buffer);
}

/// How old the picture is, and whether a newer one comes.
fn age(model: &Model) -> (String, Style) {
    let looks = model.looks;
    let Some(picture) = &model.picture else {
        return match &model.link {
            Link::Lost { error, .. } => (format!("NO PICTURE: {error}"), looks.alarm()),
            _ => ("reading ...".to_owned(), looks.faint()),
        };
    };
    let taken = picture.taken;
    let old = since(taken, model.now);
    match &model.link {
        Link::Replay => (format!("recorded {}", moment(taken)), looks.strong()),
        Link::Lost { .. } => (
            format!("LOST: as of {}, {old} ago", clock(taken)),
            looks.alarm(),
        ),
        _ if model.now.duration_since(taken).as_secs() > STALE_AFTER => (
            format!("STALE: as of {}, {old} ago", clock(taken)),
            looks.alarm(),
        ),
        _ => (clock(taken), looks.faint()),
    }
}

fn screen(model: &Model, area: Rect, buffer: &mut Buffer) {
    match model.screen {
        Screen::Overview => overview::draw(model, area, buffer),
        Screen::Queue | Screen::Retries => jobs::draw(model, area, buffer),
        Screen::Watermarks => watermarks::draw(model, area, buffer),
        Screen::Parity => parity::draw(model, area, buffer),
        Screen::Events => events::draw(model, area, buffer),
    }
}

/// What was asked for last, or the keys that are valid now.
fn footer(model: &Model, area: Rect, buffer: &mut Buffer) {
    let looks = model.looks;
    if model.typing {
        let words = format!("filter: {}_   enter keeps it, esc drops it", model.filter);
        Line::styled(words, looks.strong()).render(area, buffer);
        return;
    }
    if let Some(note) = &model.note {
        Line::styled(printable(note), looks.strong()).render(area, buffer);
        return;
    }
    if let (Link::Lost { error, .. }, None) = (&model.link, &model.overlay) {
        Line::styled(format!("{error}; trying again"), looks.alarm()).render(area, buffer);
        return;
    }
    let keys: Vec<(&str, &str)> = match &model.overlay {
        Some(Overlay::Confirm(_)) => vec![("y", "yes"), ("any other key", "no")],
        Some(Overlay::Help) => vec![("any key", "close")],
        Some(Overlay::Detail(_)) => vec![("esc", "close"), ("j k", "scroll"), ("y", "copy")],
        None => keys::valid(model.screen, model.read_only)
            .filter_map(|binding| Some((binding.label, binding.short?)))
            .collect(),
    };
    let mut spans = Vec::new();
    for (key, word) in keys {
        spans.push(Span::styled(key.to_owned(), looks.strong()));
        spans.push(Span::raw(format!(" {word}  ")));
    }
    if !model.filter.is_empty() && model.overlay.is_none() {
        let words = format!("filter: {}", model.filter);
        spans.insert(0, Span::styled(format!("{words}  "), looks.strong()));
    }
    Line::from(spans).render(area, buffer);
}

/// A table of the screen: with its title, order and selected row.
fn table(
    model: &Model,
    header: &[&'static str],
    widths: Vec<Constraint>,
    rows: Vec<Row<'_>>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let count = rows.len();
    let cursor = model.cursor();
    let orders = model.screen.orders();
    let order = orders.get(cursor.order).copied().unwrap_or_default();
    let title = format!("{} by {order}", model.screen.title());
    let place = match count {
        0 => String::new(),
        count => format!(" {}/{count} ", cursor.row + 1),
    };
    let block = model.looks.block(&title).title_bottom(place);
    if count == 0 {
        let words = nothing(model);
        Paragraph::new(words)
            .wrap(Wrap { trim: true })
            .block(block)
            .render(area, buffer);
        return;
    }
    let header = Row::new(header.to_vec()).style(model.looks.strong());
    let widget = Table::new(rows, widths)
        .column_spacing(COLUMN_SPACING)
        .header(header)
        .row_highlight_style(model.looks.selected())
        .block(block);
    let mut state = TableState::new().with_selected(Some(cursor.row));
    StatefulWidget::render(widget, area, buffer, &mut state);
}

/// A destination in a table of these columns: where there is no room for its URL, what tells it from others.
fn destination(
    model: &Model,
    url: &str,
    widths: &[Constraint],
    column: usize,
    area: Rect,
) -> String {
    let inner = Block::bordered().inner(area);
    let columns = Layout::horizontal(widths)
        .spacing(COLUMN_SPACING)
        .split(inner);
    let room = columns.get(column).map_or(0, |column| column.width);
    shorten_url(&printable(url), room.into(), model.looks.left_out())
}

/// Why there is nothing to see.
fn nothing(model: &Model) -> String {
    match (&model.picture, model.screen) {
        (None, _) => "The database has not been read yet.".to_owned(),
        _ if !model.filter.is_empty() => {
            format!("No row has \"{}\"; esc drops the filter.", model.filter)
        }
        (_, Screen::Queue) => "Nothing is queued.".to_owned(),
        (Some(picture), Screen::Parity) if picture.parity.is_empty() => {
            "No parallel run has begun: `gtide parity start --manifest PLACE` compares this archive with an older job's."
                .to_owned()
        }
        (_, Screen::Parity) => "No file was compared yet.".to_owned(),
        (_, Screen::Retries) => "Nothing has failed.".to_owned(),
        (_, Screen::Events) => "Nothing has happened since this console was opened.".to_owned(),
        _ => "The ledger knows no source yet: start `gtide run`.".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
