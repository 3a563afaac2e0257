//! What stands between the program and Google Cloud Storage breaks: the faults of [`store`](crate::store), as that
//! protocol knows them. An upload is one stream there: after each fault the session is asked how far it is.

use std::thread::sleep;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::archiver::{Database, Destination, Site};
use crate::fast::Running;
use crate::harness::{Act, Gcs, GcsUpload, Line, Proxy, Rule, TcpProxy};
use crate::{DRAINED_WITHIN, FILES, Server};

/// Attempts of one request that the client makes by itself: a fault this often is the program's to handle.
const CLIENT_ATTEMPTS: usize = 3;

/// Runs until all is archived: in a storm one of them may be hit too often.
const RUNS: usize = 5;

/// The exit code of what may pass by itself.
const TRANSIENT: i32 = 6;

/// How long the store is away: shorter than the quick attempts at a file go on.
const OUTAGE: Duration = Duration::from_secs(4);

const UNAVAILABLE: Act = Act::Respond(
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 19\r\n\r\nService Unavailable",
);

const SLOW_DOWN: Act =
    Act::Respond("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n");

const UNAUTHORIZED: Act =
    Act::Respond("HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nUnauthorized");

/// A store, a proxy before it, and an archiver that knows the proxy only.
struct Before {
    server: Server,
    google: Gcs,
    proxy: Proxy,
    site: Site,
    // Last: what runs on it is dropped before.
    runtime: Runtime,
}

impl Before {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let (server, google) = (Server::new(), Gcs::start());
        let proxy = runtime.block_on(Proxy::start(&google.address()));
        let destination = Destination::Google(&google);
        let site = Site::of("it", server.datadir(), Database::Sqlite, destination);
        let before = Self {
            server,
            google,
            proxy,
            site,
            runtime,
        };
        before.reach_through(&before.proxy.endpoint());
        before
    }

    /// The store is reached at this endpoint. Tokens are not: the service that gives them is another.
    fn reach_through(&self, endpoint: &str) {
        let (was, is) = (self.google.endpoint(), format!("endpoint = \"{endpoint}\""));
        self.site
            .workspace
            .edit(&format!("endpoint = \"{was}\""), &is);
    }

    fn assert_whole(&self) {
        self.site.assert_whole(&self.server.originals, FILES);
    }

    /// The upload of the large file, which is the only one in several parts.
    fn upload(&self) -> GcsUpload {
        let mut uploads = self.google.uploads();
        assert_eq!(uploads.len(), 1, "{uploads:?}");
        uploads.remove(0)
    }
}

/// Archives everything through a proxy with faults, and looks whether all is there, once.
fn archives_all_the_same(faults: impl FnOnce(&Proxy)) -> Before {
    let before = Before::new();
    faults(&before.proxy);
    let mut ended = before.site.run_all();
    // "Try again", as whoever runs it once from a timer does.
    for _ in 1..RUNS {
        if ended.code != Some(TRANSIENT) {
            break;
        }
        ended = before.site.run_all();
    }
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let hits = before.proxy.seen().iter().filter(|seen| seen.hit).count();
    assert!(hits > 0, "nothing was done");
    before.proxy.clear();
    assert_eq!(before.site.run_all().code, Some(0));
    before.assert_whole();
    before
}

/// A chunk in the middle, not a question and not the last.
fn on_a_chunk(act: Act) -> Rule {
    Rule::on("PUT ", act).and("-range: bytes 8388608-")
}

fn on_the_last_chunk(act: Act) -> Rule {
    Rule::on("PUT ", act).and("x-goog-hash")
}

/// A small object: an entry, or a sealed file below the size of a part.
fn on_a_small_object(act: Act) -> Rule {
    Rule::on("POST /upload", act).and("uploadType=multipart")
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_chunk_that_is_reset_again_and_again() {
    let before = archives_all_the_same(|proxy| {
        let reset = on_a_chunk(Act::ResetAfter(4 << 20));
        proxy.add(reset.times(CLIENT_ATTEMPTS + 1));
    });
    let upload = before.upload();
    assert!(upload.asked > 0, "{upload:?}");
    let twice = upload.received - upload.kept;
    assert!(twice < 8 << 20, "kept bytes were sent again: {upload:?}");
}

/// The store has the bytes, and nobody was told.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn answers_to_a_chunk_that_are_lost() {
    let before = archives_all_the_same(|proxy| {
        proxy.add(on_a_chunk(Act::LoseResponse).times(CLIENT_ATTEMPTS));
    });
    let upload = before.upload();
    assert_eq!(upload.received, upload.kept, "sent once: {upload:?}");
}

/// TRAPS 29: the object is there, and nobody was told.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn answers_to_the_last_bytes_that_are_lost() {
    let before = archives_all_the_same(|proxy| {
        proxy.add(on_the_last_chunk(Act::LoseResponse).times(CLIENT_ATTEMPTS));
    });
    let upload = before.upload();
    assert_eq!(upload.received, upload.kept, "sent once: {upload:?}");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn last_bytes_that_the_service_fails_to_take() {
    archives_all_the_same(|proxy| {
        proxy.add(on_the_last_chunk(UNAVAILABLE).times(CLIENT_ATTEMPTS + 1));
    });
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn answers_to_small_objects_and_entries_that_are_lost() {
    archives_all_the_same(|proxy| {
        proxy.add(on_a_small_object(Act::LoseResponse).times(2 * CLIENT_ATTEMPTS));
    });
}

/// The store says when to come back, and nobody comes before.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn slow_down_with_a_time_to_come_back() {
    let begins = "uploadType=resumable";
    let before = archives_all_the_same(|proxy| {
        proxy.add(Rule::on("POST /upload", SLOW_DOWN).and(begins).times(1));
    });
    let seen = before.proxy.seen().into_iter();
    let begun: Vec<_> = seen
        .filter(|seen| seen.head.starts_with("POST ") && seen.head.contains(begins))
        .collect();
    let [refused, taken] = begun.as_slice() else {
        panic!("one refusal and one upload: {begun:?}");
    };
    let pause = taken.at - refused.at;
    assert!(pause >= Duration::from_secs(2), "came back after {pause:?}");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_storm_of_errors_and_resets() {
    let seed = crate::archiver::seed();
    let before = archives_all_the_same(|proxy| {
        let storm = [
            UNAVAILABLE,
            SLOW_DOWN,
            Act::ResetAfter(1_000),
            Act::LoseResponse,
        ];
        for (seed, act) in (seed..).zip(storm) {
            proxy.add(Rule::on("/storage/v1/", act).sometimes(0.1, seed));
        }
    });
    let seen = before.proxy.seen();
    let hits = seen.iter().filter(|seen| seen.hit).count();
    assert!(hits > 5, "that was no storm: {hits} of {}", seen.len());
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn bodies_that_crawl() {
    archives_all_the_same(|proxy| {
        proxy.add(Rule::on("PUT ", Act::Slow(2 << 20)));
        proxy.add(on_a_small_object(Act::Slow(4 << 10)).times(2));
    });
}

/// The service takes a chunk whole and never answers.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_chunk_that_is_never_answered() {
    let before = archives_all_the_same(|proxy| {
        proxy.add(on_a_chunk(Act::HangAfter(u64::MAX)).times(1));
    });
    assert!(before.upload().asked > 0);
}

/// The store is out of order while files arrive, and back.
fn out_of_order(before: &Before, act: Act) {
    let site = &before.site;
    site.wait_for_watermark(1, DRAINED_WITHIN);
    before.proxy.outage(Some(act));
    site.close_up_to(FILES);
    sleep(OUTAGE);
    assert_eq!(site.status()["watermark"], 1, "that was no outage");
    before.proxy.outage(None);
    site.wait_for_watermark(FILES, DRAINED_WITHIN);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_store_that_is_broken_for_a_while() {
    let before = Before::new();
    before.site.close_up_to(1);
    let daemon = before.site.start();
    out_of_order(&before, UNAVAILABLE);
    assert_eq!(daemon.terminate(), Some(0), "{}", before.site.log());
    before.assert_whole();
}

/// The service refuses a token that should be good: that is a person's affair, tried again slowly, and this one's clock
/// is fast.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn credentials_that_are_refused_for_a_while() {
    let before = Before::new();
    before.site.close_up_to(1);
    let daemon = Running::start(&before.site);
    out_of_order(&before, UNAUTHORIZED);
    daemon.stop();
    before.assert_whole();
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_token_service_that_is_away_while_tokens_are_taken_back() {
    let before = Before::new();
    before.site.close_up_to(1);
    let daemon = Running::start(&before.site);
    before.site.wait_for_watermark(1, DRAINED_WITHIN);
    before.google.refuse_tokens(503, 3);
    before.google.revoke_tokens();
    before.site.close_up_to(FILES);
    before.site.wait_for_watermark(FILES, DRAINED_WITHIN);
    assert_eq!(before.google.refusals_left(), 0, "that was no outage");
    daemon.stop();
    before.assert_whole();
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
    let before = Before::new();
    let tcp = before
        .runtime
        .block_on(TcpProxy::start(&before.google.address()));
    let site = &before.site;
    let through = format!("http://127.0.0.1:{}", tcp.port());
    site.workspace.edit(&before.proxy.endpoint(), &through);
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
    before.assert_whole();
}
