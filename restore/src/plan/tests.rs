//! Plans on made histories, and the property that a plan executes just its target.

use proptest::prelude::*;

use super::*;
use crate::path::Stretch;
use crate::target::Target;
use crate::timeline::made::{Cluster, Server, backup, gtid, offset, set, source, time};
use crate::timeline::{FileAt, Timeline};

/// What is asked of a made cluster.
struct Ask {
    cluster: Cluster,
    timeline: Timeline,
    backups: Vec<Record>,
    target: Target,
    start: StartAt,
    lead: Option<SourceIdentity>,
    skip: GtidSet,
    accept_damage: bool,
}

impl Ask {
    fn new(cluster: Cluster, target: Target) -> Self {
        Self {
            timeline: cluster.timeline(),
            cluster,
            backups: Vec::new(),
            target,
            start: StartAt::Any,
            lead: None,
            skip: GtidSet::new(),
            accept_damage: false,
        }
    }

    fn from(mut self, gtids: &str) -> Self {
        self.start = StartAt::Executed(set(gtids));
        self
    }

    fn backups(mut self, backups: &[(&str, &str)]) -> Self {
        let records = backups.iter().map(|(id, gtids)| backup(id, Some(gtids)));
        self.backups = records.collect();
        self
    }

    /// Answers every question about cuts, until there is an outline or a refusal.
    fn draw(&self) -> Result<Outline, Refusal> {
        let mut timeline = self.timeline.clone();
        let sets = self
            .backups
            .iter()
            .filter_map(|b| b.coordinates.gtid_set.as_ref());
        let mut evidence = sets.fold(GtidSet::new(), |all, set| all.union(set));
        if let StartAt::Executed(start) = &self.start {
            evidence.union_with(start);
        }
        timeline.settle(&evidence);
        let mut cuts = Cuts::default();
        for _ in 0..100 {
            let inputs = Inputs {
                timeline: &timeline,
                backups: &self.backups,
                target: &self.target,
                start: &self.start,
                lead: self.lead.as_ref(),
                skip: &self.skip,
                accept_damage: self.accept_damage,
                cuts: &cuts,
            };
            match draw(inputs) {
                Ok(outline) => return Ok(outline),
                Err(Stop::Refused(refusal)) => return Err(*refusal),
                Err(Stop::Probes(probes)) => {
                    for probe in probes {
                        assert_eq!(cuts.get(probe.at, &probe.search), None, "asked twice");
                        let cut = self
                            .cluster
                            .file(&self.timeline, probe.at)
                            .find(&probe.search);
                        let cut = cut.unwrap_or_else(|| panic!("{probe:?} is not to be found"));
                        cuts.insert(probe, cut);
                    }
                }
            }
        }
        panic!("no end of questions");
    }

    /// What a server has executed that begins with the outline's start and replays its way, or the
    /// first transaction that is replayed onto a state that its server did not have.
    fn replay(&self, outline: &Outline) -> Result<GtidSet, String> {
        let mut state = outline.start.clone();
        for stretch in &outline.way.stretches {
            for number in stretch.first..=stretch.last {
                let at = FileAt {
                    line: stretch.line,
                    file: number,
                };
                let file = self.cluster.file(&self.timeline, at);
                let from = stretch
                    .from
                    .filter(|_| number == stretch.first)
                    .unwrap_or(0);
                let to = stretch
                    .to
                    .filter(|_| number == stretch.last)
                    .unwrap_or(u64::MAX);
                let mut known = file.before.clone();
                for (place, transaction) in file.transactions.iter().enumerate() {
                    let lies = offset(place);
                    if lies >= from && lies < to {
                        let lacking = known.subtract(&state).subtract(&self.skip);
                        if !lacking.is_empty() && !state.contains(&transaction.gtid) {
                            return Err(format!("{} before {lacking}", transaction.gtid));
                        }
                        if !self.skip.contains(&transaction.gtid) {
                            state.insert(transaction.gtid.clone()).unwrap();
                        }
                    }
                    known.insert(transaction.gtid.clone()).unwrap();
                }
            }
        }
        Ok(state)
    }

    #[track_caller]
    fn reaches(&self, gtids: &str) -> Outline {
        let outline = self.draw().unwrap();
        assert_eq!(self.replay(&outline).unwrap(), set(gtids), "{outline:#?}");
        assert_eq!(
            outline
                .start
                .union(&outline.goal.executed)
                .subtract(&self.skip),
            set(gtids)
        );
        outline
    }

    #[track_caller]
    fn refused(&self) -> Refusal {
        self.draw().unwrap_err()
    }
}

/// Files 1 to 4 of `a`: transactions 1 to 40, one each second, ten in a file.
fn server() -> Server {
    let mut server = Server::new("a", "");
    for file in 0..4 {
        server
            .execute_all("a", file * 10 + 1..=file * 10 + 10, file * 10 + 1)
            .flush();
    }
    server
}

fn alone() -> Cluster {
    Cluster::of(&[&server()])
}

/// `a` executes 1 to 20 and, when `b` has taken over with `b:1-20`, an errant `a:21`.
fn failover() -> Cluster {
    let mut a = Server::new("a", "");
    a.execute_all("a", 1..=10, 1).flush();
    a.execute_all("a", 11..=20, 11).execute("a:21", 25).flush();
    let mut b = Server::new("b", "");
    b.executed = set("a:1-15");
    b.execute_all("a", 16..=20, 16)
        .execute_all("b", 1..=8, 23)
        .flush();
    b.execute_all("b", 9..=20, 40).flush();
    Cluster::of(&[&a, &b])
}

fn to_time(second: i64) -> Target {
    Target::Time { time: time(second) }
}

#[test]
fn a_time_is_between_two_transactions_and_what_was_committed_at_it_is_in() {
    let outline = Ask::new(alone(), to_time(25))
        .from("a:1-12")
        .reaches("a:1-25");
    assert_eq!(
        outline.way.stretches,
        [Stretch {
            line: 0,
            first: 1,
            last: 2,
            from: Some(offset(2)),
            to: Some(offset(5))
        }]
    );
    assert_eq!(outline.last.unwrap().gtid, Some(gtid("a:25")));
    assert_eq!(outline.next.unwrap().gtid, Some(gtid("a:26")));
}

#[test]
fn gtids_positions_and_the_end_are_targets() {
    let ask = |target| Ask::new(alone(), target).from("a:1-12");
    ask(Target::ToGtid { gtids: set("a:17") }).reaches("a:1-17");
    ask(Target::ToGtid {
        gtids: set("a:13:29"),
    })
    .reaches("a:1-29");
    ask(Target::ToGtid { gtids: set("a:40") }).reaches("a:1-40");
    ask(Target::BeforeGtid { gtid: gtid("a:31") }).reaches("a:1-30");
    ask(Target::BeforeGtid { gtid: gtid("a:14") }).reaches("a:1-13");
    ask(Target::Latest).reaches("a:1-40");
    let at = |offset| Target::Position {
        position: engine::base_backup::Position::new("binlog.000003", offset).unwrap(),
    };
    ask(at(offset(3))).reaches("a:1-23");
    let between = ask(at(offset(3) + 1)).reaches("a:1-23");
    assert!(
        between.warnings[0].contains("is not between two transactions"),
        "{between:#?}"
    );
    ask(at(4)).reaches("a:1-20");
    ask(at(offset(10) + 50)).reaches("a:1-30");
}

#[test]
fn a_start_that_has_it_all_needs_nothing() {
    let outline = Ask::new(alone(), to_time(25))
        .from("a:1-25")
        .reaches("a:1-25");
    assert_eq!(outline.way.stretches, []);
}

#[test]
fn a_server_with_transactions_of_its_own_is_a_start_too() {
    Ask::new(alone(), to_time(25))
        .from("a:1-12,f:1-7")
        .reaches("a:1-25,f:1-7");
}

#[test]
fn what_lies_behind_the_archive_or_before_it_is_unreachable() {
    let refusal = Ask::new(alone(), to_time(41)).from("a:1").refused();
    assert!(
        refusal
            .to_string()
            .contains("ends with what was committed at"),
        "{refusal}"
    );
    assert!(matches!(
        Ask::new(alone(), to_time(0)).from("a:1").refused(),
        Refusal::Unreachable { .. }
    ));
    let refusal = Ask::new(
        alone(),
        Target::ToGtid {
            gtids: set("a:39-44"),
        },
    )
    .from("a:1")
    .refused();
    assert!(
        matches!(&refusal, Refusal::Unreachable { missing, .. } if *missing == set("a:41-44")),
        "{refusal}"
    );
    assert_eq!(refusal.exit(), Exit::Gap);
}

/// TRAPS 17: commit times need not ascend.
#[test]
fn nothing_that_was_committed_after_the_target_is_in_and_what_is_left_out_is_said() {
    let mut server = Server::new("a", "");
    server
        .execute("a:1", 1)
        .execute("a:2", 9)
        .execute("a:3", 3)
        .flush();
    server.execute("a:4", 4).execute("a:5", 10).flush();
    server.execute("a:6", 20).flush();
    let ask = Ask::new(Cluster::of(&[&server]), to_time(5)).from("");
    let outline = ask.reaches("a:1");
    assert!(
        outline.warnings[0].contains("do not ascend"),
        "{outline:#?}"
    );
    let outline = Ask::new(Cluster::of(&[&server]), to_time(15))
        .from("")
        .reaches("a:1-5");
    assert_eq!(outline.warnings, [""; 0]);
}

#[test]
fn the_backup_that_leaves_the_least_is_begun_with() {
    let ask = Ask::new(alone(), to_time(25)).backups(&[
        ("monday", "a:1-5"),
        ("wednesday", "a:1-30"),
        ("tuesday", "a:1-20"),
    ]);
    let outline = ask.reaches("a:1-25");
    assert!(matches!(&outline.base, Base::Backup { id, .. } if id.as_str() == "tuesday"));
    let named = Ask {
        start: StartAt::Backup("wednesday".parse().unwrap()),
        ..ask
    };
    assert!(
        matches!(named.refused(), Refusal::BeyondTarget { beyond, .. } if beyond == set("a:26-30"))
    );
    let unknown = Ask {
        start: StartAt::Backup("friday".parse().unwrap()),
        ..named
    };
    assert_eq!(unknown.refused().exit(), Exit::Usage);
}

#[test]
fn a_backup_with_a_position_only_is_placed_by_its_file() {
    let mut ask = Ask::new(alone(), to_time(25));
    let mut record = backup("old", None);
    record.coordinates.position = engine::base_backup::Position::new("binlog.000002", offset(4));
    ask.backups = vec![record];
    let outline = ask.reaches("a:1-25");
    assert_eq!(outline.start, set("a:1-14"));
}

#[test]
fn an_archive_from_the_very_beginning_needs_no_backup() {
    let outline = Ask::new(alone(), to_time(25)).reaches("a:1-25");
    assert_eq!(outline.base, Base::Empty);
    let mut late = Server::new("a", "a:1-100");
    late.execute_all("a", 101..=110, 1).flush();
    let refusal = Ask::new(Cluster::of(&[&late]), to_time(5)).refused();
    assert!(
        matches!(&refusal, Refusal::NoBase { missing, .. } if *missing == set("a:1-100")),
        "{refusal}"
    );
}

#[test]
fn a_gap_is_refused_by_the_gtids_that_are_missing() {
    let mut cluster = alone();
    cluster.lost = vec![(0, 1)];
    let refusal = Ask::new(cluster.clone(), to_time(35))
        .from("a:1-12")
        .refused();
    let Refusal::Gap {
        missing,
        breaks,
        acceptable,
        ..
    } = &refusal
    else {
        panic!("{refusal}")
    };
    assert_eq!((missing, *acceptable), (&set("a:13-20"), false));
    assert!(breaks[0].contains("were written and are gone"), "{refusal}");
    // Nothing of the gap is needed before it, or by who has it.
    Ask::new(cluster.clone(), to_time(8))
        .from("a:1-2")
        .reaches("a:1-8");
    Ask::new(cluster, to_time(35))
        .from("a:1-20")
        .reaches("a:1-35");
}

#[test]
fn a_lost_file_without_transactions_is_passed_only_if_damage_is_accepted() {
    let mut server = Server::new("a", "");
    server.execute_all("a", 1..=10, 1).flush().flush();
    server.execute_all("a", 11..=20, 11).flush();
    let mut cluster = Cluster::of(&[&server]);
    cluster.lost = vec![(0, 1)];
    let mut ask = Ask::new(cluster, to_time(15)).from("a:1-5");
    let refusal = ask.refused();
    assert!(
        matches!(&refusal, Refusal::Gap { missing, acceptable: true, .. } if missing.is_empty()),
        "{refusal}"
    );
    ask.accept_damage = true;
    let outline = ask.reaches("a:1-15");
    assert!(
        outline.warnings[0].starts_with("passed, as was asked for"),
        "{outline:#?}"
    );
}

#[test]
fn damage_is_not_passed_unasked_and_only_where_the_gtids_allow() {
    let mut server = server();
    server.files[1].damaged = true;
    let cluster = Cluster::of(&[&server]);
    let mut ask = Ask::new(cluster, to_time(25)).from("a:1-5");
    let refusal = ask.refused();
    assert!(
        matches!(&refusal, Refusal::Gap { missing, acceptable: true, .. } if *missing == set("a:11-20")),
        "{refusal}"
    );
    assert!(
        refusal
            .to_string()
            .contains("was damaged before it was archived"),
        "{refusal}"
    );
    // Every whole transaction of the damaged file is there, and the next file proves it.
    ask.accept_damage = true;
    let outline = ask.reaches("a:1-25");
    assert_eq!(outline.way.stretches.len(), 2);
    assert_eq!(outline.way.stretches[0].to, Some(offset(10)));
    // Before the damage, nobody needs to be asked.
    let early = Ask {
        accept_damage: false,
        target: to_time(15),
        ..ask
    };
    early.reaches("a:1-15");
    // The next file knows transactions that the damage took: no flag helps.
    let mut lost = early.cluster.servers.into_iter().next().unwrap();
    lost.files[1].transactions.truncate(5);
    let ask = Ask {
        accept_damage: true,
        ..Ask::new(Cluster::of(&[&lost]), to_time(25)).from("a:1-5")
    };
    let refusal = ask.refused();
    assert!(
        matches!(&refusal, Refusal::Gap { missing, .. } if *missing == set("a:16-20")),
        "{refusal}"
    );
}

/// TRAPS 16: names and boundaries differ between servers; the sets join them.
#[test]
fn a_failover_is_crossed_and_the_errant_transaction_is_named() {
    let ask = Ask::new(failover(), to_time(45)).from("a:1-5");
    let outline = ask.reaches("a:1-20,b:1-14");
    assert_eq!(outline.goal.at, FileAt { line: 1, file: 1 });
    let lines: Vec<usize> = outline
        .way
        .stretches
        .iter()
        .map(|stretch| stretch.line)
        .collect();
    assert_eq!(lines, [0, 1]);
    // The old server's file is cut before it departs.
    assert_eq!(outline.way.stretches[0].to, Some(offset(10)));
    assert_eq!(outline.left_out.len(), 1);
    assert_eq!(outline.left_out[0].gtids, set("a:21"));
    assert!(outline.warnings[0].contains("errant"), "{outline:#?}");
    // The old server's history can be asked for.
    let old = Ask {
        lead: Some(source("a")),
        target: Target::Latest,
        ..ask
    };
    old.reaches("a:1-21");
}

/// `PREVIOUS_GTIDS` of a server that was restored or cloned lack what it was set up with.
#[test]
fn a_server_that_was_set_up_from_a_backup_is_no_beginning() {
    let mut clone = Server::new("b", "");
    clone.execute_all("a", 10..=20, 10).flush();
    clone.execute_all("b", 1..=10, 30).flush();
    let cluster = Cluster::of(&[&clone]);
    let refusal = Ask::new(cluster.clone(), to_time(35)).refused();
    assert!(
        matches!(&refusal, Refusal::NoBase { missing, .. } if *missing == set("a:1-9")),
        "{refusal}"
    );
    let refusal = Ask::new(cluster.clone(), to_time(35))
        .from("a:1-8")
        .refused();
    assert!(
        matches!(&refusal, Refusal::Gap { missing, .. } if *missing == set("a:9")),
        "{refusal}"
    );
    Ask::new(cluster.clone(), to_time(35))
        .from("a:1-9")
        .reaches("a:1-20,b:1-6");
    // Beside the server that it was set up from, and one that was gone by then.
    let mut gone = Server::new("c", "");
    gone.execute_all("c", 1..=5, 1).flush();
    let mut old = Server::new("a", "c:1-5");
    old.execute_all("a", 1..=20, 6).flush();
    let all = Cluster::of(&[&clone, &old, &gone]);
    Ask::new(all.clone(), to_time(35))
        .from("a:1-9,c:1-5")
        .reaches("a:1-20,b:1-6,c:1-5");
    // What the lead logged later is beyond the target all the same.
    let refusal = Ask::new(all, to_time(35))
        .from("a:1-9,b:1-8,c:1-5")
        .refused();
    assert!(
        matches!(&refusal, Refusal::BeyondTarget { beyond, .. } if *beyond == set("b:7-8")),
        "{refusal}"
    );
}

/// Between the last write of the old server and the first of the new one, either file will do.
#[test]
fn the_server_that_was_written_to_leads() {
    let outline = Ask::new(failover(), to_time(18))
        .from("a:1-5")
        .reaches("a:1-18");
    assert_eq!(outline.goal.at.line, 0);
    let outline = Ask::new(failover(), to_time(24))
        .from("a:1-5")
        .reaches("a:1-20,b:1-2");
    assert_eq!(outline.goal.at.line, 1);
}

#[test]
fn another_server_fills_a_gap() {
    let mut b = Server::new("b", "a:1-8");
    b.execute_all("a", 9..=24, 9).flush();
    let mut cluster = Cluster::of(&[&server(), &b]);
    cluster.lost = vec![(0, 1)];
    let ask = Ask {
        lead: Some(source("a")),
        ..Ask::new(cluster, to_time(35)).from("a:1-3")
    };
    let outline = ask.reaches("a:1-35");
    let lines: Vec<usize> = outline
        .way
        .stretches
        .iter()
        .map(|stretch| stretch.line)
        .collect();
    assert_eq!(lines, [0, 1, 0]);
}

#[test]
fn histories_that_parted_are_a_fork() {
    let target = Target::ToGtid {
        gtids: set("a:1-21,b:1-3"),
    };
    let refusal = Ask::new(failover(), target).from("a:1").refused();
    assert!(matches!(refusal, Refusal::Fork { .. }), "{refusal}");
    assert!(refusal.to_string().contains("lacks"), "{refusal}");
    // A base that was taken of the old server after it parted cannot become the new one.
    let refusal = Ask::new(failover(), to_time(45)).from("a:1-21").refused();
    assert!(
        matches!(&refusal, Refusal::BeyondTarget { beyond, .. } if *beyond == set("a:21")),
        "{refusal}"
    );
}

#[test]
fn an_accident_is_left_out_on_request() {
    let skipping = |skip: &str, from: &str| Ask {
        skip: set(skip),
        ..Ask::new(alone(), to_time(25)).from(from)
    };
    let outline = skipping("a:17", "a:1-12").reaches("a:1-16:18-25");
    assert!(outline.warnings[0].contains("on request"), "{outline:#?}");
    // It was the start's, or it is not the plan's.
    assert!(matches!(
        skipping("a:7", "a:1-12").refused(),
        Refusal::NothingToSkip(_)
    ));
    assert!(matches!(
        skipping("a:37", "a:1-12").refused(),
        Refusal::NothingToSkip(_)
    ));
    let outline = Ask {
        skip: set("a:17"),
        ..Ask::new(alone(), to_time(25))
    }
    .backups(&[("late", "a:1-20"), ("early", "a:1-3")])
    .reaches("a:1-16:18-25");
    assert!(matches!(&outline.base, Base::Backup { id, .. } if id.as_str() == "early"));
}

#[test]
fn a_position_in_files_of_the_same_name_needs_a_source() {
    let position = engine::base_backup::Position::new("binlog.000001", offset(2)).unwrap();
    let ask = Ask::new(failover(), Target::Position { position }).from("a:1-15");
    assert!(matches!(ask.refused(), Refusal::AmbiguousPosition(sources) if sources.len() == 2));
    Ask {
        lead: Some(source("b")),
        ..ask
    }
    .reaches("a:1-17");
}

#[test]
fn a_missing_object_is_as_good_as_a_missing_entry() {
    let mut ask = Ask::new(alone(), to_time(25)).from("a:1-5");
    ask.timeline.lose(&source("a"), Sequence(2));
    ask.accept_damage = true;
    let refusal = ask.refused();
    assert!(
        matches!(&refusal, Refusal::Gap { missing, acceptable: false, .. } if *missing == set("a:11-20")),
        "{refusal}"
    );
    assert!(
        refusal.to_string().contains("the object is missing"),
        "{refusal}"
    );
}

/// A primary and a replica that lags, in files of random lengths, with a switch at a random moment;
/// some entries are lost.
fn history() -> impl Strategy<Value = (Cluster, i64)> {
    let lengths = || prop::collection::vec(1_usize..12, 20);
    let lost = prop::collection::vec((0_usize..2, 0_usize..8), 0..3);
    (lengths(), lengths(), 20_i64..60, 0_i64..15, lost).prop_map(|(la, lb, switch, lag, lost)| {
        let history: Vec<(String, i64)> = (1..=100)
            .map(|n| {
                let gtid = if n <= switch {
                    format!("a:{n}")
                } else {
                    format!("b:{}", n - switch)
                };
                (gtid, n)
            })
            .collect();
        let log = |name, begin: usize, end: usize, lengths: &[usize]| {
            let mut server = Server::new(name, "");
            for (gtid, _) in &history[..begin] {
                server
                    .executed
                    .insert(crate::timeline::made::gtid(gtid))
                    .unwrap();
            }
            let mut rest = &history[begin..end];
            for length in lengths.iter().cycle() {
                let (file, behind) = rest.split_at((*length).min(rest.len()));
                for (gtid, second) in file {
                    server.execute(gtid, *second);
                }
                server.flush();
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            server
        };
        let switch = usize::try_from(switch).unwrap();
        let lag = usize::try_from(lag).unwrap();
        let a = log("a", 0, (switch + lag).min(100), &la);
        let b = log("b", switch.saturating_sub(lag), 100, &lb);
        let mut cluster = Cluster::of(&[&a, &b]);
        cluster.lost = lost;
        (cluster, i64::try_from(switch).unwrap())
    })
}

proptest! {
    /// A plan executes what was committed up to the target and nothing else, in an order in which
    /// nothing comes before what it was executed on; or transactions are really missing.
    #[test]
    fn a_plan_executes_just_its_target(
        (cluster, switch) in history(),
        begin in 0_i64..40,
        target in 41_i64..99,
    ) {
        let until = |n: i64| match n {
            0 => GtidSet::new(),
            n if n <= switch => set(&format!("a:1-{n}")),
            n => set(&format!("a:1-{switch},b:1-{}", n - switch)),
        };
        let held = held(&cluster);
        let mut ask = Ask::new(cluster, to_time(target));
        ask.start = StartAt::Executed(until(begin));
        match ask.draw() {
            Ok(outline) => {
                prop_assert_eq!(ask.replay(&outline).unwrap(), until(target));
                prop_assert_eq!(&outline.goal.executed, &until(target));
            }
            Err(Refusal::Gap { missing, .. }) => {
                prop_assert!(!missing.is_empty());
                let wanted = until(target).subtract(&until(begin));
                let lost = wanted.subtract(&held);
                // What is missing is missing, or stands behind what is.
                prop_assert!(!lost.is_empty(), "{missing} is archived");
            }
            Err(Refusal::Unreachable { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    /// Time, GTID and position of one moment are one cut.
    #[test]
    fn time_gtid_and_position_name_the_same_moment(second in 1_i64..40) {
        let by = |target| {
            let outline = Ask::new(alone(), target).from("").draw().unwrap();
            (outline.way, outline.goal.executed)
        };
        let by_time = by(to_time(second));
        let place = usize::try_from((second - 1) % 10 + 1).unwrap();
        let name = format!("binlog.{:06}", (second - 1) / 10 + 1);
        let position = engine::base_backup::Position::new(&name, offset(place)).unwrap();
        prop_assert_eq!(&by(Target::Position { position }).1, &by_time.1);
        let gtids = set(&format!("a:{second}"));
        prop_assert_eq!(&by(Target::ToGtid { gtids }).1, &by_time.1);
        let next = gtid(&format!("a:{}", second + 1));
        prop_assert_eq!(&by(Target::BeforeGtid { gtid: next }).1, &by_time.1);
    }
}

/// All transactions in files whose entries are there.
fn held(cluster: &Cluster) -> GtidSet {
    let mut held = GtidSet::new();
    for (number, server) in cluster.servers.iter().enumerate() {
        for (file, made) in server.files.iter().enumerate() {
            if !cluster.lost.contains(&(number, file)) {
                held.union_with(&made.added());
            }
        }
    }
    held
}

#[test]
fn a_saved_plan_is_read_back_and_a_newer_one_is_refused() {
    let plan = Plan {
        plan_version: VERSION,
        destination: "file:///archive".to_owned(),
        created_at: time(0),
        target: Target::Latest,
        lead: source("a"),
        base: Base::Stated,
        start: set("a:1-5"),
        stop: StopPoint {
            source: source("a"),
            file_name: "binlog.000001".to_owned(),
            position: 4,
            last: None,
            next: None,
        },
        files: vec![PlannedFile {
            source: source("a"),
            sequence: Sequence(1),
            file_name: "binlog.000001".into(),
            sha256: Digest::of(b""),
            size: 100,
            stored_bytes: 50,
            from: None,
            to: Some(90),
            fetch_bytes: 50,
        }],
        skip: GtidSet::new(),
        adds: set("a:6"),
        executed: set("a:1-6"),
        transactions: 1,
        replay_bytes: 0,
        replay_seconds: 0,
        fetch_bytes: 0,
        left_out: Vec::new(),
        warnings: Vec::new(),
        commands: Commands::default(),
    };
    let bytes = plan.to_bytes().unwrap();
    assert_eq!(Plan::parse("p", &bytes).unwrap(), plan);
    let newer = String::from_utf8(bytes)
        .unwrap()
        .replace("\"plan_version\": 1", "\"plan_version\": 2");
    assert!(matches!(
        Plan::parse("p", newer.as_bytes()),
        Err(SavedPlanError::Version { found: 2, .. })
    ));
    assert!(Plan::parse("p", b"{}").is_err());
    let text = String::from_utf8(plan.to_bytes().unwrap()).unwrap();
    let key = source("a").log_key(Sequence(1)).to_string();
    assert!(text.contains(&format!("\"key\": \"{key}\"")), "{text}");
    let elsewhere = text.replace(&key, source("b").log_key(Sequence(1)).as_str());
    let error = Plan::parse("p", elsewhere.as_bytes()).unwrap_err();
    assert!(engine::exit::chain(&error).contains("is not the key of the file"));
}
