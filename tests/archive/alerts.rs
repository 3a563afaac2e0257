//! The alert rules in a real Prometheus, beside a real archiver whose real store goes away.

use std::collections::BTreeSet;

use crate::harness::{Prometheus, SeaweedFs};
use crate::metrics::listen;
use crate::running::{Daemon, names, wait_until, watermark, write_index};
use crate::standby::to_s3;
use crate::workspace::{Workspace, code, stderr};

/// The rules as they are shipped, with less patience.
fn impatient() -> String {
    let mut rules = include_str!("../../deploy/prometheus/gtide.rules.yml").to_owned();
    for minutes in [1, 5, 10, 15, 30] {
        rules = rules.replace(&format!("for: {minutes}m\n"), "for: 2s\n");
        rules = rules.replace(&format!("[{minutes}m]"), "[10s]");
    }
    rules.replace("> 900\n", "> 5\n")
}

fn at_the_store(store: &SeaweedFs) -> Workspace {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    to_s3(&workspace, store);
    workspace
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn alerts_fire_while_the_store_is_away_and_are_over_when_it_is_back() {
    let mut store = SeaweedFs::start();
    let workspace = at_the_store(&store);
    write_index(&workspace.datadir(), &names(1..=5));
    let prometheus = Prometheus::start(listen(&workspace), &impatient());
    let daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived and scraped", || {
        prometheus.values("gtide_watermark_sequence") == ["4"]
    });
    daemon.wait_until("quiet", || prometheus.firing().is_empty());

    store.kill9();
    write_index(&workspace.datadir(), &names(1..=13));
    let expected = ["GtideLag", "GtideNoProgress"].map(str::to_owned);
    let expected = BTreeSet::from(expected);
    let mut firing = BTreeSet::new();
    let fire = wait_until(|| {
        firing.extend(prometheus.firing());
        firing.is_superset(&expected)
    });
    assert!(fire, "{firing:?}: {}", daemon.log());
    // Of the same cause; or a busy machine answered a scrape late, for which these rules have no patience.
    let may_be = [
        "GtideTrouble",
        "GtideStalled",
        "GtideDown",
        "GtideDatabaseUnreadable",
    ];
    let others: Vec<_> = firing
        .difference(&expected)
        .filter(|alert| !may_be.contains(&alert.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?}");

    store.start_again();
    // As the runbook of GtideStalled says.
    let mut retry = workspace.gtide();
    let retried = retry.args(["queue", "retry", "db1"]).output().unwrap();
    assert_eq!(code(&retried), 0, "{}", stderr(&retried));
    daemon.wait_until("archived", || watermark(&workspace, 1, "it") == Some(12));
    daemon.wait_until("quiet again", || prometheus.firing().is_empty());
}
