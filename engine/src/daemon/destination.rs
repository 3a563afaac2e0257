//! One destination of one source, opened again and again until it can be reached, while the others work.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::outcome::Problem;
use super::parts::Destination;
use super::tenure::Tenure;
use super::trouble::Troubles;
use crate::ledger::DestinationId;
use crate::queue::backoff_within;
use crate::rollup::Rollups;

/// Bound of the first delay before a destination is tried again; it doubles with each failure.
const RETRY_BASE: Duration = Duration::from_secs(1);

/// The bound grows no further: this long after it is back, a destination is served again.
const RETRY_CAP: Duration = Duration::from_secs(30);

/// How often uploads that nobody goes on with are looked for.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// How often it is looked whether a rollup is due.
const ROLL_UP_EVERY: Duration = Duration::from_mins(1);

/// Destinations of one source that were opened.
pub(super) type Opened = BTreeSet<DestinationId>;

/// Opens a destination and runs its lanes until `stop` fires or the source is lost.
pub(super) async fn serve(
    tenure: Arc<Tenure>,
    destination: Destination,
    mut trouble: Troubles,
    opened: watch::Sender<Opened>,
    stop: CancellationToken,
) {
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = tenure.open(&destination) => outcome,
        };
        let error = match outcome {
            Ok(()) => {
                failures = 0;
                trouble.clear().await;
                opened.send_modify(|opened| {
                    opened.insert(destination.id);
                });
                let ended = tokio::select! {
                    ended = tenure.work(destination.id, stop.clone()) => ended,
                    never = keep_swept(&tenure, &destination) => match never {},
                    never = keep_rolled_up(&tenure, &destination) => match never {},
                };
                match ended {
                    Ok(()) => return,
                    Err(error) => error.into(),
                }
            }
            Err(error) => error,
        };
        trouble.set(Problem::of(&error)).await;
        failures = failures.saturating_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff_within(RETRY_BASE, RETRY_CAP, failures)) => {}
        }
    }
}

async fn keep_swept(tenure: &Tenure, destination: &Destination) -> Infallible {
    loop {
        tenure.sweep(destination).await;
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

async fn keep_rolled_up(tenure: &Tenure, destination: &Destination) -> Infallible {
    let mut rollups = Rollups::of(tenure.identity.clone());
    loop {
        tenure.roll_up(destination, &mut rollups).await;
        tokio::time::sleep(ROLL_UP_EVERY).await;
    }
}
