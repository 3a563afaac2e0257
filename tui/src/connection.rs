//! The database, read again and again, and changed when a person says so.
//!
//! It is read beside running archivers through a connection that cannot write; a change opens one of its own and closes
//! it again. What fails is told and tried again: the console lives longer than the database.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::clock::{Clock, SystemClock};
use engine::durable_fs;
use engine::exit;
use engine::ledger::{Ledger, LedgerError, Picture};
use engine::parity::report::{self, ParityPicture};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::model::Change;
use crate::update::{Effect, Message};

/// Pictures that are read through one connection. A database that was deleted and made anew is found by the next one.
const PICTURES_PER_CONNECTION: u32 = 10;

/// Parallel runs are read anew no sooner than this: every file of them is read and compared.
const PARITY_EVERY: Duration = Duration::from_secs(15);

/// Nor before this many times as long as the last reading took, however long a run goes on.
const PARITY_REST: u32 = 50;

/// Parallel runs, as they were read last.
#[derive(Debug, Default)]
struct Parity {
    runs: Vec<ParityPicture>,
    due: Option<Instant>,
}

impl Parity {
    /// As they are, or as they were a moment ago.
    async fn read(&mut self, ledger: &Ledger) -> Result<Vec<ParityPicture>, LedgerError> {
        if self.due.is_none_or(|due| Instant::now() >= due) {
            let begin = Instant::now();
            self.runs = report::pictures(ledger, SystemClock.now()).await?;
            let rest = begin
                .elapsed()
                .saturating_mul(PARITY_REST)
                .max(PARITY_EVERY);
            self.due = Some(Instant::now() + rest);
        }
        Ok(self.runs.clone())
    }
}

/// Where pictures come from and go to.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `sqlite:PATH` or `postgres://…`.
    pub database: String,
    /// Between two pictures.
    pub every: Duration,
    /// Where the last picture is kept, if anywhere.
    pub record: Option<PathBuf>,
}

impl Connection {
    /// One picture.
    ///
    /// # Errors
    /// What the database says, or the file that it is recorded in.
    pub async fn once(&self) -> anyhow::Result<Picture> {
        let ledger = Ledger::open_read_only(&self.database).await?;
        let mut picture = ledger.picture(SystemClock.now()).await?;
        picture.parity = Parity::default().read(&ledger).await?;
        self.keep(&picture)?;
        Ok(picture)
    }

    /// Reads and changes until nobody listens any more.
    pub async fn run(self, messages: Sender<Message>, mut orders: Receiver<Effect>) {
        let mut parity = Parity::default();
        loop {
            let outcome = self.read(&mut parity, &messages, &mut orders).await;
            let Err(error) = outcome else { return };
            if messages.send(Message::Lost(error)).await.is_err() {
                return;
            }
            let pause = tokio::time::sleep(self.every);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    order = orders.recv() => match order {
                        Some(order) => if self.obey(None, order, &messages).await.is_err() {
                            return;
                        },
                        None => return,
                    },
                }
            }
        }
    }

    /// Through one connection; `Ok` when nobody listens any more.
    async fn read(
        &self,
        parity: &mut Parity,
        messages: &Sender<Message>,
        orders: &mut Receiver<Effect>,
    ) -> Result<(), String> {
        loop {
            let opened = Ledger::open_read_only(&self.database).await;
            let ledger = opened.map_err(|error| exit::chain(&error))?;
            for _ in 0..PICTURES_PER_CONNECTION {
                let picture = ledger.picture(SystemClock.now()).await;
                let mut picture = picture.map_err(|error| exit::chain(&error))?;
                let runs = parity.read(&ledger).await;
                picture.parity = runs.map_err(|error| exit::chain(&error))?;
                self.keep(&picture).map_err(|error| format!("{error:#}"))?;
                let seen = Message::Seen(Box::new(picture));
                if messages.send(seen).await.is_err() {
                    return Ok(());
                }
                if self.wait(&ledger, messages, orders).await.is_none() {
                    return Ok(());
                }
            }
            ledger.close().await;
        }
    }

    /// Until the next picture is due, or something was changed. None when nobody listens any more.
    async fn wait(
        &self,
        ledger: &Ledger,
        messages: &Sender<Message>,
        orders: &mut Receiver<Effect>,
    ) -> Option<()> {
        let pause = tokio::time::sleep(self.every);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                order = orders.recv() => {
                    let changes = matches!(order, Some(Effect::Change(_)));
                    self.obey(Some(ledger), order?, messages).await.ok()?;
                    if changes {
                        return Some(());
                    }
                }
            }
        }
    }

    async fn obey(
        &self,
        ledger: Option<&Ledger>,
        order: Effect,
        messages: &Sender<Message>,
    ) -> Result<(), ()> {
        let answer = match order {
            Effect::Change(change) => {
                let outcome = self.change(&change).await;
                Message::Changed(change, outcome.map_err(|error| exit::chain(&error)))
            }
            Effect::ReadFile(key) => {
                let record = match ledger {
                    Some(ledger) => ledger.file(key).await.map_err(|error| exit::chain(&error)),
                    None => Err("the database cannot be read".to_owned()),
                };
                Message::File(key, record)
            }
            Effect::Copy(_) => return Ok(()),
        };
        messages.send(answer).await.map_err(|_| ())
    }

    async fn change(&self, change: &Change) -> Result<u64, LedgerError> {
        let ledger = Ledger::open_existing(&self.database).await?;
        let now = SystemClock.now();
        let outcome = match change {
            Change::Retry(scope) => ledger.retry_failed(Some(*scope), now).await,
            Change::Pause(pause) => ledger.pause(pause).await.map(|()| 1),
            Change::Resume(scope) => ledger.resume(*scope).await,
        };
        ledger.close().await;
        outcome
    }

    fn keep(&self, picture: &Picture) -> anyhow::Result<()> {
        let Some(path) = &self.record else {
            return Ok(());
        };
        let json = serde_json::to_vec_pretty(picture)?;
        durable_fs::replace(path, &json)
            .map_err(|error| anyhow::anyhow!("record into {}: {error}", path.display()))
    }
}
