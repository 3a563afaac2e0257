//! Half an hour of outages in half a minute: the program's clock runs sixty times as fast, so that all its delays do.
//!
//! The store and the requests to it are real and take their real time.

use std::thread::sleep;
use std::time::Duration;

use jiff::SignedDuration;

use crate::archiver::{Bucket, Database, Destination, Site, binlogs, originals, seed};
use crate::fast::Running;
use crate::harness::{Act, Line, Rule, TcpProxy};
use crate::{DRAINED_WITHIN, LARGE};

/// Of real time, for each of the outages.
const LASTS: Duration = Duration::from_millis(2_500);

/// Within an outage the server closes so many files.
const FILES_EACH: u64 = 2;

/// One file in so many is of several parts.
const LARGE_ONE_IN: u64 = 4;

/// What is wrong for a while.
#[derive(Debug, Clone)]
enum Outage {
    /// Every request.
    All(Act),
    /// Requests whose heads contain the text, with this probability.
    Some(&'static str, f64, Act),
    /// The line.
    Line(Line),
    /// Nothing.
    None,
}

/// Twelve of them: thirty minutes of the fast clock.
fn script() -> [Outage; 12] {
    [
        Outage::Line(Line::Refused),
        Outage::All(Act::SLOW_DOWN),
        Outage::Some("", 0.6, Act::INTERNAL_ERROR),
        Outage::Some("POST ", 1.0, Act::OK_WITH_AN_ERROR),
        Outage::All(Act::EXPIRED_TOKEN),
        Outage::Line(Line::Frozen),
        Outage::Some("PUT ", 0.7, Act::LoseResponse),
        Outage::None,
        Outage::Some("partNumber=", 0.8, Act::ResetAfter(3 << 20)),
        Outage::All(Act::Slow(256 << 10)),
        Outage::Some("POST ", 0.8, Act::LoseResponse),
        Outage::All(Act::INTERNAL_ERROR),
    ]
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn half_an_hour_of_outages_loses_nothing_and_drains_by_itself() {
    let seed = seed();
    let bucket = Bucket::start();
    let upstream = bucket.proxy.endpoint();
    let upstream = upstream.strip_prefix("http://").unwrap();
    let line = bucket.block_on(TcpProxy::start(upstream));
    let template = tempfile::tempdir().unwrap();
    let mut server = binlogs::Server::new(template.path(), 1);
    let destination = Destination::Bucket(&bucket);
    let site = Site::of("it", template.path(), Database::Sqlite, destination);
    let through = format!("http://127.0.0.1:{}", line.port());
    site.workspace.edit(&bucket.proxy.endpoint(), &through);

    let archiver = Running::start(&site);
    let mut files = 0;
    for (round, outage) in (0..).zip(script()) {
        println!("{outage:?}");
        begin(&bucket, &line, outage, seed + round);
        for _ in 0..FILES_EACH {
            files += 1;
            let is_large = files % LARGE_ONE_IN == 0;
            let size = if is_large { LARGE } else { 0 };
            server.rotate(&site.workspace.datadir(), size);
            sleep(LASTS / u32::try_from(FILES_EACH).unwrap());
        }
    }
    begin(&bucket, &line, Outage::None, seed);
    let outages = archiver.elapsed();
    assert!(outages >= SignedDuration::from_mins(30), "{outages}");

    site.wait_for_watermark(files, DRAINED_WITHIN);
    println!("drained after {}", archiver.elapsed());
    archiver.stop();
    let seen = bucket.proxy.seen();
    let hits = seen.iter().filter(|seen| seen.hit).count();
    println!("{hits} of {} requests were hit", seen.len());
    assert!(hits > 20, "those were hardly outages");
    // Where the answer was lost, nobody knows of the upload that was begun: the next start finds it.
    assert_eq!(site.run_once().code, Some(0));
    site.assert_whole(&originals(&site.workspace.datadir()), files);
}

/// Ends what was wrong, and begins this.
fn begin(bucket: &Bucket, line: &TcpProxy, outage: Outage, seed: u64) {
    line.set(Line::Open);
    // Whatever was frozen is dead now, as it is when a firewall has forgotten it.
    line.cut();
    bucket.proxy.clear();
    bucket.proxy.outage(None);
    match outage {
        Outage::All(act) => bucket.proxy.outage(Some(act)),
        Outage::Some(text, probability, act) => {
            bucket
                .proxy
                .add(Rule::on(text, act).sometimes(probability, seed));
        }
        Outage::Line(state) => line.set(state),
        Outage::None => {}
    }
}
