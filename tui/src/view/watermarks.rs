//! How far each source is archived, what its GTIDs are, how its server stands to that, and what the archivers hold on their
//! disks.

use engine::ledger::{AgentPicture, SILENT_AFTER};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget, Wrap};

use super::server;
use crate::model::Model;
use crate::rows::RouteRow;
use crate::words::{bytes, moment, printable, since, until};

/// From so many columns on, first file and head are shown.
const WIDE: u16 = 100;

/// From so many columns on, what the server may forget is shown.
const WIDER: u16 = 130;

/// Lines for the selected source's GTIDs, with the frame: where there is room, and where there is not.
const GTIDS: u16 = 5;
const FEW_GTIDS: u16 = 3;

/// From so many lines on, there is room.
const TALL: u16 = 30;

/// Lines for its server, with the frame, where there is no room.
const SERVER: u16 = 7;

/// Columns for what a line of the server's is about.
const LABEL: usize = 13;

/// Archivers that are listed here; `gtide status` lists all.
const MAX_AGENTS: usize = 4;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let agents = model.picture.as_ref().map_or(&[][..], |p| &p.agents);
    let agent_rows = u16::try_from(agents.len().clamp(1, MAX_AGENTS)).unwrap_or(1);
    // The frame and the headings; where there is no room, the table comes first.
    let agents_height = if area.height < 20 { 0 } else { agent_rows + 3 };
    let rows = model.routes();
    let selected = rows.get(model.cursor().row);
    let beside = selected.and_then(|row| row.server);
    let beside = beside.map_or_else(Vec::new, |state| server::lines(state, model.now));
    let wanted = u16::try_from(beside.len().max(1) + 2).unwrap_or(SERVER);
    let (gtids_height, server_height) = match area.height {
        TALL.. => (GTIDS, wanted.min(area.height / 3)),
        20.. => (FEW_GTIDS, wanted.min(SERVER)),
        _ => (FEW_GTIDS, 0),
    };
    let [top, middle, server, bottom] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(gtids_height),
        Constraint::Length(server_height),
        Constraint::Length(agents_height),
    ])
    .areas(area);
    positions(model, &rows, top, buffer);
    gtids(model, selected, middle, buffer);
    server_beside(model, selected, &beside, server, buffer);
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
    if area.width >= WIDER {
        header.extend(["May go up to", "Expires"]);
        widths.extend([Constraint::Length(17), Constraint::Length(10)]);
    }
    let lines = rows.iter().map(|row| {
        let position = row.route.and_then(|route| route.position.as_ref());
        let number = |value: Option<engine::layout::Sequence>| {
            Cell::new(value.map_or("-".to_owned(), |sequence| sequence.to_string()))
        };
        let through = position.and_then(|p| p.through).map(moment);
        let mut cells = vec![
            Cell::new(printable(row.name())),
            Cell::new(super::destination(model, row.url(), &widths, 1, area)),
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
        if area.width >= WIDER {
            let report = row.report();
            let purge = report.and_then(|report| report.purge.as_ref()?.up_to.as_deref());
            let expiry = report.and_then(|report| report.expiry.as_ref());
            cells.push(Cell::new(purge.map_or("-".to_owned(), printable)));
            let expires = expiry.map_or("-".to_owned(), |expiry| until(expiry.at, model.now));
            let style = match expiry {
                Some(expiry) if expiry.in_danger => model.looks.alarm(),
                _ => Style::new(),
            };
            cells.push(Cell::new(expires).style(style));
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

fn server_beside(
    model: &Model,
    row: Option<&RouteRow<'_>>,
    beside: &[(&'static str, String)],
    area: Rect,
    buffer: &mut Buffer,
) {
    let looks = model.looks;
    let name = row.map_or(String::new(), |row| {
        format!(" of {}", printable(row.name()))
    });
    let lines: Vec<Line<'_>> = beside
        .iter()
        .map(|(what, words)| {
            let is_loud = words.starts_with("DANGER") || *what == "SILENT";
            let style = if is_loud { looks.alarm() } else { Style::new() };
            Line::from(vec![
                Span::styled(format!("{what:<LABEL$}"), looks.faint()),
                Span::styled(words.as_str(), style),
            ])
        })
        .collect();
    let none = "No server is asked: the source names none (`mysql` in the configuration).";
    let lines = if lines.is_empty() {
        vec![Line::raw(none)]
    } else {
        lines
    };
    Paragraph::new(lines)
        .block(looks.block(&format!("Server{name}")))
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
        Constraint::Fill(1),
        Constraint::Length(15),
        Constraint::Length(15),
        Constraint::Length(27),
        Constraint::Length(10),
    ];
    let header = Row::new(["Host", "Pinned files", "Sealed files", "Free", "Heard of"]);
    let table = Table::new(lines, widths).header(header.style(looks.strong()));
    Widget::render(table.block(block), area, buffer);
}

fn files(number: u64, size: u64) -> String {
    match number {
        0 => "-".to_owned(),
        number => format!("{number}, {}", bytes(size)),
    }
}
