//! The picture: from the ledger's values to terminal cells. No I/O, no clock, no colour.

use std::collections::BTreeMap;

use engine::ledger::{DestinationStatus, SourceStatus, Trouble, TroubleScope};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, Widget, Wrap};

/// Columns and rows where there is no terminal to ask.
pub const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// The least that a frame needs; below, one line says so.
pub const MIN_SIZE: (u16, u16) = (60, 15);

/// One line for each source and destination, and below what is in the way.
pub fn overview(
    sources: &[SourceStatus],
    stopped: &BTreeMap<TroubleScope, Trouble>,
    width: u16,
    height: u16,
) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    if width < MIN_SIZE.0 || height < MIN_SIZE.1 {
        let (columns, rows) = MIN_SIZE;
        let words = format!("{width}x{height} is too small: {columns}x{rows} are needed");
        Paragraph::new(words)
            .wrap(Wrap { trim: true })
            .render(area, &mut buffer);
        return buffer;
    }
    let troubles = troubles(sources, stopped);
    let [top, bottom] = Layout::vertical([Constraint::Fill(2), Constraint::Fill(1)]).areas(area);
    table(sources, width).render(top, &mut buffer);
    Paragraph::new(troubles)
        .wrap(Wrap { trim: true })
        .block(Block::bordered().title("In the way"))
        .render(bottom, &mut buffer);
    buffer
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

/// Below this many columns the time of the last commit is left out.
const WIDE: u16 = 90;

fn table(sources: &[SourceStatus], width: u16) -> Table<'static> {
    let rows = sources.iter().flat_map(|source| {
        let destinations = source.destinations.iter();
        destinations.map(|destination| row(source, destination))
    });
    let mut widths = vec![
        Constraint::Max(16),
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(7),
    ];
    if width >= WIDE {
        widths.push(Constraint::Length(20));
    }
    let header = [
        "Source",
        "Destination",
        "Watermark",
        "Queued",
        "Stalled",
        "Last commit",
    ];
    Table::new(rows, widths)
        .header(Row::new(header))
        .block(Block::bordered().title("gtide"))
}

fn row(source: &SourceStatus, destination: &DestinationStatus) -> Row<'static> {
    let watermark = destination
        .watermark
        .map_or("-".to_owned(), |sequence| sequence.to_string());
    let last_commit = destination.head.as_ref().and_then(|head| head.last_commit);
    Row::new([
        Cell::new(printable(&source.source.name)),
        Cell::new(printable(&destination.url)),
        Cell::new(watermark),
        Cell::new(destination.queued.to_string()),
        Cell::new(destination.stalled.to_string()),
        Cell::new(last_commit.map_or("-".to_owned(), |time| format!("{time:.0}"))),
    ])
}

fn troubles(
    sources: &[SourceStatus],
    stopped: &BTreeMap<TroubleScope, Trouble>,
) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = stopped
        .iter()
        .map(|(scope, trouble)| {
            format!(
                "{}: stopped: {}",
                printable(&scope.source_name),
                printable(&trouble.error)
            )
            .into()
        })
        .collect();
    for source in sources {
        let name = printable(&source.source.name);
        for destination in &source.destinations {
            for gap in &destination.gaps {
                let (first, last) = (gap.start(), gap.end());
                lines.push(format!("{name}: gap: sequences {first} to {last}").into());
            }
            if let Some(failing) = &destination.failing {
                let what = if failing.failure.stalled {
                    "stalled"
                } else {
                    "failing"
                };
                let error = printable(&failing.failure.message);
                lines.push(
                    format!(
                        "{name}: {what} after {} attempts: {error}",
                        failing.attempts
                    )
                    .into(),
                );
            }
        }
    }
    if lines.is_empty() {
        lines.push("nothing".into());
    }
    lines
}

/// Names and errors come from files and servers: no control character of theirs reaches the
/// terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_size_panics() {
        for width in 0..=130 {
            for height in 0..=40 {
                overview(&[], &BTreeMap::new(), width, height);
            }
        }
    }

    #[test]
    fn a_frame_without_sources_says_so() {
        insta::assert_snapshot!(text(&overview(&[], &BTreeMap::new(), 60, 15)));
        insta::assert_snapshot!(text(&overview(&[], &BTreeMap::new(), 40, 5)));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\0"), "a\u{FFFD}[31mb\u{FFFD}");
    }
}
