//! Colours and symbols: the 16 colours that every terminal's owner has chosen, or none; Unicode, or ASCII. What a
//! colour says, a word or a symbol says too.

use engine::parity::compare::Standing;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::widgets::{Block, Borders};

use crate::model::{EventKind, Looks};
use crate::rows::{State, standing_word};

/// Corners and edges for terminals without box-drawing characters.
const ASCII_BORDER: border::Set<'_> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Columns of a bar, without its percent.
const BAR: usize = 12;

/// From nothing to the most.
const LEVELS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const ASCII_LEVELS: [&str; 8] = ["_", ".", ":", "-", "=", "+", "*", "#"];

impl Looks {
    /// A state's colour.
    pub fn state(self, state: State) -> Style {
        self.colour_of(match state {
            State::Stopped | State::Gap | State::Danger | State::Stalled => Color::Red,
            State::Paused | State::Failing => Color::Yellow,
            State::Archiving | State::New => Color::Cyan,
            State::Current => Color::Green,
        })
    }

    /// A state's symbol and word.
    pub fn state_words(self, state: State) -> String {
        format!("{} {}", self.symbol(state), state.word())
    }

    fn symbol(self, state: State) -> &'static str {
        match (state, self.ascii) {
            (State::Stopped | State::Gap | State::Danger | State::Stalled, false) => "✗",
            (State::Stopped | State::Gap | State::Danger | State::Stalled, true) => "x",
            (State::Paused, false) => "‖",
            (State::Paused, true) => "=",
            (State::Failing, _) => "!",
            (State::Archiving, false) => "↑",
            (State::Archiving, true) => "^",
            (State::New, false) => "·",
            (State::New, true) => "-",
            (State::Current, false) => "✓",
            (State::Current, true) => "*",
        }
    }

    /// A compared file's symbol, word and style.
    pub fn standing(self, standing: Standing) -> (String, Style) {
        let state = match standing {
            Standing::Matched => State::Current,
            Standing::Late => State::Failing,
            Standing::Pending => State::Archiving,
            Standing::Mismatched | Standing::OnlyCron | Standing::OnlyGtide => State::Gap,
        };
        let symbol = self.symbol(state);
        (
            format!("{symbol} {}", standing_word(standing)),
            self.state(state),
        )
    }

    /// Stands for text that is left out.
    pub fn left_out(self) -> &'static str {
        if self.ascii { ".." } else { "…" }
    }

    /// So much of a whole, as a bar and in percent.
    pub fn bar(self, done: u64, total: u64) -> String {
        let (full, empty) = if self.ascii {
            ("#", ".")
        } else {
            ("█", "░")
        };
        let percent = done.min(total).saturating_mul(100) / total.max(1);
        let filled = usize::try_from(percent).unwrap_or(0) * BAR / 100;
        format!(
            "{}{} {percent:>3}%",
            full.repeat(filled),
            empty.repeat(BAR.saturating_sub(filled))
        )
    }

    /// An event's symbol and style.
    pub fn event(self, kind: EventKind) -> (&'static str, Style) {
        match (kind, self.ascii) {
            (EventKind::Good, false) => ("✓", self.colour_of(Color::Green)),
            (EventKind::Good, true) => ("*", self.colour_of(Color::Green)),
            (EventKind::Bad, _) => ("!", self.colour_of(Color::Red)),
            (EventKind::Done, false) => ("→", self.strong()),
            (EventKind::Done, true) => (">", self.strong()),
        }
    }

    /// For what is old or lost.
    pub fn alarm(self) -> Style {
        self.colour_of(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// For headings.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// For what explains.
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// For the selected row: in the terminal's own colours, whatever they are.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A frame with a title.
    pub fn block(self, title: &str) -> Block<'static> {
        let set = if self.ascii {
            ASCII_BORDER
        } else {
            border::PLAIN
        };
        Block::new()
            .borders(Borders::ALL)
            .border_set(set)
            .border_style(self.faint())
            .title_style(self.strong())
            .title(format!(" {title} "))
    }

    /// Numbers as heights, the newest last.
    pub fn sparkline(self, numbers: impl DoubleEndedIterator<Item = u64>, width: usize) -> String {
        let levels = if self.ascii { ASCII_LEVELS } else { LEVELS };
        let mut newest: Vec<u64> = numbers.rev().take(width).collect();
        newest.reverse();
        let most = newest.iter().copied().max().unwrap_or(0).max(1);
        let level = |number: u64| {
            let at = number.saturating_mul(7).div_ceil(most);
            usize::try_from(at).ok().and_then(|at| levels.get(at))
        };
        newest.into_iter().filter_map(level).copied().collect()
    }

    fn colour_of(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}
