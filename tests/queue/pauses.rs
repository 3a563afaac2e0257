//! A person stops lanes and lets them go on; and the picture that shows it.

use engine::ledger::{HEADS_PER_LANE, JobStatus, Ledger, Pause, Picture, QueueScope};
use engine::queue::QueueConfig;
use engine::retry::RetryClass;
use jiff::Timestamp;

use crate::bench::{Act, Bench, CONFIG, Opened, scripted};

on_both![
    a_paused_source_takes_no_file_until_it_is_resumed,
    a_paused_lane_holds_up_the_watermark_and_is_passed_by_none,
    a_pause_outlives_the_archiver,
    resuming_a_part_leaves_the_pause_of_the_whole,
    the_picture_shows_what_runs_fails_waits_and_is_paused,
    a_picture_reads_back_as_it_was_recorded,
];

fn pause(scope: impl Into<QueueScope>) -> Pause {
    Pause {
        scope: scope.into(),
        by: "dba@db1".to_owned(),
        reason: Some("the bucket moves".to_owned()),
        since: Timestamp::from_second(1_000).unwrap(),
    }
}

async fn picture(opened: &Opened) -> Picture {
    let ledger = opened.queue.ledger();
    ledger.picture(Timestamp::now()).await.unwrap()
}

async fn a_paused_source_takes_no_file_until_it_is_resumed(bench: Bench) {
    let opened = bench.open().await;
    // As another program does it, beside the running archiver.
    let console = Ledger::open_existing(bench.url()).await.unwrap();
    console.pause(&pause(opened.source)).await.unwrap();
    opened.enqueue(1..=8).await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let running = opened.run(handler);
    let settled = running.settled().await;
    assert_eq!((settled.paused.len(), settled.done), (4, 0));
    assert!(!settled.is_clean());
    assert_eq!(log.attempts(), []);
    assert_eq!(console.resume(opened.source.into()).await.unwrap(), 1);
    log.wait_for_attempts(8).await;
    assert!(running.settle_and_stop().await.is_clean());
    assert_eq!(opened.watermark().await, Some(8));
}

async fn a_paused_lane_holds_up_the_watermark_and_is_passed_by_none(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue(1..=8).await;
    let lane = QueueScope {
        source: opened.source,
        destination: Some(opened.destination),
        lane: Some(3),
    };
    opened.queue.ledger().pause(&pause(lane)).await.unwrap();
    let (handler, _) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    let lanes: Vec<u32> = settled.paused.iter().map(|lane| lane.lane).collect();
    assert_eq!(lanes, [3]);
    assert_eq!(opened.watermark().await, Some(2), "3 is in lane 3");
}

async fn a_pause_outlives_the_archiver(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue(1..=4).await;
    let ledger = opened.queue.ledger();
    ledger.pause(&pause(opened.source)).await.unwrap();
    // Again, by somebody else: it keeps its beginning.
    let again = Pause {
        by: "night@db1".to_owned(),
        since: Timestamp::from_second(2_000).unwrap(),
        ..pause(opened.source)
    };
    ledger.pause(&again).await.unwrap();
    drop(opened);
    let opened = bench.open().await;
    let (handler, log) = scripted(|_, _| Act::Succeed);
    let settled = opened.run(handler).settle_and_stop().await;
    assert_eq!(settled.paused.len(), 4);
    assert_eq!(log.attempts(), []);
    let kept = Pause {
        since: pause(opened.source).since,
        ..again
    };
    assert_eq!(opened.queue.ledger().pauses().await.unwrap(), [kept]);
}

async fn resuming_a_part_leaves_the_pause_of_the_whole(bench: Bench) {
    let opened = bench.open().await;
    let ledger = opened.queue.ledger();
    let whole = QueueScope::from(opened.source);
    let lane = |number| QueueScope {
        destination: Some(opened.destination),
        lane: Some(number),
        ..whole
    };
    for scope in [whole, lane(0), lane(1)] {
        ledger.pause(&pause(scope)).await.unwrap();
    }
    assert_eq!(ledger.resume(lane(1)).await.unwrap(), 1);
    assert_eq!(ledger.resume(lane(1)).await.unwrap(), 0);
    let left: Vec<_> = ledger.pauses().await.unwrap();
    let left: Vec<_> = left.into_iter().map(|pause| pause.scope).collect();
    assert_eq!(left, [whole, lane(0)]);
    assert_eq!(ledger.resume(whole).await.unwrap(), 2);
    assert_eq!(ledger.pauses().await.unwrap(), []);
}

async fn the_picture_shows_what_runs_fails_waits_and_is_paused(bench: Bench) {
    let two_lanes = QueueConfig { lanes: 2, ..CONFIG };
    let opened = bench.open_with(two_lanes).await;
    let before = picture(&opened).await;
    assert_eq!((before.sources.len(), before.lanes.len()), (1, 0));
    opened.enqueue(1..=20).await;
    let (handler, log) = scripted(|sequence, _| match sequence {
        // 4 is stalled, 5 and with it the other lane waits for its turn behind it.
        4 => Act::Fail(RetryClass::Never),
        _ => Act::Succeed,
    });
    let running = opened.run(handler);
    running.settled().await;
    log.wait_for_attempts(5).await;
    let scope = QueueScope::from(opened.source);
    let pause = pause(scope);
    opened.queue.ledger().pause(&pause).await.unwrap();

    let seen = picture(&opened).await;
    let source = &seen.sources[0];
    let route = &source.routes[0];
    let position = route.position.as_ref().unwrap();
    assert_eq!(source.newest.unwrap().0, 20);
    assert_eq!((position.watermark.0, position.head.0), (3, 3));
    assert_eq!(position.file_name.as_deref(), Some("binlog.000003"));
    assert_eq!((route.queued, route.backlog.files), (17, 17));
    assert_eq!(route.backlog.bytes, (4..=20).sum::<u64>());
    assert!(route.backlog.since.is_some());
    assert_eq!((route.recent.files, route.recent.bytes), (3, 6));
    assert_eq!(seen.lanes.len(), 2);
    let even = &seen.lanes[0];
    assert_eq!(
        (even.queued, even.heads.len()),
        (9, HEADS_PER_LANE as usize)
    );
    let stalled = &even.heads[0];
    assert_eq!((stalled.sequence.0, stalled.status), (4, JobStatus::Failed));
    let failure = stalled.failure.as_ref().unwrap();
    assert_eq!(
        (failure.message.as_str(), failure.stalled),
        ("no luck with 4", true)
    );
    let waits = &seen.lanes[1].heads[0];
    assert_eq!((waits.sequence.0, waits.status), (5, JobStatus::Running));
    assert!(waits.began.is_some());
    assert_eq!(seen.pauses, [pause]);
    assert_eq!(seen.paused_lanes().len(), 2);
    running.stop().await;
}

async fn a_picture_reads_back_as_it_was_recorded(bench: Bench) {
    let opened = bench.open().await;
    opened.enqueue(1..=4).await;
    opened
        .queue
        .ledger()
        .pause(&pause(opened.source))
        .await
        .unwrap();
    let seen = picture(&opened).await;
    let recorded = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<Picture>(&recorded).unwrap(), seen);
}
