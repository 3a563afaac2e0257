//! A service for tests that answers what it is told to, one answer for each request, the last one again and again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::durable_fs;
use crate::store::{ObjectStore, S3Settings, StoreConfig, connect};

/// The service, and a client of it.
pub(super) struct Canned {
    pub(super) store: Arc<dyn ObjectStore>,
    heads: Arc<Mutex<Vec<String>>>,
    dir: TempDir,
}

/// An answer with these header lines, each with its line end, and this body.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: application/xml\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

pub(super) fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>Says the test.</Message></Error>")
}

impl Canned {
    pub(super) async fn start(answers: Vec<String>) -> Self {
        Self::start_with(answers, S3Settings::default()).await
    }

    /// With these settings of the client's.
    pub(super) async fn start_with(answers: Vec<String>, s3: S3Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let config = StoreConfig {
            url: "s3://bucket".to_owned(),
            endpoint: Some(endpoint),
            credentials: Some(format!("file:{}", credentials(&dir).display())),
            s3,
            ..StoreConfig::default()
        };
        let canned = Self {
            store: connect(&config).unwrap(),
            heads: Arc::clone(&heads),
            dir,
        };
        canned.rotate("FIRST");
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let next = answers.next().unwrap();
                let again = next.clone();
                let head = serve(client, &next).await;
                heads.lock().unwrap().push(head);
                if answers.peek().is_none() {
                    answers = vec![again].into_iter().peekable();
                }
            }
        });
        canned
    }

    /// Other credentials, as a person or an agent would put them there.
    pub(super) fn rotate(&self, id: &str) {
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = hidden\n");
        durable_fs::replace(&credentials(&self.dir), text.as_bytes()).unwrap();
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn credentials(dir: &TempDir) -> PathBuf {
    dir.path().join("credentials")
}

/// Reads all of a request, answers it, and returns its head.
async fn serve(mut client: TcpStream, answer: &str) -> String {
    let mut request = Vec::new();
    let (head, body) = loop {
        let end = request.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            break (head, request.len() - end - 4);
        }
        client.read_buf(&mut request).await.unwrap();
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    let mut rest = vec![0; length - body];
    client.read_exact(&mut rest).await.unwrap();
    client.write_all(answer.as_bytes()).await.unwrap();
    head
}
