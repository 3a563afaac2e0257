//! Two archivers on one source by mistake: one manifest, and a loud warning.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::bench::{Bench, SMALL, object};
use crate::pipeline::commit;

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_slower_of_two_archivers_finds_the_others_entries_and_says_so_once() {
    let bench = Bench::new();
    let paths = [1, 2].map(|sequence| bench.binlog(sequence, SMALL));
    let rival = bench.rival();
    for archiver in [&bench, &rival] {
        let opened = archiver.open().await;
        for (sequence, path) in (1..).zip(&paths) {
            opened.find(sequence, path).await;
        }
    }
    let faster = bench.open().await;
    faster.settle().await;

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let guard = tracing::subscriber::set_default(subscriber.finish());
    let slower = rival.open().await;
    slower.settle().await;
    drop(guard);
    assert_eq!(slower.watermark().await, Some(2));
    assert!(!slower.store.take_calls().contains(&"begin".to_owned()));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let words = "another archiver writes to this destination";
    assert_eq!(log.matches(words).count(), 1, "{log}");

    let key = object(1).source.manifest_key(object(1).sequence);
    let (entry, _) = commit::read_entry(slower.store.as_ref(), &key)
        .await
        .unwrap();
    assert_eq!(entry.writer, faster.pipeline.spool.writer().text());
    assert!(log.contains(&entry.writer), "{log}");
}
