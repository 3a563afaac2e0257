//! One line for each source and destination, and below what is in the way.

use engine::ledger::{MAX_FILES_COUNTED, Recent, Route};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Widget, Wrap};

use crate::model::Model;
use crate::rows::{self, RouteRow};
use crate::words::{bytes, clock, printable, since, until};

/// From so many columns on, rate and size are shown.
const WIDE: u16 = 100;

/// From so many columns on, the next expiry and the sparkline are shown.
const WIDER: u16 = 130;

/// Columns of the sparkline.
const SPARKLINE: u16 = 20;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let findings = model.picture.as_ref();
    let findings = findings.map_or(Vec::new(), |p| rows::findings(p, model.now));
    // Two lines each and the frame, up to half of the screen.
    let wanted = u16::try_from(findings.len() * 2 + 2).unwrap_or(u16::MAX);
    let below = wanted.clamp(3, area.height / 2);
    let [top, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
    sources(model, top, buffer);
    in_the_way(model, &findings, bottom, buffer);
}

fn sources(model: &Model, area: Rect, buffer: &mut Buffer) {
    let mut header = vec![
        "Source",
        "Destination",
        "State",
        "Through",
        "Behind",
        "Waits",
    ];
    let mut widths = vec![
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    if area.width >= WIDE {
        header.extend(["Bytes", "Rate", "Queued"]);
        widths.extend([
            Constraint::Length(11),
            Constraint::Length(12),
            Constraint::Length(7),
        ]);
    }
    if area.width >= WIDER {
        header.extend(["Expires", "Files behind, lately"]);
        widths.extend([Constraint::Length(10), Constraint::Length(SPARKLINE)]);
    }
    let rows = model.routes();
    let rows = rows
        .iter()
        .map(|row| {
            let url = super::destination(model, row.url(), &widths, 1, area);
            line(model, row, url, area.width)
        })
        .collect();
    super::table(model, &header, widths, rows, area, buffer);
}

fn line(model: &Model, row: &RouteRow<'_>, url: String, width: u16) -> Row<'static> {
    let looks = model.looks;
    let route = row.route;
    let position = route.and_then(|route| route.position.as_ref());
    let through = position.and_then(|position| position.through);
    let through = through.map_or("-".to_owned(), |at| {
        if model.now.duration_since(at).as_hours().abs() < 20 {
            clock(at)
        } else {
            format!("{} ago", since(at, model.now))
        }
    });
    let backlog = route.map(|route| route.backlog).unwrap_or_default();
    let waits = backlog
        .since
        .map_or("-".to_owned(), |at| since(at, model.now));
    let mut cells = vec![
        Cell::new(printable(row.name())),
        Cell::new(url),
        Cell::new(looks.state_words(row.state)).style(looks.state(row.state)),
        Cell::new(through),
        Cell::new(row.behind().to_string()),
        Cell::new(waits),
    ];
    if width >= WIDE {
        let more = if backlog.files >= MAX_FILES_COUNTED {
            "> "
        } else {
            ""
        };
        let size = if backlog.files == 0 {
            "-".to_owned()
        } else {
            format!("{more}{}", bytes(backlog.bytes))
        };
        cells.push(Cell::new(size));
        cells.push(Cell::new(rate(route.map(|route| route.recent))));
        cells.push(Cell::new(route.map_or(0, |route| route.queued).to_string()));
    }
    if width >= WIDER {
        let expiry = row.report().and_then(|report| report.expiry.as_ref());
        let expires = expiry.map_or("-".to_owned(), |expiry| until(expiry.at, model.now));
        cells.push(Cell::new(expires));
        let history = route.and_then(|at| {
            model.history.get(&Route {
                source: row.source.id,
                destination: at.destination,
            })
        });
        let numbers = history.into_iter().flatten().copied().collect::<Vec<_>>();
        cells.push(Cell::new(
            looks.sparkline(numbers.into_iter(), usize::from(SPARKLINE)),
        ));
    }
    Row::new(cells)
}

fn rate(recent: Option<Recent>) -> String {
    match recent {
        Some(recent) if recent.files > 0 => {
            format!("{}/s", bytes(recent.bytes / recent.seconds.max(1)))
        }
        _ => "-".to_owned(),
    }
}

fn in_the_way(model: &Model, findings: &[rows::Finding], area: Rect, buffer: &mut Buffer) {
    let looks = model.looks;
    let mut lines = Vec::new();
    let room = usize::from(area.height.saturating_sub(2));
    let mut left = findings.len();
    for finding in findings {
        let style = looks.state(finding.state);
        if lines.len() + 2 > room.max(2) {
            break;
        }
        left -= 1;
        lines.push(Line::from(vec![
            Span::styled(looks.state_words(finding.state), style),
            Span::styled(format!(" {}: ", finding.about), looks.strong()),
            Span::raw(finding.text.clone()),
        ]));
        if let Some(hint) = &finding.hint {
            lines.push(Line::styled(format!("  hint: {hint}"), looks.faint()));
        }
    }
    if findings.is_empty() {
        lines.push("nothing".into());
    }
    let title = match left {
        0 => "In the way".to_owned(),
        left => format!("In the way, and {left} more"),
    };
    let mut widget = Paragraph::new(lines).block(looks.block(&title));
    // One alone may be read whole.
    if findings.len() == 1 {
        widget = widget.wrap(Wrap { trim: true });
    }
    widget.render(area, buffer);
}
