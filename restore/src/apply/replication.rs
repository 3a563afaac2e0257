//! The plan over a replication connection: this program is the source, and the server its replica, on a channel of its
//! own. The server's applier works in parallel; no file is placed by hand, and the server may be anywhere.
//!
//! # How
//! [`crate::serve`] serves the plan; the channel is made with auto-position, so that the server says itself what it
//! lacks, and started until the plan's transactions. When the applier stops, the channel is removed. One that a former run
//! left is taken over: its relay logs go, its temporary tables stay.
//!
//! # Limits
//! The server takes what it gets into relay logs faster than it applies them, and removes each that was applied:
//! at worst all of the plan lies there at once.

use std::convert::Infallible;
use std::sync::Arc;

use engine::exit::{Diagnose, chain};
use engine::gtid::GtidSet;

use super::channel::{CHANNEL, Channel};
use super::facts::Facts;
use super::{LOOK_EVERY, Stopped, Task, check};
use crate::progress::Progress;
use crate::serve::listener::{Certificate, Listener};
use crate::serve::offer::Offer;
use crate::serve::report::change_source;
use crate::serve::{Access, SERVER_ID, ServeError, USER};

/// Replays the plan.
///
/// # Errors
/// When the archive, the connection or the server ends it.
pub(super) async fn run(task: Task<'_>, facts: &Facts, progress: &Progress) -> Result<(), Stopped> {
    let steps = task.steps.to_vec();
    let offer = Offer::of_plan(task.archive.clone(), task.plan, steps, SERVER_ID);
    let offer = Arc::new(offer);
    let access = Arc::new(Access::made(USER).map_err(|error| unserved(&error.into()))?);
    let listener = listen(task, &offer, &access).await;
    let listener = listener.map_err(|error| unserved(&error))?;
    let channel = Channel::new(task.server);
    let wanted = check::missing(task.plan, &facts.executed);
    let guard = channel.stop_when_dropped();
    let outcome = match start(&channel, &wanted, &listener, &access).await {
        Ok(()) => tokio::select! {
            outcome = channel.follow(task, &wanted, progress) => outcome,
            never = listener.run() => match never {},
            never = count(&offer, progress) => match never {},
        },
        Err(stopped) => Err(stopped),
    };
    // A receiver that waits for events is stopped after 2 s, and one whose source is gone at once.
    drop(listener);
    let outcome = channel.end(outcome).await;
    guard.disarm();
    outcome
}

async fn listen(
    task: Task<'_>,
    offer: &Arc<Offer>,
    access: &Arc<Access>,
) -> Result<Listener, ServeError> {
    let certificate = Certificate::made(&task.listen.ip().to_string())?;
    Listener::bind(
        task.listen,
        Arc::clone(offer),
        Arc::clone(access),
        certificate,
    )
    .await
}

async fn start(
    channel: &Channel<'_>,
    wanted: &GtidSet,
    listener: &Listener,
    access: &Access,
) -> Result<(), Stopped> {
    let (host, port) = (listener.address.ip().to_string(), listener.address.port());
    let make = change_source(&host, port, &access.user, &access.password, CHANNEL);
    channel.ask(&make).await?;
    let start = format!("START REPLICA UNTIL SQL_AFTER_GTIDS = '{wanted}' FOR CHANNEL '{CHANNEL}'");
    channel.ask(&start).await?;
    Ok(())
}

/// Shows what was sent, until it is dropped.
async fn count(offer: &Offer, progress: &Progress) -> Infallible {
    let mut shown = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let sent = offer.sent();
        progress.add(sent.saturating_sub(shown));
        shown = sent;
    }
}

fn unserved(error: &ServeError) -> Stopped {
    Stopped {
        message: chain(error),
        exit: error.exit(),
        hint: error.hint(),
    }
}
