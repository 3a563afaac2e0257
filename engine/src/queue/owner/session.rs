//! Ownership by advisory locks of one session of this process.
//!
//! One task has the session: it takes and releases the locks, asks the server every [`PING_EVERY`] and for
//! everyone who must be [certain](Hold::certain) whether it still has them, and gets a session that was cut off
//! back, with its locks.
//!
//! # Invariants
//! - A hold is confirmed only by an answer of the server that names its lock, to a question asked after the
//!   hold's owner did.
//! - A hold leaves the task's list when its owner drops it, or when its right is lost; the token fires either way,
//!   and also when the task dies. It never comes back to the list.
//!
//! # When a right is lost
//! - At once, when the session is back and another has the lock.
//! - When the session is not back [`REGAIN`] after it was cut off, since the server may be reached by others. The
//!   time in which the server is down for all (it refuses connections, starts or stops) does not count.
//!
//! Until then nothing is [certain](Hold::certain), so nothing is committed, but work goes on.
//!
//! # Cancellation
//! A claim that is dropped while it runs is completed and released. The task ends when all [`Session`]s and
//! [`Hold`]s are gone, and its session with it.
//!
//! # Limits
//! [`MAX_CLAIMS`] claims wait; one session per process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backend::{Backend, Ghost, Server, TryLock, is_down};
use super::{Claim, Lock, Ownership, OwnershipError};
use crate::exit::{self, Diagnose};
use crate::layout::SourceIdentity;

/// How often the server is asked whether our locks are still there.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long a session that was cut off may stay away while the server is not down.
const REGAIN: Duration = Duration::from_secs(10);

/// Between two attempts to get the session back.
const PAUSE: Duration = Duration::from_millis(200);

/// Claims that wait for the task.
const MAX_CLAIMS: usize = 16;

/// The way to the task.
#[derive(Debug, Clone)]
pub(super) struct Session {
    requests: mpsc::Sender<Request>,
}

/// An owner's end of one lock.
#[derive(Debug)]
pub(super) struct Hold {
    /// When the question was asked whose answer was that the lock is ours. Goes before `wake`.
    confirmed: watch::Receiver<Instant>,
    wake: Wake,
}

/// Tells the task to look around, also when it is dropped.
#[derive(Debug)]
struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[derive(Debug)]
struct Request {
    lock: String,
    reply: oneshot::Sender<Result<Claim, OwnershipError>>,
}

impl Session {
    pub(super) async fn open(url: &str) -> Result<Self, OwnershipError> {
        let server = Server::from_url(url)?;
        let backend = server.connect_first().await?;
        let (requests, receiver) = mpsc::channel(MAX_CLAIMS);
        let task = Task {
            server,
            requests: Some(receiver),
            wake: Arc::new(Notify::new()),
            held: BTreeMap::new(),
        };
        tokio::spawn(task.run(backend));
        Ok(Self { requests })
    }

    pub(super) async fn try_claim(&self, source: &SourceIdentity) -> Result<Claim, OwnershipError> {
        let lock = format!(
            "gtide {}/{}/{}",
            source.cluster, source.server_uuid, source.incarnation
        );
        let (reply, answer) = oneshot::channel();
        let gone = || OwnershipError::Away {
            why: "the task that has it has ended".to_owned(),
        };
        let request = Request { lock, reply };
        self.requests.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Hold {
    /// Ends when the server has confirmed the lock at or after this call; never once it is lost.
    pub(super) async fn certain(&self) {
        let asked = Instant::now();
        let mut confirmed = self.confirmed.clone();
        self.wake.0.notify_one();
        if confirmed.wait_for(|at| *at >= asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The task's end of one lock.
#[derive(Debug)]
struct Held {
    key: i64,
    confirmed: watch::Sender<Instant>,
    lost: CancellationToken,
}

impl Held {
    fn is_released(&self) -> bool {
        self.confirmed.is_closed()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lost.cancel();
    }
}

#[derive(Debug)]
struct Task {
    server: Server,
    /// `None` when nobody can ask any more.
    requests: Option<mpsc::Receiver<Request>>,
    wake: Arc<Notify>,
    /// By the names of the locks.
    held: BTreeMap<String, Held>,
}

/// Why the task is done with a session.
enum End {
    /// Nobody needs it.
    Unused,
    /// It must not be used any more, and another must take its place.
    CutOff(OwnershipError),
}

impl From<OwnershipError> for End {
    fn from(why: OwnershipError) -> Self {
        Self::CutOff(why)
    }
}

impl Task {
    async fn run(mut self, mut backend: Backend) {
        loop {
            let Err(end) = self.serve(&mut backend).await;
            let why = match end {
                End::Unused => return backend.close().await,
                End::CutOff(why) => why,
            };
            let ghost = backend.ghost();
            drop(backend);
            match self.regain(ghost, why).await {
                Some(regained) => backend = regained,
                None => return,
            }
        }
    }

    /// Works with a session as long as it lives.
    async fn serve(&mut self, backend: &mut Backend) -> Result<Infallible, End> {
        loop {
            self.confirm(backend).await?;
            let request = tokio::select! {
                request = next(&mut self.requests) => request,
                () = self.wake.notified() => None,
                () = sleep(PING_EVERY) => None,
            };
            match (self.release(backend).await, request) {
                (Ok(()), Some(request)) => self.claim(backend, request).await?,
                (Err(error), Some(request)) => request.refuse(error)?,
                (released, None) => released?,
            }
            if self.is_unused() {
                return Err(End::Unused);
            }
        }
    }

    /// Asks the server for our locks.
    async fn confirm(&self, backend: &mut Backend) -> Result<(), OwnershipError> {
        let asked = Instant::now();
        let keys = backend.locks().await?;
        if self.held.values().any(|held| !keys.contains(&held.key)) {
            return Err(backend.forgotten());
        }
        for held in self.held.values() {
            held.confirmed.send_replace(asked);
        }
        Ok(())
    }

    /// Gives back what has been dropped.
    async fn release(&mut self, backend: &mut Backend) -> Result<(), OwnershipError> {
        let released: Vec<String> = self
            .held
            .iter()
            .filter(|(_, held)| held.is_released())
            .map(|(name, _)| name.clone())
            .collect();
        for name in released {
            if let Some(held) = self.held.remove(&name) {
                let key = held.key;
                // Nobody goes on with it before another can have it.
                drop(held);
                backend.unlock(key).await?;
            }
        }
        Ok(())
    }

    async fn claim(
        &mut self,
        backend: &mut Backend,
        request: Request,
    ) -> Result<(), OwnershipError> {
        if self.held.contains_key(&request.lock) {
            let by = "this process".to_owned();
            request.reply(Ok(Claim::Held { by }));
            return Ok(());
        }
        match backend.try_lock(&request.lock).await {
            Ok(TryLock::Held { by }) => request.reply(Ok(Claim::Held { by })),
            Ok(TryLock::Locked(key)) => {
                let ownership = self.hold(&request.lock, key);
                // An owner is told so only when the lock has been seen from outside.
                if let Err(error) = self.confirm(backend).await {
                    self.held.remove(&request.lock);
                    return request.refuse(error);
                }
                request.reply(Ok(Claim::Owned(ownership)));
            }
            // The server has answered: if it also ended the session, the next question tells.
            Err(error) if error.is_answer() => request.reply(Err(error)),
            Err(error) => return request.refuse(error),
        }
        Ok(())
    }

    fn hold(&mut self, lock: &str, key: i64) -> Ownership {
        let (sender, confirmed) = watch::channel(Instant::now());
        let lost = CancellationToken::new();
        let held = Held {
            key,
            confirmed: sender,
            lost: lost.clone(),
        };
        self.held.insert(lock.to_owned(), held);
        let wake = Wake(Arc::clone(&self.wake));
        let lock = Lock::Session(Hold { confirmed, wake });
        Ownership { lock, lost }
    }

    /// Opens a session in place of the one that was cut off, and takes its locks again, but for those that are lost
    /// by then. `None` when nobody needs it any more.
    async fn regain(&mut self, mut ghost: Ghost, mut why: OwnershipError) -> Option<Backend> {
        self.tell_cut_off(&why);
        let mut until = Instant::now() + REGAIN;
        loop {
            let (server, former) = (self.server.clone(), ghost.clone());
            let attempt = async move { server.connect_again(&former).await };
            match self.meanwhile(attempt, &why).await? {
                Ok(mut backend) => match self.take_again(&mut backend).await {
                    Ok(()) => {
                        tracing::info!(database = self.server.name(), "the session is back");
                        return Some(backend);
                    }
                    Err(error) => (ghost, why) = (backend.ghost(), error),
                },
                Err(error) => why = error,
            }
            if is_down(&why) {
                until = Instant::now() + REGAIN;
            } else if Instant::now() >= until {
                self.lose_all(&why);
            }
            self.meanwhile(sleep(PAUSE), &why).await?;
        }
    }

    async fn take_again(&mut self, backend: &mut Backend) -> Result<(), OwnershipError> {
        self.forget_released();
        let mut taken = Vec::new();
        for (name, held) in &mut self.held {
            match backend.try_lock(name).await? {
                TryLock::Locked(key) => held.key = key,
                TryLock::Held { by } => {
                    tracing::error!(
                        source = name,
                        by,
                        "lost: another archiver has the source now"
                    );
                    taken.push(name.clone());
                }
            }
        }
        self.held.retain(|name, _| !taken.contains(name));
        Ok(())
    }

    /// Does something without a session, and tells those who claim meanwhile why not. `None` when nobody needs a
    /// session any more.
    async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
        why: &OwnershipError,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                request = next(&mut self.requests) => {
                    if let Some(request) = request {
                        request.reply(Err(why.again()));
                    }
                }
                () = self.wake.notified() => {}
            }
            self.forget_released();
            if self.is_unused() {
                return None;
            }
        }
    }

    fn tell_cut_off(&mut self, why: &OwnershipError) {
        let (database, error) = (self.server.name(), exit::chain(why));
        tracing::warn!(
            database,
            error,
            "the session that owns the sources is cut off"
        );
        if matches!(why, OwnershipError::Pooled { .. }) {
            self.lose_all(why);
        }
    }

    fn lose_all(&mut self, why: &OwnershipError) {
        let hint = why.hint();
        for name in self.held.keys() {
            let error = exit::chain(why);
            tracing::error!(
                source = name,
                error,
                hint,
                "lost: another archiver may have the source now"
            );
        }
        self.held.clear();
    }

    /// Only without a session, which would still have the locks.
    fn forget_released(&mut self) {
        self.held.retain(|_, held| !held.is_released());
    }

    fn is_unused(&self) -> bool {
        self.requests.is_none() && self.held.is_empty()
    }
}

impl Request {
    /// Answers; whoever asked may have gone, and a claim is then given back at once.
    fn reply(self, answer: Result<Claim, OwnershipError>) {
        let _ = self.reply.send(answer);
    }

    /// Answers with the error that ends the session.
    fn refuse(self, error: OwnershipError) -> Result<(), OwnershipError> {
        self.reply(Err(error.again()));
        Err(error)
    }
}

/// The next claim; never, once nobody can ask.
async fn next(requests: &mut Option<mpsc::Receiver<Request>>) -> Option<Request> {
    let Some(receiver) = requests else {
        return std::future::pending().await;
    };
    let request = receiver.recv().await;
    if request.is_none() {
        *requests = None;
    }
    request
}
