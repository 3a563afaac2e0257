//! What every lane is doing, in one place: turns, wake-ups and rest are answered from it.
//!
//! A plain value behind one lock (a watch channel), so that each answer is about one moment. It holds nothing
//! that the database does not: after a restart the lanes fill it again. A lane has a seat for as long as it runs.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::layout::Sequence;
use crate::ledger::{FileKey, LaneName, LastFailure, Route, SourceId};

/// Consecutive failures of a lane's worker after which the lane no longer counts as about to work: the
/// database is gone, not busy.
pub const RESTARTS_UNTIL_DOWN: u32 = 5;

/// How the lanes came to rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Jobs done since the queue was opened.
    pub done: u64,
    /// Files that a person must look at, by lane.
    pub stalled: Vec<StalledFile>,
    /// Files that wait for a stalled one, not counting those queued behind them.
    pub waiting: Vec<(Route, Sequence)>,
    /// Lanes that have something to do and are paused.
    pub paused: Vec<LaneName>,
    /// Lanes whose worker cannot reach the database, with its last error.
    pub down: Vec<(LaneName, String)>,
}

/// A file that only slow retries are left for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StalledFile {
    /// From and to.
    pub route: Route,
    /// Which.
    pub sequence: Sequence,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Why.
    pub failure: LastFailure,
}

impl Settled {
    /// Everything that was queued is archived.
    pub fn is_clean(&self) -> bool {
        self.stalled.is_empty()
            && self.waiting.is_empty()
            && self.paused.is_empty()
            && self.down.is_empty()
    }
}

/// What one lane is doing.
#[derive(Debug)]
pub(super) enum LaneState {
    /// About to look at its queue.
    Looking,
    /// Nothing is queued.
    Empty,
    /// A job is with the handler.
    Working,
    /// A job is with the handler, which waits until `until` is committed.
    Waiting {
        sequence: Sequence,
        until: Sequence,
        preempt: CancellationToken,
    },
    /// The head failed and is not due yet.
    BackingOff,
    /// The head is due, and a person stopped the lane.
    Paused,
    /// The head is stalled and not due yet.
    Stalled(StalledFile),
    /// The worker failed and will be built again.
    Down { error: String, restarts: u32 },
}

#[derive(Debug)]
struct Seat {
    state: LaneState,
    /// Counts reasons to look at the queue again.
    calls: u64,
    /// The worker's failures since it last did its work or found none.
    restarts: u32,
}

impl LaneState {
    /// Both are a rest, and the same one.
    fn is_same_rest(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty)
            | (Self::BackingOff, Self::BackingOff)
            | (Self::Paused, Self::Paused) => true,
            (Self::Stalled(one), Self::Stalled(other)) => {
                (one.sequence, one.attempts) == (other.sequence, other.attempts)
            }
            _ => false,
        }
    }
}

/// All lanes of a running queue, and how far each route is committed.
#[derive(Debug, Default)]
pub(super) struct Board {
    done: BTreeMap<Route, u64>,
    seats: BTreeMap<LaneName, Seat>,
    heads: BTreeMap<Route, Sequence>,
}

impl Board {
    /// These lanes run from now on. None do when one of them runs already: it is returned.
    pub(super) fn start(&mut self, lanes: &[LaneName]) -> Option<LaneName> {
        if let Some(taken) = lanes.iter().find(|lane| self.seats.contains_key(lane)) {
            return Some(*taken);
        }
        self.seats.extend(lanes.iter().map(|lane| {
            let seat = Seat {
                state: LaneState::Looking,
                calls: 0,
                restarts: 0,
            };
            (*lane, seat)
        }));
        None
    }

    /// These lanes run no longer.
    pub(super) fn stop(&mut self, lanes: &[LaneName]) {
        self.seats.retain(|lane, _| !lanes.contains(lane));
    }

    /// What a lane is doing now.
    pub(super) fn set(&mut self, lane: LaneName, state: LaneState) {
        if let Some(seat) = self.seats.get_mut(&lane) {
            seat.state = state;
        }
    }

    /// The number of calls so far; a lane asks before it looks at its queue.
    pub(super) fn calls(&self, lane: LaneName) -> u64 {
        self.seats.get(&lane).map_or(0, |seat| seat.calls)
    }

    /// A lane found nothing to do when it looked; not believed when it was called since. Says whether that is news: what
    /// every lane says again and again need not wake all the others.
    pub(super) fn rest(&mut self, lane: LaneName, seen: u64, state: LaneState) -> bool {
        let Some(seat) = self.seats.get_mut(&lane) else {
            return false;
        };
        let mut is_news = std::mem::take(&mut seat.restarts) > 0;
        if seat.calls == seen {
            is_news |= !seat.state.is_same_rest(&state);
            seat.state = state;
        }
        is_news
    }

    /// A lane made its job's outcome durable. Taking a job proves nothing: a full disk shows only here.
    pub(super) fn acknowledged(&mut self, lane: LaneName) {
        if let Some(seat) = self.seats.get_mut(&lane) {
            seat.restarts = 0;
        }
    }

    /// A job was queued: its lane must look. A lane whose handler only waits for its turn lets go of its job
    /// when the new one comes before it, or both would wait for each other.
    pub(super) fn call(&mut self, lane: LaneName, queued: Sequence) {
        let Some(seat) = self.seats.get_mut(&lane) else {
            return;
        };
        seat.calls += 1;
        match &seat.state {
            LaneState::Waiting {
                sequence, preempt, ..
            } if queued < *sequence => preempt.cancel(),
            LaneState::Empty
            | LaneState::BackingOff
            | LaneState::Paused
            | LaneState::Stalled(_) => seat.state = LaneState::Looking,
            _ => {}
        }
    }

    /// Every lane of a source must look.
    pub(super) fn call_all(&mut self, source: SourceId) {
        let of_source = |(lane, _): &(&LaneName, &mut Seat)| lane.route.source == source;
        for (_, seat) in self.seats.iter_mut().filter(of_source) {
            seat.calls += 1;
            if let LaneState::Empty
            | LaneState::BackingOff
            | LaneState::Paused
            | LaneState::Stalled(_) = seat.state
            {
                seat.state = LaneState::Looking;
            }
        }
    }

    /// A lane's worker failed, so many times in a row.
    pub(super) fn down(&mut self, lane: LaneName, error: String) -> u32 {
        let Some(seat) = self.seats.get_mut(&lane) else {
            return 0;
        };
        seat.restarts = seat.restarts.saturating_add(1);
        let restarts = seat.restarts;
        seat.state = LaneState::Down { error, restarts };
        restarts
    }

    /// A file is committed: its acknowledgement is durable.
    pub(super) fn committed(&mut self, route: Route, sequence: Sequence) {
        *self.done.entry(route).or_default() += 1;
        self.set_head(route, sequence);
    }

    /// Files committed since the queue was opened, on all routes.
    pub(super) fn done(&self) -> u64 {
        self.done.values().sum()
    }

    /// A file will never be committed: whoever waits for it must look again for whom to wait.
    pub(super) fn forget(&mut self, file: FileKey) {
        for (lane, seat) in &self.seats {
            if let LaneState::Waiting { until, preempt, .. } = &seat.state
                && lane.route.source == file.source
                && *until == file.sequence
            {
                preempt.cancel();
            }
        }
    }

    /// How far a route is committed, as the ledger says.
    pub(super) fn set_head(&mut self, route: Route, sequence: Sequence) {
        let head = self.heads.entry(route).or_insert(sequence);
        *head = sequence.max(*head);
    }

    /// Whether `until` or a later file is committed.
    pub(super) fn reached(&self, route: Route, until: Sequence) -> bool {
        self.heads.get(&route).is_some_and(|head| *head >= until)
    }

    /// How the lanes of these routes rest, or none when one of them is about to do something or does not run.
    pub(super) fn settled(&self, routes: &[Route]) -> Option<Settled> {
        let mut settled = Settled::default();
        for route in routes {
            settled.done += self.done.get(route).copied().unwrap_or(0);
            if !self.seats.keys().any(|lane| lane.route == *route) {
                return None;
            }
        }
        let asked = |(lane, _): &(&LaneName, &Seat)| routes.contains(&lane.route);
        for (lane, seat) in self.seats.iter().filter(asked) {
            match &seat.state {
                LaneState::Looking | LaneState::Working | LaneState::BackingOff => return None,
                LaneState::Empty => {}
                LaneState::Paused => settled.paused.push(*lane),
                LaneState::Stalled(file) => settled.stalled.push(file.clone()),
                LaneState::Waiting {
                    sequence,
                    until,
                    preempt,
                } => {
                    if self.reached(lane.route, *until) || preempt.is_cancelled() {
                        return None;
                    }
                    settled.waiting.push((lane.route, *sequence));
                }
                LaneState::Down { restarts, .. } if *restarts < RESTARTS_UNTIL_DOWN => return None,
                LaneState::Down { error, .. } => settled.down.push((*lane, error.clone())),
            }
        }
        Some(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::DestinationId;
    use crate::retry::RetryClass;

    const ROUTE: Route = Route {
        source: SourceId(1),
        destination: DestinationId(1),
    };

    fn lane(lane: u32) -> LaneName {
        LaneName { route: ROUTE, lane }
    }

    fn board(lanes: u32) -> Board {
        let mut board = Board::default();
        let lanes: Vec<LaneName> = (0..lanes).map(lane).collect();
        assert_eq!(board.start(&lanes), None);
        board
    }

    fn stalled(sequence: u64) -> LaneState {
        LaneState::Stalled(StalledFile {
            route: ROUTE,
            sequence: Sequence(sequence),
            attempts: 5,
            failure: LastFailure {
                message: "access denied".to_owned(),
                class: RetryClass::Never,
                stalled: true,
                exit: crate::exit::Exit::Transient,
                hint: None,
                interruptions: 0,
            },
        })
    }

    fn waiting(sequence: u64) -> LaneState {
        LaneState::Waiting {
            sequence: Sequence(sequence),
            until: Sequence(sequence - 1),
            preempt: CancellationToken::new(),
        }
    }

    #[test]
    fn lanes_rest_only_when_none_is_about_to_work() {
        let mut board = board(3);
        assert!(
            board.settled(&[ROUTE]).is_none(),
            "they have not looked yet"
        );
        board.set(lane(0), LaneState::Empty);
        board.set(lane(1), stalled(4));
        board.set(lane(2), waiting(5));
        let settled = board.settled(&[ROUTE]).unwrap();
        assert_eq!(settled.stalled[0].sequence, Sequence(4));
        assert_eq!(settled.waiting, [(ROUTE, Sequence(5))]);
        assert!(!settled.is_clean());
        for state in [
            LaneState::Working,
            LaneState::BackingOff,
            LaneState::Looking,
        ] {
            board.set(lane(0), state);
            assert!(board.settled(&[ROUTE]).is_none());
        }
    }

    #[test]
    fn only_the_routes_that_are_asked_for_count_and_they_must_run() {
        let mut board = board(1);
        let other = Route {
            destination: DestinationId(2),
            ..ROUTE
        };
        let elsewhere = LaneName {
            route: other,
            lane: 0,
        };
        board.set(lane(0), LaneState::Empty);
        assert!(board.settled(&[ROUTE, other]).is_none(), "it does not run");
        assert_eq!(board.start(&[elsewhere]), None);
        board.committed(other, Sequence(1));
        assert_eq!(board.settled(&[ROUTE]).unwrap().done, 0);
        assert!(board.settled(&[ROUTE, other]).is_none(), "it looks");
        board.set(elsewhere, LaneState::Empty);
        assert_eq!(board.settled(&[ROUTE, other]).unwrap().done, 1);
        board.stop(&[elsewhere]);
        assert!(board.settled(&[other]).is_none());
        assert!(board.settled(&[ROUTE]).is_some());
    }

    #[test]
    fn a_lane_runs_once_at_a_time() {
        let mut board = board(2);
        assert_eq!(board.start(&[lane(2), lane(1)]), Some(lane(1)));
        board.set(lane(0), LaneState::Empty);
        board.stop(&[lane(1)]);
        assert_eq!(board.start(&[lane(2), lane(1)]), None);
    }

    #[test]
    fn a_lane_whose_turn_came_is_not_at_rest() {
        let mut board = board(1);
        board.set(lane(0), waiting(5));
        assert!(board.settled(&[ROUTE]).is_some());
        board.committed(ROUTE, Sequence(4));
        assert!(board.settled(&[ROUTE]).is_none());
    }

    #[test]
    fn a_lane_that_was_called_while_it_looked_is_not_believed_to_be_empty() {
        let mut board = board(1);
        let seen = board.calls(lane(0));
        board.call(lane(0), Sequence(7));
        board.rest(lane(0), seen, LaneState::Empty);
        assert!(board.settled(&[ROUTE]).is_none());
        board.rest(lane(0), board.calls(lane(0)), LaneState::Empty);
        assert!(board.settled(&[ROUTE]).unwrap().is_clean());
    }

    #[test]
    fn a_waiting_lane_lets_go_only_for_an_earlier_file() {
        let mut board = board(1);
        let preempt = CancellationToken::new();
        let state = LaneState::Waiting {
            sequence: Sequence(5),
            until: Sequence(4),
            preempt: preempt.clone(),
        };
        board.set(lane(0), state);
        board.call(lane(0), Sequence(9));
        assert!(!preempt.is_cancelled());
        board.call(lane(0), Sequence(4));
        assert!(preempt.is_cancelled());
        assert!(board.settled(&[ROUTE]).is_none(), "it is about to let go");
    }

    #[test]
    fn a_lane_is_down_when_its_worker_fails_again_and_again() {
        let mut board = board(1);
        for _ in 1..RESTARTS_UNTIL_DOWN {
            board.down(lane(0), "disk full".to_owned());
            assert!(board.settled(&[ROUTE]).is_none());
        }
        board.down(lane(0), "disk full".to_owned());
        assert_eq!(board.settled(&[ROUTE]).unwrap().down.len(), 1);
        board.rest(lane(0), 0, LaneState::Empty);
        board.down(lane(0), "disk full".to_owned());
        assert!(
            board.settled(&[ROUTE]).is_none(),
            "it had recovered in between"
        );
    }

    #[test]
    fn heads_never_go_back() {
        let mut board = board(1);
        board.set_head(ROUTE, Sequence(9));
        board.committed(ROUTE, Sequence(4));
        assert!(board.reached(ROUTE, Sequence(9)));
        assert!(!board.reached(ROUTE, Sequence(10)));
    }
}
