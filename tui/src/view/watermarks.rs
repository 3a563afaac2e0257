//! How far each source is archived, what its GTIDs are, and what the archivers hold on their disks.

use engine::ledger::{AgentPicture, SILENT_AFTER};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget, Wrap};

use crate::model::Model;
use crate::rows::RouteRow;
use crate::words::{bytes, count, moment, printable, since};

/// From so many columns on, first file and head are shown.
const WIDE: u16 = 100;

/// Lines for the selected source's GTIDs.
const GTIDS: u16 = 5;

/// Archivers that are listed here; `gtide status` lists all.
const MAX_AGENTS: usize = 4;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let agents = model.picture.as_ref().map_or(&[][..], |p| &p.agents);
    let agent_rows = u16::try_from(agents.len().clamp(1, MAX_AGENTS)).unwrap_or(1);
    // The frame and the headings; where there is no room, the table comes first.
    let agents_height = if area.height < 20 { 0 } else { agent_rows + 3 };
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(GTIDS),
        Constraint::Length(agents_height),
    ])
    .areas(area);
    let rows = model.routes();
    positions(model, &rows, top, buffer);
    gtids(model, rows.get(model.cursor().row), middle, buffer);
    spools(model, agents, bottom, buffer);
}

fn positions(model: &Model, rows: &[RouteRow<'_>], area: Rect, buffer: &mut Buffer) {
    let is_wide = area.width >= WIDE;
    let mut header = vec![
        "Source",
        "Destination",
        "Watermark",
        "Newest",
        "Archived through",
    ];
    let mut widths = vec![
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(20),
    ];
    if is_wide {
        header.extend(["Its file", "First", "Head"]);
        widths.extend([
            Constraint::Fill(2),
            Constraint::Length(10),
            Constraint::Length(10),
        ]);
    }
    let lines = rows.iter().map(|row| {
        let position = row.route.and_then(|route| route.position.as_ref());
        let number = |value: Option<engine::layout::Sequence>| {
            Cell::new(value.map_or("-".to_owned(), |sequence| sequence.to_string()))
        };
        let through = position.and_then(|p| p.through).map(moment);
        let mut cells = vec![
            Cell::new(printable(row.name())),
            Cell::new(printable(row.url())),
            number(position.map(|p| p.watermark)).style(model.looks.state(row.state)),
            number(row.source.newest),
            Cell::new(through.unwrap_or_else(|| "-".to_owned())),
        ];
        if is_wide {
            let name = position.and_then(|p| p.file_name.as_deref());
            cells.push(Cell::new(name.map_or("-".to_owned(), printable)));
            cells.push(number(position.map(|p| p.first)));
            cells.push(number(position.map(|p| p.head)));
        }
        Row::new(cells)
    });
    let lines = lines.collect();
    super::table(model, &header, widths, lines, area, buffer);
}

fn gtids(model: &Model, row: Option<&RouteRow<'_>>, area: Rect, buffer: &mut Buffer) {
    let position = row.and_then(|row| row.route?.position.as_ref());
    let gtids = position.and_then(|position| position.gtids.as_deref());
    let words = match (gtids, position) {
        (Some(gtids), _) => printable(gtids),
        (None, Some(_)) => "none: these files hold no GTIDs".to_owned(),
        (None, None) => "nothing is archived yet".to_owned(),
    };
    let name = row.map_or(String::new(), |row| {
        format!(" of {}", printable(row.name()))
    });
    Paragraph::new(words)
        .wrap(Wrap { trim: true })
        .block(
            model
                .looks
                .block(&format!("Archived GTIDs{name}, up to its head")),
        )
        .render(area, buffer);
}

fn spools(model: &Model, agents: &[AgentPicture], area: Rect, buffer: &mut Buffer) {
    let looks = model.looks;
    let title = match agents.len().saturating_sub(MAX_AGENTS) {
        0 => "Archivers and their spools".to_owned(),
        more => format!("Archivers and their spools, and {more} more"),
    };
    let block = looks.block(&title);
    if agents.is_empty() {
        Paragraph::new(Line::raw("No archiver is at work with this database."))
            .block(block)
            .render(area, buffer);
        return;
    }
    let lines = agents.iter().take(MAX_AGENTS).map(|agent| {
        let report = &agent.report;
        let silent = model.now.duration_since(agent.seen) > SILENT_AFTER;
        let seen = format!("{} ago", since(agent.seen, model.now));
        let style = if silent { looks.alarm() } else { looks.faint() };
        let free = report.paused.as_ref().map_or_else(
            || bytes(report.free_bytes),
            |waits| {
                let needed = bytes(waits.needed_bytes);
                format!("{}, waits for {needed}", bytes(report.free_bytes))
            },
        );
        Row::new(vec![
            Cell::new(printable(&report.host)),
            Cell::new(files(report.pinned_files, report.pinned_bytes)),
            Cell::new(files(report.sealed_files, report.sealed_bytes)),
            Cell::new(free),
            Cell::new(seen).style(style),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(12),
    ];
    let header = Row::new(["Host", "Pinned", "Sealed", "Free", "Heard of"]);
    let table = Table::new(lines, widths).header(header.style(looks.strong()));
    Widget::render(table.block(block), area, buffer);
}

fn files(number: u64, size: u64) -> String {
    match number {
        0 => "-".to_owned(),
        number => format!("{}, {}", count(number, "file", "files"), bytes(size)),
    }
}
