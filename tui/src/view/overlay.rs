//! What lies over a screen: the keys, a question, a row's detail.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Widget, Wrap};

use crate::keys;
use crate::model::{Detail, Model, Order};

/// Columns of a question.
const QUESTION: u16 = 76;

/// Columns for what a line of a detail is about.
const LABEL: usize = 22;

/// In the middle of the area, over what is there.
fn over(area: Rect, width: u16, height: u16, buffer: &mut Buffer) -> Rect {
    let [across] = Layout::horizontal([Constraint::Length(width.min(area.width))])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let [place] = Layout::vertical([Constraint::Length(height.min(area.height))])
        .flex(ratatui::layout::Flex::Center)
        .areas(across);
    Clear.render(place, buffer);
    place
}

pub(super) fn help(model: &Model, area: Rect, buffer: &mut Buffer) {
    let lines: Vec<Line<'_>> = keys::valid(model.screen, model.read_only)
        .map(|binding| {
            let label = format!("{:<18}", binding.label);
            Line::from(vec![
                Span::styled(label, model.looks.strong()),
                Span::raw(binding.long),
            ])
        })
        .collect();
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let place = over(area, 90, height, buffer);
    let title = format!("Keys of {}", model.screen.title());
    Paragraph::new(lines)
        .block(model.looks.block(&title))
        .render(place, buffer);
}

pub(super) fn confirm(model: &Model, order: &Order, area: Rect, buffer: &mut Buffer) {
    let looks = model.looks;
    let lines = vec![
        Line::styled(format!("{}?", order.touches), looks.strong()),
        Line::raw(format!("{}.", order.means)),
        Line::default(),
        Line::from(vec![
            Span::styled("y", looks.strong()),
            Span::raw(" yes   "),
            Span::styled("any other key", looks.strong()),
            Span::raw(" no"),
        ]),
    ];
    let place = over(area, QUESTION, 10, buffer);
    Paragraph::new(lines)
        .wrap(Wrap { trim: true })
        .block(looks.block("Change the queue"))
        .render(place, buffer);
}

pub(super) fn detail(model: &Model, detail: &Detail, area: Rect, buffer: &mut Buffer) {
    let looks = model.looks;
    let mut lines: Vec<Line<'_>> = detail
        .lines
        .iter()
        .map(|(what, value)| {
            Line::from(vec![
                Span::styled(format!("{what:<LABEL$} "), looks.faint()),
                Span::raw(value.as_str()),
            ])
        })
        .collect();
    if detail.awaits.is_some() {
        lines.push(Line::styled("reading the record ...", looks.faint()));
    }
    Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .scroll((detail.scroll, 0))
        .block(looks.block(&detail.title))
        .render(area, buffer);
}
