//! The program is told to stop while a part of a large object is on its way.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::archiver::{Bucket, Daemon, Database, Destination, Site};
use crate::harness::{Act, Rule, wait_until};
use crate::{FILES, Server};

/// Part 2 of 8 MiB takes four seconds.
const CRAWL: u64 = 2 << 20;

/// Long enough for a part.
const GRACE: &str = "4m";

const INTERRUPTED: i32 = 130;

/// A daemon that is in the middle of part 2.
fn in_the_middle(server: &Server, bucket: &Bucket, act: Act, grace: &str) -> (Site, Daemon) {
    bucket.proxy.add(Rule::on("partNumber=2&", act));
    let destination = Destination::Bucket(bucket);
    let site = Site::of("it", server.datadir(), Database::Sqlite, destination);
    let grace = format!("shutdown-grace = \"{grace}\"");
    site.workspace.edit("#shutdown-grace = \"30s\"", &grace);
    // So that one part is under way, and no lane that rests lends its place to another one.
    site.workspace.edit("#lanes = 4", "lanes = 1");
    site.close_up_to(FILES);
    let daemon = site.start();
    let began = wait_until(crate::DRAINED_WITHIN, || {
        bucket.proxy.count("partNumber=2&") > 0
    });
    assert!(began, "{}", site.log());
    std::thread::sleep(Duration::from_millis(500));
    (site, daemon)
}

fn taken(bucket: &Bucket, part: u32) -> usize {
    let of_part = format!("partNumber={part}&");
    let seen = bucket.proxy.seen();
    let of_part = seen.iter().filter(|seen| seen.head.contains(&of_part));
    of_part.filter(|seen| seen.status == Some(200)).count()
}

fn goes_on(server: &Server, bucket: &Bucket, site: &Site) {
    bucket.proxy.clear();
    let again = site.run_all();
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    site.assert_whole(&server.originals, FILES);
}

/// The part under way is waited for, recorded, and never sent again.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn sigterm_lets_the_part_under_way_arrive() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let (site, daemon) = in_the_middle(&server, &bucket, Act::Slow(CRAWL), GRACE);
    let asked = Instant::now();
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    println!("ended after {:?}", asked.elapsed());
    assert_eq!((taken(&bucket, 1), taken(&bucket, 2)), (1, 1));
    assert_eq!(taken(&bucket, 3), 0, "no new part begins");
    goes_on(&server, &bucket, &site);
    for part in 1..=3 {
        assert_eq!(taken(&bucket, part), 1, "part {part}");
    }
}

/// A store that does not answer is not waited for beyond the grace.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn sigterm_does_not_wait_beyond_the_grace() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let hang = Act::HangAfter(u64::MAX);
    let (site, daemon) = in_the_middle(&server, &bucket, hang, "2s");
    let asked = Instant::now();
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    println!("ended after {:?}", asked.elapsed());
    goes_on(&server, &bucket, &site);
    assert_eq!(taken(&bucket, 1), 1, "part 1 was there already");
}

/// As safe as SIGKILL: at most the part under way is sent again.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_second_sigterm_ends_at_once() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let (site, daemon) = in_the_middle(&server, &bucket, Act::Slow(CRAWL), GRACE);
    daemon.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    assert_eq!(daemon.terminate(), Some(INTERRUPTED), "{}", site.log());
    println!("ended after {:?}", asked.elapsed());
    bucket.block_on(bucket.proxy.quiet());
    assert_eq!((taken(&bucket, 1), taken(&bucket, 2)), (1, 0));
    goes_on(&server, &bucket, &site);
    for part in 1..=3 {
        assert_eq!(taken(&bucket, part), 1, "part {part}");
    }
}

/// A stop while nothing is under way is done at once.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn sigterm_at_rest() {
    let (server, bucket) = (Server::new(), Bucket::start());
    let destination = Destination::Bucket(&bucket);
    let site = Site::of("it", server.datadir(), Database::Sqlite, destination);
    site.close_up_to(FILES);
    let daemon = site.start();
    site.wait_for_watermark(FILES, crate::DRAINED_WITHIN);
    let asked = Instant::now();
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    println!("ended after {:?}", asked.elapsed());
    site.assert_whole(&server.originals, FILES);
}
