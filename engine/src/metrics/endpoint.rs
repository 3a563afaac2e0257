//! Answers a monitoring system, over HTTP.
//!
//! # Limits
//! [`MAX_CONNECTIONS`] at once; a request's head must come within [`HEAD_WITHIN`]. One picture is read at a time,
//! however many ask.
//!
//! # When it cannot listen
//! Archiving goes on without it: it is said once, and tried again every [`LISTEN_AGAIN`].

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::instruments::Instruments;
use super::{FRESH, Meter, PATIENCE, Subject};
use crate::exit;
use crate::ledger::Picture;

/// A monitoring system needs one.
const MAX_CONNECTIONS: usize = 16;

/// For the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Between two attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);

/// The content types of `/metrics` and of all else.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is shown, and where it comes from.
#[derive(Debug)]
pub struct Endpoint {
    instruments: Arc<Instruments>,
    /// None before the archiver is opened.
    subject: Mutex<Option<Arc<dyn Subject>>>,
    /// Why it is not, as far as it is known.
    obstacle: Mutex<String>,
    picture: tokio::sync::Mutex<Option<Seen>>,
}

/// What the ledger said, and when.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    took: Duration,
    picture: Result<Arc<Picture>, String>,
}

/// What one request is answered with.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            instruments: Arc::new(Instruments::new()),
            subject: Mutex::default(),
            obstacle: Mutex::new("the archiver is being opened".to_owned()),
            picture: tokio::sync::Mutex::default(),
        }
    }
}

impl Endpoint {
    /// Counts for this endpoint.
    pub fn meter(&self) -> Meter {
        Meter(Some(Arc::clone(&self.instruments)))
    }

    /// The archiver is open.
    pub fn opened(&self, subject: Arc<dyn Subject>) {
        *lock(&self.subject) = Some(subject);
    }

    /// Why the archiver cannot be opened yet.
    pub fn not_yet(&self, why: String) {
        *lock(&self.obstacle) = why;
    }

    /// Answers at `address` until it is dropped.
    pub async fn serve(self: Arc<Self>, address: SocketAddr) {
        let mut is_told = false;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) if !is_told => {
                    let hint = "another program has the address, or it is none of this machine: see [metrics] listen";
                    tracing::warn!(%address, %error, hint, "no metrics yet: archiving goes on without");
                    is_told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        };
        tracing::info!(%address, "metrics are served");
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let this = Arc::clone(&self);
                    tokio::spawn(async move {
                        this.converse(stream).await;
                        drop(place);
                    });
                }
                // Out of files, say.
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics failed");
                    tokio::time::sleep(HEAD_WITHIN).await;
                }
            }
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let this = Arc::clone(&self);
            async move { Ok::<_, Infallible>(this.answer(&request).await.into_response()) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(
                error = exit::chain(&error),
                "a connection for metrics broke"
            );
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            _ if !is_read => Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
            "/metrics" => self.metrics().await,
            "/healthz" => Answer::text(StatusCode::OK, "alive\n"),
            "/readyz" => self.readiness().await,
            _ => Answer::text(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n"),
        }
    }

    async fn metrics(&self) -> Answer {
        let subject = lock(&self.subject).clone();
        // Held to the end: what is shown is of one picture.
        let mut kept = self.picture.lock().await;
        self.instruments.forget();
        if let Some(subject) = subject {
            let seen = look(&mut kept, subject.as_ref()).await;
            let instruments = &self.instruments;
            instruments.ledger_up.set(i64::from(seen.picture.is_ok()));
            instruments.ledger_read.set(seen.took.as_secs_f64());
            instruments.show_credentials(subject.credentials());
            if let Ok(picture) = seen.picture {
                instruments.show(&picture, subject.as_ref());
            }
        }
        let mut body = String::new();
        match prometheus_client::encoding::text::encode(&mut body, &self.instruments.registry) {
            Ok(()) => Answer {
                status: StatusCode::OK,
                kind: OPEN_METRICS,
                body,
            },
            Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// Ready means that files of every source can be archived by this archiver, or will be once it takes over.
    async fn readiness(&self) -> Answer {
        let Some(subject) = lock(&self.subject).clone() else {
            let why = format!("not opened yet: {}\n", lock(&self.obstacle));
            return Answer::text(StatusCode::SERVICE_UNAVAILABLE, &why);
        };
        let seen = look(&mut *self.picture.lock().await, subject.as_ref()).await;
        let picture = match seen.picture {
            Ok(picture) => picture,
            Err(error) => {
                let why = format!("the ledger cannot be read: {error}\n");
                return Answer::text(StatusCode::SERVICE_UNAVAILABLE, &why);
            }
        };
        let mut reasons = String::new();
        for trouble in picture
            .troubles
            .iter()
            .filter(|t| t.agent == subject.agent())
        {
            let at = trouble
                .destination
                .as_deref()
                .map(|url| format!(" at {url}"));
            let (source, at) = (&trouble.source, at.unwrap_or_default());
            // Writing to a String cannot fail.
            let _ = writeln!(reasons, "source {source}{at}: {}", trouble.error);
        }
        if reasons.is_empty() {
            return Answer::text(StatusCode::OK, "ready\n");
        }
        Answer::text(StatusCode::SERVICE_UNAVAILABLE, &reasons)
    }
}

/// The last picture, or a new one.
async fn look(kept: &mut Option<Seen>, subject: &dyn Subject) -> Seen {
    if let Some(seen) = kept.as_ref().filter(|seen| seen.at.elapsed() < FRESH) {
        return seen.clone();
    }
    let begin = Instant::now();
    let read = subject.ledger().picture(subject.now());
    let picture = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(picture)) => Ok(Arc::new(picture)),
        Ok(Err(error)) => Err(exit::chain(&error)),
        Err(_) => Err(format!("no answer in {} seconds", PATIENCE.as_secs())),
    };
    let seen = Seen {
        at: Instant::now(),
        took: begin.elapsed(),
        picture,
    };
    *kept = Some(seen.clone());
    seen
}

impl Answer {
    fn text(status: StatusCode, body: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            body: body.to_owned(),
        }
    }

    fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let kind = HeaderValue::from_static(self.kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}
