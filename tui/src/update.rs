//! Every change of the model, by one message after the other. No I/O, no clock: what has to be done outside is
//! returned as effects.

mod detail;
mod happened;
mod orders;

use engine::ledger::{FileKey, FileRow, Picture};
use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::keys::{self, Act};
use crate::model::{Change, Link, Model, Overlay, Screen};
use crate::words::printable;

/// A filter has no more characters than this.
const MAX_FILTER: usize = 64;

/// Something to react to.
#[derive(Debug, Clone)]
pub enum Message {
    /// A key.
    Key(KeyEvent),
    /// The time.
    Tick(Timestamp),
    /// The database was read.
    Seen(Box<Picture>),
    /// It could not be read.
    Lost(String),
    /// A change was made, or not.
    Changed(Change, Result<u64, String>),
    /// A file's record was read, or not.
    File(FileKey, Result<Option<FileRow>, String>),
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Change the queue.
    Change(Change),
    /// Read a file's record.
    ReadFile(FileKey),
    /// Put text into the terminal's clipboard.
    Copy(String),
}

/// Reacts to one message.
pub fn update(model: &mut Model, message: Message) -> Vec<Effect> {
    let effects = match message {
        Message::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
        Message::Key(key) => pressed(model, key),
        Message::Tick(now) => {
            model.now = now;
            Vec::new()
        }
        Message::Seen(picture) => {
            happened::seen(model, *picture);
            Vec::new()
        }
        Message::Lost(error) => {
            lost(model, &error);
            Vec::new()
        }
        Message::Changed(change, outcome) => {
            orders::changed(model, &change, &outcome);
            Vec::new()
        }
        Message::File(key, outcome) => {
            detail::add_file(model, key, &outcome);
            Vec::new()
        }
    };
    clamp(model);
    effects
}

fn lost(model: &mut Model, error: &str) {
    let error = printable(error);
    let since = if let Link::Lost { since, .. } = &model.link {
        *since
    } else {
        happened::bad(model, "database", &error);
        model.now
    };
    model.link = Link::Lost { since, error };
}

fn clamp(model: &mut Model) {
    let last = model.len().saturating_sub(1);
    let orders = model.screen.orders().len();
    if let Some(cursor) = model.cursor_mut() {
        cursor.row = cursor.row.min(last);
        cursor.order = cursor.order.min(orders.saturating_sub(1));
    }
}

fn pressed(model: &mut Model, key: KeyEvent) -> Vec<Effect> {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        model.over = true;
        return Vec::new();
    }
    if model.typing {
        type_filter(model, key);
        return Vec::new();
    }
    model.note = None;
    match model.overlay.take() {
        Some(Overlay::Confirm(order)) => return answered(model, order, key),
        Some(Overlay::Help) => return Vec::new(),
        Some(Overlay::Detail(detail)) => return detail::pressed(model, detail, key),
        None => {}
    }
    match keys::act(model.screen, model.read_only, key) {
        Some(act) => do_act(model, act),
        None => Vec::new(),
    }
}

/// A change is made by `y` or enter; anything else is a no.
fn answered(model: &mut Model, order: crate::model::Order, key: KeyEvent) -> Vec<Effect> {
    match key.code {
        KeyCode::Char('y') | KeyCode::Enter => {
            model.note = Some(format!("{} ...", order.touches));
            vec![Effect::Change(order.change)]
        }
        _ => {
            model.note = Some("nothing was changed".to_owned());
            Vec::new()
        }
    }
}

fn type_filter(model: &mut Model, key: KeyEvent) {
    match key.code {
        KeyCode::Enter => model.typing = false,
        KeyCode::Esc => {
            model.typing = false;
            model.filter.clear();
        }
        KeyCode::Backspace => drop(model.filter.pop()),
        KeyCode::Char(c) if !c.is_control() && model.filter.chars().count() < MAX_FILTER => {
            model.filter.push(c);
        }
        _ => {}
    }
}

fn do_act(model: &mut Model, act: Act) -> Vec<Effect> {
    match act {
        Act::Quit => model.over = true,
        Act::Show(screen) => model.screen = screen,
        Act::NextScreen => model.screen = model.screen.step(1),
        Act::PreviousScreen => model.screen = model.screen.step(-1),
        Act::Move(by) => step(model, by),
        Act::First => step(model, i32::MIN),
        Act::Last => step(model, i32::MAX),
        Act::Back => model.filter.clear(),
        Act::Filter => model.typing = true,
        Act::Sort => sort(model),
        Act::Help => model.overlay = Some(Overlay::Help),
        Act::Open => return detail::open(model),
        Act::Copy => return copy(model),
        Act::CopyPlan => return copy_plan(model),
        Act::Retry => orders::ask_retry(model),
        Act::Pause => orders::ask_pause(model),
    }
    Vec::new()
}

fn step(model: &mut Model, by: i32) {
    let last = model.len().saturating_sub(1);
    if let Some(cursor) = model.cursor_mut() {
        let by = isize::try_from(by).unwrap_or(0);
        cursor.row = cursor.row.saturating_add_signed(by).min(last);
    }
}

fn sort(model: &mut Model) {
    let orders = model.screen.orders().len().max(1);
    if let Some(cursor) = model.cursor_mut() {
        cursor.order = (cursor.order + 1) % orders;
        cursor.row = 0;
    }
}

fn copy(model: &mut Model) -> Vec<Effect> {
    let row = model.cursor().row;
    let text = match model.screen {
        Screen::Events => model.events().get(row).map(|event| {
            let (about, text) = (&event.about, &event.text);
            format!("{} {about}: {text}", crate::words::moment(event.at))
        }),
        _ => detail::of_row(model).map(|detail| detail::text(&detail)),
    };
    copied(model, text, "nothing to copy")
}

fn copy_plan(model: &mut Model) -> Vec<Effect> {
    let row = model.cursor().row;
    let through = model.routes().get(row).and_then(|row| {
        let position = row.route?.position.as_ref()?;
        position.through
    });
    let command = through.map(|at| format!("gtide-restore plan --to-time {at}"));
    copied(
        model,
        command,
        "no plan: the file at the watermark has no transaction with a commit time",
    )
}

fn copied(model: &mut Model, text: Option<String>, otherwise: &str) -> Vec<Effect> {
    let Some(text) = text else {
        model.note = Some(otherwise.to_owned());
        return Vec::new();
    };
    let first = text.lines().next().unwrap_or_default();
    model.note = Some(format!("copied: {first}"));
    vec![Effect::Copy(text)]
}

#[cfg(test)]
mod tests;
