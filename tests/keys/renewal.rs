//! Credentials of an assumed role that expire all the time, under a steady load: no upload fails, and each renewal comes
//! ahead.
//!
//! A token service and a store of the tests' own, since none that can be had gives out credentials for less than 900 s
//! and refuses them when they are over. Lifetimes are scaled: what is 5 minutes of an hour is some seconds here, so that a machine that stands still for a moment is no failure.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::layout::ObjectKey;
use engine::store::{S3Settings, StoreConfig, connect};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;

const LIFETIME: Duration = Duration::from_secs(10);
const AHEAD: Duration = Duration::from_secs(5);

/// Renewals that are wanted, unless `GTIDE_RENEWALS` says how many, and the time that they may take.
const RENEWALS: usize = 8;
const AT_MOST: Duration = Duration::from_secs(220);

/// One renewal in so many is refused, as while somebody changes the role's policy.
const REFUSED_EVERY: usize = 4;

const ROLE: &str = "arn:aws:iam::123456789012:role/gtide";
const EXTERNAL_ID: &str = "orders";

/// Tells the child where the services are, its credentials, and the file that is there when it is over.
const OVER: &str = "GTIDE_RENEWAL_OVER";
const ENDPOINT: &str = "GTIDE_RENEWAL_ENDPOINT";
const CREDENTIALS: &str = "GTIDE_RENEWAL_CREDENTIALS";

#[derive(Debug, Default)]
struct Book {
    /// Until when they are good.
    given: HashMap<String, Instant>,
    asked: usize,
    refusals: usize,
    last_expiry: Option<Instant>,
    /// Of each renewal, how long the ones before were still good.
    leads: Vec<Duration>,
    puts: usize,
    late: usize,
    /// Refused for lack of the right external id.
    strangers: usize,
}

#[test]
fn under_a_steady_load_no_upload_fails_and_each_renewal_comes_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("credentials");
    let text = "[default]\naws_access_key_id = base\naws_secret_access_key = hunter2\n";
    std::fs::write(&credentials, text).unwrap();
    let (endpoint, book) = start();
    let mut child = child_of(&endpoint, &credentials);
    let wanted = std::env::var("GTIDE_RENEWALS").map_or(RENEWALS, |text| text.parse().unwrap());
    let end = Instant::now() + AT_MOST;
    while Instant::now() < end && book.lock().unwrap().leads.len() < wanted {
        std::thread::sleep(Duration::from_millis(100));
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    std::fs::write(dir.path().join("over"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains("hunter2"));

    let mut book = book.lock().unwrap();
    let renewals = book.leads.len();
    book.leads.sort();
    let ahead = book.leads.iter().filter(|lead| **lead >= AHEAD / 2).count();
    println!(
        "{} uploads, {} with expired credentials; {renewals} renewals of {LIFETIME:?}, {} refusals; \
         renewed ahead of expiry by {:?} at least, {:?} in the middle; {ahead} by half of {AHEAD:?} or more",
        book.puts,
        book.late,
        book.refusals,
        book.leads[0],
        book.leads[renewals / 2],
    );
    assert!(renewals >= wanted, "{renewals} renewals only");
    assert_eq!(book.strangers, 0, "the external id was not sent");
}

fn child_of(endpoint: &str, credentials: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "renewal::child", "--ignored", "--nocapture"])
        .env(ENDPOINT, endpoint)
        .env(CREDENTIALS, credentials)
        .env(OVER, credentials.with_file_name("over"))
        .env("AWS_ENDPOINT_URL_STS", endpoint)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test: the body of the process that uploads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the renewal test, as a child process"]
async fn child() {
    let store = connect(&StoreConfig {
        url: "s3://archive/renewal".to_owned(),
        endpoint: Some(std::env::var(ENDPOINT).expect("run by the renewal test")),
        credentials: Some(format!("file:{}", std::env::var(CREDENTIALS).unwrap())),
        s3: S3Settings {
            role: Some(ROLE.to_owned()),
            external_id: Some(EXTERNAL_ID.to_owned()),
            renew_ahead: Some(AHEAD),
            ..S3Settings::default()
        },
        ..StoreConfig::default()
    })
    .unwrap();
    let writers = (0..4).map(|writer| {
        let (store, over) = (Arc::clone(&store), std::env::var(OVER).unwrap());
        tokio::spawn(async move {
            for number in 0.. {
                let key = ObjectKey::from_listing(format!("{writer}/{number}"));
                let put = store
                    .put_if_absent(&key, Bytes::from_static(b"a part"))
                    .await;
                if std::path::Path::new(&over).exists() {
                    return;
                }
                put.unwrap_or_else(|error| panic!("{}", engine::exit::chain(&error)));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
}

/// Both services at one address, on a thread that ends with the test's process.
fn start() -> (String, Arc<Mutex<Book>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let book = Arc::<Mutex<Book>>::default();
    let shared = Arc::clone(&book);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let book = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(|request| serve(request, &book));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(client), service)
                        .await;
                });
            }
        });
    });
    (endpoint, book)
}

async fn serve(
    request: Request<Incoming>,
    book: &Arc<Mutex<Book>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let authorization = head
        .headers
        .get("authorization")
        .map(|value| value.to_str().unwrap());
    let id = authorization.and_then(|text| text.split_once("Credential="));
    let id = id
        .and_then(|(_, text)| text.split_once('/'))
        .map_or("", |(id, _)| id);
    let mut book = book.lock().unwrap();
    let (status, text) = if head.method == Method::POST {
        book.assume_role(id, &String::from_utf8_lossy(&body))
    } else {
        book.object(id)
    };
    let answer = Response::builder()
        .status(status)
        .header("content-type", "text/xml")
        .body(Full::from(text));
    Ok(answer.unwrap())
}

impl Book {
    fn assume_role(&mut self, id: &str, form: &str) -> (u16, String) {
        let has = |text: &str| form.split('&').any(|field| field == text);
        let role = ROLE.replace(':', "%3A").replace('/', "%2F");
        let is_right = has("Action=AssumeRole")
            && has(&format!("RoleArn={role}"))
            && has(&format!("ExternalId={EXTERNAL_ID}"))
            && has("RoleSessionName=gtide");
        if id != "base" || !is_right {
            self.strangers += 1;
            return (
                403,
                format!("<ErrorResponse>{}</ErrorResponse>", error("AccessDenied")),
            );
        }
        self.asked += 1;
        if self.asked.is_multiple_of(REFUSED_EVERY) {
            self.refusals += 1;
            return (
                403,
                format!("<ErrorResponse>{}</ErrorResponse>", error("AccessDenied")),
            );
        }
        let now = Instant::now();
        if let Some(expiry) = self.last_expiry {
            self.leads.push(expiry.saturating_duration_since(now));
        }
        let id = format!("ROLE{}", self.asked);
        self.given.insert(id.clone(), now + LIFETIME);
        self.last_expiry = Some(now + LIFETIME);
        let expiry = Timestamp::now() + LIFETIME;
        let answer = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey><SessionToken>t</SessionToken>\
             <Expiration>{expiry:.3}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        (200, answer)
    }

    fn object(&mut self, id: &str) -> (u16, String) {
        let is_good = self
            .given
            .get(id)
            .is_some_and(|expiry| Instant::now() < *expiry);
        if !is_good {
            self.late += 1;
            return (400, error("ExpiredToken"));
        }
        self.puts += 1;
        (200, String::new())
    }
}

fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>Says the test.</Message></Error>")
}
