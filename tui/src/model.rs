//! What the console knows and shows: one value, changed by [`update`](crate::update::update) alone, read by
//! [`view`](crate::view) alone.

use std::collections::{BTreeMap, VecDeque};

use engine::ledger::{FileKey, Pause, Picture, QueueScope, Route};
use jiff::Timestamp;

use crate::rows::{self, JobRow, ParityRow, RouteRow, State};

/// Events that are kept; the oldest go first.
pub const MAX_EVENTS: usize = 1_000;

/// Pictures of which a route's files behind are kept, for the sparkline.
pub const MAX_HISTORY: usize = 60;

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Screen {
    /// How far each source is archived, and what is in the way.
    Overview,
    /// The lanes and their first files.
    Queue,
    /// What failed.
    Retries,
    /// Positions, GTIDs, servers, spools.
    Watermarks,
    /// The parallel run beside an older job.
    Parity,
    /// What happened.
    Events,
}

/// Where the picture comes from, and how old it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// None was seen yet.
    Connecting,
    /// Each is followed by the next.
    Live,
    /// The database cannot be read; the last picture stays.
    Lost {
        /// Since when.
        since: Timestamp,
        /// Why.
        error: String,
    },
    /// A recorded one, which stays as it is.
    Replay,
}

/// What lies over the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// The keys.
    Help,
    /// A change that waits for a yes.
    Confirm(Order),
    /// Everything known of a row.
    Detail(Detail),
}

/// A change that a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub change: Change,
    /// What it touches, in words.
    pub touches: String,
    /// What it means.
    pub means: String,
}

/// What can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Failed files are due now.
    Retry(QueueScope),
    /// No new files are taken.
    Pause(Pause),
    /// Pauses are taken back.
    Resume(QueueScope),
}

/// Everything known of a row, as lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// About what.
    pub title: String,
    /// What, and its value.
    pub lines: Vec<(String, String)>,
    /// The file whose record is still to come.
    pub awaits: Option<FileKey>,
    /// Lines that are scrolled away.
    pub scroll: u16,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When this console saw it.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: EventKind,
    /// About what.
    pub about: String,
    /// What happened.
    pub text: String,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// As it should be.
    Good,
    /// A person should know.
    Bad,
    /// Somebody at a console did it.
    Done,
}

/// What a person has chosen on one screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The row.
    pub row: usize,
    /// The order, as an index into [`Screen::orders`].
    pub order: usize,
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// In colour.
    pub colour: bool,
    /// With nothing but ASCII.
    pub ascii: bool,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The last picture.
    pub picture: Option<Picture>,
    /// Where it comes from.
    pub link: Link,
    /// The time, as last told.
    pub now: Timestamp,
    /// Nothing can be changed from here.
    pub read_only: bool,
    /// Who sits here.
    pub operator: String,
    /// How it is drawn.
    pub looks: Looks,
    /// What is looked at.
    pub screen: Screen,
    /// One for each screen, in their order.
    pub cursors: [Cursor; Screen::ALL.len()],
    /// Only rows with this text.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// What lies over the screen.
    pub overlay: Option<Overlay>,
    /// What happened, the newest first.
    pub events: VecDeque<Event>,
    /// Files behind, of each route, the newest last.
    pub history: BTreeMap<Route, VecDeque<u64>>,
    /// One line about the last thing that was asked for.
    pub note: Option<String>,
    /// It is time to leave.
    pub over: bool,
}

impl Screen {
    /// In the order of their digits.
    pub const ALL: &'static [Self; 6] = &[
        Self::Overview,
        Self::Queue,
        Self::Retries,
        Self::Watermarks,
        Self::Parity,
        Self::Events,
    ];

    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Queue => "Queue",
            Self::Retries => "Retries",
            Self::Watermarks => "Watermarks",
            Self::Parity => "Parity",
            Self::Events => "Events",
        }
    }

    /// Its place among all of them.
    pub fn index(self) -> usize {
        self as usize
    }

    /// What its rows can be ordered by; the first one is how it begins.
    pub fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Overview | Self::Watermarks => &["name", "worst first", "most behind first"],
            Self::Queue => &["lane", "running first"],
            Self::Retries => &["next try", "most attempts first", "name"],
            Self::Parity => &["worst first", "name"],
            Self::Events => &["newest first"],
        }
    }

    /// The screen so many places further, around the end.
    pub fn step(self, by: isize) -> Self {
        let len = Self::ALL.len().cast_signed();
        let at = (self.index().cast_signed() + by).rem_euclid(len);
        let at = Self::ALL.get(at.unsigned_abs());
        at.copied().unwrap_or(self)
    }
}

impl Model {
    /// Before the first picture.
    pub fn new(now: Timestamp, looks: Looks, read_only: bool, operator: String) -> Self {
        Self {
            picture: None,
            link: Link::Connecting,
            now,
            read_only,
            operator,
            looks,
            screen: Screen::Overview,
            cursors: <[Cursor; Screen::ALL.len()]>::default(),
            filter: String::new(),
            typing: false,
            overlay: None,
            events: VecDeque::new(),
            history: BTreeMap::new(),
            note: None,
            over: false,
        }
    }

    /// The cursor of the screen that is looked at.
    pub fn cursor(&self) -> Cursor {
        self.cursors
            .get(self.screen.index())
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn cursor_mut(&mut self) -> Option<&mut Cursor> {
        self.cursors.get_mut(self.screen.index())
    }

    /// The rows of Overview and Watermarks, filtered and in order.
    pub fn routes(&self) -> Vec<RouteRow<'_>> {
        let Some(picture) = &self.picture else {
            return Vec::new();
        };
        let mut rows = rows::routes(picture, &self.filter);
        match self.cursor().order {
            1 => rows.sort_by_key(|row| row.state),
            2 => rows.sort_by_key(|row| std::cmp::Reverse(row.behind())),
            _ => {}
        }
        rows
    }

    /// The rows of Queue, or of Retries, filtered and in order.
    pub fn jobs(&self) -> Vec<JobRow<'_>> {
        let Some(picture) = &self.picture else {
            return Vec::new();
        };
        if self.screen == Screen::Retries {
            let mut rows = rows::retries(picture, &self.filter);
            match self.cursor().order {
                1 => rows.sort_by_key(|row| std::cmp::Reverse(row.job.attempts)),
                2 => rows.sort_by_key(JobRow::name),
                _ => rows.sort_by_key(|row| row.job.run_at),
            }
            return rows;
        }
        let mut rows = rows::jobs(picture, &self.filter);
        if self.cursor().order == 1 {
            rows.sort_by_key(|row| row.job.status != engine::ledger::JobStatus::Running);
        }
        rows
    }

    /// The rows of Parity, filtered and in order.
    pub fn parity(&self) -> Vec<ParityRow<'_>> {
        let Some(picture) = &self.picture else {
            return Vec::new();
        };
        let mut rows = rows::parity(picture, &self.filter);
        if self.cursor().order == 1 {
            rows.sort_by(|a, b| a.order().cmp(&b.order()));
        }
        rows
    }

    /// Events with the filter's text.
    pub fn events(&self) -> Vec<&Event> {
        let filter = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&filter);
        let events = self.events.iter();
        events
            .filter(|event| filter.is_empty() || has(&event.about) || has(&event.text))
            .collect()
    }

    /// How many rows the screen has.
    pub fn len(&self) -> usize {
        match self.screen {
            Screen::Overview | Screen::Watermarks => self.routes().len(),
            Screen::Queue | Screen::Retries => self.jobs().len(),
            Screen::Parity => self.parity().len(),
            Screen::Events => self.events().len(),
        }
    }

    /// Nothing to select.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The worst that stands, for the headline.
    pub fn worst(&self) -> Option<State> {
        let picture = self.picture.as_ref()?;
        let rows = rows::routes(picture, "");
        let findings = rows::findings(picture, self.now);
        let states = rows.iter().map(|row| row.state);
        states.chain(findings.iter().map(|f| f.state)).min()
    }
}
