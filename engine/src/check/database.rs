//! The database of queue and ledger: reached, of this version, written to, and who archives with it.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::finding::Finding;
use crate::ledger::{Agent, Found, Ledger};
use crate::queue::{Claims, Queue, QueueConfig};

use super::within;

pub(super) async fn check(config: &Config, clock: &dyn Clock) -> Vec<Finding> {
    let url = &config.queue.database;
    let mut found = Vec::new();
    let opened = match within(Ledger::open_or_make(url)).await {
        Ok(opened) => opened,
        Err(error) => {
            return vec![Finding::error(
                "database-schema",
                "[queue] database",
                &error,
            )];
        }
    };
    let (ledger, there) = opened;
    let name = ledger.name().to_owned();
    found.push(schema(config, &ledger, there, &name).await);
    found.push(match within(ledger.try_write(clock.now())).await {
        Ok(()) => Finding::ok(
            "database-write",
            &name,
            "a row was written, taken back, and committed",
        ),
        Err(error) => Finding::error("database-write", &name, &error),
    });
    // Opening them locks nothing; a pooler or a standby is found out.
    found.push(match within(Claims::open(url)).await {
        Ok(_) => Finding::ok(
            "database-locks",
            &name,
            "it can keep one owner for each source",
        ),
        Err(error) => Finding::error("database-locks", &name, &error),
    });
    found.push(match within(ledger.agents()).await {
        Ok(agents) => owner(&agents, &name, clock),
        Err(error) => Finding::error("database-owner", &name, &error),
    });
    ledger.close().await;
    found
}

async fn schema(config: &Config, ledger: &Ledger, there: Found, name: &str) -> Finding {
    let check = "database-schema";
    if there == Found::Ledger {
        return Finding::ok(check, name, "a ledger of this version");
    }
    let queue = QueueConfig {
        lanes: config.queue.lanes,
        max_attempts: config.queue.max_attempts,
        shutdown_grace: config.queue.shutdown_grace,
    };
    let made = Queue::open(ledger.clone(), queue, Arc::new(SystemClock));
    match within(made).await {
        Ok(_) => Finding::ok(check, name, "there was none: its tables were made"),
        Err(error) => Finding::error(check, name, &error),
    }
}

/// Who archives with it now. Nobody is no fault: it may be that nothing was started yet.
fn owner(agents: &[Agent], name: &str, clock: &dyn Clock) -> Finding {
    let now = clock.now();
    let at_work = agents.iter().filter(|agent| !agent.is_silent(now));
    let words = at_work.map(|agent| {
        let report = &agent.report;
        let sources = report.sources.len();
        format!(
            "process {} on {} owns {sources} sources",
            report.pid, report.host
        )
    });
    let words: Vec<String> = words.collect();
    let reason = if words.is_empty() {
        "no archiver is at work with it".to_owned()
    } else {
        words.join(", ")
    };
    Finding::ok("database-owner", name, reason).with("archivers", words.len())
}
