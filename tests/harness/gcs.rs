//! A strict Google Cloud Storage: what its documentation promises, and a refusal of everything else.
//!
//! The emulators that can be had are lenient where data is lost: one takes an upload for complete when it is asked how
//! far it is, another writes over gaps, a third knows no preconditions. This one stands in for the service's public
//! JSON protocol, at a loopback port of its own, on a thread of its own: programs reach it as any other server.
//!
//! # Rules, and the pages of `docs.cloud.google.com/storage/docs` that they come from
//! - `json_api/v1/objects/insert`, `uploading-objects`: `uploadType` media, multipart and resumable; `name` is
//!   required.
//! - `request-preconditions`: `ifGenerationMatch=0` means that nothing is there; 412 otherwise. It is looked at when a
//!   session begins and again when the object is made.
//! - `data-validation`, `json_api/v1/objects`: `crc32c` in the metadata, or in `x-goog-hash`, is compared when the
//!   object is made; 400 and no object when it differs.
//! - `performing-resumable-uploads`, `resumable-uploads`: the session's URI is the permission. Chunks follow one
//!   another without gap or overlap, and all but the last are multiples of 256 KiB; 308 tells in `Range` what is
//!   kept, which may be less than what was sent, and there is no `Range` when nothing is. `bytes */*` asks; a session
//!   that is done answers with its object. DELETE cancels, with 499. Unknown sessions are 404, expired ones 410.
//! - `json_api/v1/objects/list`: pages of at most 1,000, by `prefix`, `delimiter`, `startOffset` (which is included)
//!   and `pageToken`; names in the order of their UTF-8 bytes.
//! - `json_api/v1/objects/get`, `json_api/v1/parameters`: `alt=media`, `Range` with 206 and 416, `generation`;
//!   `fields`, of which nothing else is answered.
//! - `authentication`, `json_api/v1/status-codes`: 401 without a token that was given out here; 403 in the bucket
//!   [`Gcs::DENIED`]; 404 in any but this one and [`Gcs::BUCKET`].
//!
//! Where the documentation is silent (bytes that were kept are sent again, parameters that it does not name) it
//! refuses: a client that passes relies on nothing that is not promised.
//!
//! # Tokens
//! `POST /token` is a token service for workload identity (RFC 8693). [`Gcs::credentials_file`] names it.

mod exchange;
mod objects;
mod sessions;
mod state;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub use state::Seen as GcsUpload;
use state::State;

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct Gcs {
    port: u16,
    state: Arc<Mutex<State>>,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gcs {
    /// The bucket that is there.
    pub const BUCKET: &str = "archive";

    /// A bucket that is there and not ours.
    pub const DENIED: &str = "somebody-elses";

    /// Starts a server with an empty bucket.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        let dir = tempfile::Builder::new()
            .prefix("gtide-gcs-")
            .tempdir()
            .unwrap();
        let server = Self {
            port,
            state,
            dir,
            stop: Some(stop),
            thread: Some(thread),
        };
        server.write_credentials();
        server
    }

    /// A workload identity configuration whose tokens come from here.
    fn write_credentials(&self) {
        let subject = self.dir.path().join("subject");
        std::fs::write(&subject, "who-we-are").unwrap();
        let configuration = serde_json::json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/token", self.endpoint()),
            "credential_source": {"file": subject},
        });
        std::fs::write(self.credentials_file(), configuration.to_string()).unwrap();
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Credentials that may read and write in the bucket.
    pub fn credentials_file(&self) -> PathBuf {
        self.dir.path().join("credentials.json")
    }

    /// Of the next chunks, one after the other, only so many bytes are kept: multiples of 256 KiB.
    pub fn keep_only(&self, bytes: &[u64]) {
        self.lock().keep_only.extend(bytes);
    }

    /// All tokens that were given out are refused from now on.
    pub fn revoke_tokens(&self) {
        self.lock().tokens.clear();
    }

    /// The token service answers with this status so many times.
    pub fn refuse_tokens(&self, status: u16, times: usize) {
        self.lock().refuse_tokens.extend(vec![status; times]);
    }

    /// Refusals that the token service has not given yet.
    pub fn refusals_left(&self) -> usize {
        self.lock().refuse_tokens.len()
    }

    /// How long tokens last that are given out from now on, in seconds.
    pub fn tokens_last(&self, seconds: u64) {
        self.lock().token_life = seconds;
    }

    /// All sessions are a week older.
    pub fn expire_sessions(&self) {
        self.lock().expire_sessions();
    }

    /// What came for every session, in the order in which they began.
    pub fn uploads(&self) -> Vec<GcsUpload> {
        self.lock().seen()
    }

    /// Puts another object in the place of one: what no client here may do.
    pub fn replace(&self, name: &str, body: &'static [u8]) {
        self.lock().replace(name, body.into());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| exchange::serve(request, &state));
            // That the client went away is what is tested.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(client), service)
                .await;
        });
    }
}
