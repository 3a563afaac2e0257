//! What this console saw happen, and what was done at it.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::widgets::{Cell, Row};

use crate::model::Model;
use crate::words::moment;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let events = model.events();
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
