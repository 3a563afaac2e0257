//! What this console saw happen, and what was done at it.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::{Cell, Paragraph, Row, Widget, Wrap};

use crate::model::Model;
use crate::words::moment;

/// Lines below for the whole of the selected event, with the frame.
const WHOLE: u16 = 5;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let events = model.events();
    let selected = events.get(model.cursor().row);
    let below = if selected.is_some() { WHOLE } else { 0 };
    let [area, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
    if let Some(event) = selected {
        Paragraph::new(event.text.as_str())
            .wrap(Wrap { trim: true })
            .block(model.looks.block(&event.about))
            .render(bottom, buffer);
    }
    let rows = events.iter().map(|event| {
        let (symbol, style) = model.looks.event(event.kind);
        Row::new(vec![
            Cell::new(symbol).style(style),
            Cell::new(moment(event.at)),
            Cell::new(event.about.clone()),
            Cell::new(event.text.clone()),
        ])
    });
    let widths = vec![
        Constraint::Length(1),
        Constraint::Length(20),
        Constraint::Fill(1),
        Constraint::Fill(3),
    ];
    let rows = rows.collect();
    super::table(
        model,
        &["", "Seen at", "About", "What"],
        widths,
        rows,
        area,
        buffer,
    );
}
