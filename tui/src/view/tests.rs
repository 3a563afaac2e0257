use engine::ledger::Picture;
use insta::assert_snapshot;
use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::*;
use crate::model::Looks;
use crate::update::{Message, update};

pub(crate) const LOOKS: Looks = Looks {
    colour: true,
    ascii: false,
};

const NOW: &str = "2026-11-22T12:00:00Z";

/// A picture of these sources, as it would have been recorded.
pub(crate) fn picture(sources: &[Value]) -> Picture {
    let picture = json!({
        "version": 1, "taken": NOW, "database": "/var/lib/gtide/gtide.db", "sources": sources,
        "lanes": [], "agents": [], "troubles": [], "pauses": [],
    });
    serde_json::from_value(picture).unwrap()
}

fn source(id: u32, name: &str, newest: u64, routes: &Value) -> Value {
    json!({
        "id": id, "name": name, "newest": newest, "routes": routes,
        "identity": {
            "cluster": "shop", "server_uuid": "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            "incarnation": 1,
        },
    })
}

fn route(watermark: u64, head: u64, newest: u64) -> Value {
    let backlog = if newest > head {
        json!({ "files": newest - head, "bytes": (newest - head) << 30, "since": "2026-11-22T11:48:00Z" })
    } else {
        json!({ "files": 0, "bytes": 0, "since": null })
    };
    json!({
        "destination": 1, "url": "s3://backups/mysql",
        "position": {
            "first": 1, "watermark": watermark, "file_name": format!("binlog.{watermark:06}"),
            "through": "2026-11-22T11:59:30.25Z", "head": head,
            "committed_at": "2026-11-22T11:59:40Z",
            "gtids": "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-771022",
        },
        "gaps": if watermark < head { json!([[watermark + 1, watermark + 2]]) } else { json!([]) },
        "backlog": backlog,
        "recent": { "files": 12, "bytes": 12_884_901_888_u64, "seconds": 300 },
        "queued": newest - head,
    })
}

fn lane(source: u32, lane: u32, heads: &Value) -> Value {
    let name = json!({ "route": { "source": source, "destination": 1 }, "lane": lane });
    json!({ "name": name, "queued": 9, "heads": heads })
}

fn job(sequence: u64, status: &str, failure: &Value) -> Value {
    json!({
        "sequence": sequence, "file_name": format!("binlog.{sequence:06}"), "size": 1_073_741_824,
        "status": status, "sealed": true, "uploading": status == "Running",
        "attempts": if failure.is_null() { 0 } else { 5 },
        "run_at": "2026-11-22T12:03:20Z",
        "began": (status == "Running").then_some("2026-11-22T11:59:18Z"),
        "ended": (!failure.is_null()).then_some("2026-11-22T11:58:20Z"),
        "failure": failure,
    })
}

fn agent(free: u64, waits: bool) -> Value {
    let paused = json!({ "since": "2026-11-22T11:50:00Z", "needed_bytes": 2_147_483_648_u64 });
    json!({
        "seen": "2026-11-22T11:59:55Z",
        "report": {
            "host": "db1", "spool": "/var/lib/gtide/spool", "pid": 4711, "version": "0.1.0",
            "started": "2026-11-20T08:00:00Z", "source_ids": [1, 2], "pinned_files": 12,
            "pinned_bytes": 12_884_901_888_u64, "sealed_files": 4, "sealed_bytes": 1_288_490_188,
            "free_bytes": free, "paused": if waits { paused } else { Value::Null },
        },
    })
}

/// What the server beside a source said last.
fn server(source: u32, in_danger: bool, silence: &Value) -> Value {
    let channel = json!({
        "name": "", "from": "db0:3306", "source_uuid": "3e11fa47-71ca-11e1-9e33-c80aa9429500",
        "receiver": "ON", "applier": if in_danger { "OFF" } else { "ON" },
        "error": in_danger.then_some("Duplicate entry '7' for key 'PRIMARY'\u{1b}[2J"),
        "lag_seconds": 3,
    });
    let report = json!({
        "version": "9.7.4", "server_uuid": "3e11fa47-71ca-11e1-9e33-c80aa9429562",
        "gtid_mode": "ON", "is_writable": true,
        "gtid_executed": "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-771030",
        "waiting": "3e11fa47-71ca-11e1-9e33-c80aa9429562:771023-771030",
        "waiting_transactions": 8, "never_archived": "", "unknown_to_server": "",
        "channels": [channel], "errant": [], "readers": 1,
        "expiry": {
            "file_name": "binlog.000130",
            "at": if in_danger { "2026-11-22T13:10:00Z" } else { "2026-11-24T16:00:00Z" },
            "in_danger": in_danger, "is_pinned": !in_danger,
        },
        "purge": {
            "up_to": (!in_danger).then_some("binlog.001100"),
            "files": if in_danger { 0 } else { 12 }, "bytes": 12_884_901_888_u64,
            "stays": "binlog.001101: younger than `keep`", "at": "2026-11-22T11:59:20Z",
        },
    });
    json!({ "source": source, "answer": ["2026-11-22T11:59:56Z", report], "silence": silence })
}

/// A parallel run with these files.
fn run(source: u32, verdict: &str, reasons: &[&str], files: &Value) -> Value {
    let of = |standing: &str| {
        let files = files.as_array().unwrap().iter();
        files.filter(|file| file["standing"] == standing).count()
    };
    json!({
        "source": source, "started_at": "2026-11-20T12:00:00Z", "until": "2026-11-23T12:00:00Z",
        "scanned_at": "2026-11-22T11:59:30Z", "finished_at": null,
        "manifests": ["/backup/binlogs/*.sha256"], "left_out": 0, "files": files,
        "verdict": {
            "verdict": verdict, "reasons": reasons, "hours_left": 24.0,
            "matched": of("matched"), "late": of("late"), "pending": of("pending"),
            "mismatched": of("mismatched"), "only_cron": of("only-cron"),
            "only_gtide": of("only-gtide"),
        },
    })
}

fn compared(number: u64, standing: &str, cause: Option<&str>) -> Value {
    let side = |seed: u64| {
        json!({
            "sha256": format!("{seed:02x}").repeat(32), "size": 1_073_741_824,
            "at": "2026-11-22T11:40:00Z",
        })
    };
    json!({
        "file_name": format!("binlog.{number:06}"), "standing": standing, "cause": cause,
        "cron": (standing != "only-gtide").then(|| side(if standing == "mismatched" { 7 } else { 10 })),
        "gtide": (standing != "only-cron" && standing != "pending").then(|| side(10)),
    })
}

/// Two sources, all archived but what is on its way.
pub(crate) fn healthy() -> Picture {
    let mut picture = picture(&[
        source(1, "invoices", 131, &json!([route(131, 131, 131)])),
        source(2, "orders", 1_204, &json!([route(1_200, 1_200, 1_204)])),
    ]);
    picture.lanes = serde_json::from_value(json!([lane(
        2,
        0,
        &json!([
            job(1_201, "Running", &Value::Null),
            job(1_205, "Pending", &Value::Null)
        ])
    ),]))
    .unwrap();
    picture.agents = serde_json::from_value(json!([agent(214_748_364_800, false)])).unwrap();
    picture.agents[0].report.uploads = serde_json::from_value(json!([{
        "route": { "source": 2, "destination": 1 }, "sequence": 1_201, "total": 419_430_400,
        "done": 167_772_160, "resumed": 8_388_608, "started": "2026-11-22T11:59:25Z",
    }]))
    .unwrap();
    picture.servers = serde_json::from_value(json!([server(2, false, &Value::Null)])).unwrap();
    let files = json!([
        compared(1_204, "pending", None),
        compared(1_203, "matched", None)
    ]);
    let waits = ["the window is over in 24h"];
    picture.parity = serde_json::from_value(json!([run(2, "not-yet", &waits, &files)])).unwrap();
    picture
}

/// Three sources: stalled, paused, with a gap and stopped.
pub(crate) fn failing() -> Picture {
    let denied = json!({
        "Err": "upload shop/3e11fa47-71ca-11e1-9e33-c80aa9429562/1/log/0000000130.gtb: access denied (403)\u{1b}[2J",
        "class": "never", "stalled": true, "exit": "usage",
        "hint": "the role needs s3:PutObject on s3://backups/mysql/*", "interruptions": 0,
    });
    let mut picture = picture(&[
        source(1, "invoices", 140, &json!([route(129, 129, 140)])),
        source(2, "orders", 1_204, &json!([route(1_200, 1_200, 1_204)])),
        source(3, "stock\u{202E}", 77, &json!([route(40, 77, 77)])),
    ]);
    picture.lanes = serde_json::from_value(json!([
        lane(
            1,
            1,
            &json!([
                job(130, "Failed", &denied),
                job(134, "Pending", &Value::Null)
            ])
        ),
        lane(2, 0, &json!([job(1_201, "Pending", &Value::Null)])),
    ]))
    .unwrap();
    picture.agents = serde_json::from_value(json!([agent(1_073_741_824, true)])).unwrap();
    picture.pauses = serde_json::from_value(json!([{
        "scope": { "source": 2, "destination": null, "lane": null },
        "by": "dba@db1", "reason": "the bucket moves", "since": "2026-11-22T09:00:00Z",
    }]))
    .unwrap();
    picture.troubles = serde_json::from_value(json!([{
        "agent": "db1:/var/lib/gtide/spool", "source": "ledgers", "destination": null,
        "error": "read /var/lib/mysql/binlog.index: permission denied",
        "hint": "run gtide as a user of the group mysql", "exit": "usage",
        "since": "2026-11-22T10:00:00Z",
    }]))
    .unwrap();
    let silence = json!({
        "error": "connect to 127.0.0.1:3306: connection refused", "hint": null,
        "exit": "transient", "since": "2026-11-22T11:59:58Z",
    });
    picture.servers = serde_json::from_value(json!([server(1, true, &silence)])).unwrap();
    let cut = "binlog.000120.gz holds 512 of 1073741824 bytes: it was taken before the server had closed the file";
    let files = json!([
        compared(120, "mismatched", Some(cut)),
        compared(121, "only-cron", Some("gtide has not archived it")),
        compared(119, "matched", None),
    ]);
    let reasons = [
        "binlog.000120: it was cut",
        "binlog.000121: gtide has not archived it",
    ];
    picture.parity =
        serde_json::from_value(json!([run(1, "no-parity", &reasons, &files)])).unwrap();
    picture
}

fn of(picture: Option<Picture>) -> Model {
    let now: Timestamp = NOW.parse().unwrap();
    let mut model = Model::new(now, LOOKS, false, "dba@db1".to_owned());
    if let Some(picture) = picture {
        update(&mut model, Message::Seen(Box::new(picture)));
    }
    model
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            key => KeyCode::Char(key),
        };
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        update(model, Message::Key(key));
    }
}

fn terminal(model: &Model, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(model, frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal
}

fn frame(model: &Model, width: u16, height: u16) -> String {
    text(terminal(model, width, height).backend().buffer())
}

#[test]
fn every_screen_of_a_healthy_queue() {
    let mut model = of(Some(healthy()));
    for screen in Screen::ALL {
        model.screen = *screen;
        let name = format!("healthy_{}", screen.title());
        assert_snapshot!(name, frame(&model, 120, 24));
    }
}

#[test]
fn every_screen_of_a_failing_queue() {
    let mut model = of(Some(failing()));
    for screen in Screen::ALL {
        model.screen = *screen;
        let name = format!("failing_{}", screen.title());
        assert_snapshot!(name, frame(&model, 80, 24));
    }
}

#[test]
fn wide_and_least() {
    let model = of(Some(failing()));
    assert_snapshot!("failing_wide", frame(&model, 200, 30));
    assert_snapshot!("failing_least", frame(&model, 60, 15));
    assert_snapshot!("too_small", frame(&model, 59, 15));
}

#[test]
fn what_needs_room_has_it() {
    let mut model = of(Some(failing()));
    for screen in [Screen::Watermarks, Screen::Parity] {
        model.screen = screen;
        let name = format!("failing_{}_wide", screen.title());
        assert_snapshot!(name, frame(&model, 200, 60));
    }
    let mut model = of(Some(healthy()));
    press(&mut model, "2");
    assert_snapshot!("uploading_80", frame(&model, 80, 24));
    model.looks.ascii = true;
    let ascii = frame(&model, 80, 24);
    assert!(ascii.contains("####........  40%"), "{ascii}");
}

#[test]
fn the_readme_shows_the_console_as_it_is() {
    let mut failing = failing();
    failing.sources.truncate(2);
    failing.troubles.clear();
    let frame = frame(&of(Some(failing)), 110, 18);
    let readme = include_str!("../../../README.md");
    let shown = readme.split("```text\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap().lines();
    let is = frame.lines().map(str::trim_end);
    assert!(shown.eq(is), "README.md shows another:\n{frame}");
}

#[test]
fn an_upload_is_told_with_its_rate_without_what_an_earlier_attempt_had_sent() {
    let mut model = of(Some(healthy()));
    press(&mut model, "2");
    let jobs = model.jobs();
    let upload = jobs[0].upload.unwrap();
    // 152 MiB in 30 seconds, and 240 are left.
    assert_eq!(upload.rate, Some((152 << 20) / 30));
    assert_eq!(upload.left(), Some(47));
    assert_eq!(jobs[1].upload, None, "one that waits is not uploaded");
}

#[test]
fn nothing_yet_nothing_at_all_and_nothing_found() {
    assert_snapshot!("before_the_first_picture", frame(&of(None), 80, 15));
    let mut model = of(Some(picture(&[])));
    assert_snapshot!("empty", frame(&model, 80, 15));
    press(&mut model, "3");
    assert_snapshot!("nothing_failed", frame(&model, 80, 15));
    press(&mut model, "5");
    assert!(frame(&model, 80, 15).contains("No parallel run has begun"));
    let mut model = of(Some(healthy()));
    press(&mut model, "/zzz\n");
    assert_snapshot!("nothing_found", frame(&model, 80, 15));
}

#[test]
fn what_lies_over_a_screen() {
    let mut model = of(Some(failing()));
    press(&mut model, "?");
    assert_snapshot!("help", frame(&model, 100, 34));
    press(&mut model, "?p");
    assert_snapshot!("confirm_pause", frame(&model, 80, 24));
    press(&mut model, "n2p");
    assert_snapshot!("confirm_pause_of_a_lane", frame(&model, 80, 24));
    press(&mut model, "n\n");
    assert_snapshot!("detail", frame(&model, 80, 24));
    press(&mut model, "\n4\n");
    assert_snapshot!("detail_of_a_source", frame(&model, 100, 34));
    press(&mut model, "\n5\n");
    assert_snapshot!("detail_of_a_compared_file", frame(&model, 100, 30));
}

#[test]
fn an_old_picture_says_so() {
    let mut model = of(Some(healthy()));
    model.now = "2026-11-22T12:00:42Z".parse().unwrap();
    assert!(frame(&model, 80, 24).contains("STALE: as of 12:00:00Z, 42s ago"));
    update(&mut model, Message::Lost("no such host".to_owned()));
    let lost = frame(&model, 80, 24);
    assert!(lost.contains("LOST: as of 12:00:00Z, 42s ago"), "{lost}");
    assert!(lost.contains("no such host; trying again"), "{lost}");
    assert!(lost.contains("orders"), "the last picture stays: {lost}");
}

#[test]
fn colour_says_nothing_that_words_do_not() {
    let colour = of(Some(failing()));
    let mut plain = colour.clone();
    plain.looks.colour = false;
    assert_eq!(frame(&colour, 120, 40), frame(&plain, 120, 40));
    let terminal = terminal(&plain, 120, 40);
    let cells = terminal.backend().buffer().content();
    assert!(
        cells
            .iter()
            .all(|cell| cell.fg == ratatui::style::Color::Reset)
    );
    assert!(
        cells
            .iter()
            .all(|cell| cell.bg == ratatui::style::Color::Reset)
    );
}

#[test]
fn an_ascii_terminal_gets_ascii() {
    let mut model = of(Some(failing()));
    model.looks.ascii = true;
    // What cannot be shown of foreign text is the one thing that is not ours.
    for screen in Screen::ALL {
        model.screen = *screen;
        let frame = frame(&model, 200, 40).replace('\u{FFFD}', "?");
        assert!(frame.is_ascii(), "{frame}");
    }
}

/// Sizes around which the layout changes, and the ends.
const WIDTHS: [u16; 12] = [0, 1, 59, 60, 61, 80, 99, 100, 129, 130, 131, 200];
const HEIGHTS: [u16; 12] = [0, 1, 2, 14, 15, 16, 19, 20, 21, 24, 40, 60];

#[test]
fn no_size_panics() {
    let model = of(Some(failing()));
    for screen in Screen::ALL {
        for keys in ["", "?", "p", "\n"] {
            let mut model = model.clone();
            model.screen = *screen;
            press(&mut model, keys);
            for (width, height) in WIDTHS.iter().flat_map(|w| HEIGHTS.map(|h| (*w, h))) {
                let area = Rect::new(0, 0, width, height);
                draw(&model, area, &mut Buffer::empty(area));
            }
        }
    }
}

#[test]
fn no_size_of_the_overview_panics() {
    let model = of(Some(failing()));
    for width in (0..=200).step_by(10) {
        for height in (0..=60).step_by(5) {
            let area = Rect::new(0, 0, width, height);
            draw(&model, area, &mut Buffer::empty(area));
        }
    }
}
