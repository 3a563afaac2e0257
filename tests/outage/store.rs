//! What stands between the program and its store breaks: each kind of fault by itself.

use std::thread::sleep;
use std::time::Duration;

use crate::archiver::{Bucket, Database, Destination, Site};
use crate::fast::Running;
use crate::harness::{Act, Line, Proxy, Rule, TcpProxy};
use crate::{DRAINED_WITHIN, FILES, Server};

/// Attempts of one request that the SDK makes by itself: a fault this often is the program's to handle.
const SDK_ATTEMPTS: usize = 3;

/// Runs until all is archived: in a storm one of them may be hit too often.
const RUNS: usize = 5;

/// The exit code of what may pass by itself.
const TRANSIENT: i32 = 6;

/// How long the store is away: shorter than the quick attempts at a file go on.
const OUTAGE: Duration = Duration::from_secs(4);

fn site(server: &Server, bucket: &Bucket) -> Site {
    let destination = Destination::Bucket(bucket);
    Site::of("it", server.datadir(), Database::Sqlite, destination)
}

/// Archives everything through a proxy with faults, and looks whether all is there, once.
fn archives_all_the_same(faults: impl FnOnce(&Proxy)) -> Bucket {
    let (server, bucket) = (Server::new(), Bucket::start());
    faults(&bucket.proxy);
    let site = site(&server, &bucket);
    let mut ended = site.run_all();
    // "Try again", as whoever runs it once from a timer does.
    for _ in 1..RUNS {
        if ended.code != Some(TRANSIENT) {
            break;
        }
        ended = site.run_all();
    }
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    bucket.proxy.clear();
    // Where the answer was lost, nobody knows of the upload that was begun: the next start finds it.
    assert_eq!(site.run_all().code, Some(0));
    site.assert_whole(&server.originals, FILES);
    bucket
}

/// Requests for this part.
fn sent(bucket: &Bucket, part: u32) -> usize {
    bucket.proxy.count(&format!("partNumber={part}&"))
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_part_that_is_reset_again_and_again() {
    let bucket = archives_all_the_same(|proxy| {
        let reset = Rule::on("partNumber=2&", Act::ResetAfter(4 << 20));
        proxy.add(reset.times(SDK_ATTEMPTS + 1));
    });
    assert_eq!(sent(&bucket, 2), SDK_ATTEMPTS + 2);
    assert_eq!((sent(&bucket, 1), sent(&bucket, 3)), (1, 1));
}

/// The store has the part, and nobody was told: it is found in the store's list.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn answers_to_a_part_that_are_lost() {
    let bucket = archives_all_the_same(|proxy| {
        proxy.add(Rule::on("partNumber=2&", Act::LoseResponse).times(SDK_ATTEMPTS));
    });
    assert_eq!(sent(&bucket, 2), SDK_ATTEMPTS, "not once more");
}

/// TRAPS 29: the object is there, and nobody was told.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn answers_to_a_completion_that_are_lost() {
    let bucket = archives_all_the_same(|proxy| {
        let lost = Rule::on("POST ", Act::LoseResponse).and("uploadId=");
        proxy.add(lost.times(SDK_ATTEMPTS));
    });
    for part in 1..=3 {
        assert_eq!(sent(&bucket, part), 1, "part {part}");
    }
}

/// TRAPS 29: the status was sent before the store knew.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_completion_that_answers_200_with_an_error() {
    let bucket = archives_all_the_same(|proxy| {
        let failed = Rule::on("POST ", Act::OK_WITH_AN_ERROR).and("uploadId=");
        proxy.add(failed.times(SDK_ATTEMPTS + 1));
    });
    for part in 1..=3 {
        assert_eq!(sent(&bucket, part), 1, "part {part}");
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn answers_to_an_entry_that_are_lost() {
    archives_all_the_same(|proxy| {
        let lost = Rule::on("PUT ", Act::LoseResponse).and("/manifest/");
        proxy.add(lost.times(SDK_ATTEMPTS + 1));
    });
}

/// The store says when to come back, and nobody comes before.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn slow_down_with_a_time_to_come_back() {
    let bucket = archives_all_the_same(|proxy| {
        let slow = Rule::on("PUT ", Act::SLOW_DOWN).and("/log/0000000001");
        proxy.add(slow.times(SDK_ATTEMPTS));
    });
    let seen = bucket.proxy.seen().into_iter();
    let puts: Vec<_> = seen
        .filter(|seen| seen.head.starts_with("PUT ") && seen.head.contains("/log/0000000001"))
        .collect();
    assert_eq!(puts.len(), SDK_ATTEMPTS + 1);
    let pause = puts[SDK_ATTEMPTS].at - puts[SDK_ATTEMPTS - 1].at;
    assert!(pause >= Duration::from_secs(2), "came back after {pause:?}");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_storm_of_errors_and_resets() {
    let seed = crate::archiver::seed();
    let bucket = archives_all_the_same(|proxy| {
        let storm = [
            Act::INTERNAL_ERROR,
            Act::SLOW_DOWN,
            Act::ResetAfter(1_000),
            Act::LoseResponse,
        ];
        for (seed, act) in (seed..).zip(storm) {
            proxy.add(Rule::on("/it/test/", act).sometimes(0.15, seed));
        }
    });
    let seen = bucket.proxy.seen();
    let hits = seen.iter().filter(|seen| seen.hit).count();
    assert!(hits > 5, "that was no storm: {hits} of {}", seen.len());
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn bodies_that_crawl() {
    archives_all_the_same(|proxy| {
        proxy.add(Rule::on("partNumber=", Act::Slow(2 << 20)));
        proxy.add(Rule::on("/manifest/", Act::Slow(1 << 10)));
    });
}

/// The store takes a part whole and never answers.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_part_that_is_never_answered() {
    let bucket = archives_all_the_same(|proxy| {
        proxy.add(Rule::on("partNumber=2&", Act::HangAfter(u64::MAX)).times(1));
    });
    assert_eq!(sent(&bucket, 2), 2);
}

/// The store is out of order while files arrive, and back.
fn out_of_order(bucket: &Bucket, site: &Site, act: Act) {
    site.wait_for_watermark(1, DRAINED_WITHIN);
    bucket.proxy.outage(Some(act));
    site.close_up_to(FILES);
    sleep(OUTAGE);
    assert_eq!(site.status()["watermark"], 1, "that was no outage");
    bucket.proxy.outage(None);
    site.wait_for_watermark(FILES, DRAINED_WITHIN);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_store_that_is_broken_for_a_while() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let site = site(&server, &bucket);
    site.close_up_to(1);
    let daemon = site.start();
    out_of_order(&bucket, &site, Act::INTERNAL_ERROR);
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    site.assert_whole(&server.originals, FILES);
}

/// To S3 that is a person's affair, so it is tried again slowly: this one's clock is fast.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn credentials_that_expire_for_a_while() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let site = site(&server, &bucket);
    site.close_up_to(1);
    let daemon = Running::start(&site);
    out_of_order(&bucket, &site, Act::EXPIRED_TOKEN);
    daemon.stop();
    site.assert_whole(&server.originals, FILES);
}

/// Connections are made, and nothing is ever answered; then the line is there again.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_line_that_is_frozen_for_a_while() {
    drains_after_line(Line::Frozen);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_store_that_refuses_connections_for_a_while() {
    drains_after_line(Line::Refused);
}

fn drains_after_line(line: Line) {
    let (server, bucket) = (Server::new(), Bucket::start());
    let tcp = bucket.block_on(TcpProxy::start(&bucket.server.address()));
    let site = site(&server, &bucket);
    let through = format!("http://127.0.0.1:{}", tcp.port());
    site.workspace.edit(&bucket.proxy.endpoint(), &through);
    site.close_up_to(1);

    // Not there when the daemon starts.
    tcp.set(line);
    let daemon = site.start();
    sleep(OUTAGE);
    tcp.set(Line::Open);
    site.wait_for_watermark(1, DRAINED_WITHIN);

    // Gone while it works.
    tcp.set(line);
    site.close_up_to(FILES);
    sleep(OUTAGE);
    assert_eq!(site.status()["watermark"], 1, "that was no outage");
    tcp.set(Line::Open);
    site.wait_for_watermark(FILES, DRAINED_WITHIN);
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    site.assert_whole(&server.originals, FILES);
}
