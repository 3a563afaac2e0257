//! The keys, as data: what is obeyed, the footer, the help and KEYS.md are all this one table.

use std::fmt::Write as _;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::model::Screen;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Leave.
    Quit,
    /// This screen.
    Show(Screen),
    /// The screen behind this one.
    NextScreen,
    /// The screen before this one.
    PreviousScreen,
    /// So many rows down, or up.
    Move(i32),
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// All that is known of the row.
    Open,
    /// Out of what is open, or no filter any more.
    Back,
    /// Type a filter.
    Filter,
    /// The next order.
    Sort,
    /// The keys.
    Help,
    /// Copy the row.
    Copy,
    /// Copy the command that plans a recovery to the row's point in time.
    CopyPlan,
    /// Try failed files now.
    Retry,
    /// Pause, or take a pause back.
    Pause,
}

/// One key, or several that ask for the same.
#[derive(Debug)]
pub struct Binding {
    /// The keys.
    pub keys: &'static [KeyCode],
    /// As they are called.
    pub label: &'static str,
    /// What they ask for.
    pub act: Act,
    /// In a word or two, for the footer; none for what is not shown there.
    pub short: Option<&'static str>,
    /// In a sentence.
    pub long: &'static str,
    /// On which screens.
    pub screens: &'static [Screen],
    /// It changes the queue: not with `--read-only`.
    pub changes: bool,
}

use KeyCode::{BackTab, Char, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up};

/// Rows of a page.
const PAGE: i32 = 10;

const ROUTES: &[Screen] = &[Screen::Overview, Screen::Watermarks];
const WORK: &[Screen] = &[
    Screen::Overview,
    Screen::Queue,
    Screen::Retries,
    Screen::Watermarks,
];
const ROWS: &[Screen] = &[
    Screen::Overview,
    Screen::Queue,
    Screen::Retries,
    Screen::Watermarks,
    Screen::Parity,
];

macro_rules! binding {
    ($keys:expr, $label:expr, $act:expr, $short:expr, $long:expr) => {
        binding!($keys, $label, $act, $short, $long, Screen::ALL, false)
    };
    ($keys:expr, $label:expr, $act:expr, $short:expr, $long:expr, $screens:expr, $changes:expr) => {
        Binding {
            keys: $keys,
            label: $label,
            act: $act,
            short: $short,
            long: $long,
            screens: $screens,
            changes: $changes,
        }
    };
}

/// Every key of every screen. Ctrl-C leaves as well, whatever is open.
pub const BINDINGS: &[Binding] = &[
    binding!(
        &[Char('q')],
        "q",
        Act::Quit,
        Some("quit"),
        "Leave; Ctrl-C does too, whatever is open"
    ),
    binding!(
        &[Char('?')],
        "?",
        Act::Help,
        Some("keys"),
        "Show the keys of this screen"
    ),
    binding!(
        &[Enter],
        "enter",
        Act::Open,
        Some("detail"),
        "Everything known of the row",
        ROWS,
        false
    ),
    binding!(
        &[Esc],
        "esc",
        Act::Back,
        None,
        "Close what is open; then drop the filter"
    ),
    binding!(
        &[Char('r')],
        "r",
        Act::Retry,
        Some("retry"),
        "Try failed files now: the source's, or the lane's",
        WORK,
        true
    ),
    binding!(
        &[Char('p')],
        "p",
        Act::Pause,
        Some("pause"),
        "Pause the source, or the lane; or take the pause back",
        WORK,
        true
    ),
    binding!(
        &[Char('c')],
        "c",
        Act::CopyPlan,
        Some("copy plan"),
        "Copy the command that plans a recovery to this row's point in time",
        ROUTES,
        false
    ),
    binding!(
        &[Char('y')],
        "y",
        Act::Copy,
        Some("copy"),
        "Copy the row, or what is open, to the clipboard (OSC 52)"
    ),
    binding!(
        &[Char('/')],
        "/",
        Act::Filter,
        Some("filter"),
        "Only rows that contain a text; enter keeps it, esc drops it"
    ),
    binding!(
        &[Char('s')],
        "s",
        Act::Sort,
        Some("sort"),
        "Another order",
        ROWS,
        false
    ),
    binding!(
        &[Char('1')],
        "1",
        Act::Show(Screen::Overview),
        None,
        "Overview: how far each source is archived, and what is in the way"
    ),
    binding!(
        &[Char('2')],
        "2",
        Act::Show(Screen::Queue),
        None,
        "Queue: the lanes and their first files"
    ),
    binding!(
        &[Char('3')],
        "3",
        Act::Show(Screen::Retries),
        None,
        "Retries: what failed, why, and when it is tried again"
    ),
    binding!(
        &[Char('4')],
        "4",
        Act::Show(Screen::Watermarks),
        None,
        "Watermarks: positions, GTIDs, the server beside, spools and pins"
    ),
    binding!(
        &[Char('5')],
        "5",
        Act::Show(Screen::Parity),
        None,
        "Parity: the parallel run beside an older job, file by file"
    ),
    binding!(
        &[Char('6')],
        "6",
        Act::Show(Screen::Events),
        None,
        "Events: what this console saw happen, and what it did"
    ),
    binding!(
        &[Tab, Right, Char('l')],
        "tab, l, right",
        Act::NextScreen,
        None,
        "The next screen"
    ),
    binding!(
        &[BackTab, Left, Char('h')],
        "shift-tab, h, left",
        Act::PreviousScreen,
        None,
        "The screen before"
    ),
    binding!(&[Down, Char('j')], "j, down", Act::Move(1), None, "Down"),
    binding!(&[Up, Char('k')], "k, up", Act::Move(-1), None, "Up"),
    binding!(&[PageDown], "page down", Act::Move(PAGE), None, "Ten down"),
    binding!(&[PageUp], "page up", Act::Move(-PAGE), None, "Ten up"),
    binding!(
        &[Char('g'), Home],
        "g, home",
        Act::First,
        None,
        "To the first row"
    ),
    binding!(
        &[Char('G'), End],
        "G, end",
        Act::Last,
        None,
        "To the last row"
    ),
];

/// The keys that are obeyed on a screen.
pub fn valid(screen: Screen, read_only: bool) -> impl Iterator<Item = &'static Binding> {
    let bindings = BINDINGS.iter();
    bindings.filter(move |b| b.screens.contains(&screen) && !(read_only && b.changes))
}

/// What a key asks for on a screen.
pub fn act(screen: Screen, read_only: bool, key: KeyEvent) -> Option<Act> {
    if key
        .modifiers
        .intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
    {
        return None;
    }
    let found = valid(screen, read_only).find(|binding| binding.keys.contains(&key.code));
    found.map(|binding| binding.act)
}

/// KEYS.md.
pub fn markdown() -> String {
    let mut text = "# Keys of gtide-tui\n\n`gtide-tui --keys` prints this table.\n\n\
                    | key | | on |\n|---|---|---|\n"
        .to_owned();
    for binding in BINDINGS {
        let screens = if binding.screens == Screen::ALL {
            "every screen".to_owned()
        } else {
            let titles: Vec<&str> = binding.screens.iter().map(|s| s.title()).collect();
            titles.join(", ")
        };
        let note = if binding.changes {
            " (not with `--read-only`)"
        } else {
            ""
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {}{note} | {screens} |",
            binding.label, binding.long
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_md_is_this_table() {
        assert_eq!(
            include_str!("../KEYS.md"),
            markdown(),
            "gtide-tui --keys > tui/KEYS.md"
        );
    }

    #[test]
    fn no_key_means_two_things_on_one_screen() {
        for &screen in Screen::ALL {
            let keys: Vec<KeyCode> = valid(screen, false)
                .flat_map(|binding| binding.keys.iter().copied())
                .collect();
            for (at, key) in keys.iter().enumerate() {
                assert!(!keys[..at].contains(key), "{key:?} on {}", screen.title());
            }
        }
    }

    #[test]
    fn a_console_that_only_reads_has_no_key_that_changes() {
        for &screen in Screen::ALL {
            assert!(valid(screen, true).all(|binding| !binding.changes));
        }
    }
}
